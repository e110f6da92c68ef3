//! Over in-memory IO and paused time.
//!
//! Nothing here sleeps. What would wait for ever fails at once: paused time
//! jumps to the bound in [`soon`] when nothing is left to be done.

mod admission;
mod call_limits;
mod closing;
mod deaf;
mod exchange;
mod goaway;
mod guards;
mod half_open;
mod header_lists;
mod headers;
mod http_error;
mod in_flight;
mod keepalive;
mod limits;
mod options;
mod pump;
mod readiness;
mod reservation;
mod silence;
mod tcp;
mod wire;

use std::{
    future::{Future, poll_fn},
    panic::Location,
    pin::Pin,
    sync::{Arc, Mutex},
    time::Duration,
};

use bytes::{Bytes, BytesMut};
use h2::{Reason, RecvStream, SendStream, server};
use http::{HeaderMap, Request, Response};
use http_body::{Body as _, Frame};
use http_body_util::{Full, StreamBody};
use tokio::{
    io::{DuplexStream, duplex},
    sync::mpsc,
    task::JoinHandle,
};
use tokio_stream::wrappers::UnboundedReceiverStream;
use tonic::{Status, body::Body};

use super::{
    BackendContext, CallSlot, Connection, Endpoint, KeepaliveThrottle, OutgoingRequest, Queue,
    ResponseBody, Stage, Ticket, dial,
    exchange::Exchange,
    io::{BoxIo, Connector, Io},
};
use crate::{metrics::BackendMeter, transport::BackendCalls};

const ADDRESS: &str = "backend.test:50051";

/// Bytes that either side may write ahead of the other.
const PIPE: usize = 256 << 10;

/// The outcome of `what`, which needs no time to pass.
#[track_caller]
pub(crate) fn soon<F: Future>(what: F) -> impl Future<Output = F::Output> {
    let at = Location::caller();
    async move {
        match tokio::time::timeout(Duration::from_secs(3600), what).await {
            Ok(output) => output,
            Err(_) => panic!("waits for ever at {at}"),
        }
    }
}

/// An endpoint that `io` leads to, once.
fn endpoint_over(io: impl Io + 'static) -> Endpoint {
    over(Endpoint::from_static("http://backend.test:50051"), io)
}

/// An endpoint whose every dial sends us the peer's side of a new connection.
pub(crate) fn dialled_endpoint() -> (Endpoint, mpsc::UnboundedReceiver<DuplexStream>) {
    dialled_at("http://backend.test:50051")
}

/// The same with this URI.
pub(crate) fn dialled_at(uri: &'static str) -> (Endpoint, mpsc::UnboundedReceiver<DuplexStream>) {
    let (dialled, dials) = mpsc::unbounded_channel();
    let endpoint = Endpoint::from_static(uri);
    let endpoint = endpoint.with_connector(Connector::new(move |_, _| {
        let (ours, theirs) = duplex(PIPE);
        let _ = dialled.send(theirs);
        Box::pin(std::future::ready(Ok(Box::new(ours) as BoxIo)))
    }));
    (endpoint, dials)
}

/// A connector that never connects.
pub(crate) fn no_connection() -> Connector {
    Connector::new(|_, _| Box::pin(std::future::ready(Err("refused".into()))))
}

fn over(endpoint: Endpoint, io: impl Io + 'static) -> Endpoint {
    let io = Mutex::new(Some(Box::new(io) as BoxIo));
    endpoint.with_connector(Connector::new(move |_, _| {
        let io = io.lock().expect("not poisoned").take();
        Box::pin(std::future::ready(io.ok_or("dialled twice".into())))
    }))
}

/// The only backend of a channel.
fn alone() -> BackendContext {
    context(&Queue::new())
}

/// A backend of its own, of the channel with this queue.
fn context(queue: &Arc<Queue<CallSlot>>) -> BackendContext {
    BackendContext {
        channel: "test".into(),
        backend: 0,
        queue: queue.clone(),
        calls: BackendCalls::default(),
        answered_by: None,
        credentials: None,
        limits: None,
        keepalive_throttle: KeepaliveThrottle::default(),
        silence: None,
        meter: BackendMeter::default(),
    }
}

/// The peer: an HTTP/2 server that a task drives. Dropping it closes the
/// connection as a crash would.
pub(crate) struct Peer {
    calls: mpsc::UnboundedReceiver<Call>,
    orders: mpsc::UnboundedSender<Order>,
    ended: JoinHandle<Result<(), h2::Error>>,
}

type Order = Box<dyn FnOnce(&mut server::Connection<DuplexStream, Bytes>) + Send>;

/// One call as the peer has it.
pub(crate) struct Call {
    pub(crate) head: http::request::Parts,
    body: RecvStream,
    pub(crate) respond: server::SendResponse<Bytes>,
}

/// A connection that calls may use, and its peer.
async fn connected() -> (Connection, Peer) {
    connected_to(&server::Builder::new()).await
}

async fn connected_to(settings: &server::Builder) -> (Connection, Peer) {
    let (ours, theirs) = duplex(PIPE);
    connected_by(endpoint_over(ours), settings, theirs).await
}

/// The same to a backend of which there is something to tell.
async fn connected_as(context: BackendContext) -> (Connection, Peer) {
    let (ours, theirs) = duplex(PIPE);
    shake_hands(
        endpoint_over(ours),
        context,
        &server::Builder::new(),
        theirs,
    )
    .await
}

async fn connected_by(
    endpoint: Endpoint,
    settings: &server::Builder,
    theirs: DuplexStream,
) -> (Connection, Peer) {
    shake_hands(endpoint, alone(), settings, theirs).await
}

async fn shake_hands(
    endpoint: Endpoint,
    context: BackendContext,
    settings: &server::Builder,
    theirs: DuplexStream,
) -> (Connection, Peer) {
    let serve = settings.handshake(theirs);
    let both = async { tokio::join!(dial(endpoint, context), serve) };
    let (connection, server) = soon(both).await;
    let connection = connection.expect("connects");
    connection.set_pickable(true);
    (connection, Peer::spawn(server.expect("accepts")))
}

impl Peer {
    pub(crate) fn spawn(mut server: server::Connection<DuplexStream, Bytes>) -> Self {
        let (accepted, calls) = mpsc::unbounded_channel();
        let (orders, mut ordered) = mpsc::unbounded_channel::<Order>();
        let ended = tokio::spawn(async move {
            loop {
                tokio::select! {
                    order = ordered.recv() => match order {
                        Some(order) => order(&mut server),
                        None => return Ok(()),
                    },
                    call = server.accept() => match call.transpose()? {
                        Some((request, respond)) => {
                            let (head, body) = request.into_parts();
                            let _ = accepted.send(Call { head, body, respond });
                        }
                        None => return Ok(()),
                    },
                }
            }
        });
        Self {
            calls,
            orders,
            ended,
        }
    }

    pub(crate) async fn next_call(&mut self) -> Call {
        soon(self.calls.recv()).await.expect("a call")
    }

    /// Says GOAWAY and finishes the calls it has.
    fn shut_down_gracefully(&self) {
        let _ = self
            .orders
            .send(Box::new(|server| server.graceful_shutdown()));
    }

    /// Its connection has ended, however: a client that has nothing more to say
    /// closes without waiting for the peer's last words.
    pub(crate) async fn ended(self) {
        let _ = soon(self.ended).await.expect("no panic");
    }
}

impl Call {
    pub(crate) fn answer(&mut self) -> SendStream<Bytes> {
        let head = Response::builder().header("content-type", "application/grpc");
        self.respond
            .send_response(head.body(()).expect("a head"), false)
            .expect("the stream is open")
    }

    /// HTTP headers, and nothing after them.
    pub(crate) fn answer_with(&mut self, code: u16, content_type: &str) -> SendStream<Bytes> {
        let head = Response::builder().status(code);
        let head = head.header("content-type", content_type).body(());
        self.respond
            .send_response(head.expect("a head"), false)
            .expect("the stream is open")
    }

    /// Headers, `message` and trailers.
    fn answer_whole(mut self, message: &'static [u8]) {
        let mut stream = self.answer();
        stream
            .send_data(Bytes::from_static(message), false)
            .expect("the stream is open");
        stream.send_trailers(ok()).expect("the stream is open");
    }

    /// Headers that are all there is.
    fn answer_trailers_only(&mut self) {
        let mut head = Response::new(());
        *head.headers_mut() = ok();
        self.respond
            .send_response(head, true)
            .expect("the stream is open");
    }

    /// The next DATA frame.
    pub(crate) async fn chunk(&mut self) -> Option<Result<Bytes, h2::Error>> {
        let chunk = soon(self.body.data()).await?;
        if let Ok(data) = &chunk {
            let flow = self.body.flow_control();
            flow.release_capacity(data.len()).expect("held");
        }
        Some(chunk)
    }

    /// The whole request body.
    async fn read(&mut self) -> Result<Bytes, h2::Error> {
        let mut whole = BytesMut::new();
        while let Some(chunk) = self.chunk().await {
            whole.extend_from_slice(&chunk?);
        }
        Ok(whole.freeze())
    }

    /// Resets its stream with CANCEL.
    pub(crate) fn cancel(&mut self) {
        self.respond.send_reset(Reason::CANCEL);
    }

    /// The reason in the client's RST_STREAM.
    pub(crate) async fn reset(&mut self) -> Reason {
        soon(poll_fn(|cx| self.respond.poll_reset(cx)))
            .await
            .expect("a reset, not a lost connection")
    }
}

fn ok() -> HeaderMap {
    let mut trailers = HeaderMap::new();
    trailers.insert("grpc-status", http::HeaderValue::from_static("0"));
    trailers
}

fn header<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name).map(|v| v.to_str().expect("text"))
}

fn request(body: Body) -> Request<Body> {
    Request::post("/demo.Greeter/Hello")
        .body(body)
        .expect("a request")
}

fn unary(message: impl Into<Bytes>) -> Request<Body> {
    request(Body::new(Full::new(message.into())))
}

/// A body whose frames come from elsewhere; it ends with the sender.
fn streaming() -> (
    mpsc::UnboundedSender<Result<Frame<Bytes>, Status>>,
    Request<Body>,
) {
    let (frames, body) = mpsc::unbounded_channel();
    let body = Body::new(StreamBody::new(UnboundedReceiverStream::new(body)));
    (frames, request(body))
}

fn data(bytes: &'static [u8]) -> Result<Frame<Bytes>, Status> {
    Ok(Frame::data(Bytes::from_static(bytes)))
}

/// Opens a stream for `request` on a slot of its own.
async fn open(connection: &Connection, request: Request<Body>) -> Exchange {
    let mut request = OutgoingRequest::new(request);
    request.prefetch().await.expect("a sound body");
    let admitted = connection.admit().expect("a free slot");
    admitted.open(&mut request).expect("an open stream")
}

async fn frame(body: &mut ResponseBody) -> Option<Result<Frame<Bytes>, Status>> {
    soon(poll_fn(|cx| Pin::new(&mut *body).poll_frame(cx))).await
}

/// What a ticket was for, taken as a call does that was passed over meanwhile: it asks again.
async fn taken<T>(ticket: &mut Ticket<T>, connection: &Connection) -> T {
    let serve = || connection.serve_queue();
    soon(poll_fn(|cx| ticket.poll_and_serve(cx, serve))).await
}

/// Until so many slots of a connection are taken: its driver says on the wire what has ended.
#[track_caller]
fn slots_taken(connection: &Connection, wanted: usize) -> impl Future<Output = ()> {
    let at = Location::caller();
    async move {
        for _ in 0..10_000 {
            if connection.streams() == wanted {
                return;
            }
            tokio::task::yield_now().await;
        }
        let taken = connection.streams();
        panic!("{taken} slots are taken at {at}, not {wanted}");
    }
}

/// What a response body brings, to its end.
async fn read(body: &mut ResponseBody) -> Result<(Bytes, Option<HeaderMap>), Status> {
    let mut whole = BytesMut::new();
    let mut trailers = None;
    while let Some(frame) = frame(body).await {
        match frame?.into_data() {
            Ok(data) => whole.extend_from_slice(&data),
            Err(frame) => trailers = frame.into_trailers().ok(),
        }
    }
    Ok((whole.freeze(), trailers))
}

/// The text in which a connection that drains says why.
async fn drains(connection: &Connection) -> String {
    let mut stage = connection.stage();
    let stage = soon(stage.wait_for(|stage| !matches!(stage, Stage::Open { .. }))).await;
    match &*stage.expect("a handle is held") {
        Stage::Draining(why) => why.to_string(),
        other => panic!("{other:?}, not draining"),
    }
}

/// The text in which a connection that is gone says why.
async fn closes(connection: &Connection) -> String {
    let mut stage = connection.stage();
    let stage = soon(stage.wait_for(|stage| matches!(stage, Stage::Closed(_)))).await;
    match &*stage.expect("a handle is held") {
        Stage::Closed(why) => why.to_string(),
        other => unreachable!("waited for Closed, not {other:?}"),
    }
}

/// A call that is answered shows that the connection is usable.
async fn assert_usable(connection: &Connection, peer: &mut Peer) {
    let exchange = open(connection, unary("ping")).await;
    peer.next_call().await.answer_whole(b"pong");
    let response = soon(exchange).await.expect("a response");
    let (body, trailers) = read(&mut response.into_body()).await.expect("a body");
    assert_eq!((&*body, trailers), (&b"pong"[..], Some(ok())));
}
