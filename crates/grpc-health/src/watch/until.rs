//! What a script waits for: pure.

use clap::ValueEnum;

use super::table::{Question, Seen, Table};
use crate::text::tame;

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Until {
    /// Every backend of every target is SERVING, for every service
    Serving,
    /// For every service, some backend of some target is SERVING
    AnyServing,
}

impl Until {
    /// What `table` lacks, a line each. Nothing is the end of the wait.
    pub(crate) fn missing<Id: Copy + Ord>(self, table: &Table<Id>) -> Vec<String> {
        let rows: Vec<_> = table.wanted().collect();
        let is_met = |service: &str| {
            let served = |(question, seen): &(&Question, &Seen)| {
                question.service == service && seen.is_serving()
            };
            self == Self::AnyServing && rows.iter().any(served)
        };
        let lacking = rows
            .iter()
            .filter(|(question, seen)| !seen.is_serving() && !is_met(&question.service));
        lacking
            .map(|(question, seen)| line(question, seen))
            .collect()
    }
}

/// `10.0.0.1:50051: service shop.Cart: CONNECTING: connect: connection refused`
fn line(question: &Question, seen: &Seen) -> String {
    let mut text = seen.name();
    if !question.service.is_empty() {
        text += &format!(": service {}", question.service);
    }
    text += &format!(": {}", seen.state);
    if seen.health_text() != "-" {
        text += &format!(", health {}", seen.health);
    }
    if let Some(error) = seen.error_text() {
        text += &format!(", {error}");
    }
    tame(&text).into_owned()
}
