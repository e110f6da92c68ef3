//! What users follow of a channel, for serde.
//!
//! States, health and kinds of causes are their texts, ids are numbers as text. A moment in the
//! past is RFC 3339 in UTC, to the millisecond, by the clock of the system as it is when this
//! is written; a time ahead is in seconds from then.

use std::time::{Duration, Instant, SystemTime};

use serde::ser::{Serialize, SerializeStruct, Serializer};

use super::watch::BackendEvent;
use crate::{
    attributes::Locality,
    connectivity::ConnectivityState,
    error::{Cause, CauseKind},
    health::HealthStatus,
    routing::{
        BackendId, BackendStatus, Backends, ChannelStatus, DetectionMethod, Ejection,
        PriorityStatus,
    },
    transport::CallCounts,
    util::clock::now,
};

/// The same as its text.
macro_rules! as_text {
    ($($type:ty),*) => {$(
        impl Serialize for $type {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }
    )*};
}

as_text!(
    ConnectivityState,
    HealthStatus,
    CauseKind,
    BackendId,
    DetectionMethod
);

impl Serialize for Cause {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut fields = serializer.serialize_struct("Cause", 2)?;
        fields.serialize_field("kind", &self.kind())?;
        fields.serialize_field("text", self.text())?;
        fields.end()
    }
}

impl Serialize for ChannelStatus {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut fields = serializer.serialize_struct("ChannelStatus", 5)?;
        fields.serialize_field("generation", &self.generation())?;
        fields.serialize_field("state", &self.state())?;
        fields.serialize_field("cause", &self.cause())?;
        fields.serialize_field("backends", self.backends())?;
        fields.serialize_field("priorities", self.priorities())?;
        fields.end()
    }
}

/// A list.
impl Serialize for Backends {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.iter().map(|backend| &**backend))
    }
}

impl Serialize for BackendStatus {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let now = now();
        let last_error = self.last_error().map(|(cause, at)| LastError {
            cause,
            at: past(now, at),
        });
        let next_attempt = self.next_attempt();
        let next_attempt = next_attempt.map(|at| at.saturating_duration_since(now).as_secs_f64());
        let mut fields = serializer.serialize_struct("BackendStatus", 18)?;
        fields.serialize_field("id", &self.id())?;
        fields.serialize_field("label", self.label())?;
        fields.serialize_field("address", self.address())?;
        fields.serialize_field("state", &self.state())?;
        fields.serialize_field("takes_calls", &self.takes_calls())?;
        fields.serialize_field("health", &self.health())?;
        fields.serialize_field("since", &past(now, self.since()))?;
        fields.serialize_field("last_error", &last_error)?;
        fields.serialize_field("failed_attempts", &self.failed_attempts())?;
        fields.serialize_field("next_attempt_in_seconds", &next_attempt)?;
        fields.serialize_field("connections", &self.connections())?;
        fields.serialize_field("calls_in_flight", &self.calls_in_flight())?;
        fields.serialize_field("calls", &self.calls())?;
        fields.serialize_field("ejection", &self.ejection())?;
        fields.serialize_field("weight", &self.weight())?;
        fields.serialize_field("priority", &self.priority())?;
        fields.serialize_field("locality", &self.locality())?;
        fields.serialize_field("hash_key", &self.hash_key())?;
        fields.end()
    }
}

/// `{"priority": 0, "healthy": 3, "total": 10, "load": 42, "in_panic": false}`
impl Serialize for PriorityStatus {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut fields = serializer.serialize_struct("PriorityStatus", 5)?;
        fields.serialize_field("priority", &self.priority())?;
        fields.serialize_field("healthy", &self.healthy())?;
        fields.serialize_field("total", &self.total())?;
        fields.serialize_field("load", &self.load())?;
        fields.serialize_field("in_panic", &self.is_in_panic())?;
        fields.end()
    }
}

/// `{"region": "eu", "zone": "eu-1a", "sub_zone": ""}`
impl Serialize for Locality {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut fields = serializer.serialize_struct("Locality", 3)?;
        fields.serialize_field("region", &self.region)?;
        fields.serialize_field("zone", &self.zone)?;
        fields.serialize_field("sub_zone", &self.sub_zone)?;
        fields.end()
    }
}

/// `{"since": "2026-…", "until_in_seconds": 28.5, …}`.
impl Serialize for Ejection {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let now = now();
        let until = self.until().saturating_duration_since(now);
        let mut fields = serializer.serialize_struct("Ejection", 7)?;
        fields.serialize_field("since", &past(now, self.since()))?;
        fields.serialize_field("until_in_seconds", &until.as_secs_f64())?;
        fields.serialize_field("multiplier", &self.multiplier())?;
        fields.serialize_field("method", &self.method())?;
        fields.serialize_field("percentage", &self.percentage())?;
        fields.serialize_field("bound", &self.bound())?;
        fields.serialize_field("volume", &self.volume())?;
        fields.end()
    }
}

/// `{"started": 5, "succeeded": 3, …}`.
impl Serialize for CallCounts {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut fields = serializer.serialize_struct("CallCounts", 5)?;
        fields.serialize_field("started", &self.started)?;
        fields.serialize_field("succeeded", &self.succeeded)?;
        fields.serialize_field("failed", &self.failed)?;
        fields.serialize_field("cancelled", &self.cancelled)?;
        fields.serialize_field("refused", &self.refused)?;
        fields.end()
    }
}

/// `{"event": "changed", "before": …, "now": …}`: `before` is null for a backend that was
/// added, and `now` for one that was removed.
impl Serialize for BackendEvent {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let (event, before, now) = match self {
            Self::Added(now) => ("added", None, Some(&**now)),
            Self::Changed { before, now } => ("changed", Some(&**before), Some(&**now)),
            Self::Removed(before) => ("removed", Some(&**before), None),
        };
        let mut fields = serializer.serialize_struct("BackendEvent", 3)?;
        fields.serialize_field("event", event)?;
        fields.serialize_field("before", &before)?;
        fields.serialize_field("now", &now)?;
        fields.end()
    }
}

/// The last error of a backend, and when it was noticed.
struct LastError<'a> {
    cause: &'a Cause,
    at: Option<String>,
}

impl Serialize for LastError<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut fields = serializer.serialize_struct("LastError", 3)?;
        fields.serialize_field("kind", &self.cause.kind())?;
        fields.serialize_field("text", self.cause.text())?;
        fields.serialize_field("at", &self.at)?;
        fields.end()
    }
}

/// RFC 3339, of a moment of the monotonic clock.
#[expect(
    clippy::disallowed_methods,
    reason = "people and programs read it by that clock"
)]
fn past(now: Instant, at: Instant) -> Option<String> {
    rfc3339(SystemTime::now(), now.saturating_duration_since(at))
}

/// None before 1970, and after 9999: a clock that is not set has no time to tell.
fn rfc3339(today: SystemTime, ago: Duration) -> Option<String> {
    let at = today.checked_sub(ago)?;
    let since_1970 = at.duration_since(SystemTime::UNIX_EPOCH).ok()?;
    const YEAR_10000: Duration = Duration::from_secs(253_402_300_800);
    (since_1970 < YEAR_10000).then(|| humantime::format_rfc3339_millis(at).to_string())
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, SystemTime};

    use super::rfc3339;

    // D317
    #[test]
    fn a_moment_is_told_by_the_clock_of_the_system_if_it_has_one() {
        let day = Duration::from_secs(86_400);
        let today = SystemTime::UNIX_EPOCH + 20_000 * day;
        let told = rfc3339(today, Duration::from_millis(1_500));
        assert_eq!(told.as_deref(), Some("2024-10-03T23:59:58.500Z"));
        assert_eq!(rfc3339(today, 20_001 * day), None, "before 1970");
        let far = SystemTime::UNIX_EPOCH + 4_000_000 * day;
        assert_eq!(rfc3339(far, day), None, "humantime would panic");
    }
}
