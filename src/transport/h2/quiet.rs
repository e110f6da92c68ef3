//! When a peer is silent: the rules, without any IO.
//!
//! ```text
//!            a call is in flight             no byte for the limit: PING
//!   Resting ─────────────────────► Listening ──────────────────────────► Asked
//!      ▲                             │  ▲                                 │  no byte for
//!      └───────── no call ───────────┘  └───────────── a byte ────────────┤  the limit
//!                                                                         ▼
//!                                       Listening, Resting ◄── a byte ── Silent
//! ```
//!
//! A connection without calls may rest for as long as it likes. The quiet time counts from the last
//! byte, or from the moment from which calls are in flight without a gap. A PING asks for an answer by itself.
//! So an answer that does not come makes the connection silent, also if its calls have ended.
//!
//! Servers of gRPC count PINGs, and forget them when they send HEADERS or DATA. Those in Go, Java
//! and C++ forgive 2 that come within 5 minutes of the last one, and end the connection over the
//! next. So there are 2 PINGs between DATA of the peer, and then 1 in 5 minutes.

use std::time::{Duration, Instant};

use crate::util::instant::after;

/// PINGs between DATA of the peer.
const MAX_PINGS: u32 = 2;

/// The least time between PINGs that gRPC's servers allow without DATA between them.
const PING_PAUSE: Duration = Duration::from_secs(5 * 60);

/// The quiet time of one connection.
#[derive(Debug)]
pub(super) struct Quiet {
    /// Without a byte before the PING.
    before_ping: Duration,
    /// Without a byte after it.
    after_ping: Duration,
    state: State,
    pings: SentPings,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// No call is in flight.
    Resting,
    /// Calls are in flight, and since then no byte has come.
    Listening { since: Instant },
    /// No byte has come since a PING was sent, or would have been.
    Asked { at: Instant },
    /// Until the next byte.
    Silent,
}

/// The PINGs since the peer's last DATA.
#[derive(Debug, Default)]
struct SentPings {
    count: u32,
    last: Option<Instant>,
    /// Its ACK has not come. DATA that comes meanwhile may have been sent before it, and then the
    /// server counts it.
    is_on_its_way: bool,
}

/// The signs of life since the last poll, and whether a call is in flight.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Seen {
    pub(super) has_calls: bool,
    pub(super) has_read: bool,
    pub(super) has_data: bool,
    pub(super) has_pong: bool,
}

/// The consequence of an input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub(super) enum Action {
    Nothing,
    /// Send a PING, or count on the one that is on its way.
    Ping,
    /// The connection is silent from now on.
    BeginSilence,
    /// It is no longer.
    EndSilence,
}

impl Quiet {
    /// The PING comes after `before_ping` without a byte, and the silence `after_ping` later.
    pub(super) fn new(before_ping: Duration, after_ping: Duration) -> Self {
        Self {
            before_ping,
            after_ping,
            state: State::Resting,
            pings: SentPings::default(),
        }
    }

    /// The connection was polled. `now` is asked for if it is needed.
    pub(super) fn on_polled(&mut self, seen: Seen, now: impl FnOnce() -> Instant) -> Action {
        self.pings.on_polled(seen);
        let next = |now| match seen.has_calls {
            true => State::Listening { since: now },
            false => State::Resting,
        };
        let was_silent = self.state == State::Silent;
        self.state = match self.state {
            State::Resting if !seen.has_calls => State::Resting,
            State::Resting => next(now()),
            _ if seen.has_read => next(now()),
            State::Listening { .. } if !seen.has_calls => State::Resting,
            state @ (State::Listening { .. } | State::Asked { .. } | State::Silent) => state,
        };
        match was_silent && self.state != State::Silent {
            true => Action::EndSilence,
            false => Action::Nothing,
        }
    }

    /// When [`on_deadline`](Self::on_deadline) has something to do.
    pub(super) fn deadline(&self) -> Option<Instant> {
        match self.state {
            State::Resting | State::Silent => None,
            State::Listening { since } => {
                let ping = after(since, self.before_ping);
                Some(self.pings.not_before().map_or(ping, |at| at.max(ping)))
            }
            State::Asked { at } => Some(after(at, self.after_ping)),
        }
    }

    /// Whether the deadline is that of an answer.
    pub(super) fn awaits_answer(&self) -> bool {
        matches!(self.state, State::Asked { .. })
    }

    /// Time has passed. Before the deadline, or without one, nothing happens.
    pub(super) fn on_deadline(&mut self, now: Instant) -> Action {
        if self.deadline().is_none_or(|deadline| now < deadline) {
            return Action::Nothing;
        }
        match self.state {
            State::Resting | State::Silent => Action::Nothing,
            State::Listening { .. } => {
                self.state = State::Asked { at: now };
                self.pings.on_sent(now);
                Action::Ping
            }
            State::Asked { .. } => {
                self.state = State::Silent;
                Action::BeginSilence
            }
        }
    }
}

impl SentPings {
    fn on_polled(&mut self, seen: Seen) {
        if seen.has_data && !self.is_on_its_way {
            self.count = 0;
        }
        self.is_on_its_way &= !seen.has_pong;
    }

    /// A PING that is on its way serves for another.
    fn on_sent(&mut self, now: Instant) {
        if !self.is_on_its_way {
            self.is_on_its_way = true;
            self.count = self.count.saturating_add(1);
            self.last = Some(now);
        }
    }

    /// When the next one may be sent, if that is not at once.
    fn not_before(&self) -> Option<Instant> {
        let is_spent = self.count >= MAX_PINGS && !self.is_on_its_way;
        let last = self.last.filter(|_| is_spent)?;
        Some(after(last, PING_PAUSE))
    }
}

#[cfg(test)]
mod tests;
