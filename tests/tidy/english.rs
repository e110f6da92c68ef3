//! Where the rules for English in `CONTRIBUTING.md` are checked.
//!
//! Texts of the product break no rule, nor do the pages that `PLAIN_PAGES` names. Comments and
//! the other documents are older than the rules. `english.txt` records how often each breaks
//! each rule, and a count only falls.

use std::{collections::BTreeMap, env, fs};

use super::{
    assert_none, files,
    ratchet::{Counts, compare, lowered, parse, print},
    root,
    sentences::{Complaint, Rule, complaints_of, complaints_of_text},
    sources,
    texts::{comments, product_texts},
};

/// They keep the rules, as the READMEs of the member crates do.
const PLAIN_PAGES: [&str; 6] = [
    "CONTRIBUTING.md",
    "docs/draining.md",
    "docs/failures.md",
    "docs/observing/runbook.md",
    "docs/policies.md",
    "fuzz/README.md",
];

const RECORD: &str = "tests/tidy/english.txt";

/// `lower` writes the lower counts into the record.
const KNOB: &str = "ENGLISH";

#[test]
fn pages_are_in_plain_english() {
    let mut paths = files("crates", "md");
    paths.retain(|path| path.ends_with("README.md"));
    paths.extend(PLAIN_PAGES.map(|path| root().join(path)));
    let mut complaints = Vec::new();
    for path in paths {
        let text = fs::read_to_string(&path).expect("a UTF-8 file");
        let name = path.strip_prefix(root()).expect("below the root").display();
        let found = complaints_of(&text).into_iter();
        complaints.extend(found.map(|Complaint { text, .. }| format!("{name}: {text}")));
    }
    assert_none(&complaints);
}

#[test]
fn texts_of_the_product_are_in_plain_english() {
    let mut complaints = Vec::new();
    let mut seen = 0;
    for source in sources("src")
        .into_iter()
        .chain(sources("crates/grpc-health/src"))
        .chain(sources("crates/health-service/src"))
        .chain(sources("crates/opentelemetry/src"))
        .chain(sources("crates/testing/src"))
    {
        for text in product_texts(&source.text) {
            seen += 1;
            let found = complaints_of_text(&text).into_iter();
            complaints.extend(found.map(|found| format!("{}: {}", source.path, found.text)));
        }
    }
    assert!(seen > 500, "{seen} texts found");
    assert_none(&complaints);
}

#[test]
fn english_only_gets_plainer() {
    let path = root().join(RECORD);
    let text = fs::read_to_string(&path).expect("the record");
    let mut recorded = parse(&text).unwrap_or_else(|why| panic!("{RECORD}: {why}"));
    let (found, sentences) = count();
    if env::var(KNOB).is_ok_and(|order| order == "lower") {
        recorded = lowered(&recorded, &found);
        fs::write(&path, print(&recorded)).expect("the record is writable");
    }
    let differences = compare(&recorded, &found).into_iter();
    let told = differences.map(|difference| {
        let mut told = difference.text;
        let key = (difference.file, difference.rule);
        let examples = sentences.get(&key).filter(|_| difference.rises);
        for sentence in examples.into_iter().flatten().take(20) {
            told.push_str("\n    ");
            told.push_str(sentence);
        }
        told
    });
    assert_none(&told.collect::<Vec<_>>());
}

/// How often each file breaks each rule, and by which sentences.
fn count() -> (Counts, BTreeMap<(String, Rule), Vec<String>>) {
    let mut sentences: BTreeMap<_, Vec<_>> = BTreeMap::new();
    let mut note = |name: &str, text: &str| {
        for Complaint { rule, text } in complaints_of(text) {
            let key = (name.to_owned(), rule);
            sentences.entry(key).or_default().push(text);
        }
    };
    let mut paths = vec![root().join("build.rs")];
    for folder in ["src", "crates", "tests", "examples", "benches", "fuzz"] {
        paths.extend(files(folder, "rs"));
        paths.extend(files(folder, "md"));
    }
    paths.extend(files("docs", "md"));
    paths.extend(["README.md", "CHANGELOG.md", "CONTRIBUTING.md"].map(|path| root().join(path)));
    for path in paths {
        let text = fs::read_to_string(&path).expect("a UTF-8 file");
        let name = path.strip_prefix(root()).expect("below the root");
        let name = name.to_string_lossy().replace('\\', "/");
        match path.extension().is_some_and(|ending| ending == "rs") {
            true => comments(&text).iter().for_each(|text| note(&name, text)),
            false => note(&name, &text),
        }
    }
    let counts = sentences
        .iter()
        .map(|(key, found)| (key.clone(), found.len()));
    (counts.collect(), sentences)
}
