//! How much a backend may say about its health.
//!
//! A `Watch` tells changes, and a backend has few. One that sends without end, by
//! mistake or by intent, would keep us busy with reading it, and with publishing
//! what it says.

use std::time::{Duration, Instant};

use crate::util::window_counter::WindowCounter;

/// Ten times the messages of a backend that flips a hundred times a second; or what
/// such a one has said to a client that was suspended for ten.
pub(super) const MAX_MESSAGES: u32 = 1_000;
const SECOND: Duration = Duration::from_secs(1);

/// The messages of one connection, of one `Watch` after the other.
#[derive(Debug, Default)]
pub(super) struct Flood {
    messages: WindowCounter,
    /// A `Watch` was ended for them, and no later one has gone well for a second.
    suspected: bool,
}

/// What a message means for the `Watch`, besides what it says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum MessageVerdict {
    /// It works, so the backoff begins anew.
    Good,
    /// It works, as it did before the last flood: the backoff stays as it is.
    Suspected,
    /// It has to end.
    TooMuch,
}

impl Flood {
    /// A message, on a `Watch` that `started` then.
    pub(super) fn on_message(&mut self, now: Instant, started: Instant) -> MessageVerdict {
        if self.messages.count(now, SECOND) > MAX_MESSAGES {
            self.suspected = true;
            return MessageVerdict::TooMuch;
        }
        self.suspected &= now.saturating_duration_since(started) < SECOND;
        match self.suspected {
            true => MessageVerdict::Suspected,
            false => MessageVerdict::Good,
        }
    }
}
