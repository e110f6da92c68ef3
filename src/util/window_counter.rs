//! How often something happens, for rules of what is too often.

use std::time::{Duration, Instant};

/// Counts in periods. One begins with the first that comes after the last has
/// passed, so within any span of its length there are at most twice as many as it
/// may have.
#[derive(Clone, Debug, Default)]
pub(crate) struct WindowCounter {
    since: Option<Instant>,
    count: u32,
}

impl WindowCounter {
    /// One more, `now`: how many there are in its period.
    pub(crate) fn count(&mut self, now: Instant, period: Duration) -> u32 {
        let goes_on = self
            .since
            .is_some_and(|since| now.saturating_duration_since(since) < period);
        if !goes_on {
            self.since = Some(now);
            self.count = 0;
        }
        self.count = self.count.saturating_add(1);
        self.count
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_period_begins_with_the_first_after_the_last_has_passed() {
        let start = Instant::now();
        let mut counter = WindowCounter::default();
        let counts = [0, 999, 1_000, 1_500, 2_500, 3_499].map(|millis| {
            let now = start + Duration::from_millis(millis);
            counter.count(now, Duration::from_secs(1))
        });
        assert_eq!(counts, [1, 2, 1, 2, 1, 2]);
    }

    #[test]
    fn a_clock_that_stands_still_counts_on() {
        let now = Instant::now();
        let mut counter = WindowCounter::default();
        assert_eq!(
            [0; 3].map(|_| counter.count(now, Duration::from_secs(1))),
            [1, 2, 3]
        );
    }
}
