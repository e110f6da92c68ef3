//! What the balancer publishes: one value in two halves that share a
//! generation number.
//!
//! [`Routing`] holds connections and lives only in the channel's `ArcSwap`, so
//! that a connection is pinned by nothing but the routing in force and the calls
//! on it. [`Status`] is plain data: it is what users see, and what an error text
//! is made of.

use std::{fmt, sync::Arc, time::Instant};

use crate::{
    connectivity::ConnectivityState, error::Cause, health::HealthStatus, picker::Picker,
    transport::Connection,
};

/// What a call needs: the picker, and the status it was made with.
#[derive(Debug)]
pub(crate) struct Routing {
    pub(crate) picker: Picker<Connection>,
    pub(crate) status: Arc<Status>,
}

/// The state of a channel and of every backend at one moment.
#[derive(Clone, Debug)]
pub struct Status {
    pub(crate) generation: u64,
    pub(crate) state: ConnectivityState,
    pub(crate) cause: Option<Cause>,
    pub(crate) backends: Arc<[Arc<BackendStatus>]>,
}

/// Names one backend for as long as its source keeps it. A key that is removed
/// and inserted again is a new backend.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BackendId(pub(crate) u64);

/// One backend at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BackendStatus {
    pub(crate) id: BackendId,
    pub(crate) label: Arc<str>,
    pub(crate) address: Arc<str>,
    pub(crate) state: ConnectivityState,
    pub(crate) health: HealthStatus,
    pub(crate) since: Instant,
    pub(crate) last_error: Option<(Cause, Instant)>,
    pub(crate) attempt: u32,
    pub(crate) next_attempt: Option<Instant>,
}

/// How many backends an error text names before it only counts the rest.
const NAMED_IN_TEXT: usize = 64;

impl Status {
    /// Grows by one with every publication, so that two statuses of one channel
    /// can be ordered.
    pub fn generation(&self) -> u64 {
        self.generation
    }

    /// The state of the channel.
    pub fn state(&self) -> ConnectivityState {
        self.state
    }

    /// Why the channel as a whole has no backend to use, where that is not the
    /// doing of one backend: an empty set, or an error of the source.
    pub fn cause(&self) -> Option<&Cause> {
        self.cause.as_ref()
    }

    /// Every backend, in the order in which the source named them.
    pub fn backends(&self) -> &[Arc<BackendStatus>] {
        &self.backends
    }

    /// Why no call can be sent, with every backend and its reason.
    pub(crate) fn explain(&self, now: Instant) -> String {
        use fmt::Write;

        let mut text = String::from(match self.state {
            ConnectivityState::Shutdown => "channel is closed",
            _ => "no healthy backend",
        });
        let mut separator = ": ";
        if let Some(cause) = &self.cause {
            let _ = write!(text, "{separator}{cause}");
            separator = "; ";
        }
        for backend in self.backends.iter().take(NAMED_IN_TEXT) {
            let _ = write!(text, "{separator}{}", backend.explain(now));
            separator = "; ";
        }
        if let Some(more @ 1..) = self.backends.len().checked_sub(NAMED_IN_TEXT) {
            let _ = write!(text, "; and {more} more backends");
        }
        text
    }
}

impl BackendStatus {
    /// Which backend this is about.
    pub fn id(&self) -> BackendId {
        self.id
    }

    /// The name its source gave it; its address where the source gave none.
    pub fn label(&self) -> &str {
        &self.label
    }

    /// Where it is: `host:port`.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// Its state, health included.
    pub fn state(&self) -> ConnectivityState {
        self.state
    }

    /// What is known of its health.
    pub fn health(&self) -> HealthStatus {
        self.health
    }

    /// When [`state`](Self::state) or [`health`](Self::health) last changed.
    pub fn since(&self) -> Instant {
        self.since
    }

    /// The last failure, and when it was noticed. It stays after recovery.
    pub fn last_error(&self) -> Option<(&Cause, Instant)> {
        self.last_error.as_ref().map(|(cause, at)| (cause, *at))
    }

    /// How many attempts in a row have failed: to connect, or, on a connection
    /// that is up, to learn the backend's health.
    pub fn failed_attempts(&self) -> u32 {
        self.attempt
    }

    /// When the next attempt starts, while one is due.
    pub fn next_attempt(&self) -> Option<Instant> {
        self.next_attempt
    }

    /// One line for an operator, told as of `now`.
    fn explain(&self, now: Instant) -> impl fmt::Display {
        Explained { backend: self, now }
    }
}

/// `10.0.0.1:50051 READY SERVING for 12s`, or with the reason and what happens
/// next when it cannot take calls.
impl fmt::Display for BackendStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ", self.label)?;
        if self.label != self.address {
            write!(f, "({}) ", self.address)?;
        }
        write!(f, "{}", self.state)?;
        if self.health != HealthStatus::NotChecked {
            write!(f, " {}", self.health)?;
        }
        match &self.last_error {
            Some((cause, _)) if self.state == ConnectivityState::TransientFailure => {
                write!(f, ", {cause}")
            }
            _ => Ok(()),
        }
    }
}

struct Explained<'a> {
    backend: &'a BackendStatus,
    now: Instant,
}

/// `10.0.0.2:50051 connect: connection refused (attempt 3, next in 2.1s)`
impl fmt::Display for Explained<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { backend, now } = self;
        let for_how_long = now.saturating_duration_since(backend.since).as_secs_f64();
        write!(f, "{} ", backend.label)?;
        match (&backend.last_error, backend.state) {
            (Some((cause, _)), ConnectivityState::TransientFailure) => write!(f, "{cause}")?,
            (_, state) => write!(f, "{state}")?,
        }
        match (backend.attempt, backend.next_attempt) {
            (0, _) => write!(f, " ({for_how_long:.0}s)"),
            (n, None) => write!(f, " (attempt {n}, trying again)"),
            (n, Some(at)) => {
                let wait = at.saturating_duration_since(*now).as_secs_f64();
                write!(f, " (attempt {n}, next in {wait:.1}s)")
            }
        }
    }
}
