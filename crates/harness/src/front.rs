//! What stands before a backend's services and sees every call first.
//!
//! It counts calls, whichever service answers them, and keeps what the last call
//! of each kind brought along. It picks the script of each
//! Watch and plays those scripts itself that a gRPC service cannot play: answers
//! that are not gRPC, and messages that do not decode. A greeter call may ask for
//! another such answer: see [`WITHHOLD`].

use std::{
    convert::Infallible,
    future::pending,
    pin::Pin,
    sync::{Arc, Mutex},
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use futures_util::{Stream, StreamExt, future::ready, stream};
use http::{Request, Response, StatusCode, header::CONTENT_TYPE};
use http_body::Frame;
use http_body_util::{BodyExt, Full, StreamBody};
use prost::Message;
use tonic::{body::Body, metadata::MetadataMap, service::Routes};
use tower::Service;

use super::{
    Counter,
    health::HealthCheckRequest,
    scripts::{Plan, WatchScript},
};

/// Length of the prefix of a gRPC message: a flag and the size.
const PREFIX: usize = 5;

/// The header by which a greeter call says what to withhold of its answer:
///
/// - `trailers`: an empty message, and never its end
/// - `bytes`: a message of a kilobyte comes one byte at a time, with pauses
pub const WITHHOLD: &str = "x-withhold";

/// What came with a call besides its messages.
#[derive(Clone, Debug)]
pub struct Seen {
    pub path: String,
    /// The `:authority` pseudo-header.
    pub authority: Option<String>,
    /// All other headers, `grpc-timeout` and `user-agent` among them.
    pub metadata: MetadataMap,
}

/// What has reached a backend.
#[derive(Debug)]
pub(crate) struct Traffic {
    /// Greeter calls.
    pub hits: Counter,
    pub last_call: Mutex<Option<Seen>>,
    /// The `x-id` of each greeter call that has one, in order.
    pub ids: Mutex<Vec<u64>>,
    pub watches: Counter,
    pub last_watch: Mutex<Option<Seen>>,
    /// The service of each Watch, in order.
    pub asked: Mutex<Vec<String>>,
    pub checks: Counter,
    pub last_check: Mutex<Option<Seen>>,
    pub scripts: Plan<WatchScript>,
}

/// The services of a backend, behind what counts and records.
#[derive(Clone, Debug)]
pub(crate) struct Front {
    traffic: Arc<Traffic>,
    services: Routes,
}

impl Traffic {
    pub(crate) fn new() -> Self {
        Self {
            hits: Counter::new("greeter calls"),
            last_call: Mutex::new(None),
            ids: Mutex::new(Vec::new()),
            watches: Counter::new("Watch calls"),
            last_watch: Mutex::new(None),
            asked: Mutex::new(Vec::new()),
            checks: Counter::new("Check calls"),
            last_check: Mutex::new(None),
            scripts: Plan::always(WatchScript::Normal),
        }
    }
}

type Answer = Result<Response<Body>, Infallible>;

impl Service<Request<Body>> for Front {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Answer> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let front = self.clone();
        Box::pin(async move {
            match request.uri().path() {
                "/grpc.health.v1.Health/Watch" => front.watch(request).await,
                "/grpc.health.v1.Health/Check" => {
                    front.traffic.note_check(Seen::of(&request));
                    front.pass_on(request).await
                }
                path if path.starts_with("/demo.v1.Greeter/") => front.greet(request).await,
                _ => front.pass_on(request).await,
            }
        })
    }
}

impl Front {
    pub(crate) fn new(traffic: Arc<Traffic>, services: Routes) -> Self {
        Self { traffic, services }
    }

    async fn greet(self, request: Request<Body>) -> Answer {
        self.traffic.note_id(&request);
        *self
            .traffic
            .last_call
            .lock()
            .expect("no holder of the record panics") = Some(Seen::of(&request));
        self.traffic.hits.add();
        match request.headers().get(WITHHOLD).map(|what| what.as_bytes()) {
            Some(b"trailers") => Ok(without_trailers()),
            Some(b"bytes") => Ok(byte_by_byte()),
            _ => self.pass_on(request).await,
        }
    }

    async fn watch(self, request: Request<Body>) -> Answer {
        let seen = Seen::of(&request);
        let script = self.traffic.scripts.take();
        let (mut parts, body) = request.into_parts();
        // The client is gone if its one message does not arrive.
        let Ok(body) = body.collect().await else {
            return Ok(Response::new(Body::empty()));
        };
        let message = body.to_bytes();
        self.traffic.note_watch(seen, &message);
        match script {
            WatchScript::Garbage => Ok(garbage()),
            WatchScript::Http404 { html } => Ok(not_found(html)),
            script => {
                parts.extensions.insert(script);
                let body = Body::new(Full::new(message));
                self.pass_on(Request::from_parts(parts, body)).await
            }
        }
    }

    async fn pass_on(mut self, request: Request<Body>) -> Answer {
        self.services.call(request).await
    }
}

impl Traffic {
    fn note_id(&self, request: &Request<Body>) {
        let id = request.headers().get("x-id");
        let id: Option<u64> = id.and_then(|id| id.to_str().ok()?.parse().ok());
        let mut ids = self.ids.lock().expect("no holder of the record panics");
        ids.extend(id);
    }

    fn note_check(&self, seen: Seen) {
        *self
            .last_check
            .lock()
            .expect("no holder of the record panics") = Some(seen);
        self.checks.add();
    }

    fn note_watch(&self, seen: Seen, message: &Bytes) {
        let service = message
            .get(PREFIX..)
            .and_then(|request| HealthCheckRequest::decode(request).ok())
            .map_or_else(|| "(undecodable)".to_owned(), |request| request.service);
        *self
            .last_watch
            .lock()
            .expect("no holder of the record panics") = Some(seen);
        self.asked
            .lock()
            .expect("no holder of the record panics")
            .push(service);
        // Last, so that whoever awaits the count finds the record.
        self.watches.add();
    }
}

impl Seen {
    fn of(request: &Request<Body>) -> Self {
        Self {
            path: request.uri().path().to_owned(),
            authority: request.uri().authority().map(ToString::to_string),
            metadata: MetadataMap::from_headers(request.headers().clone()),
        }
    }
}

/// gRPC headers and a framed message whose first field number is zero, which no
/// protobuf decoder accepts.
fn garbage() -> Response<Body> {
    let message = Bytes::from_static(&[0, 0, 0, 0, 3, 0x00, 0xff, 0xff]);
    endless(stream::once(ready(message)))
}

/// An empty message is an empty reply.
fn without_trailers() -> Response<Body> {
    endless(stream::once(ready(Bytes::from_static(&[0; PREFIX]))))
}

fn byte_by_byte() -> Response<Body> {
    let prefix = stream::once(ready(Bytes::from_static(&[0, 0, 0, 4, 0])));
    let bytes = stream::repeat(Bytes::from_static(&[0])).then(async |byte| {
        tokio::time::sleep(Duration::from_millis(50)).await;
        byte
    });
    endless(prefix.chain(bytes))
}

/// gRPC headers and these frames, then silence.
fn endless(frames: impl Stream<Item = Bytes> + Send + 'static) -> Response<Body> {
    let frames = frames.map(|frame| Ok::<_, Infallible>(Frame::data(frame)));
    let silence = stream::once(pending());
    let mut response = Response::new(Body::new(StreamBody::new(frames.chain(silence))));
    response.headers_mut().insert(
        CONTENT_TYPE,
        http::HeaderValue::from_static("application/grpc"),
    );
    response
}

fn not_found(html: bool) -> Response<Body> {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::NOT_FOUND;
    if html {
        *response.body_mut() = Body::new(Full::from("<html><h1>404 Not Found</h1></html>"));
        response
            .headers_mut()
            .insert(CONTENT_TYPE, http::HeaderValue::from_static("text/html"));
    }
    response
}
