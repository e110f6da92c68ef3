//! A stream of which the headers of the response are there.

use h2::RecvStream;
use http::HeaderMap;
use tokio::time::Instant;
use tonic::Status;

use super::request_body::RequestBodyTask;
use crate::{
    error::Error,
    transport::connection::{CallOutcome, CallSlot, Connection, Progress},
};

/// What is left of a stream whose headers are there.
pub(super) struct Live {
    pub(super) stream: RecvStream,
    /// The slot, and with it the connection: it outlives its channel. Taken when this is
    /// dropped.
    slot: Option<CallSlot>,
    /// What is left of the request, and moves by itself.
    request: Option<RequestBodyTask>,
    /// Frames that were read.
    pub(super) frames: u32,
    /// How many there are, if all have come and are small.
    settled: Option<u32>,
}

impl Live {
    pub(super) fn new(
        stream: RecvStream,
        slot: CallSlot,
        request: Option<RequestBodyTask>,
        settled: Option<u32>,
    ) -> Self {
        Self {
            stream,
            slot: Some(slot),
            request,
            frames: 0,
            settled,
        }
    }

    /// Whether all of the response has come, and is small.
    pub(super) fn is_settled(&self) -> bool {
        self.settled.is_some()
    }

    /// Whether trailers are most likely what is next. Padded frames are not counted.
    pub(super) fn expects_trailers(&self) -> bool {
        self.settled == Some(self.frames)
    }

    /// Whether the stream ends with the trailers that are expected: `h2` then gives back the
    /// window of the last frame.
    pub(super) fn ends_with_trailers(&self) -> bool {
        self.expects_trailers() && self.request.is_none()
    }

    /// The answer is over. What is left of the request goes on until `deadline`.
    pub(super) fn end(mut self, deadline: Option<Instant>) {
        if let Some(request) = self.request.take()
            && let Some(slot) = self.slot.take()
        {
            request.detach(slot, deadline);
        }
    }

    /// How far it is read.
    pub(super) fn progress(&mut self) -> Progress {
        Progress {
            unread: self.stream.flow_control().used_capacity(),
            frames: self.frames,
        }
    }

    pub(super) fn slot(&self) -> &CallSlot {
        self.slot.as_ref().expect("until it is dropped")
    }

    /// Its call has ended so.
    pub(super) fn end_with(&mut self, outcome: CallOutcome) {
        if let Some(slot) = &mut self.slot {
            slot.end(outcome);
        }
    }

    /// Its call has ended with this frame.
    pub(super) fn end_by(&mut self, last: &HeaderMap) {
        if let Some(slot) = &mut self.slot {
            slot.end_by(last);
        }
    }

    pub(super) fn connection(&self) -> &Connection {
        self.slot().connection()
    }

    /// The request body's own error, if that is why the stream ended.
    pub(super) fn status(&mut self, error: &h2::Error) -> Status {
        let of_stream = self.connection().on_stream_failed(error);
        let of_request = self.request.as_mut().and_then(RequestBodyTask::error);
        of_request
            .unwrap_or_else(|| Error::in_response(of_stream))
            .into()
    }
}

impl Drop for Live {
    fn drop(&mut self) {
        if let Some(slot) = self.slot.take() {
            slot.cancel(|| Box::new(self.stream.flow_control().clone()));
        }
    }
}
