//! Why there is no connection: a sentence, and the error that it tells of.

use std::io;

use super::io_error::describe_io;
use crate::error::{Cause, CauseKind, Origin};

/// A failed attempt to connect, or a step of it.
#[derive(Debug)]
pub(crate) struct Failure {
    text: String,
    /// What the application can look at.
    origin: Option<Origin>,
}

impl Failure {
    pub(in crate::transport) fn new(text: impl Into<String>, origin: Origin) -> Self {
        Self {
            text: text.into(),
            origin: Some(origin),
        }
    }

    /// The same failure, told by what `tell` makes of its text.
    pub(in crate::transport) fn told(self, tell: impl FnOnce(String) -> String) -> Self {
        Self {
            text: tell(self.text),
            ..self
        }
    }

    /// Several failures as one. The first that comes from an error stands for all.
    pub(in crate::transport) fn of_all(failures: Vec<Self>) -> Self {
        let texts: Vec<_> = failures.iter().map(|failure| &*failure.text).collect();
        Self {
            text: texts.join(", "),
            origin: failures.into_iter().find_map(|failure| failure.origin),
        }
    }

    pub(in crate::transport) fn into_cause(self, kind: CauseKind) -> Cause {
        Cause::new(kind, self.text).caused_by(self.origin)
    }

    pub(in crate::transport) fn text(&self) -> &str {
        &self.text
    }
}

/// Where there is no error but the sentence.
impl From<String> for Failure {
    fn from(text: String) -> Self {
        Self { text, origin: None }
    }
}

impl From<&str> for Failure {
    fn from(text: &str) -> Self {
        text.to_owned().into()
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self::new(describe_io(&error), Origin::new(error))
    }
}
