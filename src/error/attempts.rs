//! The attempts of one call, and how each failed.

use std::{fmt, sync::Arc};

use tonic::Code;

/// The names of the status codes, each at the place of its number.
pub(crate) const CODES: [&str; 17] = [
    "OK",
    "CANCELLED",
    "UNKNOWN",
    "INVALID_ARGUMENT",
    "DEADLINE_EXCEEDED",
    "NOT_FOUND",
    "ALREADY_EXISTS",
    "PERMISSION_DENIED",
    "RESOURCE_EXHAUSTED",
    "FAILED_PRECONDITION",
    "ABORTED",
    "OUT_OF_RANGE",
    "UNIMPLEMENTED",
    "INTERNAL",
    "UNAVAILABLE",
    "DATA_LOSS",
    "UNAUTHENTICATED",
];

/// The attempts of one call, by its retry or hedging policy (gRFC A6).
///
/// A response has it in its extensions, where the channel is built with
/// [`tell_attempts`](crate::ChannelBuilder::tell_attempts). A call that failed has it in its
/// [`Error::attempts`](crate::Error::attempts). A request that no backend has looked at is sent
/// again without a policy, as part of the same attempt.
///
/// ```
/// use tonic_health_channel::channel::CallAttempts;
///
/// fn log<T>(response: &tonic::Response<T>) {
///     if let Some(attempts) = response.extensions().get::<CallAttempts>() {
///         for failed in attempts.failed() {
///             println!("{failed}"); // attempt 1 on 10.0.0.1:50051: UNAVAILABLE, no leader
///         }
///     }
/// }
/// # log(&tonic::Response::new(()));
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CallAttempts {
    made: u32,
    failed: Vec<FailedAttempt>,
}

/// An attempt that failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FailedAttempt {
    number: u32,
    backend: Option<Arc<str>>,
    code: Code,
    message: String,
    may_have_been_sent: bool,
}

impl CallAttempts {
    /// How many were begun, the one included that has the response.
    pub fn made(&self) -> u32 {
        self.made
    }

    /// Those that failed, in the order in which they did.
    pub fn failed(&self) -> &[FailedAttempt] {
        &self.failed
    }

    /// Another attempt begins. Its number, which counts from 1.
    pub(crate) fn begin(&mut self) -> u32 {
        self.made += 1;
        self.made
    }

    /// One of those that have begun has failed.
    pub(crate) fn push(&mut self, failed: FailedAttempt) {
        self.failed.push(failed);
    }

    /// Whether one may have been acted on.
    pub(crate) fn may_have_been_sent(&self) -> bool {
        self.failed.iter().any(FailedAttempt::may_have_been_sent)
    }
}

impl FailedAttempt {
    /// Without a `backend`, none was found. The message is one line, and not too long.
    pub(crate) fn new(
        number: u32,
        backend: Option<Arc<str>>,
        code: Code,
        message: String,
        may_have_been_sent: bool,
    ) -> Self {
        Self {
            number,
            backend,
            code,
            message,
            may_have_been_sent,
        }
    }

    /// The number of the attempt, from 1.
    pub fn number(&self) -> u32 {
        self.number
    }

    /// The name of its backend: what the source calls it, its address otherwise. `None` if no
    /// backend could take the attempt.
    pub fn backend(&self) -> Option<&str> {
        self.backend.as_deref()
    }

    /// The status code it ended with.
    pub fn code(&self) -> Code {
        self.code
    }

    /// The message of its status, as one line of at most 256 bytes.
    pub fn message(&self) -> &str {
        &self.message
    }

    /// Whether the backend may have acted on it. `false` is certain.
    pub fn may_have_been_sent(&self) -> bool {
        self.may_have_been_sent
    }
}

/// `attempt 1 on 10.0.0.1:50051: UNAVAILABLE, no leader`
impl fmt::Display for FailedAttempt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "attempt {}", self.number)?;
        if let Some(backend) = &self.backend {
            write!(f, " on {backend}")?;
        }
        let code = CODES.get(self.code as usize).unwrap_or(&"UNKNOWN");
        write!(f, ": {code}")?;
        match self.message.is_empty() {
            true => Ok(()),
            false => write!(f, ", {}", self.message),
        }
    }
}
