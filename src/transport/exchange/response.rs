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
use tokio::{
    runtime::Handle,
    time::{Instant, Sleep},
};
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
    util::clock::{poll_timer, timer_on},
};

/// A stream that is open, until its response headers.
///
/// Dropping it cancels the call: RST_STREAM with CANCEL.
pub(crate) struct Exchange {
    response: ResponseFuture,
    pump: Option<Box<RequestBodyPump>>,
    /// Taken when the headers are there.
    slot: Option<CallSlot>,
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
            pump,
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
        let unfinished = self.pump.take();
        // Headers that are all there is hold no slot, and what is left of the
        // request is not wanted.
        let live = (!stream.is_end_stream()).then(|| Live {
            stream,
            pump: unfinished.map(|pump| RequestBodyTask::start(pump, slot.connection().executor())),
            slot,
        });
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
        if let Some(pump) = &mut this.pump {
            match pump.poll(cx) {
                Poll::Pending => {}
                Poll::Ready(Ok(())) => this.pump = None,
                Poll::Ready(Err(error)) => {
                    this.pump.take().into_iter().for_each(|pump| pump.cancel());
                    return Poll::Ready(Err(Failed {
                        error,
                        unprocessed: false,
                    }));
                }
            }
        }
        Poll::Ready(match ready!(Pin::new(&mut this.response).poll(cx)) {
            Ok(response) => this.respond(response).map_err(|error| Failed {
                error,
                unprocessed: false,
            }),
            Err(error) => {
                let status = this.connection().on_stream_failed(&error);
                Err(Failed {
                    error: Error::with_status(ErrorKind::Stream, status),
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
    pump: Option<RequestBodyTask>,
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
        runtime: &Handle,
        cx: &mut Context<'_>,
    ) -> bool {
        match frame {
            Poll::Pending => {
                let timer = || Box::pin(timer_on(runtime, self.at));
                let timer = self.timer.get_or_insert_with(timer);
                poll_timer(timer.as_mut(), cx).is_ready()
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
    /// The request body's own error, if that is why the stream ended.
    fn status(&mut self, error: &h2::Error) -> Status {
        let of_stream = self.slot.connection().on_stream_failed(error);
        let of_request = self.pump.as_mut().and_then(RequestBodyTask::error);
        of_request.unwrap_or(of_stream)
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
        let expired = match (&mut this.deadline, &this.live) {
            (Some(deadline), Some(live)) => {
                deadline.ends(&frame, live.slot.connection().runtime(), cx)
            }
            _ => false,
        };
        if expired && let Some(live) = this.live.take() {
            let address = live.slot.connection().address();
            let text = format!("deadline exceeded while the response of {address} was received");
            return Poll::Ready(Some(Err(Status::deadline_exceeded(text))));
        }
        let frame = ready!(frame);
        if !matches!(&frame, Some(Ok(frame)) if frame.is_data()) {
            this.live = None;
        }
        Poll::Ready(frame)
    }

    /// Whether the end was taken: to ask `h2` if it is next takes a lock, and a gRPC
    /// response has trailers anyway.
    fn is_end_stream(&self) -> bool {
        self.live.is_none()
    }
}
