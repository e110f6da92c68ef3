//! Calls with a policy, over in-memory IO and paused time, on servers that fail by a script.

mod before_sending;
mod budget;
mod hedging;
mod retries;
mod streaming;
mod throttling;
mod told;

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use h2::Reason;
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response};
use http_body::Frame;
use http_body_util::{BodyExt, Full, StreamBody};
use tokio::{
    io::DuplexStream,
    sync::mpsc,
    time::{Instant, sleep},
};
use tokio_stream::wrappers::UnboundedReceiverStream;
use tonic::{Code, Status, body::Body};
use tower_service::Service;

use crate::{
    Channel, ChannelBuilder, Endpoint, Error, discover,
    transport::tests::{self, Peer, dialled_at, soon},
};

/// How a server answers one request.
#[derive(Clone, Copy, Debug)]
enum Reply {
    /// A message and OK.
    Ok,
    /// Headers that are all there is.
    Only(Code),
    /// The same with these values of `grpc-retry-pushback-ms`.
    Pushback(Code, &'static [&'static str]),
    /// The same with a status that is this text.
    Status(&'static str),
    /// Headers, and trailers with the status.
    Headers(Code),
    /// Headers, a message, and trailers with the status.
    Message(Code),
    /// Headers, and DATA that ends the stream.
    EmptyData,
    /// RST_STREAM.
    Reset(Reason),
    /// Nothing, until the client is gone.
    Hang,
    /// OK after so long.
    After(u64),
    /// Headers that are all there is after so long.
    OnlyAfter(u64, Code),
    /// HTTP with a page.
    Http(u16),
    /// Headers that are all there is after so many messages of the request.
    OnlyAfterMessages(usize, Code),
    /// RST_STREAM after so many messages of the request.
    ResetAfterMessages(usize, Reason),
    /// Headers that are all there is after the whole request.
    OnlyAfterAll(Code),
    /// OK after the whole request.
    OkAfterAll,
}

/// One request as its server had it.
#[derive(Debug)]
struct Served {
    server: usize,
    previous: Option<String>,
    timeout: Option<Duration>,
    at: Instant,
    /// Of the requests that are read.
    body: Vec<Bytes>,
    /// Of the requests that hang.
    reset: Option<Reason>,
}

/// A channel and its servers.
struct Setup {
    channel: Channel,
    /// Requests in the order in which they were answered.
    served: mpsc::UnboundedReceiver<Served>,
    /// Requests in the order in which they came.
    came: mpsc::UnboundedReceiver<usize>,
    began: Instant,
}

/// A channel with this config. Its servers ask `reply` how to answer a request, with the number
/// of the server and that of the request. Requests count over all servers.
async fn setup(
    servers: usize,
    config: &str,
    build: impl FnOnce(ChannelBuilder) -> ChannelBuilder,
    reply: impl Fn(usize, usize) -> Reply + Send + Sync + 'static,
) -> Setup {
    setup_with(|endpoint| endpoint, servers, config, build, reply).await
}

/// The same with these options of each endpoint.
async fn setup_with(
    options: impl Fn(Endpoint) -> Endpoint,
    servers: usize,
    config: &str,
    build: impl FnOnce(ChannelBuilder) -> ChannelBuilder,
    reply: impl Fn(usize, usize) -> Reply + Send + Sync + 'static,
) -> Setup {
    const URIS: [&str; 4] = [
        "http://a.test:1",
        "http://b.test:1",
        "http://c.test:1",
        "http://d.test:1",
    ];
    let (endpoints, dials): (Vec<Endpoint>, Vec<_>) =
        URIS[..servers].iter().map(|uri| dialled_at(uri)).unzip();
    let endpoints = endpoints.into_iter().map(options);
    let source = discover::list(endpoints).expect("a list");
    let builder = Channel::balance(source).service_config(config.parse().expect("valid"));
    let channel = build(builder).build();
    let (script, served, came) = Script::new(reply);
    for (server, mut dials) in dials.into_iter().enumerate() {
        let script = Arc::clone(&script);
        tokio::spawn(async move {
            while let Some(io) = dials.recv().await {
                tokio::spawn(serve(server, io, Arc::clone(&script)));
            }
        });
    }
    soon(channel.wait_until_ready()).await.expect("it is READY");
    while channel
        .backends()
        .iter()
        .any(|b| b.state() != crate::ConnectivityState::Ready)
    {
        tokio::task::yield_now().await;
    }
    Setup {
        channel,
        served,
        came,
        began: Instant::now(),
    }
}

struct Script {
    reply: Box<dyn Fn(usize, usize) -> Reply + Send + Sync>,
    served: mpsc::UnboundedSender<Served>,
    came: mpsc::UnboundedSender<usize>,
    requests: std::sync::atomic::AtomicUsize,
}

impl Script {
    /// With the requests that it has answered, and those that have come.
    fn new(
        reply: impl Fn(usize, usize) -> Reply + Send + Sync + 'static,
    ) -> (
        Arc<Self>,
        mpsc::UnboundedReceiver<Served>,
        mpsc::UnboundedReceiver<usize>,
    ) {
        let (tell, served) = mpsc::unbounded_channel();
        let (tell_came, came) = mpsc::unbounded_channel();
        let script = Self {
            reply: Box::new(reply),
            served: tell,
            came: tell_came,
            requests: std::sync::atomic::AtomicUsize::new(0),
        };
        (Arc::new(script), served, came)
    }
}

async fn serve(server: usize, io: DuplexStream, script: Arc<Script>) {
    let connection = h2::server::handshake(io).await.expect("a client");
    let mut peer = Peer::spawn(connection);
    loop {
        let call = peer.next_call().await;
        let number = script
            .requests
            .fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let _ = script.came.send(server);
        tokio::spawn(answer(
            server,
            call,
            (script.reply)(server, number),
            Arc::clone(&script),
        ));
    }
}

fn header(headers: &HeaderMap, name: &str) -> Option<String> {
    let value = headers.get(name)?.to_str().expect("text");
    Some(value.to_owned())
}

fn only(code: Code, pushback: &[&'static str]) -> Response<()> {
    let mut head = Response::new(());
    let headers = head.headers_mut();
    headers.insert("grpc-status", HeaderValue::from(code as i32));
    headers.insert("grpc-message", HeaderValue::from_static("by script"));
    for value in pushback {
        let name = HeaderName::from_static("grpc-retry-pushback-ms");
        headers.append(name, HeaderValue::from_static(value));
    }
    head
}

async fn answer(server: usize, mut call: tests::Call, reply: Reply, script: Arc<Script>) {
    let headers = &call.head.headers;
    let timeout = header(headers, "grpc-timeout").map(|text| {
        let (number, unit) = text.split_at(text.len() - 1);
        let number: u64 = number.parse().expect("a number");
        match unit {
            "u" => Duration::from_micros(number),
            "m" => Duration::from_millis(number),
            "S" => Duration::from_secs(number),
            unit => panic!("the unit {unit}"),
        }
    });
    let mut served = Served {
        server,
        previous: header(headers, "grpc-previous-rpc-attempts"),
        timeout,
        at: Instant::now(),
        body: Vec::new(),
        reset: None,
    };
    match reply {
        Reply::Ok => ok(&mut call),
        Reply::OkAfterAll => {
            read_all(&mut call, &mut served).await;
            ok(&mut call);
        }
        Reply::OnlyAfterAll(code) => {
            read_all(&mut call, &mut served).await;
            drop(call.respond.send_response(only(code, &[]), true));
        }
        Reply::After(millis) => {
            sleep(Duration::from_millis(millis)).await;
            ok(&mut call);
        }
        Reply::Only(code) => drop(call.respond.send_response(only(code, &[]), true)),
        Reply::OnlyAfter(millis, code) => {
            sleep(Duration::from_millis(millis)).await;
            drop(call.respond.send_response(only(code, &[]), true));
        }
        Reply::OnlyAfterMessages(messages, code) => {
            read(&mut call, &mut served, messages).await;
            drop(call.respond.send_response(only(code, &[]), true));
        }
        Reply::ResetAfterMessages(messages, reason) => {
            read(&mut call, &mut served, messages).await;
            call.respond.send_reset(reason);
        }
        Reply::Status(status) => {
            let mut head = only(Code::Unknown, &[]);
            let status = HeaderValue::from_static(status);
            head.headers_mut().insert("grpc-status", status);
            drop(call.respond.send_response(head, true));
        }
        Reply::Pushback(code, values) => {
            drop(call.respond.send_response(only(code, values), true));
        }
        Reply::Headers(code) | Reply::Message(code) => {
            let mut stream = call.answer();
            if matches!(reply, Reply::Message(_)) {
                let message = Bytes::from_static(b"\0\0\0\0\0");
                stream.send_data(message, false).expect("it is open");
            }
            let trailers = only(code, &[]).headers().clone();
            stream.send_trailers(trailers).expect("the stream is open");
        }
        Reply::EmptyData => {
            let mut stream = call.answer();
            stream
                .send_data(Bytes::new(), true)
                .expect("the stream is open");
        }
        Reply::Reset(reason) => call.respond.send_reset(reason),
        Reply::Http(code) => {
            let mut page = call.answer_with(code, "text/plain");
            page.send_data(Bytes::from_static(b"sorry"), true)
                .expect("the stream is open");
        }
        Reply::Hang => served.reset = Some(call.reset().await),
    }
    let _ = script.served.send(served);
}

/// Reads so many messages.
async fn read(call: &mut tests::Call, served: &mut Served, messages: usize) {
    for _ in 0..messages {
        let chunk = call.chunk().await.expect("a message");
        served.body.push(chunk.expect("no error"));
    }
}

/// Reads the request to its end.
async fn read_all(call: &mut tests::Call, served: &mut Served) {
    while let Some(Ok(chunk)) = call.chunk().await {
        served.body.extend((!chunk.is_empty()).then_some(chunk));
    }
}

fn ok(call: &mut tests::Call) {
    let head = Response::builder().header("content-type", "application/grpc");
    let head = head.body(()).expect("a head");
    // The client may have gone.
    let Ok(mut stream) = call.respond.send_response(head, false) else {
        return;
    };
    let _ = stream.send_data(Bytes::from_static(b"\0\0\0\0\0"), false);
    let _ = stream.send_trailers(only(Code::Ok, &[]).headers().clone());
}

impl Setup {
    /// One call with this request: its code, and what the client library would say.
    async fn send(&self, request: Request<Body>) -> Result<Response<Body>, Status> {
        let mut channel = self.channel.clone();
        let response = soon(channel.call(request))
            .await
            .map_err(Status::from_error_of)?;
        if let Some(status) = Status::from_header_map(response.headers())
            && status.code() != Code::Ok
        {
            return Err(status);
        }
        Ok(response)
    }

    /// A unary call, to its end.
    async fn call(&self) -> Result<Response<()>, Status> {
        finish(self.send(unary()).await?).await
    }

    async fn code(&self) -> Code {
        self.call()
            .await
            .map_or_else(|status| status.code(), |_| Code::Ok)
    }

    /// The requests that were answered since this was asked last.
    fn served(&mut self) -> Vec<Served> {
        std::iter::from_fn(|| self.served.try_recv().ok()).collect()
    }

    /// The same, as soon as there are so many.
    async fn serves(&mut self, count: usize) -> Vec<Served> {
        let mut all = Vec::new();
        while all.len() < count {
            all.push(soon(self.served.recv()).await.expect("servers are there"));
        }
        all
    }

    /// How many requests came, so far.
    fn came(&mut self) -> usize {
        std::iter::from_fn(|| self.came.try_recv().ok()).count()
    }
}

/// As a generated client does.
trait OfError {
    fn from_error_of(error: Error) -> Self;
}

impl OfError for Status {
    fn from_error_of(error: Error) -> Self {
        Self::from_error(Box::new(error))
    }
}

/// Reads a response to its end: its extensions, or the status it ends with.
async fn finish(response: Response<Body>) -> Result<Response<()>, Status> {
    let (head, mut body) = response.into_parts();
    while let Some(frame) = soon(body.frame()).await {
        if let Ok(trailers) = frame?.into_trailers()
            && let Some(status) = Status::from_header_map(&trailers)
            && status.code() != Code::Ok
        {
            return Err(status);
        }
    }
    Ok(Response::from_parts(head, ()))
}

fn unary() -> Request<Body> {
    request(Body::new(Full::new(Bytes::from_static(b"\0\0\0\0\x02hi"))))
}

fn request(body: Body) -> Request<Body> {
    Request::post("/demo.v1.Greeter/SayHello")
        .body(body)
        .expect("a request")
}

type Frames = mpsc::UnboundedSender<Result<Frame<Bytes>, Status>>;

/// A request that streams what it is given.
fn streaming() -> (Frames, Request<Body>) {
    let (frames, body) = mpsc::unbounded_channel();
    let body = StreamBody::new(UnboundedReceiverStream::new(body));
    (frames, request(Body::new(body)))
}

fn message(bytes: impl Into<Bytes>) -> Result<Frame<Bytes>, Status> {
    Ok(Frame::data(bytes.into()))
}

/// A config for every method.
fn config(method: &str) -> String {
    format!(r#"{{"methodConfig": [{{"name": [{{}}], {method}}}]}}"#)
}

/// A retry policy without pauses to speak of, for these codes.
fn retry(max_attempts: u32, codes: &str) -> String {
    config(&format!(
        r#""retryPolicy": {{"maxAttempts": {max_attempts}, "initialBackoff": "0.01s",
            "maxBackoff": "0.01s", "backoffMultiplier": 1, "retryableStatusCodes": [{codes}]}}"#
    ))
}

const UNAVAILABLE: &str = r#""UNAVAILABLE""#;

fn same(builder: ChannelBuilder) -> ChannelBuilder {
    builder
}
