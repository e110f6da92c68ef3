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

use std::{pin::pin, time::Duration};

use futures_util::future::{Either, select};
use http::{Request, Response};
use tokio::{
    select,
    time::{self, Instant},
};
use tonic::body::Body;

use crate::{
    board::Board,
    error::{Error, ErrorKind},
    picker::Pick,
    snapshot::Status,
    transport::{Admitted, Connection, Connections, OpenError, Outgoing, Place, ResponseBody},
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
    /// The time left is no longer what the caller wrote into `grpc-timeout`.
    late: bool,
    /// The call credentials are being asked.
    authorizing: bool,
    /// Where the stream is that a bounded call waits for, once there is one.
    sent_to: Option<Connection>,
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
            times: Times::new(timeout, defaults.header_timeout),
            defaults,
            max_response: None,
            late: false,
            authorizing: false,
            sent_to: None,
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
        let Some(Times {
            started,
            bound,
            deadline,
        }) = self.times
        else {
            return self
                .run(board)
                .await
                .map(|response| response.map(Body::new));
        };
        if bound == started {
            let text = "deadline exceeded before the call was sent: it was given no time";
            return Err(Error::new(ErrorKind::DeadlineExceeded, text));
        }
        let mut timer = Box::pin(time::sleep_until(bound));
        let outcome = match select(pin!(self.run(board)), &mut timer).await {
            Either::Left((outcome, _)) => Some(outcome),
            Either::Right(((), _)) => None,
        };
        let response = outcome.unwrap_or_else(|| Err(self.expired(board, bound - started)))?;
        let timer = deadline.map(|at| {
            if at != bound {
                timer.as_mut().reset(at);
            }
            timer
        });
        Ok(response.map(|body| Body::new(body.with_deadline(timer))))
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
        let Some(Times { started, bound, .. }) = self.times else {
            return learned.await;
        };
        let outcome = time::timeout_at(bound, learned).await;
        outcome.unwrap_or_else(|_| Err(self.expired(board, bound - started)))
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
            self.late = true;
        }
    }

    async fn run(&mut self, board: &Board) -> Result<Response<ResponseBody>, Error> {
        loop {
            let patient = self.wait_for_ready.unwrap_or(self.defaults.wait_for_ready);
            let admitted = admit(board, patient, &mut self.late).await?;
            self.request.prefetch().await?;
            // The endpoint's bound may be the channel's own, which covers the wait too.
            let timeout = match self.defaults.header_timeout {
                Some(_) => None,
                None => admitted.connection().call_timeout(),
            };
            let timeout = match admitted.needs_credentials() {
                false => timeout,
                // Boxed to keep it out of the future of calls that need none.
                true => Box::pin(self.authorize(board, &admitted, timeout)).await?,
            };
            self.tell_time_left();
            if self.times.is_some() || timeout.is_some() {
                self.sent_to = Some(admitted.connection().clone());
            }
            let exchange = match admitted.open(&mut self.request) {
                Ok(exchange) => exchange,
                Err(OpenError::Refused(error)) => return Err(error),
                // Never sent, so this is not a retry, and has no limit: the
                // connection is retired, and the next pick passes it by.
                Err(OpenError::Unsent) => {
                    self.sent_to = None;
                    continue;
                }
            };
            let outcome = match timeout {
                None => exchange.await,
                Some(timeout) => match time::timeout(timeout, exchange).await {
                    Ok(outcome) => outcome,
                    Err(_) => return Err(self.expired(board, timeout)),
                },
            };
            match outcome {
                Ok(response) => {
                    return Ok(response.map(|body| body.with_message_limit(self.max_response)));
                }
                Err(failed)
                    if failed.unprocessed && !self.refused && self.request.is_replayable() =>
                {
                    self.refused = true;
                    self.sent_to = None;
                }
                Err(failed) => return Err(failed.error),
            }
        }
    }

    /// Has the request authorized, within `timeout`; returns what is left of that.
    async fn authorize(
        &mut self,
        board: &Board,
        admitted: &Admitted,
        timeout: Option<Duration>,
    ) -> Result<Option<Duration>, Error> {
        self.late = true;
        self.authorizing = true;
        let authorized = admitted.authorize(&mut self.request);
        let left = match timeout {
            None => {
                authorized.await?;
                None
            }
            Some(timeout) => {
                let started = Instant::now();
                match time::timeout(timeout, authorized).await {
                    Ok(outcome) => outcome?,
                    Err(_) => return Err(self.expired(board, timeout)),
                }
                Some(timeout.saturating_sub(started.elapsed()))
            }
        };
        self.authorizing = false;
        Ok(left)
    }

    /// The server is told the time that is left. A request that goes out at once
    /// says what the caller wrote.
    fn tell_time_left(&mut self) {
        let Some(deadline) = self.times.and_then(|times| times.deadline) else {
            return;
        };
        if self.late {
            let left = deadline.saturating_duration_since(Instant::now());
            deadline::set(self.request.headers_mut(), left);
        }
        // Another attempt would be.
        self.late = true;
        self.request.renew_timeout();
    }

    /// The error of a call whose time has run out, with what it waited for.
    fn expired(&self, board: &Board, allowed: Duration) -> Error {
        let doing = match &self.sent_to {
            Some(connection) => format!("for the response of {}", connection.address()),
            None if self.authorizing => "for call credentials".to_owned(),
            None => format!("for a backend: {}", board.routing().status.explain(now())),
        };
        Error::new(
            ErrorKind::DeadlineExceeded,
            format!("deadline exceeded after {allowed:?}, waiting {doing}"),
        )
    }
}

/// A slot on a READY backend's connection. Says if it took time. A `patient` call
/// waits where another would fail.
async fn admit(board: &Board, patient: bool, late: &mut bool) -> Result<Admitted, Error> {
    match try_admit(board, patient)? {
        Some(admitted) => Ok(admitted),
        None => {
            *late = true;
            // Boxed to keep it out of the future of calls that need not wait.
            Box::pin(wait(board, patient)).await
        }
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

fn unavailable(status: &Status) -> Error {
    Error::new(ErrorKind::Unavailable, status.explain(now()))
}

fn closed() -> Error {
    Error::new(ErrorKind::Closed, "the channel is closed")
}

fn now() -> std::time::Instant {
    Instant::now().into_std()
}
