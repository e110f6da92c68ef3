//! The mechanical half of the rules for English in `CONTRIBUTING.md`: the sentences of a text,
//! and which rules each breaks.

use pulldown_cmark::{Event, Options, Parser, Tag, TagEnd};

const MAX_WORDS: usize = 25;

/// Neither a subject nor an object.
const VAGUE: [&str; 4] = ["nobody", "somebody", "anybody", "whoever"];

/// A sentence that begins with one of these begins with a clause, or is a question.
const CLAUSES: [&str; 6] = ["who", "whom", "whose", "what", "whatever", "whichever"];

/// With "one" before them, they begin a sentence whose subject is a pronoun.
const AFTER_ONE: [&str; 12] = [
    "that", "who", "which", "can", "cannot", "may", "must", "should", "does", "has", "is", "whose",
];

/// Amounts are digits. The list lacks "one", which is a pronoun more often.
const NUMBERS: [&str; 22] = [
    "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve",
    "fifteen", "twenty", "thirty", "forty", "fifty", "sixty", "ninety", "hundred", "thousand",
    "million", "dozen",
];

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Rule {
    Vague,
    Clause,
    One,
    IsNo,
    Number,
    Long,
}

pub(crate) const RULES: [Rule; 6] = [
    Rule::Vague,
    Rule::Clause,
    Rule::One,
    Rule::IsNo,
    Rule::Number,
    Rule::Long,
];

impl Rule {
    /// Its name in the record.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Vague => "vague",
            Self::Clause => "clause",
            Self::One => "one",
            Self::IsNo => "is-no",
            Self::Number => "number",
            Self::Long => "long",
        }
    }
}

/// A sentence, and a rule that it breaks.
pub(crate) struct Complaint {
    pub(crate) rule: Rule,
    pub(crate) text: String,
}

#[test]
fn each_rule_of_plain_english_is_checked() {
    let complaints = |text: &str| rules(&complaints_of(text));
    let is_plain = |text: &str| assert_eq!(complaints(text), []);
    is_plain(
        "A `Watch` does not count as a call. There is no server. It is no longer valid. What now?",
    );
    is_plain("It is `no` call, and `nobody` is code.\n\n| nobody |\n|---|\n| is no call |\n");
    is_plain("```text\nnobody is no call\n```\n[A server](nobody.md) stops.");
    is_plain("One of 2 servers stops. It has 1 connection, and a second one.");
    let breaks = |text: &str, rule: Rule| assert_eq!(complaints(text), [rule], "{text}");
    breaks("Then nobody asks.", Rule::Vague);
    breaks("It is nobody's turn.", Rule::Vague);
    breaks("A stream that is kept is no call.", Rule::IsNo);
    breaks("What a server sends is read.", Rule::Clause);
    breaks("Whose turn it is counts.", Rule::Clause);
    breaks("One that stops is left out.", Rule::One);
    breaks("It waits for two seconds.", Rule::Number);
    breaks(&["word"; MAX_WORDS + 1].join(" "), Rule::Long);
    assert_eq!(
        complaints("- A stream is no\n  call\n- **two.** Who\n  asks"),
        [Rule::IsNo, Rule::Number, Rule::Clause]
    );
}

#[test]
fn each_rule_is_checked_in_texts_of_the_product() {
    let complaints = |text: &str| rules(&complaints_of_text(text));
    assert_eq!(
        complaints("no trust roots: set `nobody`, {two} or {0:>7}"),
        []
    );
    assert_eq!(complaints("tls: nobody is trusted"), [Rule::Vague]);
    assert_eq!(complaints("{name} is no header value"), [Rule::IsNo]);
    assert_eq!(complaints("target: what follows is a port"), [Rule::Clause]);
    assert_eq!(complaints("closed; who asks waits"), [Rule::Clause]);
    assert_eq!(complaints("no answer in ten seconds"), [Rule::Number]);
    let long = ["word"; MAX_WORDS + 1];
    assert_eq!(complaints(&long.join(" ")), [Rule::Long]);
}

fn rules(complaints: &[Complaint]) -> Vec<Rule> {
    complaints.iter().map(|complaint| complaint.rule).collect()
}

/// Of a document.
pub(crate) fn complaints_of(text: &str) -> Vec<Complaint> {
    let mut complaints = Vec::new();
    for paragraph in paragraphs(text) {
        for sentence in sentences(&paragraph) {
            complaints.extend(complaints_of_sentence(&sentence, [&*sentence]));
        }
    }
    complaints
}

/// Of a text of the product. In an error, a clause often begins behind a colon.
pub(crate) fn complaints_of_text(text: &str) -> Vec<Complaint> {
    let text = without_code(text);
    let mut complaints = Vec::new();
    for line in text.lines() {
        for sentence in sentences(line) {
            let parts = sentence.split("; ").flat_map(|part| part.split(": "));
            complaints.extend(complaints_of_sentence(&sentence, parts));
        }
    }
    complaints
}

/// A placeholder, and a piece of code between backticks, is a word of its own.
fn without_code(text: &str) -> String {
    let mut plain = String::new();
    let mut end = None;
    for letter in text.chars() {
        match (end, letter) {
            (Some(last), _) if letter == last => end = None,
            (Some(_), _) => {}
            (None, '`') => end = Some('`'),
            (None, '{') => end = Some('}'),
            (None, _) => {
                plain.push(letter);
                continue;
            }
        }
        if end.is_some() && letter != ' ' && !plain.ends_with("code") {
            plain.push_str("code");
        }
    }
    plain
}

fn complaints_of_sentence<'a>(
    sentence: &str,
    parts: impl IntoIterator<Item = &'a str>,
) -> Vec<Complaint> {
    let words = words(sentence);
    let mut broken = Vec::new();
    let is_vague = |word: &String| VAGUE.iter().any(|vague| word.starts_with(vague));
    if words.iter().any(is_vague) {
        broken.push(Rule::Vague);
    }
    for part in parts.into_iter().filter(|part| !part.ends_with('?')) {
        let begin: Vec<_> = self::words(part).into_iter().take(2).collect();
        match begin.iter().map(String::as_str).collect::<Vec<_>>()[..] {
            [first, ..] if CLAUSES.contains(&first) => broken.push(Rule::Clause),
            ["one", second] if AFTER_ONE.contains(&second) => broken.push(Rule::One),
            _ => {}
        }
    }
    let is_no = |at: &[String]| match [&*at[0], &*at[1], &*at[2], &*at[3]] {
        [_, _, "no", "longer" | "more"] | ["there", ..] => false,
        [_, verb, no, _] => ["is", "are", "was", "were"].contains(&verb) && no == "no",
    };
    if words.windows(4).any(is_no) {
        broken.push(Rule::IsNo);
    }
    if words.iter().any(|word| NUMBERS.contains(&&**word)) {
        broken.push(Rule::Number);
    }
    if words.len() > MAX_WORDS {
        broken.push(Rule::Long);
    }
    let complaints = broken.into_iter().map(|rule| {
        let text = match rule {
            Rule::Long => format!("{} words: {sentence}", words.len()),
            rule => format!("{}: {sentence}", rule.name()),
        };
        Complaint { rule, text }
    });
    complaints.collect()
}

fn words(sentence: &str) -> Vec<String> {
    let lower = sentence.to_lowercase();
    let words = lower.split_whitespace();
    let words = words.map(|word| word.trim_matches(|c: char| !c.is_alphanumeric()));
    words.map(str::to_owned).collect()
}

fn sentences(paragraph: &str) -> Vec<String> {
    let mut sentences = Vec::new();
    let mut words = Vec::new();
    for word in paragraph.split_whitespace() {
        words.push(word);
        if word.trim_end_matches([')', '"']).ends_with(['.', '?', '!']) {
            sentences.push(words.join(" "));
            words.clear();
        }
    }
    sentences.extend((!words.is_empty()).then(|| words.join(" ")));
    sentences
}

/// Paragraphs, headings and items of lists. A piece of code in them counts as a word. Tables,
/// blocks of code and quotations are left out.
fn paragraphs(text: &str) -> Vec<String> {
    let mut paragraphs = vec![String::new()];
    // How many of those we are in.
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
