//! When a connection was used last, so that a call can tell one that has rested: nothing may
//! have looked at its socket since.

use std::{
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    time::{Duration, Instant},
};

/// After so long without a call a connection has rested.
const REST: Duration = Duration::from_secs(1);

/// Written by calls that are alone on their connection, so that threads which share one do not
/// pull a cache line to and fro.
#[derive(Debug)]
pub(super) struct LastUse {
    start: Instant,
    /// In milliseconds from the start.
    last: AtomicU64,
}

impl LastUse {
    pub(super) fn start(now: Instant) -> Self {
        Self {
            start: now,
            last: AtomicU64::new(0),
        }
    }

    /// A call uses it. Whether it has rested before.
    pub(super) fn renew(&self, now: Instant) -> bool {
        let now = now.saturating_duration_since(self.start).as_millis();
        let now = u64::try_from(now).unwrap_or(u64::MAX);
        let last = self.last.load(Relaxed);
        self.last.store(now, Relaxed);
        u128::from(now.saturating_sub(last)) >= REST.as_millis()
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::LastUse;

    #[test]
    fn it_rests_after_a_second_without_a_call() {
        let start = Instant::now();
        let at = |millis| start + Duration::from_millis(millis);
        let last = LastUse::start(start);
        let rested =
            [0, 999, 1_998, 2_998, 2_998, 3_997, 60_000].map(|millis| last.renew(at(millis)));
        assert_eq!(rested, [false, false, false, true, false, false, true]);
    }
}
