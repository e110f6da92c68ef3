//! Waits that end.

use std::{panic::Location, time::Duration};

/// The time after which a wait of this crate panics: 10 s, which loaded test machines need.
pub const PATIENCE: Duration = Duration::from_secs(10);

/// Awaits `future`, or panics after 10 s of tokio's time with "waited 10s for `what`, in vain"
/// and the line of the caller.
///
/// `what` reads as an event: `"the server to finish stopping"`.
///
/// # Panics
///
/// The future panics after [`PATIENCE`].
///
/// # Cancel safety
///
/// That of `future`.
#[track_caller]
pub fn within<F: Future>(what: &str, future: F) -> impl Future<Output = F::Output> {
    let caller = Location::caller();
    async move {
        match tokio::time::timeout(PATIENCE, future).await {
            Ok(output) => output,
            Err(_) => panic!("waited {PATIENCE:?} for {what}, in vain (at {caller})"),
        }
    }
}
