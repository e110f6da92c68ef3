//! Waiting for something to happen, but not for ever.

use std::{panic::Location, time::Duration};

/// How long anything in these tests may take before it counts as stuck.
pub const PATIENCE: Duration = Duration::from_secs(10);

/// Awaits `f`, or panics after ten seconds with "`what` did not happen".
///
/// `what` reads as an event: `"the server to finish stopping"`.
#[track_caller]
pub fn within<F: Future>(what: &str, f: F) -> impl Future<Output = F::Output> {
    let caller = Location::caller();
    async move {
        match tokio::time::timeout(PATIENCE, f).await {
            Ok(output) => output,
            Err(_) => panic!("waited {PATIENCE:?} for {what}, in vain (at {caller})"),
        }
    }
}
