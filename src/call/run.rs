//! One call, from its request to its response headers.

use std::{
    future::{Future, poll_fn},
    pin::{Pin, pin},
    task::Poll,
};

use http::{Request, Response};
use tokio::time::{self, Instant};
use tonic::{Code, body::Body};

use super::{
    admission::{admit, ask_again, expired_without_backend, try_admit},
    deadline::{Limit, Times, expired, within},
    rules::{Defaults, MethodRules, WaitForReady},
    timeout_header,
};
use crate::{
    error::{Error, ErrorKind},
    routing::Board,
    transport::{Admitted, Exchange, Failed, OpenError, Outgoing, ResponseBody},
};

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

impl Call {
    /// The request's own `grpc-timeout` bounds the whole call, the response body
    /// included.
    pub(crate) fn new(request: Request<Body>, defaults: Defaults) -> Self {
        let timeout = timeout_header::of(request.headers());
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
            timeout_header::set(self.request.headers_mut(), left);
        }
        // Another attempt would be.
        self.retells_time = true;
        self.request.renew_timeout();
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
