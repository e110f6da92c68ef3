//! The time in which a peer has to take something of what is written to it.

use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll, ready},
    time::{Duration, Instant},
};

use tokio::time::{self, Sleep};

use crate::util::real_time::RealTime;

/// Bounds the time in which nothing could be written although something waits.
pub(super) struct WriteTimeout {
    limit: Option<Duration>,
    /// While the socket takes nothing.
    timer: Option<Pin<Box<Sleep>>>,
    /// Not for IO in memory, which has the time of its tests.
    real_time: Option<RealTime>,
}

impl WriteTimeout {
    pub(super) fn new(limit: Option<Duration>, is_socket: bool) -> Self {
        Self {
            limit,
            timer: None,
            real_time: is_socket.then(RealTime::default),
        }
    }

    /// Resolves to the reason why the connection is over, if the peer has taken nothing for
    /// too long. `blocked_since` is since when.
    pub(super) fn poll(
        &mut self,
        cx: &mut Context<'_>,
        blocked_since: Option<Instant>,
    ) -> Poll<String> {
        let (Some(limit), Some(since)) = (self.limit, blocked_since) else {
            self.timer = None;
            return Poll::Pending;
        };
        let Some(at) = since.checked_add(limit) else {
            return Poll::Pending;
        };
        let timer = self
            .timer
            .get_or_insert_with(|| Box::pin(time::sleep_until(at.into())));
        if timer.deadline() != at.into() {
            timer.as_mut().reset(at.into());
        }
        if let Some(real_time) = &mut self.real_time {
            real_time.set(at);
        }
        ready!(timer.as_mut().poll(cx));
        if let Some(real_time) = &mut self.real_time {
            ready!(real_time.poll_over(cx));
        }
        Poll::Ready(format!(
            "write timeout: the peer has read nothing for {limit:?}"
        ))
    }
}
