//! What a channel shows of its backends.

mod answered_by;
mod call_counts;
mod events;
mod failures;
mod in_flight;
#[cfg(feature = "serde")]
mod serialized;

use std::{sync::Arc, time::Duration};

use tonic_health_channel::{Channel, channel::BackoffConfig, status::BackendStatus};

const HOUR: Duration = Duration::from_secs(3600);

/// A backoff that no test could wait for.
fn hourly() -> BackoffConfig {
    BackoffConfig::default()
        .initial(HOUR)
        .and_then(|backoff| backoff.jitter(0.0))
        .expect("a valid backoff")
        .max(HOUR)
}

/// The first backend, as it is now.
fn first(channel: &Channel) -> Arc<BackendStatus> {
    channel.backends()[0].clone()
}
