//! What the channel writes into its log, for scenarios whose outcome is a line there.

use std::{fmt::Write, sync::Mutex};

use tracing::{
    Event, Level, Subscriber,
    field::{Field, Visit},
};
use tracing_subscriber::{Layer, layer::Context, prelude::*};

/// Warnings and errors, in the order in which they came.
static LINES: Mutex<Vec<String>> = Mutex::new(Vec::new());

/// Keeps what is logged from now on.
pub(crate) fn listen() {
    tracing_subscriber::registry().with(Keep).init();
}

/// The lines that have all of `words`.
pub(crate) fn lines_with(words: &[&str]) -> Vec<String> {
    let lines = LINES.lock().expect("nobody panics in here");
    let has_all = |line: &&String| words.iter().all(|word| line.contains(word));
    lines.iter().filter(has_all).cloned().collect()
}

struct Keep;

impl<S: Subscriber> Layer<S> for Keep {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let about = event.metadata();
        if *about.level() > Level::WARN || !about.target().starts_with("tonic_health_channel") {
            return;
        }
        let mut line = Text(about.level().to_string());
        event.record(&mut line);
        LINES.lock().expect("nobody panics in here").push(line.0);
    }
}

struct Text(String);

impl Visit for Text {
    fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
        write!(self.0, " {}={value:?}", field.name()).expect("a String takes everything");
    }
}
