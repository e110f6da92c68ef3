//! What an attempt to connect is doing, for the text of a deadline that passes.

use std::{
    fmt,
    sync::{Arc, Mutex},
    time::Instant,
};

use crate::util::{clock::now, lock::lock};

/// One line of what is being done, beside those of other attempts.
#[derive(Clone)]
pub(crate) struct Progress {
    lines: Arc<Mutex<Lines>>,
    /// Which of the lines is told here.
    at: usize,
}

struct Lines {
    /// The first tells of all attempts, and counts until there are more.
    texts: Vec<String>,
    /// When the last step of any of them began.
    since: Instant,
}

impl Progress {
    pub(in crate::transport) fn new(doing: &str) -> Self {
        let lines = Lines {
            texts: vec![doing.to_owned()],
            since: now(),
        };
        Self {
            lines: Arc::new(Mutex::new(lines)),
            at: 0,
        }
    }

    /// An attempt that begins now, beside those there are.
    pub(in crate::transport) fn another(&self, doing: impl Into<String>) -> Self {
        let mut lines = lock(&self.lines);
        lines.since = now();
        lines.texts.push(doing.into());
        Self {
            lines: self.lines.clone(),
            at: lines.texts.len() - 1,
        }
    }

    pub(in crate::transport) fn set(&self, doing: impl Into<String>) {
        let mut lines = lock(&self.lines);
        lines.since = now();
        lines.texts[self.at] = doing.into();
    }

    /// When the last step of any attempt began.
    pub(in crate::transport) fn since(&self) -> Instant {
        lock(&self.lines).since
    }
}

impl fmt::Display for Progress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let lines = lock(&self.lines);
        match &lines.texts[..] {
            [only] => f.write_str(only),
            [_, attempts @ ..] => f.write_str(&attempts.join(", ")),
            [] => Ok(()),
        }
    }
}
