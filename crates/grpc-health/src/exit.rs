//! How the program ends.

use std::{fmt, process::ExitCode};

/// Why the program ends. Its code is that of `grpc-health-probe`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Exit {
    /// 0: everything is well, or what was asked for is done.
    Healthy,
    /// 1: the arguments make no sense, or name what cannot be used.
    BadArguments(String),
    /// 2: no connection.
    Unreachable(String),
    /// 3: the call failed, timed out, or there is no health service.
    CallFailed(String),
    /// 4: the answer is that something is not SERVING.
    Unhealthy(String),
    /// 128 and its number, as shells have it: a signal ended what would have gone on.
    Signal(u8),
}

impl Exit {
    pub(crate) fn bad_arguments(what: impl fmt::Display) -> Self {
        Self::BadArguments(format!("error: {what}"))
    }

    /// The same with another text for stderr.
    pub(crate) fn saying(self, text: String) -> Self {
        match self {
            Self::Healthy | Self::Signal(_) => self,
            Self::BadArguments(_) => Self::BadArguments(text),
            Self::Unreachable(_) => Self::Unreachable(text),
            Self::CallFailed(_) => Self::CallFailed(text),
            Self::Unhealthy(_) => Self::Unhealthy(text),
        }
    }

    /// What goes to stderr.
    pub(crate) fn message(&self) -> Option<&str> {
        match self {
            Self::Healthy | Self::Signal(_) => None,
            Self::BadArguments(text)
            | Self::Unreachable(text)
            | Self::CallFailed(text)
            | Self::Unhealthy(text) => (!text.is_empty()).then_some(text),
        }
    }

    pub(crate) fn code(&self) -> ExitCode {
        ExitCode::from(self.number())
    }

    pub(crate) fn number(&self) -> u8 {
        match self {
            Self::Healthy => 0,
            Self::BadArguments(_) => 1,
            Self::Unreachable(_) => 2,
            Self::CallFailed(_) => 3,
            Self::Unhealthy(_) => 4,
            Self::Signal(number) => 128 + number,
        }
    }
}
