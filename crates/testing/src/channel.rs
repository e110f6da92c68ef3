//! Waits for a channel.

use std::panic::Location;

use tokio::time::timeout;
use tonic_health_channel::{Channel, ConnectivityState, status::ChannelStatus};

use crate::wait::PATIENCE;

/// Waits until exactly `n` backends of the channel are READY: connected, and SERVING if health is
/// checked.
///
/// [`Channel::watch_status`] waits for anything else.
///
/// # Panics
///
/// The future panics with the state of each backend if this takes more than 10 s of tokio's
/// time, or if the channel closes before.
///
/// # Cancel safety
///
/// Nothing is lost.
#[track_caller]
pub fn until_ready_backends(
    channel: &Channel,
    n: usize,
) -> impl Future<Output = ()> + Send + use<> {
    let caller = Location::caller();
    let channel = channel.clone();
    async move {
        let reached = |status: &ChannelStatus| {
            let backends = status.backends().iter();
            let ready = backends.filter(|backend| backend.state() == ConnectivityState::Ready);
            ready.count() == n
        };
        let mut watch = channel.watch_status();
        match timeout(PATIENCE, watch.wait_for(reached)).await {
            Ok(status) if reached(&status) => {}
            // Too late, or the channel has closed.
            Ok(_) | Err(_) => {
                let backends = channel.backends();
                let states: Vec<_> = backends.iter().map(ToString::to_string).collect();
                panic!("waited for {n} READY backends, in vain (at {caller}): {states:#?}")
            }
        }
    }
}
