//! The response, until its headers.

use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll, ready},
};

use h2::{RecvStream, client::ResponseFuture};
use http::{Response, response};

use super::{
    body::{BodyBounds, LateStatus, ResponseBody},
    headers::{KnownHeaders, LastFrame, clean_status, missing_status, remove_status},
    http_error::{Answer, HttpError, Page, Verdict, metadata},
    live::Live,
    request_body::{RequestBodyPump, RequestBodyTask},
};
use crate::{
    error::{Error, ErrorKind},
    transport::{
        connection::{CallOutcome, CallSlot, Connection},
        words::h2_error,
    },
};

/// A stream that is open, until its response headers.
///
/// Dropping it cancels the call: RST_STREAM with CANCEL.
pub(crate) struct Exchange {
    /// Taken when this is dropped.
    response: Option<ResponseFuture>,
    request: RequestBody,
    /// Taken when the headers are there.
    slot: Option<CallSlot>,
    bounds: BodyBounds,
    /// The response, if it takes more than its headers to know what it is.
    page: Option<Box<Page>>,
}

/// What is left of the request.
enum RequestBody {
    /// Not looked at yet: most of what is not whole at first is after one look.
    New(Box<RequestBodyPump>),
    /// It moves by itself.
    Moving(RequestBodyTask),
    Sent,
}

impl RequestBody {
    fn poll(&mut self, cx: &mut Context<'_>, slot: &CallSlot) -> Result<(), Error> {
        *self = match std::mem::replace(self, Self::Sent) {
            Self::New(mut pump) => match pump.poll(cx) {
                Poll::Pending => Self::Moving(RequestBodyTask::start(pump, slot)),
                Poll::Ready(Ok(())) => {
                    drop(pump);
                    Self::Sent
                }
                Poll::Ready(Err(error)) => {
                    pump.cancel();
                    return Err(error);
                }
            },
            Self::Moving(mut task) => match task.poll_error(cx) {
                Poll::Pending => Self::Moving(task),
                Poll::Ready(error) => return Err(error),
            },
            Self::Sent => Self::Sent,
        };
        Ok(())
    }

    /// Its own error, if it had one.
    fn error(&mut self) -> Option<Error> {
        match self {
            Self::Moving(task) => task.error(),
            Self::New(_) | Self::Sent => None,
        }
    }

    /// Its task, if the headers came before its end.
    fn into_task(self, slot: &CallSlot) -> Option<RequestBodyTask> {
        match self {
            Self::New(pump) => Some(RequestBodyTask::start(pump, slot)),
            Self::Moving(task) => Some(task),
            Self::Sent => None,
        }
    }
}

/// A call that failed before its response headers.
#[derive(Debug)]
pub(crate) struct Failed {
    pub(crate) error: Error,
    /// The peer guarantees that it has not looked at the request.
    pub(crate) unprocessed: bool,
}

impl Failed {
    /// The peer may have looked at the request.
    fn processed(error: Error) -> Self {
        Self {
            error,
            unprocessed: false,
        }
    }
}

impl Exchange {
    pub(super) fn new(
        response: ResponseFuture,
        pump: Option<Box<RequestBodyPump>>,
        slot: CallSlot,
    ) -> Self {
        Self {
            response: Some(response),
            request: match pump {
                Some(pump) => RequestBody::New(pump),
                None => RequestBody::Sent,
            },
            slot: Some(slot),
            bounds: BodyBounds::default(),
            page: None,
        }
    }

    /// The bounds of the body. Its deadline is also the end of a request that goes on after the
    /// answer.
    pub(super) fn set_bounds(&mut self, bounds: BodyBounds) {
        self.bounds = bounds;
    }

    pub(super) fn bounds(&self) -> BodyBounds {
        self.bounds
    }

    /// Its attempt has failed so, before it had a response.
    #[cold]
    pub(crate) fn end(&mut self, failed: &Failed) {
        if let Some(slot) = &mut self.slot {
            slot.end(match failed.unprocessed {
                true => CallOutcome::Refused,
                false => CallOutcome::Status(failed.error.code()),
            });
        }
    }

    /// Where the stream is, until it has a response.
    pub(crate) fn connection(&self) -> &Connection {
        let slot = self.slot.as_ref().expect("there is no response yet");
        slot.connection()
    }

    /// The HTTP error that the response is by what has come of it, while the rest is awaited.
    pub(crate) fn http_error(&self) -> Option<Error> {
        let page = self.page.as_ref()?;
        Some(page.error(self.connection().address()))
    }

    /// The response, or its failure, as far as its headers tell which it is.
    #[inline]
    fn respond(
        &mut self,
        response: Response<RecvStream>,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Response<ResponseBody>, Failed>> {
        let (mut head, stream) = response.into_parts();
        let seen = KnownHeaders::of(&head.headers);
        // Headers that are all there is are the end of the answer.
        let settled = self.slot.as_ref().and_then(CallSlot::settled);
        // Headers before DATA are not the last frame. `h2` would take its lock to say so.
        let has_data = settled.is_some_and(|frames| frames > 0);
        let is_last = !has_data && stream.is_end_stream();
        let answer = Answer::of(head.status, &seen, is_last);
        if !is_last && seen.has_part_of_status() {
            remove_status(&mut head.headers);
        }
        match answer {
            Answer::Grpc => Poll::Ready(Ok(self.hand_out(head, Some(stream), settled, None))),
            other => {
                let response = self.respond_rarely(other, head, stream, cx);
                response.map_err(Failed::processed)
            }
        }
    }

    #[cold]
    fn respond_rarely(
        &mut self,
        answer: Answer,
        mut head: response::Parts,
        stream: RecvStream,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Response<ResponseBody>, Error>> {
        self.page = Some(Box::new(match answer {
            Answer::Grpc => {
                return Poll::Ready(Ok(self.hand_out(head, Some(stream), None, None)));
            }
            Answer::TrailersOnly => {
                clean_status(&mut head.headers);
                return Poll::Ready(Ok(self.hand_out(head, None, None, None)));
            }
            Answer::NoStatus => {
                let mut status = missing_status(self.connection(), LastFrame::Headers);
                *status.metadata_mut() = metadata(&head.headers);
                return Poll::Ready(Err(Error::with_status(ErrorKind::CallFailed, status)));
            }
            Answer::Undecided => Page::undecided(head, stream),
            Answer::HttpError => Page::of_error(head, stream),
        }));
        self.poll_page(cx)
    }

    /// Its stream has failed before there were headers.
    #[cold]
    fn fail(&mut self, error: &h2::Error) -> Failed {
        let status = self.connection().on_stream_failed(error);
        let of_request = self.request.error();
        Failed {
            error: of_request.unwrap_or_else(|| Error::with_status(ErrorKind::CallFailed, status)),
            unprocessed: h2_error::is_unprocessed(error),
        }
    }

    #[cold]
    fn poll_page(&mut self, cx: &mut Context<'_>) -> Poll<Result<Response<ResponseBody>, Error>> {
        let mut page = self.page.take().expect("there is one");
        let connection = self.connection();
        Poll::Ready(match page.poll(connection, cx) {
            Poll::Pending => {
                self.page = Some(page);
                return Poll::Pending;
            }
            Poll::Ready(Verdict::HttpError) => Err(page.error(connection.address())),
            Poll::Ready(Verdict::Message(first)) => {
                let Page { head, stream, .. } = *page;
                let late = LateStatus::new(first, HttpError::of(&head));
                Ok(self.hand_out(head, Some(stream), None, Some(Box::new(late))))
            }
            Poll::Ready(Verdict::Trailers(trailers)) => {
                let mut head = page.head;
                head.headers.extend(trailers);
                Ok(self.hand_out(head, None, None, None))
            }
        })
    }

    /// The response to the caller. Without a stream its headers are all there is. `settled` is
    /// how many DATA frames it has, if that is known.
    fn hand_out(
        &mut self,
        mut head: response::Parts,
        stream: Option<RecvStream>,
        settled: Option<u32>,
        late: Option<Box<LateStatus>>,
    ) -> Response<ResponseBody> {
        let mut slot = self.slot.take().expect("polled after completion");
        if stream.is_none() && slot.wants_outcome() {
            slot.end(CallOutcome::of_last(&head.headers));
        }
        if let Some(backend) = slot.connection().answered_by() {
            head.extensions.insert(backend.clone());
        }
        let request = std::mem::replace(&mut self.request, RequestBody::Sent);
        let request = request.into_task(&slot);
        let live = match (stream, request) {
            (Some(stream), request) => Some(Live::new(stream, slot, request, settled)),
            (None, Some(request)) => {
                request.detach(slot, self.bounds.deadline);
                None
            }
            (None, None) => None,
        };
        Response::from_parts(head, ResponseBody::new(live, late))
    }
}

impl Drop for Exchange {
    fn drop(&mut self) {
        if let (Some(response), Some(slot)) = (self.response.take(), self.slot.take()) {
            slot.cancel(|| Box::new(response));
        }
    }
}

impl Future for Exchange {
    type Output = Result<Response<ResponseBody>, Failed>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = &mut *self;
        if let Some(slot) = &this.slot
            && let Err(error) = this.request.poll(cx, slot)
        {
            return Poll::Ready(Err(Failed::processed(error)));
        }
        if this.page.is_some() {
            return this.poll_page(cx).map_err(Failed::processed);
        }
        let response = this.response.as_mut().expect("until it is dropped");
        match ready!(Pin::new(response).poll(cx)) {
            Ok(response) => this.respond(response, cx),
            Err(error) => Poll::Ready(Err(this.fail(&error))),
        }
    }
}
