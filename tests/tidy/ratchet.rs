//! Counts that only fall.

use std::collections::BTreeMap;

use super::sentences::{RULES, Rule};

/// How often a file breaks a rule. Zero is left out.
pub(crate) type Counts = BTreeMap<(String, Rule), usize>;

/// A count that is not the recorded one.
pub(crate) struct Difference {
    pub(crate) file: String,
    pub(crate) rule: Rule,
    pub(crate) rises: bool,
    pub(crate) text: String,
}

pub(crate) fn compare(recorded: &Counts, found: &Counts) -> Vec<Difference> {
    let mut keys: Vec<_> = recorded.keys().chain(found.keys()).collect();
    keys.sort();
    keys.dedup();
    let differences = keys.into_iter().filter_map(|key| {
        let (file, rule) = key;
        let count = |counts: &Counts| counts.get(key).copied().unwrap_or(0);
        let (was, is) = (count(recorded), count(found));
        let name = rule.name();
        let text = match was.cmp(&is) {
            std::cmp::Ordering::Equal => return None,
            std::cmp::Ordering::Less => format!(
                "{file}: {is} sentences break the rule `{name}`, and at most {was} may. Rewrite \
                 the new ones:"
            ),
            std::cmp::Ordering::Greater => format!(
                "{file}: {is} sentences break the rule `{name}`, and {was} are recorded. Lower the \
                 record by `ENGLISH=lower cargo test --test tidy english`"
            ),
        };
        Some(Difference {
            file: file.clone(),
            rule: *rule,
            rises: was < is,
            text,
        })
    });
    differences.collect()
}

/// The record with each count that has fallen. No count rises, and none is new.
pub(crate) fn lowered(recorded: &Counts, found: &Counts) -> Counts {
    let lower = recorded.iter().map(|(key, was)| {
        let is = found.get(key).copied().unwrap_or(0);
        (key.clone(), is.min(*was))
    });
    lower.filter(|(_, count)| *count > 0).collect()
}

/// A line for each file: `src/lib.rs clause=1 long=3`.
pub(crate) fn parse(text: &str) -> Result<Counts, String> {
    let mut counts = Counts::new();
    for line in text.lines() {
        let invalid = || format!("not `file rule=count …`: {line}");
        let (file, rules) = line.split_once(' ').ok_or_else(invalid)?;
        for rule in rules.split(' ') {
            let (name, count) = rule.split_once('=').ok_or_else(invalid)?;
            let rule = RULES.into_iter().find(|rule| rule.name() == name);
            let key = (file.to_owned(), rule.ok_or_else(invalid)?);
            counts.insert(key, count.parse().map_err(|_| invalid())?);
        }
    }
    Ok(counts)
}

pub(crate) fn print(counts: &Counts) -> String {
    let mut lines: BTreeMap<&str, String> = BTreeMap::new();
    for ((file, rule), count) in counts {
        let line = lines.entry(file).or_insert_with(|| file.clone());
        *line += &format!(" {}={count}", rule.name());
    }
    lines.into_values().map(|line| line + "\n").collect()
}

#[test]
fn a_count_that_rises_or_falls_is_told() {
    let counts = |text: &str| parse(text).expect("a record");
    let differences = |recorded: &str, found: &str| {
        let differences = compare(&counts(recorded), &counts(found)).into_iter();
        let told = differences.map(|it| (it.file, it.rule, it.rises));
        told.collect::<Vec<_>>()
    };
    let record = "a.rs clause=2 long=1\nb.md vague=1\n";
    assert_eq!(differences(record, record), []);
    let risen = "a.rs clause=3 long=1\nb.md vague=1\n";
    let rises = ("a.rs".to_owned(), Rule::Clause, true);
    assert_eq!(differences(record, risen), [rises]);
    let fallen = "a.rs clause=2\nb.md vague=1\n";
    let falls = ("a.rs".to_owned(), Rule::Long, false);
    assert_eq!(differences(record, fallen), [falls]);
    // A file that is new, or was renamed, has no record.
    let new = ("c.rs".to_owned(), Rule::IsNo, true);
    assert_eq!(differences("", "c.rs is-no=1\n"), [new]);
    let gone = ("c.rs".to_owned(), Rule::IsNo, false);
    assert_eq!(differences("c.rs is-no=1\n", ""), [gone]);
}

#[test]
fn the_record_is_lowered_and_never_raised() {
    let recorded = parse("a.rs clause=2 long=1\nb.md vague=4\n").expect("a record");
    let found = parse("a.rs clause=5\nb.md vague=3\nc.rs one=1\n").expect("a record");
    let lower = print(&lowered(&recorded, &found));
    assert_eq!(lower, "a.rs clause=2\nb.md vague=3\n");
    assert!(parse("a.rs other=1").is_err());
    assert!(parse("a.rs").is_err());
}
