//! When a backend's connections beside its first are dialled, without any IO.
//!
//! ```text
//!              joined, the last that was missing
//!   Dialling ─────────────────────────────────────► Complete
//!    ▲    │                                             │ lost
//!    │    └─ failed, or more are missing ─► Waiting ◄───┘
//!    └────────────── later, reset ─────────────┘
//! ```
//!
//! One is dialled after the other, for as long as the first connection is up. They
//! decide nothing: a backend that has not got all of them is used with those it has.

use std::time::{Duration, Instant};

use crate::util::backoff::{Backoff, next_start};

/// The extra connections of one backend whose first is up.
///
/// Inputs that say `true` want one to be dialled now. Between that and its outcome
/// none says so again.
#[derive(Debug)]
pub(super) struct ExtraConnections {
    wanted: usize,
    up: usize,
    phase: DialPhase,
    /// When the last dial began, be it that of the first connection: two of one
    /// backend are never closer than [`MIN_INTERVAL`](crate::util::backoff::MIN_INTERVAL).
    dialled: Instant,
    backoff: Backoff,
}

#[derive(Clone, Copy, Debug)]
enum DialPhase {
    Complete,
    Dialling,
    Waiting { at: Instant },
}

impl ExtraConnections {
    /// The first connection is up, whose dial began when it was `dialled`.
    pub(super) fn start(wanted: usize, dialled: Instant, backoff: Backoff) -> Self {
        let mut extras = Self {
            wanted,
            up: 0,
            phase: DialPhase::Complete,
            dialled,
            backoff,
        };
        extras.go_on(Duration::ZERO);
        extras
    }

    /// The dial succeeded.
    pub(super) fn on_joined(&mut self) {
        if let DialPhase::Dialling = self.phase {
            self.up += 1;
            self.backoff.reset();
            self.go_on(Duration::ZERO);
        }
    }

    /// The dial failed.
    pub(super) fn on_failed(&mut self) {
        if let DialPhase::Dialling = self.phase {
            self.back_off();
        }
    }

    /// One that was up ended, or has taken the place of the first.
    ///
    /// That counts as if its dial had failed: one that lived is replaced at once, and
    /// a server that hangs up on what it has accepted, because it wants no more
    /// connections of one client, is left alone for a while each time.
    pub(super) fn on_lost(&mut self) {
        debug_assert!(self.up > 0, "lost more than there were");
        self.up = self.up.saturating_sub(1);
        if let DialPhase::Complete = self.phase {
            self.back_off();
        }
    }

    /// Whether to dial now.
    pub(super) fn on_deadline(&mut self, now: Instant) -> bool {
        match self.phase {
            DialPhase::Waiting { at } if at <= now => self.dial(now),
            DialPhase::Waiting { .. } | DialPhase::Dialling | DialPhase::Complete => false,
        }
    }

    /// Whether to dial now: whoever resets decides how often is too often.
    pub(super) fn reset_backoff(&mut self, now: Instant) -> bool {
        self.backoff.reset();
        match self.phase {
            DialPhase::Waiting { .. } => self.dial(now),
            DialPhase::Dialling | DialPhase::Complete => false,
        }
    }

    pub(super) fn deadline(&self) -> Option<Instant> {
        match self.phase {
            DialPhase::Waiting { at } => Some(at),
            DialPhase::Dialling | DialPhase::Complete => None,
        }
    }

    pub(super) fn up(&self) -> usize {
        self.up
    }

    /// See the field.
    pub(super) fn dialled(&self) -> Instant {
        self.dialled
    }

    fn dial(&mut self, now: Instant) -> bool {
        self.phase = DialPhase::Dialling;
        self.dialled = now;
        true
    }

    fn back_off(&mut self) {
        let delay = self.backoff.next_delay();
        self.go_on(delay);
    }

    /// The next dial comes so long after the last one, if one is missing.
    fn go_on(&mut self, delay: Duration) {
        self.phase = match self.up < self.wanted {
            true => DialPhase::Waiting {
                // What is past is due.
                at: next_start(self.dialled, self.dialled, delay),
            },
            false => DialPhase::Complete,
        };
    }
}
