//! How the program ends.

use std::{fmt, process::ExitCode};

use crate::text::tame;

/// Why the program ends. Its code is that of `grpc-health-probe`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Exit {
    /// 0: everything is well, or what was asked for is done.
    Healthy,
    /// 1: the arguments make no sense, or name what cannot be used.
    BadArguments(Message),
    /// 2: no connection.
    Unreachable(Message),
    /// 3: the call failed, timed out, or there is no health service.
    CallFailed(Message),
    /// 4: the answer is that something is not SERVING.
    Unhealthy(Message),
    /// 128 and its number, as shells have it: a signal ended what would have gone on.
    Signal(u8),
}

/// Lines for stderr. Texts of peers in them do not begin another line.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Message(Vec<String>);

impl Message {
    pub(crate) fn of_lines(lines: impl IntoIterator<Item = impl AsRef<str>>) -> Self {
        let lines = lines.into_iter();
        Self(lines.map(|line| tame(line.as_ref()).into_owned()).collect())
    }

    pub(crate) fn lines(&self) -> &[String] {
        &self.0
    }
}

/// One line.
impl From<String> for Message {
    fn from(line: String) -> Self {
        Self::of_lines([line])
    }
}

impl Exit {
    pub(crate) fn bad_arguments(what: impl fmt::Display) -> Self {
        Self::BadArguments(format!("error: {what}").into())
    }

    /// The same with another text for stderr.
    pub(crate) fn saying(self, message: Message) -> Self {
        match self {
            Self::Healthy | Self::Signal(_) => self,
            Self::BadArguments(_) => Self::BadArguments(message),
            Self::Unreachable(_) => Self::Unreachable(message),
            Self::CallFailed(_) => Self::CallFailed(message),
            Self::Unhealthy(_) => Self::Unhealthy(message),
        }
    }

    /// What goes to stderr.
    pub(crate) fn lines(&self) -> &[String] {
        match self {
            Self::Healthy | Self::Signal(_) => &[],
            Self::BadArguments(message)
            | Self::Unreachable(message)
            | Self::CallFailed(message)
            | Self::Unhealthy(message) => message.lines(),
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
