//! The mechanical half of the rules for English in `CONTRIBUTING.md`. The check covers that
//! page and the READMEs of the fuzz targets and of each member crate. It covers prose and
//! headings, but not tables, code or quotations.

use std::fs;

use pulldown_cmark::{Event, Options, Parser, Tag, TagEnd};

use super::{assert_none, files, root};

const MAX_WORDS: usize = 25;

/// Neither a subject nor an object.
const VAGUE: [&str; 4] = ["nobody", "somebody", "anybody", "whoever"];

/// A sentence that begins with one of these begins with a clause, or is a question.
const CLAUSES: [&str; 3] = ["who", "whom", "what"];

#[test]
fn documents_are_in_plain_english() {
    let mut paths = files("crates", "md");
    paths.retain(|path| path.ends_with("README.md"));
    paths.extend(["CONTRIBUTING.md", "fuzz/README.md"].map(|path| root().join(path)));
    let mut complaints = Vec::new();
    for path in paths {
        let text = fs::read_to_string(&path).expect("a UTF-8 file");
        let name = path.strip_prefix(root()).expect("below the root").display();
        complaints.extend(complaints_of(&text).map(|complaint| format!("{name}: {complaint}")));
    }
    assert_none(&complaints);
}

#[test]
fn each_rule_of_plain_english_is_checked() {
    let complaints = |text: &str| complaints_of(text).collect::<Vec<_>>();
    let is_plain = |text: &str| assert_eq!(complaints(text), [""; 0]);
    is_plain(
        "A `Watch` does not count as a call. There is no server. It is no longer valid. What now?",
    );
    is_plain("It is `no` call, and `nobody` is code.\n\n| nobody |\n|---|\n| is no call |\n");
    is_plain("```text\nnobody is no call\n```\n[A server](nobody.md) stops.");
    let breaks = |text: &str, rule| {
        let complaint = format!("{rule}: {text}");
        assert_eq!(complaints(text), [complaint]);
    };
    breaks("Then nobody asks.", "`nobody`");
    breaks("It is nobody's turn.", "`nobody`");
    breaks("A stream that is kept is no call.", "`is no`");
    breaks("What a server sends is read.", "begins with a clause");
    breaks(&["word"; MAX_WORDS + 1].join(" "), "26 words");
    assert_eq!(
        complaints("- one is no\n  call\n- **two.** Who\n  asks").len(),
        2
    );
}

fn complaints_of(text: &str) -> impl Iterator<Item = String> {
    sentences(text).into_iter().flat_map(|sentence| {
        let rules = broken_rules(&sentence).into_iter();
        rules.map(move |rule| format!("{rule}: {sentence}"))
    })
}

fn broken_rules(sentence: &str) -> Vec<String> {
    let lower = sentence.to_lowercase();
    let words = lower.split_whitespace();
    let words: Vec<_> = words
        .map(|w| w.trim_matches(|c: char| !c.is_alphanumeric()))
        .collect();
    let mut broken = Vec::new();
    if let Some(vague) = VAGUE
        .iter()
        .find(|vague| words.iter().any(|word| word.starts_with(**vague)))
    {
        broken.push(format!("`{vague}`"));
    }
    let is_no = |at: &[&str]| match at {
        [_, "is", "no", "longer" | "more"] | ["there", ..] => false,
        at => at[1..3] == ["is", "no"],
    };
    if words.windows(4).any(is_no) {
        broken.push("`is no`".to_owned());
    }
    if words.first().is_some_and(|word| CLAUSES.contains(word)) && !sentence.ends_with('?') {
        broken.push("begins with a clause".to_owned());
    }
    if words.len() > MAX_WORDS {
        broken.push(format!("{} words", words.len()));
    }
    broken
}

/// The sentences of a document, without its markup.
fn sentences(text: &str) -> Vec<String> {
    let mut sentences = Vec::new();
    for paragraph in paragraphs(text) {
        let mut words = Vec::new();
        for word in paragraph.split_whitespace() {
            words.push(word);
            if word.trim_end_matches([')', '"']).ends_with(['.', '?', '!']) {
                sentences.push(words.join(" "));
                words.clear();
            }
        }
        sentences.extend((!words.is_empty()).then(|| words.join(" ")));
    }
    sentences
}

/// Paragraphs, headings and items of lists. A piece of code in them counts as a word.
fn paragraphs(text: &str) -> Vec<String> {
    let mut paragraphs = vec![String::new()];
    // How many tables, blocks of code and quotations we are in.
    let mut skipped = 0;
    for event in Parser::new_ext(text, Options::ENABLE_TABLES) {
        let last = paragraphs.last_mut().expect("there is one from the start");
        match event {
            Event::Start(Tag::Table(_) | Tag::CodeBlock(_) | Tag::BlockQuote(_)) => skipped += 1,
            Event::End(TagEnd::Table | TagEnd::CodeBlock | TagEnd::BlockQuote(_)) => skipped -= 1,
            Event::Start(Tag::Paragraph | Tag::Heading { .. } | Tag::Item) => {
                paragraphs.push(String::new());
            }
            Event::Text(text) if skipped == 0 => last.push_str(&text),
            Event::Code(_) if skipped == 0 => last.push_str("code"),
            Event::SoftBreak | Event::HardBreak => last.push(' '),
            _ => {}
        }
    }
    paragraphs
}
