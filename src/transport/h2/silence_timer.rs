//! The clock and the timer of [`Quiet`], which says when the peer of a connection is silent.

use std::{
    future::Future,
    pin::Pin,
    task::Context,
    time::{Duration, Instant},
};

use tokio::time::{Sleep, sleep_until};

use super::{
    pings::{Heard, Pings},
    quiet::{Action, Quiet, Seen},
};
use crate::{
    transport::connection::{Connection, KeepaliveThrottle, Silence},
    util::{clock::now, real_time::RealTime},
};

pub(super) struct SilenceTimer {
    quiet: Quiet,
    limit: Duration,
    /// It may be early: a byte does not set it anew.
    timer: Option<Pin<Box<Sleep>>>,
    /// Of the answer to a PING, if the peer is at a socket.
    real_time: Option<RealTime>,
}

impl SilenceTimer {
    /// A server that minds PINGs has the first one later.
    pub(super) fn new(limit: Duration, doublings: u32, is_socket: bool) -> Self {
        let before_ping = KeepaliveThrottle::lengthen(limit, doublings);
        Self {
            quiet: Quiet::new(before_ping, limit),
            limit,
            timer: None,
            real_time: is_socket.then(RealTime::default),
        }
    }

    /// After each poll of `h2`. `came` is the DATA of calls that it has brought.
    pub(super) fn poll(
        &mut self,
        cx: &mut Context<'_>,
        heard: Heard,
        came: usize,
        pings: &mut Pings,
        connection: &Connection,
    ) {
        let seen = Seen {
            has_calls: connection.has_open_calls(),
            has_read: heard.has_read,
            has_data: came > 0,
            has_pong: heard.has_pong,
        };
        let action = self.quiet.on_polled(seen, now);
        self.act(action, pings, connection);
        if let Some(real_time) = &mut self.real_time
            && !self.quiet.awaits_answer()
        {
            *real_time = RealTime::default();
        }
        while let Some(deadline) = self.quiet.deadline() {
            if !self.is_over(cx, deadline) {
                return;
            }
            let action = self.quiet.on_deadline(now());
            self.act(action, pings, connection);
        }
        self.timer = None;
    }

    /// A clock that is ahead is not enough. Sockets are read before timers fire, so a timer leaves
    /// no byte unseen that has come in time.
    fn is_over(&mut self, cx: &mut Context<'_>, deadline: Instant) -> bool {
        let deadline = deadline.into();
        let timer = self
            .timer
            .get_or_insert_with(|| Box::pin(sleep_until(deadline)));
        if timer.deadline() > deadline {
            timer.as_mut().reset(deadline);
        }
        while timer.as_mut().poll(cx).is_ready() {
            if timer.deadline() >= deadline {
                return self.is_really_over(cx);
            }
            timer.as_mut().reset(deadline);
        }
        false
    }

    fn is_really_over(&mut self, cx: &mut Context<'_>) -> bool {
        match &mut self.real_time {
            Some(real_time) if self.quiet.awaits_answer() => real_time.poll_over(cx).is_ready(),
            Some(_) | None => true,
        }
    }

    fn act(&mut self, action: Action, pings: &mut Pings, connection: &Connection) {
        match action {
            Action::Nothing => {}
            Action::Ping => {
                pings.send();
                if let (Some(real_time), Some(at)) = (&mut self.real_time, self.quiet.deadline()) {
                    real_time.set(at);
                }
            }
            Action::BeginSilence => connection.set_silence(Some(Silence {
                since: now(),
                limit: self.limit,
            })),
            Action::EndSilence => connection.set_silence(None),
        }
    }
}
