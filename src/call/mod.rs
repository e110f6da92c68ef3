//! One call's life: wait for a backend, open a stream on it, see it through to
//! its response headers.
//!
//! ```text
//!   ┌─► pick ── Send ──► slot ──► open ──► exchange ──► response
//!   │    │                │         │         └─ refused by the peer, once ─┐
//!   │    │                └ all full└─ not sent ────────────────────────────┤
//!   │    ├─ Wait ──► bell           │                                       │
//!   │    ├─ Connect ─► wake, bell   │                                       │
//!   │    └─ Fail ──► UNAVAILABLE,   ▼                                       │
//!   │                or bell: wait-for-ready                                │
//!   └────────────────────────────────◄──────────────────────────────────────┘
//! ```
//!
//! Between slot and stream it is given its credentials, if the channel has any.
//!
//! All of it happens in the caller's task, inside the call's deadline. A call
//! never waits for the balancer's worker, only for what it publishes.

mod deadline;
mod rules;
#[cfg(test)]
mod tests;

use std::{
    future::{Future, poll_fn},
    pin::{Pin, pin},
    task::Poll,
    time::Duration,
};

use http::{Request, Response};
use tokio::{
    select,
    time::{self, Instant},
};
use tonic::{Code, body::Body};

use crate::{
    error::{Error, ErrorKind},
    routing::{Board, Pick, Status},
    transport::{
        Admitted, Connections, Exchange, Failed, OpenError, Outgoing, Place, ResponseBody,
    },
    util::clock::now,
};

pub(crate) use rules::Defaults;
use rules::MethodRules;
pub use rules::WaitForReady;

/// One call, from the moment it is made.
pub(crate) struct Call {
    request: Outgoing,
    times: Option<Times>,
    defaults: Defaults,
    /// What the caller says; the service config's word and the channel's come after.
    wait_for_ready: Option<bool>,
    max_response: Option<u32>,
    /// The server is to be told another time than `grpc-timeout` says.
    retells_time: bool,
    /// A peer refused the request unprocessed. It is sent again once (gRFC A6,
    /// "Transparent Retries").
    refused: bool,
}

/// The time a call has, if it is bounded.
#[derive(Clone, Copy)]
struct Times {
    started: Instant,
    /// When there have to be response headers.
    bound: Instant,
    /// When the whole call has to be over.
    deadline: Option<Instant>,
}

/// When a wait has to be over, and how much time it was given.
#[derive(Clone, Copy)]
struct Limit {
    at: Instant,
    allowed: Duration,
}

impl Times {
    fn new(timeout: Option<Duration>, header_timeout: Option<Duration>) -> Option<Self> {
        let shorter = timeout.into_iter().chain(header_timeout).min()?;
        let started = Instant::now();
        Some(Self {
            started,
            // A time too far off to be told is no bound.
            bound: started.checked_add(shorter)?,
            deadline: timeout.and_then(|timeout| started.checked_add(timeout)),
        })
    }
}

impl Call {
    /// The request's own `grpc-timeout` bounds the whole call, the response body
    /// included.
    pub(crate) fn new(request: Request<Body>, defaults: Defaults) -> Self {
        let timeout = deadline::of(request.headers());
        let wait_for_ready = request.extensions().get::<WaitForReady>();
        Self {
            wait_for_ready: wait_for_ready.map(|WaitForReady(wait)| *wait),
            request: Outgoing::new(request),
            // A call without a bound does not ask what time it is.
            times: Times::new(timeout.map(|timeout| timeout.time), defaults.header_timeout),
            defaults,
            max_response: None,
            retells_time: timeout.is_some_and(|timeout| timeout.is_retold),
            refused: false,
        }
    }

    /// Sends the request to a backend and waits for its response headers. Once.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future cancels the call.
    pub(crate) async fn send(&mut self, board: &Board) -> Result<Response<Body>, Error> {
        board.mark_active();
        let rules = match MethodRules::on(board, self.request.path()) {
            Some(rules) => rules,
            // Boxed, as it is rare, to keep it out of every other call's future.
            None => Box::pin(self.learn(board)).await?,
        };
        self.obey(rules);
        if let Some(times) = self.times
            && times.bound == times.started
        {
            let text = "deadline exceeded before the call was sent: it was given no time";
            return Err(Error::new(ErrorKind::DeadlineExceeded, text));
        }
        let response = self.run(board).await?;
        let deadline = self.times.and_then(|times| times.deadline);
        Ok(response.map(|body| Body::new(body.with_deadline(deadline))))
    }

    /// Waits for the first service config: before that nobody knows the rules for
    /// this call.
    async fn learn(&mut self, board: &Board) -> Result<MethodRules, Error> {
        let patient = self.wait_for_ready.unwrap_or(self.defaults.wait_for_ready);
        let path = self.request.path().to_owned();
        let learned = async {
            let _counted = board.start_waiting()?;
            let mut bell = board.bell();
            loop {
                if let Some(rules) = MethodRules::on(board, &path) {
                    return Ok(rules);
                }
                // There is no backend to send to; it may be IDLE, or have failed.
                ask_again(board, patient, &mut None)?;
                // The board outlives this borrow, and with it the bell.
                let _ = bell.changed().await;
            }
        };
        within(self.limit(), learned)
            .await
            .unwrap_or_else(|limit| Err(expired_without_backend(board, limit)))
    }

    /// Takes over what the service config says, where the caller has not said
    /// otherwise; of two timeouts the shorter counts.
    fn obey(&mut self, rules: MethodRules) {
        self.wait_for_ready = self.wait_for_ready.or(rules.wait_for_ready);
        self.max_response = rules.max_response;
        if let Some(max) = rules.max_request {
            self.request.limit_messages(max);
        }
        let Some(timeout) = rules.timeout else { return };
        let now = Instant::now();
        let at = now.checked_add(timeout);
        let own = self.times.and_then(|times| times.deadline);
        if let Some(at) = at.filter(|at| own.is_none_or(|own| *at < own)) {
            let started = self.times.map_or(now, |times| times.started);
            self.times = Some(Times {
                started,
                bound: match timeout.is_zero() {
                    true => started,
                    false => self.times.map_or(at, |times| times.bound.min(at)),
                },
                deadline: Some(at),
            });
            self.retells_time = true;
        }
    }

    async fn run(&mut self, board: &Board) -> Result<Response<ResponseBody>, Error> {
        loop {
            let patient = self.wait_for_ready.unwrap_or(self.defaults.wait_for_ready);
            let admitted = match try_admit(board, patient)? {
                Some(admitted) => admitted,
                None => {
                    self.retells_time = true;
                    // Boxed to keep it out of the future of calls that need not wait.
                    Box::pin(admit(board, patient, self.limit())).await?
                }
            };
            self.request.prefetch().await?;
            let limit = self.limit_on(&admitted);
            if admitted.needs_credentials() {
                self.retells_time = true;
                // Boxed to keep it out of the future of calls that need none.
                Box::pin(self.authorize(&admitted, limit)).await?;
            }
            self.tell_time_left();
            let mut exchange = match admitted.open(&mut self.request) {
                Ok(exchange) => exchange,
                Err(OpenError::Refused(error)) => return Err(error),
                // Never sent, so this is not a retry, and has no limit: the
                // connection is retired, and the next pick passes it by.
                Err(OpenError::Unsent) => continue,
            };
            match answer(&mut exchange, limit).await {
                Ok(response) => {
                    return Ok(response.map(|body| body.with_message_limit(self.max_response)));
                }
                Err(failed)
                    if failed.unprocessed && !self.refused && self.request.is_replayable() =>
                {
                    self.refused = true;
                }
                Err(failed) => return Err(failed.error),
            }
        }
    }

    /// Has the request authorized.
    async fn authorize(&mut self, admitted: &Admitted, limit: Option<Limit>) -> Result<(), Error> {
        within(limit, admitted.authorize(&mut self.request))
            .await
            .unwrap_or_else(|limit| Err(expired(limit, "for call credentials")))
    }

    /// What bounds the call, wherever it waits.
    fn limit(&self) -> Option<Limit> {
        self.times.map(|times| Limit {
            at: times.bound,
            allowed: times.bound - times.started,
        })
    }

    /// What bounds the call from here on, now that it has a backend: its endpoint may
    /// have a timeout, too.
    fn limit_on(&self, admitted: &Admitted) -> Option<Limit> {
        // The endpoint's bound may be the channel's own, which covers the wait too.
        let of_endpoint = match self.defaults.header_timeout {
            Some(_) => None,
            None => admitted.connection().call_timeout(),
        };
        let of_endpoint = of_endpoint.and_then(|allowed| {
            let at = Instant::now().checked_add(allowed)?;
            Some(Limit { at, allowed })
        });
        self.limit()
            .into_iter()
            .chain(of_endpoint)
            .min_by_key(|limit| limit.at)
    }

    /// The server is told the time that is left. A request that goes out at once
    /// says what the caller wrote, if that is short.
    fn tell_time_left(&mut self) {
        let Some(deadline) = self.times.and_then(|times| times.deadline) else {
            return;
        };
        if self.retells_time {
            let left = deadline.saturating_duration_since(Instant::now());
            deadline::set(self.request.headers_mut(), left);
        }
        // Another attempt would be.
        self.retells_time = true;
        self.request.renew_timeout();
    }
}

/// The answer, if there is one without waiting. Never overtakes a call that
/// waits for a slot.
fn try_admit(board: &Board, patient: bool) -> Result<Option<Admitted>, Error> {
    let routing = board.routing();
    Ok(match routing.picker.pick() {
        Pick::Send(mut candidates) if board.queue().is_empty() => {
            let round = candidates.round();
            candidates.find_map(|backend| backend.admit(round))
        }
        Pick::Send(_) | Pick::Wait | Pick::Connect => None,
        Pick::Fail if patient => None,
        Pick::Fail => return Err(unavailable(&routing.status)),
        Pick::Closed => return Err(closed()),
    })
}

/// A slot on a READY backend's connection, as soon as there is one.
async fn admit(board: &Board, patient: bool, limit: Option<Limit>) -> Result<Admitted, Error> {
    within(limit, wait(board, patient))
        .await
        .unwrap_or_else(|limit| Err(expired_without_backend(board, limit)))
}

async fn wait(board: &Board, patient: bool) -> Result<Admitted, Error> {
    let _counted = board.start_waiting()?;
    let mut bell = board.bell();
    let mut place: Option<Place> = None;
    loop {
        ask_again(board, patient, &mut place)?;
        match &mut place {
            Some(place) => select! {
                biased;
                admitted = place => return Ok(admitted),
                _ = bell.changed() => {}
            },
            None => {
                // The board outlives this borrow, and with it the bell.
                let _ = bell.changed().await;
            }
        }
    }
}

/// Asks the picker in force, and takes or leaves the place in the queue for
/// a slot accordingly.
fn ask_again(board: &Board, patient: bool, place: &mut Option<Place>) -> Result<(), Error> {
    let routing = board.routing();
    match routing.picker.pick() {
        Pick::Send(_) => {
            // First join, then look for free slots, in a routing loaded
            // after that: whoever frees or publishes one before is seen
            // here, and whoever does so after sees this place.
            if place.is_none() {
                *place = Some(board.queue().join());
            }
            if let Pick::Send(candidates) = board.routing().picker.pick() {
                candidates.for_each(Connections::serve_queue);
            }
            return Ok(());
        }
        Pick::Wait => {}
        Pick::Connect => board.wake(),
        Pick::Fail if patient => {}
        Pick::Fail => return Err(unavailable(&routing.status)),
        Pick::Closed => return Err(closed()),
    }
    *place = None;
    Ok(())
}

/// The outcome of `waited`, or the limit if that comes first.
async fn within<F: Future>(limit: Option<Limit>, waited: F) -> Result<F::Output, Limit> {
    match limit {
        None => Ok(waited.await),
        Some(limit) => time::timeout_at(limit.at, waited).await.map_err(|_| limit),
    }
}

/// Waits for the response, within the limit if there is one.
///
/// One way for calls with and without a limit, for it is in the future of every call.
async fn answer(
    exchange: &mut Exchange,
    limit: Option<Limit>,
) -> Result<Response<ResponseBody>, Failed> {
    let mut timer = pin!(limit.map(|limit| time::sleep_until(limit.at)));
    let outcome = poll_fn(|cx| {
        if let Poll::Ready(outcome) = Pin::new(&mut *exchange).poll(cx) {
            return Poll::Ready(Some(outcome));
        }
        match timer.as_mut().as_pin_mut() {
            None => Poll::Pending,
            Some(timer) => timer.poll(cx).map(|()| None),
        }
    })
    .await;
    let is_late = |limit: &Limit| match &outcome {
        None => true,
        // The server has the same deadline, and says so by cancelling the call.
        Some(Err(failed)) => failed.error.code() == Code::Cancelled && Instant::now() >= limit.at,
        Some(Ok(_)) => false,
    };
    if let Some(limit) = limit.filter(is_late) {
        let address = exchange.connection().address();
        return Err(Failed {
            error: expired(limit, &format!("for the response of {address}")),
            unprocessed: false,
        });
    }
    outcome.expect("only a timer ends the wait without one")
}

/// The error of a call whose time has run out, with what it waited for.
fn expired(limit: Limit, waiting: &str) -> Error {
    let allowed = limit.allowed;
    Error::new(
        ErrorKind::DeadlineExceeded,
        format!("deadline exceeded after {allowed:?}, waiting {waiting}"),
    )
}

fn expired_without_backend(board: &Board, limit: Limit) -> Error {
    let why = board.routing().status.explain(now());
    expired(limit, &format!("for a backend: {why}"))
}

fn unavailable(status: &Status) -> Error {
    Error::new(ErrorKind::Unavailable, status.explain(now()))
}

fn closed() -> Error {
    Error::new(ErrorKind::Closed, "the channel is closed")
}
