//! The body of a response: DATA, then trailers.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use http::HeaderMap;
use http_body::Frame;
use tokio::{
    runtime::Handle,
    time::{Instant, Sleep},
};
use tonic::{Code, Status};

use super::{
    headers::{LastFrame, clean_status, missing_status},
    http_error::HttpError,
    live::Live,
    message_limit::MessageLimit,
    shared_live::SharedLive,
};
use crate::{
    error::Error,
    transport::{connection::CallOutcome, words::body::expired},
    util::clock::{poll_timer, timer_on},
};

/// A response body. The slot is free again when the stream has ended and its
/// last frame is taken, or when this is dropped, which cancels the call if it
/// has not ended.
pub(crate) struct ResponseBody {
    live: Held,
    reader: Reader,
}

/// The bounds of a body.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct BodyBounds {
    /// When it has to be over.
    pub(super) deadline: Option<Instant>,
    /// The largest message, in bytes.
    pub(super) max_message: Option<u32>,
}

/// How far a body is read.
struct Reader {
    /// The end, or an error, was handed out.
    is_over: bool,
    data_done: bool,
    deadline: Option<EndTimer>,
    limit: Option<MessageLimit>,
    /// Of a response whose HTTP code is no success.
    late: Option<Box<LateStatus>>,
}

/// A response that is gRPC in spite of its HTTP code.
pub(super) struct LateStatus {
    /// What had to come before that was known.
    first: Option<Bytes>,
    /// What it is if it ends without a status.
    http: HttpError,
}

impl LateStatus {
    pub(super) fn new(first: Bytes, http: HttpError) -> Self {
        Self {
            first: Some(first),
            http,
        }
    }
}

/// Who holds what is left of the stream. `None` once it has ended.
enum Held {
    Own(Option<Live>),
    /// Its connection too.
    Shared(Arc<SharedLive>),
}

/// When a body has to be over.
struct EndTimer {
    at: Instant,
    /// For who waits. Most bodies are there when they are asked for, and need none.
    timer: Option<Pin<Box<Sleep>>>,
}

impl ResponseBody {
    /// Without a stream the headers are all there is.
    pub(super) fn new(live: Option<Live>, late: Option<Box<LateStatus>>) -> Self {
        let reader = Reader {
            is_over: live.is_none(),
            data_done: false,
            deadline: None,
            limit: None,
            late,
        };
        let live = Held::Own(live);
        Self { live, reader }
    }

    /// The body within these bounds.
    #[inline(always)]
    pub(crate) fn bounded(mut self, bounds: BodyBounds) -> Self {
        if let Some(max) = bounds.max_message {
            self.set_message_limit(max);
        }
        self.set_deadline(bounds.deadline);
        self
    }

    /// Fails the body with DEADLINE_EXCEEDED when `deadline` has passed. Its connection looks
    /// after it from now on.
    pub(crate) fn set_deadline(&mut self, deadline: Option<Instant>) {
        self.reader.deadline = deadline.map(|at| EndTimer { at, timer: None });
        if let Held::Own(live) = &mut self.live
            && let Some(live) = live.take_if(|live| !live.is_settled())
        {
            self.live = Held::Shared(SharedLive::new(live, deadline));
        }
    }

    /// Bounds each message to `max` bytes, as it is on the wire: a compressed one
    /// counts compressed. With 0 only empty messages pass.
    ///
    /// The DATA frame that brings the prefix of a larger one is not handed out,
    /// nor what it holds of messages before that one: the body fails instead with
    /// RESOURCE_EXHAUSTED, and the call is cancelled.
    pub(crate) fn set_message_limit(&mut self, max: u32) {
        self.reader.limit = Some(MessageLimit::new(max));
    }
}

impl Reader {
    /// The next frame of `live`, which is there until the end.
    #[inline(always)]
    fn poll(
        &mut self,
        live: &mut Option<Live>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        if self.is_over {
            return Poll::Ready(None);
        }
        let Some(stream) = live else {
            return Poll::Ready(None);
        };
        let frame = self.poll_live(stream, cx);
        let runtime = stream.connection().runtime();
        let deadline = self.deadline.as_mut();
        if deadline.is_some_and(|deadline| deadline.ends(&frame, runtime, cx)) {
            let status = expired(stream.connection().address());
            self.is_over = true;
            stream.end_with(CallOutcome::Status(status.code()));
            *live = None;
            return Poll::Ready(Some(Err(Error::in_response(status).into())));
        }
        let frame = ready!(frame);
        if let Some(Ok(data)) = &frame
            && data.is_data()
        {
            return Poll::Ready(frame);
        }
        if stream.slot().wants_outcome() {
            stream.end_with(outcome(&frame));
        }
        match &frame {
            Some(Err(_)) => *live = None,
            Some(Ok(_)) | None => {
                let deadline = self.deadline.as_ref().map(|deadline| deadline.at);
                live.take().into_iter().for_each(|live| live.end(deadline));
            }
        }
        self.is_over = true;
        Poll::Ready(frame)
    }

    #[inline(never)]
    fn poll_shared(
        &mut self,
        shared: &SharedLive,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let mut state = shared.lock();
        if let Some(status) = state.ended.take() {
            self.is_over = true;
            return Poll::Ready(Some(Err(Error::in_response(*status).into())));
        }
        self.poll(&mut state.live, cx)
    }

    fn poll_live(
        &mut self,
        live: &mut Live,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        // `h2` would be asked for DATA only to say that there is none.
        if !self.data_done && live.expects_trailers() {
            match live.stream.poll_trailers(cx) {
                Poll::Ready(last) => {
                    self.data_done = true;
                    return self.finish(live, last);
                }
                // There is DATA, or the wire is ahead of `h2`.
                Poll::Pending => {}
            }
        }
        if !self.data_done {
            let first = self.late.as_mut().and_then(|late| late.first.take());
            let data = match first {
                None => ready!(live.stream.poll_data(cx)),
                Some(first) => Some(Ok(first)),
            };
            match data {
                Some(Ok(data)) => {
                    live.frames = live.frames.wrapping_add(1);
                    if !live.ends_with_trailers() {
                        // Fails only for a stream that is gone; its error comes next.
                        let _ = live.stream.flow_control().release_capacity(data.len());
                    }
                    if let Some(limit) = &mut self.limit
                        && let Err(too_large) = limit.check(&data)
                    {
                        let error = too_large.in_response(live.connection().address());
                        return Poll::Ready(Some(Err(error.into())));
                    }
                    return Poll::Ready(Some(Ok(Frame::data(data))));
                }
                Some(Err(error)) => return Poll::Ready(Some(Err(live.status(&error)))),
                None => self.data_done = true,
            }
        }
        let last = ready!(live.stream.poll_trailers(cx));
        self.finish(live, last)
    }

    /// The end of the body, with what `h2` has in place of more DATA.
    fn finish(
        &mut self,
        live: &mut Live,
        last: Result<Option<HeaderMap>, h2::Error>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let last = match last {
            Ok(Some(mut trailers)) => {
                if clean_status(&mut trailers) {
                    return Poll::Ready(Some(Ok(Frame::trailers(trailers))));
                }
                LastFrame::Trailers
            }
            Ok(None) => LastFrame::Data,
            Err(error) => return Poll::Ready(Some(Err(live.status(&error)))),
        };
        let connection = live.connection();
        let status = match &self.late {
            None => missing_status(connection, last),
            Some(late) => late.http.status(connection.address()),
        };
        Poll::Ready(Some(Err(Error::in_response(status).into())))
    }
}

/// The outcome of a call whose body ends with `last`.
fn outcome(last: &Option<Result<Frame<Bytes>, Status>>) -> CallOutcome {
    match last {
        Some(Ok(frame)) => match frame.trailers_ref() {
            Some(trailers) => CallOutcome::of_last(trailers),
            None => CallOutcome::Status(Code::Unknown),
        },
        Some(Err(status)) => CallOutcome::Status(status.code()),
        None => CallOutcome::Status(Code::Unknown),
    }
}

impl EndTimer {
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

impl http_body::Body for ResponseBody {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let Self { live, reader } = &mut *self;
        match live {
            Held::Own(live) => reader.poll(live, cx),
            Held::Shared(shared) => reader.poll_shared(shared, cx),
        }
    }

    /// Whether the end was taken: to ask `h2` if it is next takes a lock, and a gRPC
    /// response has trailers anyway.
    fn is_end_stream(&self) -> bool {
        self.reader.is_over
    }
}
