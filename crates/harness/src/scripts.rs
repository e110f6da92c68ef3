//! What a backend's health service can be told to do instead of the right thing.
//!
//! A script is chosen when a call arrives and governs that call to its end, so
//! changing the script never touches the Watches that are already open.

use std::{collections::VecDeque, sync::Mutex, time::Duration};

use tonic::Code;

/// How one Watch call is answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WatchScript {
    /// As the protocol says: the status at once, then every change.
    Normal,
    /// Not even response headers; the call stays open.
    NeverAnswer,
    /// Response headers and no message; the call stays open.
    HeadersOnly,
    /// Response headers at once, the first message after this long, then `Normal`.
    DelayFirst(Duration),
    /// Response headers at once, the first message when the test calls
    /// `release_watches`, then `Normal`.
    HoldFirst,
    /// The present status this many times, then the end. With a code other than
    /// `Ok` and no messages the answer is a single HEADERS frame.
    EndWith { code: Code, after_messages: usize },
    /// This number as the status, then silence.
    UnknownNumber(i32),
    /// A well-framed message that is not a `HealthCheckResponse`, then silence.
    Garbage,
    /// A plain HTTP 404 with nothing of gRPC in it, as a proxy would send.
    Http404 { html: bool },
    /// This many messages as fast as the client reads them, alternating so that
    /// the last is the present status, then `Normal`.
    Flood(usize),
}

/// How Check calls are answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CheckScript {
    /// The status, or NOT_FOUND for an unknown service.
    Normal,
    NeverAnswer,
    Unimplemented,
    /// This number as the status, whatever was asked.
    Status(i32),
}

/// What to do next time, the time after, and from then on.
#[derive(Debug)]
pub(crate) struct Plan<T>(Mutex<(VecDeque<T>, T)>);

impl<T: Clone> Plan<T> {
    pub(crate) fn always(script: T) -> Self {
        Self(Mutex::new((VecDeque::new(), script)))
    }

    /// Forgets whatever was planned.
    pub(crate) fn set(&self, script: T) {
        *self.0.lock().expect("no holder of the plan panics") = (VecDeque::new(), script);
    }

    /// Plans `script` for the next `times`, ahead of what holds from then on.
    pub(crate) fn next(&self, times: usize, script: T) {
        let mut plan = self.0.lock().expect("no holder of the plan panics");
        plan.0.extend(std::iter::repeat_n(script, times));
    }

    pub(crate) fn take(&self) -> T {
        let mut plan = self.0.lock().expect("no holder of the plan panics");
        plan.0.pop_front().unwrap_or_else(|| plan.1.clone())
    }
}
