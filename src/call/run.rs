//! One call, from its request to its response headers.

use std::{
    future::{Future, poll_fn},
    pin::{Pin, pin},
    task::Poll,
};

use http::{Request, Response};
use tokio::time::Instant;
use tonic::{Code, body::Body};

use super::{
    admission::{Admission, admit, ask, expired_without_backend, try_admit, wait_for_backend},
    deadline::{Deadline, Limit},
    driving::{let_driver_read, let_tasks_run},
    rules::{Defaults, MethodRules, WaitForReady},
};
use crate::{
    error::{Error, ErrorKind},
    routing::{Board, Pick},
    transport::{CallSlot, Exchange, Failed, OpenError, OutgoingRequest, ResponseBody},
    util::clock::{poll_timer, timer_on},
};

/// One call, from the moment it is made.
pub(crate) struct Call {
    request: OutgoingRequest,
    deadline: Deadline,
    /// What the caller says; the service config's word and the channel's come after.
    wait_for_ready: Option<bool>,
    channel_waits_for_ready: bool,
    max_response: Option<u32>,
    /// A peer refused the request unprocessed. It is sent again once (gRFC A6,
    /// "Transparent Retries").
    refused: bool,
    /// In TRANSIENT_FAILURE it has let the channel's tasks run. It does that once.
    has_waited: bool,
}

impl Call {
    pub(crate) fn new(request: Request<Body>, defaults: Defaults) -> Self {
        let wait_for_ready = request.extensions().get::<WaitForReady>();
        Self {
            wait_for_ready: wait_for_ready.map(|WaitForReady(wait)| *wait),
            deadline: Deadline::new(
                request.headers(),
                request.extensions(),
                defaults.header_timeout,
            ),
            request: OutgoingRequest::new(request),
            channel_waits_for_ready: defaults.wait_for_ready,
            max_response: None,
            refused: false,
            has_waited: false,
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
            None => Box::pin(self.wait_for_config(board)).await?,
        };
        self.apply_method_config(rules);
        if self.deadline.is_zero() {
            return Err(without_time());
        }
        let response = self.run(board).await?;
        let end = self.deadline.end();
        Ok(response.map(|mut body| {
            if let Some(max) = self.max_response {
                body.set_message_limit(max);
            }
            body.set_deadline(end);
            Body::new(body)
        }))
    }

    /// Waits for the first service config: before that nobody knows the rules for
    /// this call.
    async fn wait_for_config(&mut self, board: &Board) -> Result<MethodRules, Error> {
        let patient = self.is_patient();
        let path = self.request.path().to_owned();
        if !patient && matches!(board.routing().picker.peek(), Pick::Fail) {
            self.let_tasks_run(board).await;
        }
        let config = async {
            let _counted = board.start_waiting()?;
            let mut routing_changed = board.routing_changed();
            loop {
                if let Some(rules) = MethodRules::on(board, &path) {
                    return Ok(rules);
                }
                // There is no backend to send to; it may be IDLE, or have failed.
                ask(board, patient)?;
                // The board outlives this borrow, and with it the sender.
                let _ = routing_changed.changed().await;
            }
        };
        let config = wait_for_backend(board, &mut self.deadline, config).await;
        config.unwrap_or_else(|limit| Err(expired_without_backend(board, limit)))
    }

    /// Takes over what the service config says, where the caller has not said
    /// otherwise; of two timeouts the shorter counts.
    fn apply_method_config(&mut self, rules: MethodRules) {
        self.wait_for_ready = self.wait_for_ready.or(rules.wait_for_ready);
        self.max_response = rules.max_response;
        if let Some(max) = rules.max_request {
            self.request.limit_messages(max);
        }
        if let Some(timeout) = rules.timeout {
            self.deadline.shorten(timeout);
        }
    }

    async fn run(&mut self, board: &Board) -> Result<Response<ResponseBody>, Error> {
        loop {
            let patient = self.is_patient();
            let slot = match try_admit(board, patient, self.has_waited, &mut self.request)? {
                Admission::Now(slot) if !slot.connection().has_rested() => slot,
                // Boxed to keep it out of the future of calls that need not wait.
                later => match Box::pin(self.admit_later(board, later)).await? {
                    Some(slot) => slot,
                    None => continue,
                },
            };
            self.request.prefetch().await?;
            let limit = self.deadline.limit_on(slot.connection().call_timeout());
            if limit.is_some_and(Limit::is_zero) {
                return Err(without_time());
            }
            if slot.needs_credentials() {
                // Boxed to keep it out of the future of calls that need none.
                Box::pin(self.authorize(&slot, limit)).await?;
            }
            self.deadline.tell_time_left(&mut self.request);
            let mut exchange = match slot.open(&mut self.request) {
                Ok(exchange) => exchange,
                Err(OpenError::Refused(error)) => return Err(error),
                // Never sent, so this is not a retry, and has no limit: the
                // connection is closed to new streams, and the next pick passes it by.
                Err(OpenError::Unsent) => continue,
            };
            exchange.set_deadline(self.deadline.end());
            match answer(&mut exchange, limit).await {
                Ok(response) => return Ok(response),
                Err(failed)
                    if failed.unprocessed && !self.refused && self.request.is_replayable() =>
                {
                    self.refused = true;
                }
                Err(failed) => {
                    board.standstill().on_failed_call();
                    return Err(failed.error.after_sending(failed.unprocessed));
                }
            }
        }
    }

    /// The slot of a call that is not to go on at once; none if it is to ask again.
    async fn admit_later(
        &mut self,
        board: &Board,
        later: Admission,
    ) -> Result<Option<CallSlot>, Error> {
        let had_turn = match later {
            Admission::Later { had_turn } => had_turn,
            Admission::Now(rested) => {
                let_driver_read().await;
                return Ok(Some(rested));
            }
            Admission::Failing => {
                self.let_tasks_run(board).await;
                return Ok(None);
            }
        };
        let patient = self.is_patient();
        let stood_still = board.standstill().is_on();
        let slot = admit(
            board,
            patient,
            had_turn,
            &mut self.request,
            &mut self.deadline,
        );
        match slot.await {
            // It waited for an attempt that was made before the call.
            Err(error)
                if stood_still && !self.has_waited && error.kind() == ErrorKind::Unavailable =>
            {
                self.let_tasks_run(board).await;
                Ok(None)
            }
            slot => slot.map(Some),
        }
    }

    /// What it does in TRANSIENT_FAILURE before it fails.
    async fn let_tasks_run(&mut self, board: &Board) {
        self.has_waited = true;
        let_tasks_run(board, &mut self.deadline).await;
    }

    /// Whether it waits in TRANSIENT_FAILURE.
    fn is_patient(&self) -> bool {
        self.wait_for_ready.unwrap_or(self.channel_waits_for_ready)
    }

    /// Has the request authorized.
    async fn authorize(&mut self, slot: &CallSlot, limit: Option<Limit>) -> Result<(), Error> {
        let authorized = slot.authorize(&mut self.request);
        let runtime = || Some(slot.connection().runtime());
        let authorized = self.deadline.wait(|| limit, runtime, authorized).await;
        authorized.unwrap_or_else(|limit| Err(limit.expired("for call credentials")))
    }
}

fn without_time() -> Error {
    let text = "deadline exceeded before the call was sent: it was given no time";
    Error::new(ErrorKind::DeadlineExceeded, text)
}

/// Waits for the response, within the limit if there is one.
///
/// One way for calls with and without a limit, for it is in the future of every call.
async fn answer(
    exchange: &mut Exchange,
    limit: Option<Limit>,
) -> Result<Response<ResponseBody>, Failed> {
    let mut timer = pin!(limit.map(|limit| timer_on(exchange.connection().runtime(), limit.at)));
    let outcome = poll_fn(|cx| {
        if let Poll::Ready(outcome) = Pin::new(&mut *exchange).poll(cx) {
            return Poll::Ready(Some(outcome));
        }
        match timer.as_mut().as_pin_mut() {
            None => Poll::Pending,
            Some(timer) => poll_timer(timer, cx).map(|()| None),
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
        // What has come of the response tells more than that its rest is late.
        let error = exchange.http_error();
        return Err(Failed {
            error: error
                .unwrap_or_else(|| limit.expired(&format!("for the response of {address}"))),
            unprocessed: false,
        });
    }
    outcome.expect("only a timer ends the wait without one")
}
