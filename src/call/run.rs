//! One call, from its request to its response headers.

use http::{Request, Response};
use tonic::body::Body;

use super::{
    admission::{Admission, admit, ask, expired_without_backend, try_admit, wait_for_backend},
    driving::{let_driver_read, let_tasks_run},
    rules::{Defaults, MethodRules, WaitForReady},
};
use crate::{
    deadline as travel,
    error::{Error, ErrorKind},
    routing::{Board, Pick},
    transport::{CallSlot, Deadline, OutgoingRequest, ResponseBody, SendError},
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
        let travelled = || {
            let travelled = request.extensions().get::<travel::Deadline>()?;
            Some(travelled.instant()?.into())
        };
        Self {
            wait_for_ready: wait_for_ready.map(|WaitForReady(wait)| *wait),
            deadline: Deadline::new(request.headers(), travelled, defaults.header_timeout),
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
            return Err(Deadline::without_time());
        }
        self.run(board).await
    }

    /// The body as the caller gets it, bounded as the rules say. Boxed as soon as it is here:
    /// it is large, and moved some times more.
    fn hand_out(&self, mut body: ResponseBody) -> Body {
        if let Some(max) = self.max_response {
            body.set_message_limit(max);
        }
        body.set_deadline(self.deadline.end());
        Body::new(body)
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

    async fn run(&mut self, board: &Board) -> Result<Response<Body>, Error> {
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
            match slot.send(&mut self.request, &mut self.deadline).await {
                Ok(response) => return Ok(response.map(|body| self.hand_out(body))),
                // Not a retry, and without a limit: the connection is closed to new streams, and
                // the next pick passes it by.
                Err(SendError::Unsent) => {}
                Err(SendError::Refused(error)) => return Err(error),
                Err(SendError::Failed(failed))
                    if failed.unprocessed && !self.refused && self.request.is_replayable() =>
                {
                    self.refused = true;
                }
                Err(SendError::Failed(failed)) => {
                    board.standstill().on_failed_call();
                    return Err(failed.error);
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
}
