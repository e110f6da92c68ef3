//! A call that is recorded: the same steps, with a record of what they lead to.
//!
//! ```text
//!   send_and_record ──► config ──► attempt ──► headers ──► RecordedBody ──► status
//!                         │          │ again?    └─ a status: the end         └─ the end
//!                         └──────────┴─ an error: the end
//! ```
//!
//! A call of a channel without metrics and a tracer takes none of this. It has another future, and
//! its hooks are those of [`Preference`], which do nothing.

use std::{
    mem,
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use http::Response;
use http_body::{Body as _, Frame};
use tonic::{Status, body::Body};

use super::{
    admission::{AnyBackend, Frames, Preference},
    final_status::FinalStatus,
    record::{CallRecord, Wait},
    rules::MethodRules,
    run::Call,
};
use crate::{
    error::Error,
    metrics::SentBytes,
    routing::{Board, Candidates, Probes},
    transport::{CallSlot, ConnectionGroup, MessageBytes, OutgoingRequest, SendError},
};

impl Call {
    /// As [`send`](Self::send), and `record` has what becomes of the call.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future cancels the call, which `record` tells when it is dropped.
    pub(crate) async fn send_and_record(
        &mut self,
        board: &Board,
        record: &mut CallRecord,
    ) -> Result<Response<Body>, Error> {
        let outcome = self.send_recorded(board, record).await;
        if !record.is_empty() {
            match outcome {
                Err(error) => {
                    record.end(FinalStatus::Error(&error));
                    return Err(error);
                }
                Ok(response) if response.body().is_end_stream() => {
                    record.end(FinalStatus::Headers(response.headers()));
                    return Ok(response);
                }
                // Its attempts are recorded by themselves.
                Ok(response) => {
                    let wrap = |body| Body::new(RecordedBody::new(body, record.take()));
                    return Ok(response.map(wrap));
                }
            }
        }
        outcome
    }

    async fn send_recorded(
        &mut self,
        board: &Board,
        record: &mut CallRecord,
    ) -> Result<Response<Body>, Error> {
        board.mark_active();
        let rules = match MethodRules::on(board, self.request.path()) {
            Some(rules) => rules,
            None => {
                let wait = record.begin_resolution();
                let rules = Box::pin(self.wait_for_config(board)).await;
                record.on_resolved(wait, &rules);
                rules?
            }
        };
        if let Some(rules) = self.apply_method_config(rules)? {
            return self.run_attempts(board, rules, Some(record)).await;
        }
        // The messages of the request are counted, so it is looked at first.
        self.look_ahead(Some(record)).await?;
        self.attempt(board, Recorded::new(AnyBackend, Some(record)))
            .await
    }

    /// Takes from the body of the request what is ready. Without it there is a failed attempt.
    #[inline(always)]
    pub(super) async fn look_ahead(
        &mut self,
        record: Option<&mut CallRecord>,
    ) -> Result<(), Error> {
        let outcome = self.request.prefetch().await;
        if let (Err(_), Some(record)) = (&outcome, record) {
            record.begin_failed_attempt();
        }
        outcome
    }
}

/// A preference whose attempts are recorded, if there is a record.
pub(super) struct Recorded<'a, P> {
    preference: P,
    record: Option<&'a mut CallRecord>,
    /// By what the messages of the request are counted.
    sent: Option<SentBytes>,
    /// The attempt that begins next sends the request again.
    is_again: bool,
}

impl<'a, P: Preference> Recorded<'a, P> {
    pub(super) fn new(preference: P, record: Option<&'a mut CallRecord>) -> Self {
        Self {
            preference,
            record,
            sent: None,
            is_again: false,
        }
    }

    /// The same, and what begins next sends the request again, because no backend has looked at it.
    pub(super) fn again(mut self) -> Self {
        self.is_again = true;
        self
    }
}

impl<P: Preference> Preference for Recorded<'_, P> {
    #[inline(always)]
    fn admit(&self, candidates: Candidates<'_, ConnectionGroup>) -> Option<CallSlot> {
        self.preference.admit(candidates)
    }

    fn probe(&self, probes: Probes<'_, ConnectionGroup>) -> Option<CallSlot> {
        self.preference.probe(probes)
    }

    #[inline(always)]
    fn on_slot(&mut self, slot: CallSlot) -> CallSlot {
        if let Some(record) = &mut self.record {
            record.on_slot();
        }
        self.preference.on_slot(slot)
    }

    /// Headers that are all there is leave the record where it is: another attempt may follow.
    /// Without a record the body has no layer for one.
    #[inline(always)]
    fn wrap<B: Frames>(&mut self) -> impl FnOnce(B) -> Body + Send {
        let Self {
            preference, record, ..
        } = self;
        move |body: B| match record {
            Some(record) if !body.is_end_stream() => {
                preference.wrap()(RecordedBody::new(body, record.take()))
            }
            _ => preference.wrap()(body),
        }
    }

    #[inline(always)]
    fn begin(&mut self, request: &mut OutgoingRequest, again: bool) {
        if let Some(record) = &mut self.record {
            let again = again || mem::take(&mut self.is_again);
            record.begin_attempt(request, &mut self.sent, again);
        }
    }

    #[inline(always)]
    fn on_wait(&self) -> Option<Wait> {
        self.record.as_ref()?.begin_wait()
    }

    #[inline(always)]
    fn on_failed(&mut self, error: &SendError) {
        if let Some(record) = &mut self.record {
            match error {
                SendError::Unsent => record.end_attempt(FinalStatus::Unsent, false),
                SendError::Refused(error) => record.end_attempt(FinalStatus::Error(error), false),
                SendError::Failed(failed) => {
                    record.end_attempt(FinalStatus::Error(&failed.error), true);
                }
            }
        }
    }
}

/// Ends the attempt of `record` as `outcome` says, unless its body does.
#[inline(always)]
pub(super) fn record_end(record: Option<&mut CallRecord>, outcome: &Result<Response<Body>, Error>) {
    if let Some(record) = record {
        match outcome {
            Err(error) => record.end_attempt(FinalStatus::Error(error), true),
            Ok(response) if response.body().is_end_stream() => {
                record.end_attempt(FinalStatus::Headers(response.headers()), true);
            }
            Ok(_) => {}
        }
    }
}

/// A body with the record of its call, which ends with it.
struct RecordedBody<B> {
    body: B,
    record: CallRecord,
    received: MessageBytes,
}

impl<B: Frames> RecordedBody<B> {
    fn new(body: B, record: CallRecord) -> Self {
        Self {
            body,
            record,
            received: MessageBytes::default(),
        }
    }

    fn end(&mut self, status: FinalStatus<'_>) {
        self.record.set_received(self.received.total());
        self.record.end(status);
    }

    fn receive(&mut self, data: &[u8]) {
        let Self {
            record, received, ..
        } = self;
        match record.wants_messages() {
            false => received.add(data),
            true => {
                received.add_each(data, |n, prefix| record.on_message(prefix.message(n)));
            }
        }
    }
}

impl<B: Frames> http_body::Body for RecordedBody<B> {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let frame = ready!(Pin::new(&mut self.body).poll_frame(cx));
        match &frame {
            Some(Ok(frame)) => match (frame.data_ref(), frame.trailers_ref()) {
                (Some(data), _) => self.receive(data),
                (None, Some(trailers)) => self.end(FinalStatus::Headers(trailers)),
                (None, None) => {}
            },
            Some(Err(status)) => self.end(FinalStatus::Status(status)),
            None => self.end(FinalStatus::Missing),
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }
}

/// Given up before its end: CANCELLED, with what has come until then.
impl<B> Drop for RecordedBody<B> {
    fn drop(&mut self) {
        self.record.set_received(self.received.total());
    }
}
