//! One exchange on one stream: the request going out, the response coming in.
//!
//! ```text
//!   Outgoing ──open──► Exchange ──headers──► ResponseBody
//!   head kept,         polls the response,    DATA, trailers; frees the slot
//!   first frame kept   pumps the request      when the stream ends
//!                          └─ unfinished ──► Pump in a task, cancelled with the body
//! ```
//!
//! A unary request goes out whole from the caller's task. A body that is not
//! ready, or lacks window, goes through the [`Pump`].

use std::{
    future::{Future, poll_fn},
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use h2::{Reason, RecvStream, SendStream, client::ResponseFuture};
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response, Uri, header, request, uri};
use http_body::{Body as _, Frame};
use tokio::{sync::oneshot, time::Sleep};
use tonic::{Status, body::Body};

use super::{Admitted, http2};
use crate::error::{Error, ErrorKind};

/// Headers about one HTTP/1 hop; `h2` refuses a request that has them.
const HOP_BY_HOP: [HeaderName; 6] = [
    header::CONNECTION,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
    header::HOST,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
];

/// What `h2` takes at once; it counts in 31 bits.
const LARGEST_PIECE: usize = (1 << 31) - 1;

/// A request on its way out. It survives attempts to open a stream, and a unary
/// one can be sent again.
pub(crate) struct Outgoing {
    head: request::Parts,
    /// The first DATA frame, kept when it is all there is.
    first: Option<Bytes>,
    rest: Rest,
}

/// What follows the first frame.
enum Rest {
    /// Not looked at: [`Outgoing::prefetch`] has not run.
    Unknown(Body),
    /// Nothing: the request is whole, and can be sent again.
    Nothing,
    /// More, some of it perhaps already taken from the body.
    More(Option<Frame<Bytes>>, Body),
    /// It went into a stream and cannot be had again.
    Gone,
}

impl Outgoing {
    pub(crate) fn new(request: Request<Body>) -> Self {
        let (mut head, body) = request.into_parts();
        for name in &HOP_BY_HOP {
            head.headers.remove(name);
        }
        Self {
            head,
            first: None,
            rest: Rest::Unknown(body),
        }
    }

    pub(crate) fn headers_mut(&mut self) -> &mut HeaderMap {
        &mut self.head.headers
    }

    /// Takes from the body what is ready, so that a unary request is known to
    /// be whole. Never waits.
    pub(crate) async fn prefetch(&mut self) -> Result<(), Error> {
        poll_fn(|cx| Poll::Ready(self.look_ahead(cx))).await
    }

    /// Whether the request can be sent again: it went out whole, from here.
    pub(crate) fn is_replayable(&self) -> bool {
        matches!(self.rest, Rest::Nothing)
    }

    /// Whether HEADERS are all there is.
    pub(super) fn is_empty(&self) -> bool {
        self.first.is_none() && matches!(self.rest, Rest::Nothing)
    }

    /// The head as it goes to one backend. Ours stays, for the next attempt.
    pub(super) fn head(
        &self,
        scheme: &uri::Scheme,
        authority: &uri::Authority,
        user_agent: &HeaderValue,
    ) -> Result<Request<()>, Error> {
        let mut uri = uri::Parts::default();
        uri.scheme = Some(scheme.clone());
        uri.authority = Some(authority.clone());
        uri.path_and_query = self.head.uri.path_and_query().cloned();
        let uri = Uri::from_parts(uri).map_err(|error| {
            let path = &self.head.uri;
            let why = format!("HTTP/2 cannot carry a request for `{path}`: {error}");
            Error::new(ErrorKind::InvalidRequest, why)
        })?;
        let mut head = Request::new(());
        *head.method_mut() = self.head.method.clone();
        *head.uri_mut() = uri;
        *head.version_mut() = http::Version::HTTP_2;
        *head.headers_mut() = self.head.headers.clone();
        let trailers = HeaderValue::from_static("trailers");
        head.headers_mut().insert(header::TE, trailers);
        let own = head
            .headers_mut()
            .insert(header::USER_AGENT, user_agent.clone());
        if let Some(own) = own {
            let full = [own.as_bytes(), b" ", user_agent.as_bytes()].concat();
            let full = HeaderValue::from_bytes(&full).expect("two header values and a space");
            head.headers_mut().insert(header::USER_AGENT, full);
        }
        Ok(head)
    }

    /// Sends what follows the HEADERS. What cannot go out at once becomes a
    /// pump. A stream that has failed meanwhile says so in its response.
    pub(super) fn send(&mut self, mut stream: SendStream<Bytes>) -> Option<Pump> {
        match (std::mem::replace(&mut self.rest, Rest::Gone), &self.first) {
            (Rest::Nothing, first) => {
                self.rest = Rest::Nothing;
                let all = first.clone()?;
                if all.len() > LARGEST_PIECE {
                    return Some(Pump {
                        stream,
                        chunk: all,
                        next: None,
                        body: None,
                    });
                }
                let _ = stream.send_data(all, true);
                None
            }
            (Rest::More(next, body), _) => Some(Pump {
                stream,
                chunk: self.first.take().unwrap_or_default(),
                next,
                body: Some(body),
            }),
            (Rest::Unknown(body), _) => Some(Pump {
                stream,
                chunk: Bytes::new(),
                next: None,
                body: Some(body),
            }),
            (Rest::Gone, _) => unreachable!("only a replayable request is sent again"),
        }
    }

    fn look_ahead(&mut self, cx: &mut Context<'_>) -> Result<(), Error> {
        let Rest::Unknown(mut body) = std::mem::replace(&mut self.rest, Rest::Nothing) else {
            return Ok(());
        };
        let mut next = |body: &mut Body| match Pin::new(body).poll_frame(cx) {
            Poll::Ready(Some(Ok(frame))) => Ok(Poll::Ready(Some(frame))),
            Poll::Ready(Some(Err(status))) => Err(Error::with_status(ErrorKind::Stream, status)),
            Poll::Ready(None) => Ok(Poll::Ready(None)),
            Poll::Pending => Ok(Poll::Pending),
        };
        self.rest = match next(&mut body)? {
            Poll::Pending => Rest::More(None, body),
            Poll::Ready(None) => Rest::Nothing,
            Poll::Ready(Some(frame)) => match frame.into_data() {
                Err(trailers) => Rest::More(Some(trailers), body),
                Ok(data) => {
                    self.first = Some(data);
                    match next(&mut body)? {
                        Poll::Pending => Rest::More(None, body),
                        Poll::Ready(None) => Rest::Nothing,
                        Poll::Ready(Some(frame)) => Rest::More(Some(frame), body),
                    }
                }
            },
        };
        Ok(())
    }
}

/// Moves a request body into its stream, as fast as the window allows.
///
/// Dropping it before it has finished resets the stream.
pub(super) struct Pump {
    stream: SendStream<Bytes>,
    /// Taken from the body, not yet sent.
    chunk: Bytes,
    next: Option<Frame<Bytes>>,
    body: Option<Body>,
}

impl Pump {
    /// Ready when there is nothing more to send: the body has ended, or the
    /// peer wants no more of it. An error is the body's own.
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Status>> {
        loop {
            if !self.chunk.is_empty() {
                match ready!(self.poll_send(cx)) {
                    true => continue,
                    false => return Poll::Ready(Ok(())),
                }
            }
            if self.stream.poll_reset(cx).is_ready() {
                return Poll::Ready(Ok(()));
            }
            let Some(frame) = ready!(self.poll_next(cx)?) else {
                let _ = self.stream.send_data(Bytes::new(), true);
                return Poll::Ready(Ok(()));
            };
            match frame.into_data() {
                Ok(data) => self.chunk = data,
                Err(frame) => {
                    let trailers = frame.into_trailers().unwrap_or_default();
                    let _ = self.stream.send_trailers(trailers);
                    return Poll::Ready(Ok(()));
                }
            }
        }
    }

    /// Sends part of the chunk; false when the stream takes no more.
    fn poll_send(&mut self, cx: &mut Context<'_>) -> Poll<bool> {
        self.stream
            .reserve_capacity(self.chunk.len().min(LARGEST_PIECE));
        while self.stream.capacity() == 0 {
            match ready!(self.stream.poll_capacity(cx)) {
                Some(Ok(_)) => {}
                Some(Err(_)) | None => return Poll::Ready(false),
            }
        }
        let fits = self.stream.capacity().min(self.chunk.len());
        let part = self.chunk.split_to(fits);
        Poll::Ready(self.stream.send_data(part, false).is_ok())
    }

    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Frame<Bytes>>, Status>> {
        if let Some(frame) = self.next.take() {
            return Poll::Ready(Ok(Some(frame)));
        }
        match &mut self.body {
            Some(body) => Pin::new(body).poll_frame(cx).map(Option::transpose),
            None => Poll::Ready(Ok(None)),
        }
    }

    fn cancel(mut self) {
        self.stream.send_reset(Reason::CANCEL);
    }
}

/// A stream that is open, until its response headers.
///
/// Dropping it cancels the call: RST_STREAM with CANCEL.
pub(crate) struct Exchange {
    response: ResponseFuture,
    pump: Option<Pump>,
    /// Taken when the headers are there.
    admitted: Option<Admitted>,
}

/// A call that failed before its response headers.
#[derive(Debug)]
pub(crate) struct Failed {
    pub(crate) error: Error,
    /// The peer guarantees that it has not looked at the request.
    pub(crate) unprocessed: bool,
}

impl Exchange {
    pub(super) fn new(response: ResponseFuture, pump: Option<Pump>, admitted: Admitted) -> Self {
        Self {
            response,
            pump,
            admitted: Some(admitted),
        }
    }

    fn respond(&mut self, response: Response<RecvStream>) -> Result<Response<ResponseBody>, Error> {
        let admitted = self.admitted.take().expect("polled after completion");
        let (head, stream) = response.into_parts();
        if let Some(error) = http_error(&head, admitted.connection().address()) {
            return Err(error);
        }
        let unfinished = self.pump.take();
        // Headers that are all there is hold no slot, and what is left of the
        // request is not wanted.
        let live = (!stream.is_end_stream()).then(|| Live {
            stream,
            pump: unfinished.map(|pump| PumpTask::spawn(pump, &admitted)),
            admitted,
        });
        let body = ResponseBody {
            live,
            data_done: false,
            deadline: None,
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
                Poll::Ready(Err(status)) => {
                    this.pump.take().into_iter().for_each(Pump::cancel);
                    let error = Error::with_status(ErrorKind::Stream, status);
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
                let admitted = this.admitted.take().expect("polled after completion");
                let status = http2::status(&error, admitted.connection().address());
                Err(Failed {
                    error: Error::with_status(ErrorKind::Stream, status),
                    unprocessed: http2::is_unprocessed(&error),
                })
            }
        })
    }
}

/// Whatever answered this is not a gRPC server: gRPC's table from HTTP codes to
/// its own. A page that comes with 200 is none of them, and no message either.
fn http_error(head: &http::response::Parts, address: &str) -> Option<Error> {
    use tonic::Code;
    if head.headers.contains_key("grpc-status") {
        return None;
    }
    let what = if head.status == http::StatusCode::OK {
        let content = head.headers.get(header::CONTENT_TYPE)?.as_bytes();
        if content.starts_with(b"application/grpc") {
            return None;
        }
        let content = String::from_utf8_lossy(content);
        format!("HTTP 200 OK with content-type `{content}`")
    } else {
        format!("HTTP {}", head.status)
    };
    let code = match head.status.as_u16() {
        400 => Code::Internal,
        401 => Code::Unauthenticated,
        403 => Code::PermissionDenied,
        404 => Code::Unimplemented,
        429 | 502 | 503 | 504 => Code::Unavailable,
        _ => Code::Unknown,
    };
    let text = format!("{address} answered {what} and no gRPC status");
    Some(Error::with_status(
        ErrorKind::Stream,
        Status::new(code, text),
    ))
}

/// A response body. The slot is free again when the stream has ended and its
/// last frame is taken, or when this is dropped, which cancels the call if it
/// has not ended.
pub(crate) struct ResponseBody {
    /// None once the stream has ended.
    live: Option<Live>,
    data_done: bool,
    deadline: Option<Pin<Box<Sleep>>>,
}

struct Live {
    stream: RecvStream,
    /// The slot, and with it the connection: it outlives its channel.
    admitted: Admitted,
    pump: Option<PumpTask>,
}

impl ResponseBody {
    /// Fails the body with DEADLINE_EXCEEDED when `deadline` has passed.
    pub(crate) fn with_deadline(mut self, deadline: Option<Pin<Box<Sleep>>>) -> Self {
        self.deadline = deadline;
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
                    return Poll::Ready(Some(Ok(Frame::data(data))));
                }
                Some(Err(error)) => return Poll::Ready(Some(Err(live.status(&error)))),
                None => self.data_done = true,
            }
        }
        match ready!(live.stream.poll_trailers(cx)) {
            Ok(Some(trailers)) => Poll::Ready(Some(Ok(Frame::trailers(trailers)))),
            Ok(None) => Poll::Ready(None),
            Err(error) => Poll::Ready(Some(Err(live.status(&error)))),
        }
    }
}

impl Live {
    /// The request body's own error, if that is why the stream ended.
    fn status(&mut self, error: &h2::Error) -> Status {
        let of_request = self.pump.as_mut().and_then(PumpTask::error);
        of_request.unwrap_or_else(|| http2::status(error, self.admitted.connection().address()))
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
        let expired = match &mut this.deadline {
            Some(deadline) if this.live.is_some() => deadline.as_mut().poll(cx).is_ready(),
            _ => false,
        };
        if expired {
            this.live = None;
            let text = "deadline exceeded while the response was being received";
            return Poll::Ready(Some(Err(Status::deadline_exceeded(text))));
        }
        let frame = ready!(this.poll_live(cx));
        let more = matches!(&frame, Some(Ok(frame)) if frame.is_data());
        // Who asks `is_end_stream` does not poll again.
        if !more || this.is_end_stream() {
            this.live = None;
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.live
            .as_ref()
            .is_none_or(|live| live.stream.is_end_stream())
    }
}

/// A pump in a task of its own, cancelled when this is dropped.
struct PumpTask {
    _cancel: oneshot::Sender<()>,
    failed: oneshot::Receiver<Status>,
}

impl PumpTask {
    fn spawn(mut pump: Pump, admitted: &Admitted) -> Self {
        let (cancel, mut cancelled) = oneshot::channel::<()>();
        let (fail, failed) = oneshot::channel();
        admitted.connection().executor().spawn(async move {
            let outcome = poll_fn(|cx| {
                if Pin::new(&mut cancelled).poll(cx).is_ready() {
                    return Poll::Ready(Ok(()));
                }
                pump.poll(cx)
            })
            .await;
            if let Err(status) = outcome {
                // First the reason, then the reset that makes the reader ask.
                let _ = fail.send(status);
                pump.cancel();
            }
        });
        Self {
            _cancel: cancel,
            failed,
        }
    }

    fn error(&mut self) -> Option<Status> {
        self.failed.try_recv().ok()
    }
}
