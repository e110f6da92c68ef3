//! The time of a call: what bounds it, what the server is told of it, and the error once it
//! is over.

use std::{
    future::{Future, poll_fn},
    pin::pin,
    task::Poll,
    time::Duration,
};

use http::HeaderMap;
use tokio::{runtime::Handle, time::Instant};

use super::{request::OutgoingRequest, timeout_header};
use crate::{
    error::{Error, ErrorKind},
    util::clock::{poll_timer, timer_on},
};

/// The time of one call.
#[derive(Clone)]
pub(crate) struct Deadline {
    times: Option<Times>,
    /// The server is to be told another time than `grpc-timeout` says.
    is_retold: bool,
    /// The time to the response headers is bounded from the start, the wait included: so
    /// the timeout of the only endpoint is counted already.
    counts_endpoint: bool,
}

/// The time a call has, if it is bounded.
#[derive(Clone, Copy)]
struct Times {
    started: Instant,
    /// When there have to be response headers.
    bound: Instant,
    /// When the whole call has to be over.
    end: Option<Instant>,
}

/// When a wait has to be over, and how much time it was given.
#[derive(Clone, Copy)]
pub(crate) struct Limit {
    pub(crate) at: Instant,
    allowed: Duration,
}

impl Deadline {
    /// From now on. The `grpc-timeout` in `headers` bounds the whole call, the response
    /// body included; `header_timeout` the time to the response headers.
    ///
    /// Where there is a `grpc-timeout`, `travelled` may say when that time ends.
    pub(crate) fn new(
        headers: &HeaderMap,
        travelled: impl FnOnce() -> Option<Instant>,
        header_timeout: Option<Duration>,
    ) -> Self {
        let timeout = timeout_header::of(headers);
        let mut deadline = Self {
            times: Times::new(timeout.map(|timeout| timeout.time), header_timeout),
            is_retold: timeout.is_some_and(|timeout| timeout.is_retold),
            counts_endpoint: header_timeout.is_some(),
        };
        if timeout.is_some()
            && let Some(at) = travelled()
        {
            deadline.end_by(at);
        }
        deadline
    }

    /// Of a call that may take any time, on any endpoint.
    pub(crate) fn none() -> Self {
        Self {
            times: None,
            is_retold: false,
            counts_endpoint: true,
        }
    }

    /// To the response headers, from now on.
    pub(crate) fn within(timeout: Duration) -> Self {
        Self {
            times: Times::new(None, Some(timeout)),
            ..Self::none()
        }
    }

    /// It ends then, if not sooner.
    fn end_by(&mut self, at: Instant) {
        if let Some(times) = &mut self.times
            && times.end.is_none_or(|end| at < end)
        {
            times.bound = times.bound.min(at).max(times.started);
            times.end = Some(at);
            self.is_retold = true;
        }
    }

    /// The service config says this, from now on. The shorter one counts.
    pub(crate) fn shorten(&mut self, timeout: Duration) {
        let now = Instant::now();
        let at = now.checked_add(timeout);
        let own = self.end();
        if let Some(at) = at.filter(|at| own.is_none_or(|own| *at < own)) {
            let started = self.times.map_or(now, |times| times.started);
            self.times = Some(Times {
                started,
                bound: match timeout.is_zero() {
                    true => started,
                    false => self.times.map_or(at, |times| times.bound.min(at)),
                },
                end: Some(at),
            });
            self.is_retold = true;
        }
    }

    /// The outcome of `waited`, or the limit if that comes first; which one that is, is asked
    /// at each poll. After a wait what the caller wrote is more than what is left.
    ///
    /// `runtime` keeps the time. If it is not known yet, the wait is woken once it is.
    pub(crate) async fn wait<'a, F: Future>(
        &mut self,
        limit: impl Fn() -> Option<Limit>,
        runtime: impl Fn() -> Option<&'a Handle>,
        waited: F,
    ) -> Result<F::Output, Limit> {
        self.is_retold = true;
        let mut waited = pin!(waited);
        let mut timer = pin!(None);
        let mut set_to = None;
        poll_fn(|cx| {
            if let Poll::Ready(output) = waited.as_mut().poll(cx) {
                return Poll::Ready(Ok(output));
            }
            let Some(limit) = limit() else {
                timer.set(None);
                return Poll::Pending;
            };
            if timer.is_none() || set_to != Some(limit.at) {
                set_to = Some(limit.at);
                timer.set(runtime().map(|runtime| timer_on(runtime, limit.at)));
            }
            match timer.as_mut().as_pin_mut() {
                None => Poll::Pending,
                Some(timer) => poll_timer(timer, cx).map(|()| Err(limit)),
            }
        })
        .await
    }

    /// Puts the time that is left on the request. A request that goes out at once keeps the
    /// text of its caller, if that is short.
    pub(crate) fn tell_time_left(&mut self, request: &mut OutgoingRequest) {
        let Some(end) = self.end() else { return };
        if self.is_retold {
            let left = end.saturating_duration_since(Instant::now());
            timeout_header::set(request.headers_mut(), left);
        }
        // Another attempt would be.
        self.is_retold = true;
        request.renew_timeout();
    }

    /// When the whole call has to be over.
    pub(crate) fn end(&self) -> Option<Instant> {
        self.times.and_then(|times| times.end)
    }

    /// Whether the call was given no time at all.
    pub(crate) fn is_zero(&self) -> bool {
        self.times.is_some_and(|times| times.bound == times.started)
    }

    /// The error of a call that was given no time at all.
    pub(crate) fn without_time() -> Error {
        let text = "deadline exceeded before the call was sent: its timeout is 0 s";
        Error::new(ErrorKind::DeadlineExceeded, text)
    }

    /// The limit of the call, wherever it waits.
    pub(crate) fn limit(&self) -> Option<Limit> {
        self.times.map(|times| Limit {
            at: times.bound,
            allowed: times.bound - times.started,
        })
    }

    /// The limit of a wait of this length, in the time that the call has.
    pub(crate) fn limit_within(&self, allowed: Duration) -> Limit {
        let at = Instant::now() + allowed;
        let limit = self.limit().filter(|limit| limit.at < at);
        limit.unwrap_or(Limit { at, allowed })
    }

    /// The limit of the call from here on, on an endpoint that has this timeout.
    pub(crate) fn limit_on(&self, endpoint: Option<Duration>) -> Option<Limit> {
        match endpoint.filter(|_| !self.counts_endpoint) {
            None => self.limit(),
            timeout => sooner(self.limit(), limit_after(Instant::now(), timeout)),
        }
    }
}

/// The limit of a wait that began then. None if its end is too far off to be told.
pub(crate) fn limit_after(began: Instant, timeout: Option<Duration>) -> Option<Limit> {
    let allowed = timeout?;
    let at = began.checked_add(allowed)?;
    Some(Limit { at, allowed })
}

pub(crate) fn sooner(one: Option<Limit>, other: Option<Limit>) -> Option<Limit> {
    one.into_iter().chain(other).min_by_key(|limit| limit.at)
}

impl Times {
    fn new(timeout: Option<Duration>, header_timeout: Option<Duration>) -> Option<Self> {
        // A call without a bound does not ask what time it is.
        let shorter = timeout.into_iter().chain(header_timeout).min()?;
        let started = Instant::now();
        Some(Self {
            started,
            // None if its end is too far off to be told.
            bound: started.checked_add(shorter)?,
            end: timeout.and_then(|timeout| started.checked_add(timeout)),
        })
    }
}

impl Limit {
    /// Whether there is no time at all.
    pub(crate) fn is_zero(self) -> bool {
        self.allowed.is_zero()
    }

    /// The error of a call whose time has run out, with what it waited for.
    pub(crate) fn expired(self, waiting: &str) -> Error {
        let allowed = self.allowed;
        Error::new(
            ErrorKind::DeadlineExceeded,
            format!("deadline exceeded after {allowed:?}, waiting {waiting}"),
        )
    }
}
