//! The time of a call: what bounds it, and its error once that has come.

use std::{future::Future, time::Duration};

use tokio::time::{self, Instant};

use crate::error::{Error, ErrorKind};

/// The time a call has, if it is bounded.
#[derive(Clone, Copy)]
pub(super) struct Times {
    pub(super) started: Instant,
    /// When there have to be response headers.
    pub(super) bound: Instant,
    /// When the whole call has to be over.
    pub(super) deadline: Option<Instant>,
}

/// When a wait has to be over, and how much time it was given.
#[derive(Clone, Copy)]
pub(super) struct Limit {
    pub(super) at: Instant,
    pub(super) allowed: Duration,
}

impl Times {
    pub(super) fn new(timeout: Option<Duration>, header_timeout: Option<Duration>) -> Option<Self> {
        let shorter = timeout.into_iter().chain(header_timeout).min()?;
        let started = Instant::now();
        Some(Self {
            started,
            // A time too far off to be told is no bound.
            bound: started.checked_add(shorter)?,
            deadline: timeout.and_then(|timeout| started.checked_add(timeout)),
        })
    }
}

/// The outcome of `waited`, or the limit if that comes first.
pub(super) async fn within<F: Future>(limit: Option<Limit>, waited: F) -> Result<F::Output, Limit> {
    match limit {
        None => Ok(waited.await),
        Some(limit) => time::timeout_at(limit.at, waited).await.map_err(|_| limit),
    }
}

/// The error of a call whose time has run out, with what it waited for.
pub(super) fn expired(limit: Limit, waiting: &str) -> Error {
    let allowed = limit.allowed;
    Error::new(
        ErrorKind::DeadlineExceeded,
        format!("deadline exceeded after {allowed:?}, waiting {waiting}"),
    )
}
