//! The time by which certificates are valid.

use std::time::SystemTime;

use tokio_rustls::rustls::{pki_types::UnixTime, time_provider::TimeProvider};

/// The clock of this host. The one of rustls panics before 1970.
#[derive(Debug)]
pub(super) struct WallClock;

impl TimeProvider for WallClock {
    #[allow(
        clippy::disallowed_methods,
        reason = "certificates begin and end by the wall clock"
    )]
    fn current_time(&self) -> Option<UnixTime> {
        unix_time(SystemTime::now())
    }
}

/// Before 1970 there is none.
fn unix_time(now: SystemTime) -> Option<UnixTime> {
    let since = now.duration_since(SystemTime::UNIX_EPOCH).ok()?;
    Some(UnixTime::since_unix_epoch(since))
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, SystemTime};

    use super::unix_time;

    // D304
    #[test]
    fn before_1970_there_is_no_time() {
        let second = Duration::from_secs(1);
        assert_eq!(unix_time(SystemTime::UNIX_EPOCH - second), None);
        let first = unix_time(SystemTime::UNIX_EPOCH + second).expect("a time");
        assert_eq!(first.as_secs(), 1);
    }
}
