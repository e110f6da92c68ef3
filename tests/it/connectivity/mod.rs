//! What a channel tells of its state, and what it can be told to do.

mod closing;
mod connect;
mod following;
mod idle;
mod idle_timeout;
mod trouble;

use std::time::Duration;

use tonic_health_channel::channel::BackoffConfig;

/// A backoff that no test could wait for: a second attempt has another reason.
fn hourly() -> BackoffConfig {
    let hour = Duration::from_secs(3600);
    BackoffConfig::default()
        .initial(hour)
        .and_then(|backoff| backoff.jitter(0.0))
        .expect("a valid backoff")
        .max(hour)
}
