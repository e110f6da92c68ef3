//! How many lines of the log a peer can cause.

use std::time::{Duration, Instant};

use super::window_counter::WindowCounter;

/// Lines that one backend, or one channel, may bring into the log above DEBUG: what
/// changes more often is nothing to read.
const MAX_LINES: u32 = 60;
const MINUTE: Duration = Duration::from_secs(60);

/// Keeps what a peer can cause from filling the log.
#[derive(Clone, Debug, Default)]
pub(crate) struct LogBudget(WindowCounter);

/// How a line is logged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LogDecision {
    /// At its own level.
    Emit,
    /// At its own level, with word that the next ones are not.
    EmitLast,
    /// At DEBUG.
    Demote,
}

impl LogBudget {
    /// For one more line, `now`.
    pub(crate) fn spend(&mut self, now: Instant) -> LogDecision {
        match self.0.count(now, MINUTE) {
            ..MAX_LINES => LogDecision::Emit,
            MAX_LINES => LogDecision::EmitLast,
            _ => LogDecision::Demote,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::{LogBudget, LogDecision};

    #[test]
    fn the_log_is_loud_again_in_the_next_minute() {
        let start = Instant::now();
        let mut budget = LogBudget::default();
        for _ in 1..60 {
            assert_eq!(budget.spend(start), LogDecision::Emit);
        }
        assert_eq!(budget.spend(start), LogDecision::EmitLast);
        assert_eq!(budget.spend(start), LogDecision::Demote);
        let later = start + Duration::from_secs(60);
        assert_eq!(budget.spend(later), LogDecision::Emit);
    }
}
