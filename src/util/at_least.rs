//! The least value of an option.

use std::time::Duration;

use tracing::warn;

/// The target of what is logged here; see the crate's documentation.
const CHANNEL: &str = "tonic_health_channel::channel";

/// `given`, or `least` if that is longer. No value is changed in silence.
pub(crate) fn at_least(option: &str, given: Duration, least: Duration) -> Duration {
    if given < least {
        warn!(target: CHANNEL, option, ?given, ?least, "too short; the least counts");
    }
    given.max(least)
}
