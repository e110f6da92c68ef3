//! What was logged, so that a test can assert "exactly one ERROR".
//!
//! `Logs::capture()` sets the default subscriber of the **current thread** for as
//! long as it lives. That sees everything only where everything runs on this
//! thread: in a plain `#[tokio::test]`, whose runtime is single-threaded. In
//! `flavor = "multi_thread"` it would miss what other workers log.

use std::{
    fmt::{Debug, Write},
    sync::{Arc, OnceLock},
};

use tokio::sync::watch;
use tracing::{
    Dispatch, Event, Level, Metadata, Subscriber,
    field::{Field, Visit},
    subscriber::{DefaultGuard, NoSubscriber},
};
use tracing_subscriber::{
    Layer,
    layer::{Context, SubscriberExt},
    registry,
};

use super::within;

/// One event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogLine {
    pub level: Level,
    pub target: String,
    /// The message, then ` name=value` for each other field.
    pub text: String,
}

/// The events of this thread since `capture`.
pub struct Logs {
    lines: Arc<watch::Sender<Vec<LogLine>>>,
    _default: DefaultGuard,
}

impl Logs {
    pub fn capture() -> Self {
        Self::capture_from("")
    }

    /// Only of targets that begin with `target`. Other events cost next to nothing.
    pub fn capture_from(target: &'static str) -> Self {
        keep_a_second_dispatcher();
        let lines = Arc::new(watch::Sender::new(Vec::new()));
        let capture = Capture {
            target,
            lines: Arc::clone(&lines),
        };
        let subscriber = registry().with(capture);
        Self {
            lines,
            _default: tracing::subscriber::set_default(subscriber),
        }
    }

    pub fn all(&self) -> Vec<LogLine> {
        self.lines.borrow().clone()
    }

    /// The texts of one level, from targets that begin with `target`.
    pub fn at(&self, level: Level, target: &str) -> Vec<String> {
        let lines = self.lines.borrow();
        lines
            .iter()
            .filter(|line| line.level == level && line.target.starts_with(target))
            .map(|line| line.text.clone())
            .collect()
    }

    /// Awaits the first line that `matches`, which may be there already.
    pub async fn until(&self, what: &str, matches: impl Fn(&LogLine) -> bool) -> LogLine {
        let mut lines = self.lines.subscribe();
        let wait = lines.wait_for(|lines| lines.iter().any(&matches));
        let lines = within(what, wait)
            .await
            .expect("the sender lives as long as the logs");
        lines
            .iter()
            .find(|line| matches(line))
            .expect("the wait ended because there is such a line")
            .clone()
    }
}

/// With a single dispatcher alive, tracing asks only the current thread whether
/// anybody cares for a call site it meets for the first time, and remembers a no.
/// A test on another thread could so silence a line for this one.
pub fn keep_a_second_dispatcher() {
    static SECOND: OnceLock<Dispatch> = OnceLock::new();
    SECOND.get_or_init(|| Dispatch::new(NoSubscriber::new()));
}

struct Capture {
    target: &'static str,
    lines: Arc<watch::Sender<Vec<LogLine>>>,
}

impl<S: Subscriber> Layer<S> for Capture {
    fn enabled(&self, metadata: &Metadata<'_>, _: Context<'_, S>) -> bool {
        metadata.target().starts_with(self.target)
    }

    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let mut text = Text::default();
        event.record(&mut text);
        let line = LogLine {
            level: *event.metadata().level(),
            target: event.metadata().target().to_owned(),
            text: text.message + &text.fields,
        };
        self.lines.send_modify(|lines| lines.push(line));
    }
}

#[derive(Default)]
struct Text {
    message: String,
    fields: String,
}

impl Visit for Text {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        // Writing to a string cannot fail.
        let _ = if field.name() == "message" {
            write!(self.message, "{value:?}")
        } else {
            write!(self.fields, " {}={value:?}", field.name())
        };
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.record_debug(field, &format_args!("{value}"));
    }
}
