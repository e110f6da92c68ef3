//! Messages larger than a call allows, going out and coming in.

use bytes::Bytes;
use h2::Reason;
use http::Request;
use http_body_util::Full;
use tonic::{Code, Status, body::Body};

use super::{
    OutgoingRequest, assert_usable, connected, data, frame, ok, open, read, request, soon,
    streaming, unary,
};
use crate::{
    error::{Error, ErrorKind},
    transport::{Connection, ResponseBody, exchange::Exchange},
};

const LIMIT: u32 = 64;

const REQUEST_TOO_LARGE: &str =
    "trying to send message larger than max (70 vs. 64); the service config sets the max, in bytes";
const RESPONSE_TOO_LARGE: &str = "received message larger than max (70 vs. 64) from \
                                  backend.test:50051; the service config sets the max, in bytes";

/// A message of this many bytes, behind its prefix.
fn message(length: u8) -> Bytes {
    [&[0, 0, 0, 0, length][..], &vec![7; length.into()]]
        .concat()
        .into()
}

fn limited(request: Request<Body>, max: u32) -> OutgoingRequest {
    let mut request = OutgoingRequest::new(request);
    request.limit_messages(max);
    request
}

/// What comes of looking at a body under a limit, before anything is sent.
async fn prefetch(body: Bytes, max: u32) -> Result<(), Error> {
    limited(unary(body), max).prefetch().await
}

async fn open_limited(connection: &Connection, request: Request<Body>) -> Exchange {
    let mut request = limited(request, LIMIT);
    request.prefetch().await.expect("nothing too large yet");
    let admitted = connection.admit().expect("a free slot");
    admitted.open(&mut request).expect("an open stream")
}

#[track_caller]
fn assert_request_too_large(error: &Error) {
    assert_eq!(error.kind(), ErrorKind::MessageTooLarge);
    assert_eq!(error.code(), Code::ResourceExhausted);
    assert_eq!(error.message(), REQUEST_TOO_LARGE);
}

#[tokio::test(start_paused = true)]
async fn a_unary_request_above_the_limit_is_not_sent() {
    prefetch(message(64), LIMIT).await.expect("at the limit");
    let error = prefetch(message(70), LIMIT).await;
    assert_request_too_large(&error.expect_err("above the limit"));
}

#[tokio::test(start_paused = true)]
async fn with_a_limit_of_zero_only_empty_requests_are_sent() {
    prefetch(message(0), 0).await.expect("empty");
    let error = prefetch(message(1), 0).await.expect_err("not empty");
    assert_eq!(error.code(), Code::ResourceExhausted);
}

#[tokio::test(start_paused = true)]
async fn the_first_two_frames_are_looked_at_before_anything_is_sent() {
    let whole = message(70);
    let (frames, request) = streaming();
    for part in [whole.slice(..3), whole.slice(3..)] {
        frames
            .send(Ok(http_body::Frame::data(part)))
            .expect("a reader");
    }
    let error = limited(request, LIMIT).prefetch().await;
    assert_request_too_large(&error.expect_err("above the limit"));
}

#[tokio::test(start_paused = true)]
async fn a_request_within_the_limit_goes_out_as_without_one() {
    let (connection, mut peer) = connected().await;
    let body = [message(64), message(0), message(1)].concat();
    let full = Full::new(Bytes::from(body.clone()));
    let exchange = open_limited(&connection, request(Body::new(full))).await;
    let mut at_peer = peer.next_call().await;
    assert_eq!(at_peer.read().await.expect("all of it"), body);
    at_peer.answer_whole(b"");
    soon(exchange).await.map(drop).expect("headers");
}

#[tokio::test(start_paused = true)]
async fn a_later_message_above_the_limit_cancels_the_call() {
    let (connection, mut peer) = connected().await;
    let (frames, request) = streaming();
    frames
        .send(Ok(http_body::Frame::data(message(64))))
        .expect("a reader");
    let mut exchange = open_limited(&connection, request).await;
    let mut at_peer = peer.next_call().await;
    // The prefix in two frames, and nothing behind it.
    for part in [&[0, 0, 0][..], &[0, 70]] {
        frames.send(data(part)).expect("a pump");
    }
    let failed = soon(&mut exchange).await.map(drop);
    let failed = failed.expect_err("the message is too large");
    assert_eq!(at_peer.reset().await, Reason::CANCEL);
    assert_request_too_large(&failed.error);
    assert!(!failed.unprocessed);
    drop(exchange);
    assert_eq!(connection.streams(), 0);
    assert_usable(&connection, &mut peer).await;
}

#[tokio::test(start_paused = true)]
async fn a_message_above_the_limit_after_the_headers_is_the_calls_error() {
    let (connection, mut peer) = connected().await;
    let (frames, request) = streaming();
    let exchange = open_limited(&connection, request).await;
    let mut answers = peer.next_call().await.answer();
    let mut body = soon(exchange).await.expect("headers").into_body();
    frames
        .send(Ok(http_body::Frame::data(message(70))))
        .expect("a pump");
    let status = read(&mut body).await.expect_err("the message is too large");
    assert_eq!(status.code(), Code::ResourceExhausted);
    assert_eq!(status.message(), REQUEST_TOO_LARGE);
    let reset = soon(std::future::poll_fn(|cx| answers.poll_reset(cx))).await;
    assert_eq!(reset.expect("a reset"), Reason::CANCEL);
    assert_eq!(connection.streams(), 0);
}

/// The response body of a call with a limit, and the stream that fills it.
async fn answered(
    connection: &Connection,
    peer: &mut super::Peer,
    max: u32,
) -> (h2::SendStream<Bytes>, ResponseBody) {
    let exchange = open(connection, unary("")).await;
    let stream = peer.next_call().await.answer();
    let response = soon(exchange).await.expect("headers");
    let mut body = response.into_body();
    body.set_message_limit(max);
    (stream, body)
}

async fn next_data(body: &mut ResponseBody) -> Result<Bytes, Status> {
    let frame = frame(body).await.expect("a frame")?;
    Ok(frame.into_data().expect("data"))
}

#[tokio::test(start_paused = true)]
async fn a_response_within_the_limit_comes_as_without_one() {
    let (connection, mut peer) = connected().await;
    let (mut stream, mut body) = answered(&connection, &mut peer, LIMIT).await;
    let whole = [message(64), message(0), message(64)].concat();
    stream
        .send_data(whole.clone().into(), false)
        .expect("the stream is open");
    stream.send_trailers(ok()).expect("the stream is open");
    let (received, trailers) = read(&mut body).await.expect("a body");
    assert_eq!((received, trailers), (whole.into(), Some(ok())));
}

#[tokio::test(start_paused = true)]
async fn a_response_message_above_the_limit_fails_the_body_and_cancels_the_call() {
    let (connection, mut peer) = connected().await;
    let (mut stream, mut body) = answered(&connection, &mut peer, LIMIT).await;
    stream
        .send_data(message(64), false)
        .expect("the stream is open");
    assert_eq!(next_data(&mut body).await.expect("data"), message(64));
    // Of the second message there is no more than its prefix.
    stream
        .send_data([message(1), message(70).slice(..5)].concat().into(), false)
        .expect("the stream is open");
    let status = next_data(&mut body).await.expect_err("too large");
    assert_eq!(status.code(), Code::ResourceExhausted);
    assert_eq!(status.message(), RESPONSE_TOO_LARGE);
    assert!(frame(&mut body).await.is_none(), "and that is its end");
    let reset = soon(std::future::poll_fn(|cx| stream.poll_reset(cx))).await;
    assert_eq!(reset.expect("a reset"), Reason::CANCEL);
    assert_eq!(connection.streams(), 0);
    assert_usable(&connection, &mut peer).await;
}

/// A prefix in the last frame, after which the stream is over anyway.
#[tokio::test(start_paused = true)]
async fn a_response_that_ends_with_a_message_above_the_limit_fails_too() {
    let (connection, mut peer) = connected().await;
    let (mut stream, mut body) = answered(&connection, &mut peer, LIMIT).await;
    stream
        .send_data(message(70), true)
        .expect("the stream is open");
    let status = next_data(&mut body).await.expect_err("too large");
    assert_eq!(status.message(), RESPONSE_TOO_LARGE);
    assert!(frame(&mut body).await.is_none());
    assert_eq!(connection.streams(), 0);
}

#[tokio::test(start_paused = true)]
async fn with_a_limit_of_zero_only_empty_responses_come() {
    let (connection, mut peer) = connected().await;
    let (mut stream, mut body) = answered(&connection, &mut peer, 0).await;
    stream
        .send_data(message(0), false)
        .expect("the stream is open");
    assert_eq!(next_data(&mut body).await.expect("data"), message(0));
    stream
        .send_data(message(1), false)
        .expect("the stream is open");
    let status = next_data(&mut body).await.expect_err("not empty");
    assert_eq!(status.code(), Code::ResourceExhausted);
}
