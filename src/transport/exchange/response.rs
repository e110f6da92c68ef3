//! The response: its headers, then its body.

use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use h2::{RecvStream, client::ResponseFuture};
use http::Response;
use http_body::Frame;
use tokio::time::{self, Instant, Sleep};
use tonic::{Code, Status};

use super::{
    headers::{KnownHeaders, STATUS_DETAILS, http_error, missing_status},
    message_limit::MessageLimit,
    request_body::{RequestBodyPump, RequestBodyTask},
};
use crate::{
    error::{Error, ErrorKind},
    transport::{
        connection::{CallSlot, Connection},
        words::h2_error,
    },
};

/// A stream that is open, until its response headers.
///
/// Dropping it cancels the call: RST_STREAM with CANCEL.
pub(crate) struct Exchange {
    response: ResponseFuture,
    request: RequestBody,
    /// Taken when the headers are there.
    slot: Option<CallSlot>,
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
                    let stream = slot.stream().into_iter();
                    stream.for_each(|stream| slot.connection().on_request_over(stream));
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

impl Exchange {
    pub(super) fn new(
        response: ResponseFuture,
        pump: Option<Box<RequestBodyPump>>,
        slot: CallSlot,
    ) -> Self {
        Self {
            response,
            request: match pump {
                Some(pump) => RequestBody::New(pump),
                None => RequestBody::Sent,
            },
            slot: Some(slot),
        }
    }

    /// Where the stream is, until it has a response.
    pub(crate) fn connection(&self) -> &Connection {
        let slot = self.slot.as_ref().expect("there is no response yet");
        slot.connection()
    }

    fn respond(&mut self, response: Response<RecvStream>) -> Result<Response<ResponseBody>, Error> {
        let (mut head, stream) = response.into_parts();
        let seen = KnownHeaders::of(&head.headers);
        if let Some(error) = http_error(head.status, &seen, self.connection().address()) {
            return Err(error);
        }
        let slot = self.slot.take().expect("polled after completion");
        let has_status = seen.has_status;
        if seen.has_broken_details() {
            head.headers.remove(STATUS_DETAILS);
        }
        if let Some(backend) = slot.connection().answered_by() {
            head.extensions.insert(backend.clone());
        }
        let request = std::mem::replace(&mut self.request, RequestBody::Sent);
        let request = request.into_task(&slot);
        // Headers that are all there is are the end of the answer.
        let live = match (stream.is_end_stream(), request) {
            (false, request) => Some(Live {
                stream,
                slot,
                request,
            }),
            (true, Some(request)) => {
                request.detach(slot);
                None
            }
            (true, None) => None,
        };
        let body = ResponseBody {
            live,
            data_done: false,
            deadline: None,
            limit: None,
            has_status,
        };
        Ok(Response::from_parts(head, body))
    }
}

impl Future for Exchange {
    type Output = Result<Response<ResponseBody>, Failed>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = &mut *self;
        if let Some(slot) = &this.slot
            && let Err(error) = this.request.poll(cx, slot)
        {
            return Poll::Ready(Err(Failed {
                error,
                unprocessed: false,
            }));
        }
        Poll::Ready(match ready!(Pin::new(&mut this.response).poll(cx)) {
            Ok(response) => this.respond(response).map_err(|error| Failed {
                error,
                unprocessed: false,
            }),
            Err(error) => {
                let status = this.connection().on_stream_failed(&error);
                let of_request = this.request.error();
                Err(Failed {
                    error: of_request
                        .unwrap_or_else(|| Error::with_status(ErrorKind::Stream, status)),
                    unprocessed: h2_error::is_unprocessed(&error),
                })
            }
        })
    }
}

/// A response body. The slot is free again when the stream has ended and its
/// last frame is taken, or when this is dropped, which cancels the call if it
/// has not ended.
pub(crate) struct ResponseBody {
    /// None once the stream has ended.
    live: Option<Live>,
    data_done: bool,
    deadline: Option<Deadline>,
    limit: Option<MessageLimit>,
    /// The headers had one already.
    has_status: bool,
}

/// When a body has to be over.
struct Deadline {
    at: Instant,
    /// For who waits. Most bodies are there when they are asked for, and need none.
    timer: Option<Pin<Box<Sleep>>>,
}

struct Live {
    stream: RecvStream,
    /// The slot, and with it the connection: it outlives its channel.
    slot: CallSlot,
    /// What is left of the request, and moves by itself.
    request: Option<RequestBodyTask>,
}

impl ResponseBody {
    /// Fails the body with DEADLINE_EXCEEDED when `deadline` has passed.
    pub(crate) fn with_deadline(mut self, deadline: Option<Instant>) -> Self {
        self.deadline = deadline.map(|at| Deadline { at, timer: None });
        self
    }

    /// Bounds each message to `max` bytes, as it is on the wire: a compressed one
    /// counts compressed. With 0 only empty messages pass.
    ///
    /// The DATA frame that brings the prefix of a larger one is not handed out,
    /// nor what it holds of messages before that one: the body fails instead with
    /// RESOURCE_EXHAUSTED, and the call is cancelled.
    pub(crate) fn with_message_limit(mut self, max: Option<u32>) -> Self {
        self.limit = max.map(MessageLimit::new);
        self
    }

    fn poll_live(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let Some(live) = &mut self.live else {
            return Poll::Ready(None);
        };
        if !self.data_done {
            match ready!(live.stream.poll_data(cx)) {
                Some(Ok(data)) => {
                    // Fails only for a stream that is gone; its error comes next.
                    let _ = live.stream.flow_control().release_capacity(data.len());
                    if let Some(limit) = &mut self.limit
                        && let Err(too_large) = limit.check(&data)
                    {
                        let error = too_large.in_response(live.slot.connection().address());
                        return Poll::Ready(Some(Err(error.into())));
                    }
                    return Poll::Ready(Some(Ok(Frame::data(data))));
                }
                Some(Err(error)) => return Poll::Ready(Some(Err(live.status(&error)))),
                None => self.data_done = true,
            }
        }
        match ready!(live.stream.poll_trailers(cx)) {
            Ok(Some(mut trailers)) => {
                let seen = KnownHeaders::of(&trailers);
                let has_status = self.has_status || seen.has_status;
                if seen.has_broken_details() {
                    trailers.remove(STATUS_DETAILS);
                }
                Poll::Ready(Some(match has_status {
                    true => Ok(Frame::trailers(trailers)),
                    false => Err(missing_status(live.slot.connection())),
                }))
            }
            Ok(None) => Poll::Ready(None),
            Err(error) => Poll::Ready(Some(Err(live.status(&error)))),
        }
    }
}

impl Deadline {
    /// Whether the body is over by now, although the stream has `frame` to say.
    fn ends(
        &mut self,
        frame: &Poll<Option<Result<Frame<Bytes>, Status>>>,
        cx: &mut Context<'_>,
    ) -> bool {
        match frame {
            Poll::Pending => {
                let timer = || Box::pin(time::sleep_until(self.at));
                let timer = self.timer.get_or_insert_with(timer);
                timer.as_mut().poll(cx).is_ready()
            }
            Poll::Ready(Some(Ok(frame))) if frame.is_data() => self.at <= Instant::now(),
            // The server has the same deadline, and says so by cancelling the call.
            Poll::Ready(Some(Err(status))) if status.code() == Code::Cancelled => {
                self.at <= Instant::now()
            }
            // The end, in time or not.
            Poll::Ready(_) => false,
        }
    }
}

impl Live {
    /// The answer is over. What is left of the request goes on.
    fn end(self) {
        let Self { slot, request, .. } = self;
        if let Some(request) = request {
            request.detach(slot);
        }
    }

    /// The request body's own error, if that is why the stream ended.
    fn status(&mut self, error: &h2::Error) -> Status {
        let of_stream = self.slot.connection().on_stream_failed(error);
        let of_request = self.request.as_mut().and_then(RequestBodyTask::error);
        of_request.map_or(of_stream, Status::from)
    }
}

impl http_body::Body for ResponseBody {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let this = &mut *self;
        let frame = this.poll_live(cx);
        let expired = this
            .deadline
            .as_mut()
            .is_some_and(|deadline| deadline.ends(&frame, cx));
        if expired && let Some(live) = this.live.take() {
            let address = live.slot.connection().address();
            let text = format!("deadline exceeded while the response of {address} was received");
            return Poll::Ready(Some(Err(Status::deadline_exceeded(text))));
        }
        let frame = ready!(frame);
        match &frame {
            Some(Ok(frame)) if frame.is_data() => {}
            Some(Err(_)) => this.live = None,
            Some(Ok(_)) | None => this.live.take().into_iter().for_each(Live::end),
        }
        Poll::Ready(frame)
    }

    /// Whether the end was taken: to ask `h2` if it is next takes a lock, and a gRPC
    /// response has trailers anyway.
    fn is_end_stream(&self) -> bool {
        self.live.is_none()
    }
}
