//! When the results of a check change its status; pure.
//!
//! ```text
//!            up_after successes in a row
//!   Down ─────────────────────────────────► Up
//!     ▲ ◄───────────────────────────────────┘
//!            down_after failures in a row
//! ```
//!
//! A check begins `Down`, because nothing has shown that its dependency works.

use std::num::NonZeroU32;

use crate::status::ServingStatus;

#[cfg(test)]
mod tests;

#[derive(Debug)]
pub(crate) struct Thresholds {
    up_after: NonZeroU32,
    down_after: NonZeroU32,
    state: State,
}

#[derive(Debug)]
enum State {
    Down { successes: u32 },
    Up { failures: u32 },
}

impl Thresholds {
    pub(crate) fn new(up_after: NonZeroU32, down_after: NonZeroU32) -> Self {
        Self {
            up_after,
            down_after,
            state: State::Down { successes: 0 },
        }
    }

    #[must_use]
    pub(crate) fn on_result(&mut self, succeeded: bool) -> ServingStatus {
        self.state = match (&self.state, succeeded) {
            (State::Down { .. }, false) => State::Down { successes: 0 },
            (State::Down { successes }, true) if successes + 1 >= self.up_after.get() => {
                State::Up { failures: 0 }
            }
            (State::Down { successes }, true) => State::Down {
                successes: successes + 1,
            },
            (State::Up { .. }, true) => State::Up { failures: 0 },
            (State::Up { failures }, false) if failures + 1 >= self.down_after.get() => {
                State::Down { successes: 0 }
            }
            (State::Up { failures }, false) => State::Up {
                failures: failures + 1,
            },
        };
        self.status()
    }

    pub(crate) fn status(&self) -> ServingStatus {
        match self.state {
            State::Down { .. } => ServingStatus::NotServing,
            State::Up { .. } => ServingStatus::Serving,
        }
    }
}
