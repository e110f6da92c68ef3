//! When a channel has been without calls for long enough to let its connections
//! go.
//!
//! ```text
//!   last call ends                                     IDLE
//!        ▼    ┌───────────── timeout ──────────────────►│
//!   ─┼────•───┼───────┼───────┼───────┼─ … ─┼───────┼───┼──► checks
//!             └ the last look that finds a call since the one before
//! ```
//!
//! Calls do not tell the time when they end. They leave a mark, and somebody
//! looks for marks a few times per timeout: so a channel is IDLE no sooner than
//! the timeout says, and an eighth of it later at the most.

use std::time::{Duration, Instant};

use crate::util::instant::after;

const CHECKS_PER_TIMEOUT: u32 = 8;

/// The shortest idle timeout, as in gRPC for C++ and Java.
pub(super) const MIN_TIMEOUT: Duration = Duration::from_secs(1);

#[derive(Debug)]
pub(super) struct Idleness {
    timeout: Duration,
    /// The last look at which there had been a call.
    quiet_since: Instant,
    next_check: Instant,
}

impl Idleness {
    pub(super) fn new(now: Instant, timeout: Duration) -> Self {
        let mut idleness = Self {
            timeout: timeout.max(MIN_TIMEOUT),
            quiet_since: now,
            next_check: now,
        };
        idleness.schedule(now);
        idleness
    }

    /// When to look again.
    pub(super) fn next_check(&self) -> Instant {
        self.next_check
    }

    /// Looks: `busy` if there is a call, or was one since the last look. Whether
    /// the channel is to be IDLE now.
    pub(super) fn check_activity(&mut self, now: Instant, busy: bool) -> bool {
        if busy {
            self.quiet_since = now;
        }
        self.schedule(now);
        now.saturating_duration_since(self.quiet_since) >= self.timeout
    }

    fn schedule(&mut self, now: Instant) {
        // A timeout beyond all time is never reached.
        self.next_check = after(now, self.timeout / CHECKS_PER_TIMEOUT);
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use proptest::prelude::*;

    use super::{Idleness, MIN_TIMEOUT};

    const MINUTE: Duration = Duration::from_secs(60);

    /// When it is idle, with a call in hand exactly at these seconds.
    fn idle_after(timeout: Duration, calls: &[u64]) -> Duration {
        let start = Instant::now();
        let mut idleness = Idleness::new(start, timeout);
        let mut last = start;
        loop {
            let now = idleness.next_check();
            let marks = calls.iter().map(|at| start + Duration::from_secs(*at));
            let busy = marks.into_iter().any(|at| last < at && at <= now);
            if idleness.check_activity(now, busy) {
                return now - start;
            }
            last = now;
        }
    }

    #[test]
    fn without_calls_it_is_idle_after_the_timeout() {
        assert_eq!(idle_after(MINUTE, &[]), MINUTE);
    }

    #[test]
    fn less_than_a_second_is_a_second() {
        assert_eq!(idle_after(Duration::ZERO, &[]), MIN_TIMEOUT);
    }

    #[test]
    fn a_timeout_without_end_is_no_panic() {
        let start = Instant::now();
        let mut idleness = Idleness::new(start, Duration::MAX);
        let look = idleness.next_check();
        assert!(!idleness.check_activity(look, false));
    }

    proptest! {
        #[test]
        fn idle_no_sooner_than_the_timeout_and_hardly_later(
            calls in proptest::collection::vec(1_u64..300, 1..20),
        ) {
            let idle = idle_after(MINUTE, &calls);
            // The calls that it saw: those after are for a channel that is idle.
            let mut sorted = calls;
            sorted.sort_unstable();
            let seen = sorted.into_iter().map(Duration::from_secs).take_while(|at| *at <= idle);
            let last = seen.last().unwrap_or_default();
            let quiet = idle - last.min(idle);
            prop_assert!(quiet >= MINUTE, "idle {quiet:?} after the last call");
            prop_assert!(quiet <= MINUTE + MINUTE / 8, "idle only {quiet:?} after it");
        }
    }
}
