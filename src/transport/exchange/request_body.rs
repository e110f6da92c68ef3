//! What moves a request body that is not there all at once.

use std::{
    future::{Future, poll_fn},
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use h2::{Reason, SendStream};
use http_body::{Body as _, Frame};
use tokio::{
    sync::oneshot,
    time::{Instant, Sleep},
};
use tonic::{Status, body::Body};

use super::message_limit::{MessageLimit, TooLarge};
use crate::{
    error::{Error, ErrorKind},
    transport::connection::CallSlot,
    util::{
        clock::{poll_timer, timer_on},
        contained::{Contained, contained},
    },
};

/// A body that could go on for ever is interrupted after so many bytes, so that they are
/// written, and on their way, before more are made. Two chunks of tonic's codec: after each
/// one the peer would be given its work in smaller pieces, and take longer.
const AT_A_TIME: usize = 64 << 10;

/// What an empty frame counts as, so that a body of nothing else is interrupted too.
const EMPTY_FRAME: usize = 1 << 10;

/// What `h2` takes at once; it counts in 31 bits.
pub(super) const LARGEST_PIECE: usize = (1 << 31) - 1;

/// Moves a request body into its stream, as fast as the window allows.
///
/// Dropping it before it has finished resets the stream.
pub(super) struct RequestBodyPump {
    stream: SendStream<Bytes>,
    /// Taken from the body, not yet sent.
    chunk: Bytes,
    next: Option<Box<Frame<Bytes>>>,
    body: Option<Contained<Body>>,
    limit: Option<MessageLimit>,
    /// Bytes handed over, and empty frames left out, since the last interruption.
    handed_over: usize,
}

impl RequestBodyPump {
    /// Of `chunk`, then `next`, then what `body` has.
    pub(super) fn new(
        stream: SendStream<Bytes>,
        chunk: Bytes,
        next: Option<Box<Frame<Bytes>>>,
        body: Option<Contained<Body>>,
        limit: Option<MessageLimit>,
    ) -> Box<Self> {
        Box::new(Self {
            stream,
            chunk,
            next,
            body,
            limit,
            handed_over: 0,
        })
    }

    /// Ready when there is nothing more to send: the body has ended, or the
    /// peer wants no more of it. An error is the body's own, or that of a message
    /// above the limit.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        loop {
            if self.handed_over >= AT_A_TIME {
                self.handed_over = 0;
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
            if !self.chunk.is_empty() {
                if !ready!(self.poll_send(cx)) {
                    return Poll::Ready(Ok(()));
                }
                continue;
            }
            if self.stream.poll_reset(cx).is_ready() {
                return Poll::Ready(Ok(()));
            }
            let Some(frame) = ready!(self.poll_next(cx)?) else {
                let _ = self.stream.send_data(Bytes::new(), true);
                return Poll::Ready(Ok(()));
            };
            match frame.into_data() {
                Ok(data) if data.is_empty() => self.handed_over += EMPTY_FRAME,
                Ok(data) => self.chunk = data,
                Err(frame) => {
                    let trailers = frame.into_trailers().unwrap_or_default();
                    let _ = self.stream.send_trailers(trailers);
                    return Poll::Ready(Ok(()));
                }
            }
        }
    }

    /// Hands over the chunk once the window is open at all; false when the stream takes
    /// no more. `h2` keeps what does not fit: it is there when the window opens again, where
    /// this would have to be woken first.
    fn poll_send(&mut self, cx: &mut Context<'_>) -> Poll<bool> {
        self.stream.reserve_capacity(1);
        while self.stream.capacity() == 0 {
            match ready!(self.stream.poll_capacity(cx)) {
                Some(Ok(_)) => {}
                Some(Err(_)) | None => return Poll::Ready(false),
            }
        }
        let part = self.chunk.split_to(self.chunk.len().min(LARGEST_PIECE));
        self.handed_over = self.handed_over.saturating_add(part.len());
        Poll::Ready(self.stream.send_data(part, false).is_ok())
    }

    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Frame<Bytes>>, Error>> {
        if let Some(frame) = self.next.take() {
            return Poll::Ready(Ok(Some(*frame)));
        }
        match &mut self.body {
            Some(body) => poll_body(body, &mut self.limit, cx),
            None => Poll::Ready(Ok(None)),
        }
    }

    pub(super) fn cancel(mut self) {
        self.stream.send_reset(Reason::CANCEL);
    }
}

/// What a task has once the answer is over.
struct Detached {
    /// The peer counts the stream until our side of it is over too.
    _slot: CallSlot,
    /// Of the call: a body without an end would hold the slot for ever.
    deadline: Option<Pin<Box<Sleep>>>,
}

/// A pump in a task of its own, so that the body moves although its call is not polled.
/// Cancelled when this is dropped, unless it is [detached](Self::detach).
pub(super) struct RequestBodyTask {
    detach: oneshot::Sender<Detached>,
    /// None once the task has ended.
    failed: Option<oneshot::Receiver<Error>>,
}

impl RequestBodyTask {
    /// Of the stream in `slot`.
    pub(super) fn start(mut pump: Box<RequestBodyPump>, slot: &CallSlot) -> Self {
        let (detach, mut detached) = oneshot::channel();
        let (fail, failed) = oneshot::channel();
        slot.connection().executor().spawn(async move {
            let mut alone: Option<Detached> = None;
            let outcome = poll_fn(|cx| {
                if alone.is_none() {
                    match Pin::new(&mut detached).poll(cx) {
                        Poll::Ready(Ok(given)) => alone = Some(given),
                        Poll::Ready(Err(_cancelled)) => return Poll::Ready(None),
                        Poll::Pending => {}
                    }
                }
                if let Some(deadline) = alone.as_mut().and_then(|alone| alone.deadline.as_mut())
                    && poll_timer(deadline.as_mut(), cx).is_ready()
                {
                    return Poll::Ready(None);
                }
                pump.poll(cx).map(Some)
            })
            .await;
            match outcome {
                Some(Err(error)) => {
                    // First the reason, then the reset that makes the reader ask.
                    let _ = fail.send(error);
                    pump.cancel();
                }
                Some(Ok(())) | None => drop(pump),
            }
        });
        Self {
            detach,
            failed: Some(failed),
        }
    }

    /// The answer is over, and the body goes on by itself until our side of the stream is
    /// over too, or until `deadline`, which resets it.
    pub(super) fn detach(self, slot: CallSlot, deadline: Option<Instant>) {
        let runtime = slot.connection().runtime();
        let deadline = deadline.map(|at| Box::pin(timer_on(runtime, at)));
        let detached = Detached {
            _slot: slot,
            deadline,
        };
        // A task that is over has no use for it.
        let _ = self.detach.send(detached);
    }

    /// The body's own error, if it had one.
    pub(super) fn poll_error(&mut self, cx: &mut Context<'_>) -> Poll<Error> {
        let Some(failed) = &mut self.failed else {
            return Poll::Pending;
        };
        let outcome = ready!(Pin::new(failed).poll(cx));
        self.failed = None;
        match outcome {
            Ok(error) => Poll::Ready(error),
            Err(_sent) => Poll::Pending,
        }
    }

    pub(super) fn error(&mut self) -> Option<Error> {
        self.failed.as_mut()?.try_recv().ok()
    }
}

/// The next frame of a request body, unless it brings a message above the limit.
pub(super) fn poll_body(
    body: &mut Body,
    limit: &mut Option<MessageLimit>,
    cx: &mut Context<'_>,
) -> Poll<Result<Option<Frame<Bytes>>, Error>> {
    let frame = match ready!(poll_contained(body, cx)) {
        Some(Ok(frame)) => frame,
        Some(Err(status)) => {
            return Poll::Ready(Err(Error::with_status(ErrorKind::CallFailed, status)));
        }
        None => return Poll::Ready(Ok(None)),
    };
    if let (Some(limit), Some(data)) = (limit, frame.data_ref()) {
        limit.check(data).map_err(TooLarge::in_request)?;
    }
    Poll::Ready(Ok(Some(frame)))
}

/// The next frame of a request body, whose panic is an error of it.
pub(super) fn poll_contained(
    body: &mut Body,
    cx: &mut Context<'_>,
) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
    contained(|| Pin::new(body).poll_frame(cx)).unwrap_or_else(|text| {
        let text = format!("the request body panicked: {text}");
        Poll::Ready(Some(Err(Status::internal(text))))
    })
}
