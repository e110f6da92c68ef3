//! HTTP/2 PINGs that find out whether a silent peer is still there (gRFC A8).
//!
//! ```text
//!             a stream is opened
//!   Dormant ─────────────────────► Waiting ◄──────────── the PING is answered
//!      ▲                             │  nothing read for the interval     │
//!      └──── and no stream is open ──┴── else: PING ───► Pinged ──────────┤
//!                                                          │ nothing read │
//!                                                          ▼ for the timeout
//!                                                   the connection is over
//! ```
//!
//! Whatever the peer sends is a sign of life. There is never more than one PING on
//! its way.

use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use tokio::time::{self, Instant, Sleep};

use super::pings::{Heard, Pings};
use crate::{
    transport::{connection::KeepaliveThrottle, endpoint::KeepaliveOptions},
    util::real_time::RealTime,
};

/// The keepalive of one connection. Polled by its driver, after each poll of `h2`.
pub(super) struct Keepalive {
    interval: Duration,
    timeout: Duration,
    while_idle: bool,
    last_read: Instant,
    state: State,
    timer: Pin<Box<Sleep>>,
    /// Of the answer to a PING, if the peer is at a socket.
    real_time: Option<RealTime>,
}

enum State {
    /// No stream is open, and PINGs are for streams.
    Dormant,
    /// Until the timer, which may be early: a read does not set it anew.
    Waiting,
    Pinged {
        at: Instant,
    },
}

impl Keepalive {
    /// `None` if the endpoint asks for none. The interval is doubled so often.
    pub(super) fn new(options: &KeepaliveOptions, doublings: u32, is_socket: bool) -> Option<Self> {
        let interval = KeepaliveThrottle::lengthen(options.interval?, doublings);
        Some(Self {
            interval,
            timeout: options.timeout,
            while_idle: options.while_idle,
            last_read: Instant::now(),
            state: State::Waiting,
            timer: Box::pin(time::sleep(interval)),
            real_time: is_socket.then(RealTime::default),
        })
    }

    /// The time between the last sign of life and a PING.
    pub(super) fn interval(&self) -> Duration {
        self.interval
    }

    /// Resolves to the reason why the connection is over, if the peer is gone.
    pub(super) fn poll(
        &mut self,
        cx: &mut Context<'_>,
        has_streams: bool,
        heard: Heard,
        pings: &mut Pings,
    ) -> Poll<String> {
        if heard.has_read {
            self.last_read = Instant::now();
        }
        let mut is_answered = heard.has_pong;
        let may_ping = has_streams || self.while_idle;
        loop {
            self.state = match self.state {
                State::Dormant if may_ping => self.wait(),
                State::Dormant => return Poll::Pending,
                State::Waiting => {
                    ready!(self.timer.as_mut().poll(cx));
                    if Instant::now() < later(self.last_read, self.interval) {
                        self.wait()
                    } else if !may_ping {
                        State::Dormant
                    } else if pings.send() {
                        is_answered = false;
                        self.expect_answer(later(Instant::now(), self.timeout));
                        State::Pinged { at: Instant::now() }
                    } else {
                        // The connection has ended, and its driver is to hear of it.
                        return Poll::Pending;
                    }
                }
                State::Pinged { at } => match is_answered {
                    true => self.wait(),
                    false => {
                        ready!(self.timer.as_mut().poll(cx));
                        if let Some(real_time) = &mut self.real_time {
                            ready!(real_time.poll_over(cx));
                        }
                        let until = later(at.max(self.last_read), self.timeout);
                        if until <= Instant::now() {
                            return Poll::Ready(format!(
                                "keepalive ping failed to receive ACK within timeout: the peer \
                                 sent no bytes within {:?}",
                                self.timeout
                            ));
                        }
                        self.expect_answer(until);
                        State::Pinged { at }
                    }
                },
            };
        }
    }

    fn expect_answer(&mut self, until: Instant) {
        self.timer.as_mut().reset(until);
        if let Some(real_time) = &mut self.real_time {
            real_time.set(until.into_std());
        }
    }

    fn wait(&mut self) -> State {
        if let Some(real_time) = &mut self.real_time {
            *real_time = RealTime::default();
        }
        let until = later(self.last_read, self.interval);
        self.timer.as_mut().reset(until);
        State::Waiting
    }
}

/// A time too far off to be told is a year away.
fn later(from: Instant, by: Duration) -> Instant {
    const YEAR: Duration = Duration::from_secs(365 * 24 * 60 * 60);
    from + by.min(YEAR)
}
