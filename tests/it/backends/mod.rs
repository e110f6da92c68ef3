//! What a channel shows of its backends.

mod answered_by;
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
    BackoffConfig::try_new(HOUR, 1.0, 0.0, HOUR).expect("a valid backoff")
}

/// The first backend, as it is now.
fn first(channel: &Channel) -> Arc<BackendStatus> {
    channel.backends()[0].clone()
}
