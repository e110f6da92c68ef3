//! How many lines one source may write above DEBUG; pure.

use std::time::{Duration, Instant};

#[cfg(test)]
mod tests;

/// The lines of one source within [`PERIOD`]. A status that changes more often is a fault of
/// its source, and further lines would hide those of others.
pub(crate) const MAX_LINES: u32 = 60;

/// It begins with the first line after the last period.
const PERIOD: Duration = Duration::from_secs(60);

#[derive(Debug, Default)]
pub(crate) struct LogBudget {
    since: Option<Instant>,
    lines: u32,
}

/// How a line is logged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LogDecision {
    /// At its own level.
    Emit,
    /// At its own level, with a line that the next ones are not.
    EmitLast,
    /// At DEBUG.
    Demote,
}

impl LogBudget {
    /// For 1 more line, `now`.
    #[must_use]
    pub(crate) fn spend(&mut self, now: Instant) -> LogDecision {
        let goes_on = self
            .since
            .is_some_and(|since| now.saturating_duration_since(since) < PERIOD);
        if !goes_on {
            self.since = Some(now);
            self.lines = 0;
        }
        self.lines = self.lines.saturating_add(1);
        match self.lines {
            ..MAX_LINES => LogDecision::Emit,
            MAX_LINES => LogDecision::EmitLast,
            _ => LogDecision::Demote,
        }
    }
}
