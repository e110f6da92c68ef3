//! tokio's clock, which tests can pause, in the terms of the machines.

use std::{future::pending, time::Instant};

use tokio::time;

/// What time it is.
pub(crate) fn now() -> Instant {
    time::Instant::now().into_std()
}

/// Sleeps until `at`. `None` is never.
///
/// # Cancel safety
///
/// Nothing is lost.
pub(crate) async fn sleep_until(at: Option<Instant>) {
    match at {
        Some(at) => time::sleep_until(at.into()).await,
        None => pending().await,
    }
}
