//! One call, from its request to its response headers.

use http::{Request, Response};
use tonic::body::Body;

use super::{
    admission::{
        Admission, AnyBackend, Preference, admit, ask, expired_without_backend, try_admit,
        wait_for_backend,
    },
    driving::{let_driver_read, let_tasks_run},
    rules::{AttemptRules, Defaults, MethodRules, WaitForReady},
};
use crate::{
    deadline as travel,
    error::{Error, ErrorKind},
    routing::{Board, Pick},
    transport::{CallSlot, Deadline, OutgoingRequest, ResponseBody, SendError},
};

/// One call, from the moment it is made.
pub(crate) struct Call {
    pub(super) request: OutgoingRequest,
    pub(super) deadline: Deadline,
    /// What the caller says; the service config's word and the channel's come after.
    wait_for_ready: Option<bool>,
    channel_waits_for_ready: bool,
    /// A peer refused the request unprocessed. It is sent again once (gRFC A6,
    /// "Transparent Retries").
    pub(super) refused: bool,
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
        if let Some(rules) = self.apply_method_config(rules)? {
            return self.run_attempts(board, rules, None).await;
        }
        self.attempt(board, AnyBackend).await
    }

    /// Waits for the first service config: before that nobody knows the rules for
    /// this call.
    pub(super) async fn wait_for_config(&mut self, board: &Board) -> Result<MethodRules, Error> {
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
    /// otherwise; of two timeouts the shorter counts. Returns what it says of attempts.
    ///
    /// # Errors
    ///
    /// The call has no time at all.
    pub(super) fn apply_method_config(
        &mut self,
        rules: MethodRules,
    ) -> Result<Option<AttemptRules>, Error> {
        self.wait_for_ready = self.wait_for_ready.or(rules.wait_for_ready);
        self.request.limit_response(rules.max_response);
        if let Some(max) = rules.max_request {
            self.request.limit_messages(max);
        }
        if let Some(timeout) = rules.timeout {
            self.deadline.shorten(timeout);
        }
        match self.deadline.is_zero() {
            true => Err(Deadline::without_time()),
            false => Ok(rules.attempts),
        }
    }

    /// One attempt: until its response headers. A request that no backend has looked at is sent
    /// again.
    pub(super) async fn attempt(
        &mut self,
        board: &Board,
        mut preference: impl Preference,
    ) -> Result<Response<Body>, Error> {
        preference.begin(&mut self.request, false);
        loop {
            let slot = match self.try_admit(board, &preference)? {
                Admission::Now(slot) if !slot.connection().has_rested() => slot,
                // Boxed to keep it out of the future of calls that need not wait.
                later => match Box::pin(self.admit_later(board, later, &preference)).await? {
                    Some(slot) => slot,
                    None => continue,
                },
            };
            match self.send_on(slot, &mut preference).await {
                Ok(response) => return Ok(response),
                Err(error) => {
                    preference.on_failed(&error);
                    self.is_repeated(board, error)?;
                    preference.begin(&mut self.request, true);
                }
            }
        }
    }

    /// One attempt on this slot. Its body is bounded as the rules say.
    #[inline(always)]
    pub(super) fn send_on(
        &mut self,
        slot: CallSlot,
        preference: &mut impl Preference,
    ) -> impl Future<Output = Result<Response<Body>, SendError>> + Send {
        let slot = preference.on_slot(slot);
        let wrap = preference.wrap();
        let wrap = |mut body: ResponseBody, bounds| {
            body.bound(bounds);
            wrap(body)
        };
        slot.send(&mut self.request, &mut self.deadline, wrap)
    }

    fn try_admit(
        &mut self,
        board: &Board,
        preference: &impl Preference,
    ) -> Result<Admission, Error> {
        let patient = self.is_patient();
        try_admit(
            board,
            patient,
            self.has_waited,
            &mut self.request,
            preference,
        )
    }

    /// Fails as the attempt did, unless it is to be sent again because no backend has looked at
    /// it.
    pub(super) fn is_repeated(&mut self, board: &Board, error: SendError) -> Result<(), Error> {
        match error {
            // Not a retry, and without a limit: the connection is closed to new streams, and
            // the next pick passes it by.
            SendError::Unsent => Ok(()),
            SendError::Refused(error) => Err(error),
            SendError::Failed(failed)
                if failed.unprocessed && !self.refused && self.request.is_replayable() =>
            {
                self.refused = true;
                Ok(())
            }
            SendError::Failed(failed) => {
                board.standstill().on_failed_call();
                Err(failed.error)
            }
        }
    }

    /// The slot of a call that is not to go on at once; none if it is to ask again.
    async fn admit_later(
        &mut self,
        board: &Board,
        later: Admission,
        preference: &impl Preference,
    ) -> Result<Option<CallSlot>, Error> {
        let had_turn = match later {
            Admission::Later { had_turn, .. } => had_turn,
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
        let recorded = preference.on_wait();
        let slot = admit(
            board,
            patient,
            had_turn,
            &mut self.request,
            preference,
            &mut self.deadline,
        );
        let slot = slot.await;
        if let Some(recorded) = recorded {
            recorded.end_with(&slot);
        }
        match slot {
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

    /// The same call, for the attempt with this number beside this one.
    pub(super) fn fork(&mut self, attempt: u32) -> Self {
        Self {
            request: self.request.fork(attempt),
            deadline: self.deadline.clone(),
            ..*self
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
