//! Headers, frames and tables beyond what the peer was told.

use bytes::Bytes;
use h2::server;
use http::{HeaderMap, HeaderValue, Response};
use tokio::io::duplex;
use tonic::{Code, Status};

use super::{
    Call, Connection, Endpoint, PIPE, Peer, alone, assert_usable, closes, connected_by,
    endpoint_over, ok, open, read, soon, unary,
    wire::{self, DATA, Wire, wire_frame, wired_by},
};

type Options = fn(Endpoint) -> Endpoint;

const DEFAULT: usize = 16 << 10;
const CHOSEN: usize = 1_000;

fn chosen(endpoint: Endpoint) -> Endpoint {
    endpoint.http2_max_header_list_size(CHOSEN as u32)
}

fn default(endpoint: Endpoint) -> Endpoint {
    endpoint
}

/// A header that brings a list to `size` bytes, with its name and 32 more.
fn header_of(size: usize) -> (&'static str, HeaderValue) {
    let value = "x".repeat(size - "x-large".len() - 32);
    ("x-large", value.parse().expect("letters"))
}

fn too_large(limit: usize) -> String {
    format!(
        "stream to backend.test:50051: the response is not valid HTTP/2, or its headers are larger \
         than the {limit} bytes of `Endpoint::http2_max_header_list_size`"
    )
}

/// What comes of a call that is answered by `answer`, on a connection that is as
/// good as ever after that.
async fn outcome(
    options: Options,
    answer: impl FnOnce(Call),
) -> Result<(Bytes, Option<HeaderMap>), Status> {
    let (connection, mut peer) = connected_with(options).await;
    let exchange = open(&connection, unary("")).await;
    answer(peer.next_call().await);
    let outcome = match soon(exchange).await {
        Ok(response) => read(&mut response.into_body()).await,
        Err(failed) => Err(failed.error.into()),
    };
    assert_eq!(connection.streams(), 0);
    assert_usable(&connection, &mut peer).await;
    outcome
}

async fn connected_with(options: Options) -> (Connection, Peer) {
    let (ours, theirs) = duplex(PIPE);
    let endpoint = options(endpoint_over(ours));
    connected_by(endpoint, &server::Builder::new(), theirs).await
}

fn with_headers_of(size: usize, ends: bool) -> impl FnOnce(Call) {
    move |mut call| {
        let (name, value) = header_of(size);
        let mut head = Response::new(());
        head.headers_mut().insert(name, value);
        head.headers_mut()
            .insert("grpc-status", HeaderValue::from_static("0"));
        let sent = call.respond.send_response(head, ends);
        let mut stream = sent.expect("the stream is open");
        if !ends {
            stream.send_trailers(ok()).expect("the stream is open");
        }
    }
}

fn with_trailers(trailers: HeaderMap) -> impl FnOnce(Call) {
    move |mut call| {
        let mut stream = call.answer();
        let message = Bytes::from_static(b"a message");
        stream
            .send_data(message, false)
            .expect("the stream is open");
        stream.send_trailers(trailers).expect("the stream is open");
    }
}

#[tokio::test(start_paused = true)]
async fn headers_beyond_the_limit_fail_their_call_and_no_other() {
    for (options, limit) in [(default as Options, DEFAULT), (chosen, CHOSEN)] {
        for ends in [false, true] {
            let within = outcome(options, with_headers_of(limit - 200, ends)).await;
            within.expect("they are within the limit");
            let beyond = outcome(options, with_headers_of(limit + 1, ends)).await;
            let status = beyond.expect_err("they are beyond the limit");
            assert_eq!(status.code(), Code::Internal);
            assert_eq!(status.message(), too_large(limit));
        }
    }
}

/// `h2` drops what is beyond the limit of trailers, and says nothing of it.
#[tokio::test(start_paused = true)]
async fn trailers_beyond_the_limit_that_lose_their_status_fail_their_call_and_no_other() {
    for (options, limit) in [(default as Options, DEFAULT), (chosen, CHOSEN)] {
        let (name, value) = header_of(limit + 1);
        let status_last = HeaderMap::from_iter([
            (name.parse().expect("a name"), value),
            (
                "grpc-status".parse().expect("a name"),
                "0".parse().expect("digits"),
            ),
        ]);
        let status = outcome(options, with_trailers(status_last)).await;
        let status = status.expect_err("there is no status");
        assert_eq!(status.code(), Code::Unknown);
        assert_eq!(
            status.message(),
            format!(
                "missing grpc-status in the trailers of backend.test:50051; trailers beyond the \
                 {limit} bytes of `Endpoint::http2_max_header_list_size` are dropped"
            )
        );
    }
}

/// The same; the call has its status, and only metadata are missing.
#[tokio::test(start_paused = true)]
async fn trailers_are_cut_behind_what_the_limit_allows() {
    let (name, value) = header_of(CHOSEN + 1);
    let mut status_first = ok();
    status_first.insert(name, value);
    let (body, trailers) = outcome(chosen, with_trailers(status_first))
        .await
        .expect("it has its status");
    assert_eq!(body, "a message");
    assert_eq!(trailers, Some(ok()));
}

/// `h2` goes on decoding what it drops, as it has to, but not for ever.
#[tokio::test(start_paused = true)]
async fn headers_of_four_times_the_limit_end_the_connection() {
    for (options, limit) in [(default as Options, DEFAULT), (chosen, CHOSEN)] {
        let (connection, mut peer) = connected_with(options).await;
        let exchange = open(&connection, unary("")).await;
        with_headers_of(4 * limit + 100, true)(peer.next_call().await);
        let why = "the peer violates HTTP/2: headers larger than 4 times \
                   `http2_max_header_list_size`";
        let status = Status::from(
            soon(exchange)
                .await
                .map(drop)
                .expect_err("far too large")
                .error,
        );
        assert_eq!(status.code(), Code::Unavailable);
        assert_eq!(
            status.message(),
            format!("stream to backend.test:50051: {why}")
        );
        assert_eq!(closes(&connection).await, format!("disconnected: {why}"));
    }
}

/// A connection with a call on it that has its headers.
async fn answered(options: Options) -> (Connection, Wire, super::ResponseBody) {
    let (connection, mut wire) = wired_by(options, alone(), 100).await;
    let exchange = open(&connection, unary("")).await;
    let stream = wire.next_request().await;
    assert_eq!(stream, 1);
    wire.headers(stream).await;
    let body = soon(exchange).await.expect("headers").into_body();
    (connection, wire, body)
}

#[tokio::test(start_paused = true)]
async fn a_frame_beyond_the_limit_ends_the_connection() {
    let options: [(Options, usize); 2] = [
        (default, 16 << 10),
        (|endpoint| endpoint.max_frame_size(20_000), 20_000),
    ];
    for (options, limit) in options {
        let (connection, mut wire, mut body) = answered(options).await;
        wire.write(&wire_frame(DATA, 0, 1, &vec![7; limit])).await;
        let frame = super::frame(&mut body).await.expect("a frame");
        let data = frame.expect("within the limit").into_data();
        assert_eq!(data.expect("data").len(), limit);

        wire.write(&wire_frame(DATA, 0, 1, &vec![7; limit + 1]))
            .await;
        let why = closes(&connection).await;
        let reason = "disconnected: the peer violates HTTP/2: connection error detected: frame \
                      with invalid size";
        assert_eq!(why, reason);
        let status = super::frame(&mut body).await.expect("a frame");
        assert_eq!(status.expect_err("it is gone").code(), Code::Unavailable);
    }
}

/// A table of 4,096 bytes, or of what was chosen. That one may be larger, and
/// announces it.
#[tokio::test(start_paused = true)]
async fn a_header_table_beyond_the_limit_ends_the_connection() {
    let options: [(Options, usize); 3] = [
        (default, 4_096),
        (|endpoint| endpoint.http2_header_table_size(1_000), 1_000),
        (|endpoint| endpoint.http2_header_table_size(9_000), 9_000),
    ];
    for (options, limit) in options {
        let (connection, mut wire, mut body) = answered(options).await;
        wire.write(&wire::trailers(1)).await;
        read(&mut body).await.expect("its trailers");
        let next = open(&connection, unary("")).await;
        let stream = wire.next_request().await;
        wire.headers_behind(stream, &table_size(limit)).await;
        soon(next).await.map(drop).expect("within the limit");

        let next = open(&connection, unary("")).await;
        let stream = wire.next_request().await;
        wire.headers_behind(stream, &table_size(limit + 1)).await;
        let status = Status::from(soon(next).await.map(drop).expect_err("beyond").error);
        assert_eq!(status.code(), Code::Unavailable);
        let why = "the peer violates HTTP/2: connection error detected: unspecific protocol error \
                   detected";
        assert_eq!(closes(&connection).await, format!("disconnected: {why}"));
    }
}

/// HPACK's "Dynamic Table Size Update" (RFC 7541 §6.3).
fn table_size(size: usize) -> Vec<u8> {
    let mut bytes = vec![0x3f];
    let mut rest = size - 31;
    while rest >= 128 {
        bytes.push((rest % 128 + 128) as u8);
        rest /= 128;
    }
    bytes.push(rest as u8);
    bytes
}
