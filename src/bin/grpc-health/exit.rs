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
}

impl Exit {
    pub(crate) fn bad_arguments(what: impl fmt::Display) -> Self {
        Self::BadArguments(format!("error: {what}"))
    }

    /// What goes to stderr.
    pub(crate) fn message(&self) -> Option<&str> {
        match self {
            Self::Healthy => None,
            Self::BadArguments(text)
            | Self::Unreachable(text)
            | Self::CallFailed(text)
            | Self::Unhealthy(text) => (!text.is_empty()).then_some(text),
        }
    }

    pub(crate) fn code(&self) -> ExitCode {
        ExitCode::from(match self {
            Self::Healthy => 0,
            Self::BadArguments(_) => 1,
            Self::Unreachable(_) => 2,
            Self::CallFailed(_) => 3,
            Self::Unhealthy(_) => 4,
        })
    }
}
