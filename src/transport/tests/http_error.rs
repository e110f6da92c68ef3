//! Answers from what is not a gRPC server.

use std::{
    future::{Future, poll_fn},
    pin::pin,
    task::{Context, Waker},
    time::Duration,
};

use bytes::Bytes;
use h2::{Reason, SendStream};
use tokio::time::Instant;
use tonic::{Code, Status};

use super::{
    ADDRESS, Call, assert_usable, connected, header, ok, open, read, slots_taken, soon, unary,
};

/// The head of an HTTP error with a body of this type.
fn unavailable(content_type: &str) -> http::response::Builder {
    let head = http::Response::builder().status(503);
    head.header("content-type", content_type)
}

/// The reason in the client's RST_STREAM.
async fn reset(stream: &mut SendStream<Bytes>) -> Reason {
    let reset = soon(poll_fn(|cx| stream.poll_reset(cx))).await;
    reset.expect("a reset, not a lost connection")
}

/// Answers with `head`, and leaves the stream open.
fn begin(call: &mut Call, head: http::response::Builder) -> SendStream<Bytes> {
    let head = head.body(()).expect("a head");
    call.respond.send_response(head, false).expect("open")
}

#[tokio::test(start_paused = true)]
async fn an_http_error_without_a_grpc_status_becomes_one() {
    for (http, code) in [
        (400, Code::Internal),
        (401, Code::Unauthenticated),
        (403, Code::PermissionDenied),
        (404, Code::Unimplemented),
        (429, Code::Unavailable),
        (500, Code::Unknown),
        (502, Code::Unavailable),
        (503, Code::Unavailable),
        (504, Code::Unavailable),
        (204, Code::Unknown),
        (302, Code::Unknown),
        (418, Code::Unknown),
    ] {
        let (connection, mut peer) = connected().await;
        let exchange = open(&connection, unary("")).await;
        let mut at_peer = peer.next_call().await;
        let head = http::Response::builder().status(http);
        let head = head.header("content-type", "text/html").body(());
        let mut stream = at_peer
            .respond
            .send_response(head.expect("a head"), false)
            .expect("open");
        let page = Bytes::from_static(b"<html>");
        stream.send_data(page, false).expect("open");
        let failed = soon(exchange).await.map(drop).expect_err("no gRPC answer");
        assert_eq!(failed.error.code(), code, "for HTTP {http}");
        let text = failed.error.message();
        let start = format!(
            "stream to {ADDRESS}: unexpected HTTP status code received from server: {http}"
        );
        assert!(text.starts_with(&start), "{text}");
        assert!(!failed.unprocessed);
        slots_taken(&connection, 0).await;
        assert_usable(&connection, &mut peer).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_grpc_status_counts_more_than_an_http_error() {
    let (connection, mut peer) = connected().await;
    let exchange = open(&connection, unary("")).await;
    let mut head = http::Response::new(());
    *head.status_mut() = http::StatusCode::SERVICE_UNAVAILABLE;
    *head.headers_mut() = ok();
    let mut at_peer = peer.next_call().await;
    at_peer.respond.send_response(head, true).expect("open");
    let response = soon(exchange).await.expect("tonic reads the status");
    assert_eq!(header(response.headers(), "grpc-status"), Some("0"));
}

#[tokio::test(start_paused = true)]
async fn a_page_in_the_place_of_an_answer_is_an_error() {
    let (connection, mut peer) = connected().await;
    let exchange = open(&connection, unary("")).await;
    let head = http::Response::builder().header("content-type", "text/html; charset=utf-8");
    let head = head.body(()).expect("a head");
    let mut at_peer = peer.next_call().await;
    let _page = at_peer.respond.send_response(head, false).expect("open");
    let failed = soon(exchange).await.map(drop).expect_err("no gRPC answer");
    assert_eq!(failed.error.code(), Code::Unknown);
    let text = format!(
        "stream to {ADDRESS}: unexpected HTTP status code received from server: 200 (OK); received \
         unexpected content-type `text/html; charset=utf-8`; no gRPC status"
    );
    assert_eq!(failed.error.message(), text);
    slots_taken(&connection, 0).await;
}

/// tonic decodes them, and panics where it cannot.
#[tokio::test(start_paused = true)]
async fn status_details_that_are_not_base64_are_left_out() {
    for (given, kept) in [("!!!", None), ("AQI", Some("AQI")), ("AQI=", Some("AQI="))] {
        let (connection, mut peer) = connected().await;
        let mut last = ok();
        let details = http::HeaderValue::from_static(given);
        last.insert("grpc-status-details-bin", details);

        let exchange = open(&connection, unary("")).await;
        let mut head = http::Response::new(());
        *head.headers_mut() = last.clone();
        let mut at_peer = peer.next_call().await;
        at_peer.respond.send_response(head, true).expect("open");
        let response = soon(exchange).await.expect("headers");
        let told = header(response.headers(), "grpc-status-details-bin");
        assert_eq!(told, kept, "of {given} in the headers");

        let exchange = open(&connection, unary("")).await;
        let mut stream = peer.next_call().await.answer();
        stream.send_trailers(last).expect("open");
        let response = soon(exchange).await.expect("headers");
        let (_, trailers) = read(&mut response.into_body()).await.expect("a body");
        let trailers = trailers.expect("there are some");
        assert_eq!(header(&trailers, "grpc-status"), Some("0"));
        let told = header(&trailers, "grpc-status-details-bin");
        assert_eq!(told, kept, "of {given} in the trailers");
    }
}

/// tonic would read it there.
// D280
#[tokio::test(start_paused = true)]
async fn a_status_in_headers_that_are_not_the_last_frame_is_left_out() {
    let (connection, mut peer) = connected().await;
    let exchange = open(&connection, unary("")).await;
    let head = http::Response::builder()
        .header("content-type", "application/grpc")
        .header("grpc-status", "0")
        .header("grpc-message", "fine")
        .header("grpc-status-details-bin", "AQI")
        .header("x-kept", "yes");
    let head = head.body(()).expect("a head");
    let mut at_peer = peer.next_call().await;
    let mut stream = at_peer.respond.send_response(head, false).expect("open");
    stream.send_trailers(ok()).expect("open");
    let response = soon(exchange).await.expect("headers");
    let names: Vec<_> = response.headers().keys().map(|n| n.as_str()).collect();
    assert_eq!(names, ["content-type", "x-kept"]);
    let (_, trailers) = read(&mut response.into_body()).await.expect("a body");
    assert_eq!(trailers, Some(ok()));
}

#[tokio::test(start_paused = true)]
async fn a_content_type_is_told_in_one_line_of_no_great_length() {
    let (connection, mut peer) = connected().await;
    let exchange = open(&connection, unary("")).await;
    let content = ["text/", &"\u{85}\u{202e}".repeat(1_000)].concat();
    let head = http::Response::builder().header("content-type", content.as_bytes());
    let head = head.body(()).expect("a head");
    let mut at_peer = peer.next_call().await;
    let _page = at_peer.respond.send_response(head, false).expect("open");
    let failed = soon(exchange).await.map(drop).expect_err("no gRPC answer");
    let text = failed.error.message();
    assert!(text.contains("`text/\\u{85}\\u{202e}"), "{text}");
    assert!(!text.contains(['\u{85}', '\u{202e}']), "{text}");
    assert!(text.len() < 400, "{} bytes", text.len());
}

// D285
#[tokio::test(start_paused = true)]
async fn the_rest_of_an_http_error_is_waited_for_one_second() {
    for (content_type, seconds) in [
        ("text/plain", 1),
        ("application/grpc", 1),
        // It is not quoted, and nothing else would tell more.
        ("image/png", 0),
    ] {
        let (connection, mut peer) = connected().await;
        let exchange = open(&connection, unary("")).await;
        let mut at_peer = peer.next_call().await;
        let mut stream = begin(&mut at_peer, unavailable(content_type));
        let begun = Instant::now();
        let failed = soon(exchange).await.map(drop).expect_err("an HTTP error");
        assert_eq!(failed.error.code(), Code::Unavailable);
        let passed = begun.elapsed().as_secs_f64().round();
        assert_eq!(passed, f64::from(seconds), "of {content_type}");
        assert_eq!(reset(&mut stream).await, Reason::CANCEL);
        slots_taken(&connection, 0).await;
        assert_usable(&connection, &mut peer).await;
    }
}

/// A kilobyte is enough, whatever follows.
// D284
#[tokio::test(start_paused = true)]
async fn a_page_without_an_end_costs_what_is_quoted_of_it() {
    let (connection, mut peer) = connected().await;
    let exchange = open(&connection, unary("")).await;
    let mut at_peer = peer.next_call().await;
    let mut stream = begin(&mut at_peer, unavailable("text/plain"));
    for _ in 0..5 {
        let piece = Bytes::from_static(&[b'x'; 250]);
        stream.send_data(piece, false).expect("open");
    }
    let begun = Instant::now();
    let failed = soon(exchange).await.map(drop).expect_err("an HTTP error");
    assert_eq!(begun.elapsed(), Duration::ZERO);
    let quote = format!(": {}…", "x".repeat(1_024));
    assert!(failed.error.message().ends_with(&quote));
    assert_eq!(reset(&mut stream).await, Reason::CANCEL);
}

/// A server that passes the status on would announce a body that it does not send.
// D283
#[tokio::test(start_paused = true)]
async fn the_length_of_a_page_is_not_among_the_metadata() {
    let (connection, mut peer) = connected().await;
    let exchange = open(&connection, unary("")).await;
    let mut at_peer = peer.next_call().await;
    let head = unavailable("text/plain").header("content-length", "4");
    let head = head.header("retry-after", "7");
    let mut stream = begin(&mut at_peer, head);
    stream
        .send_data(Bytes::from_static(b"none"), true)
        .expect("open");
    let failed = soon(exchange).await.map(drop).expect_err("an HTTP error");
    let status = Status::from(failed.error);
    let mut names: Vec<_> = status.metadata().as_ref().keys().collect();
    names.sort_by_key(|name| name.as_str());
    assert_eq!(names, ["content-type", "retry-after"]);
}

// D285
#[tokio::test(start_paused = true)]
async fn dropping_a_call_whose_page_comes_cancels_it() {
    let (connection, mut peer) = connected().await;
    let mut exchange = Box::pin(open(&connection, unary("")).await);
    let mut at_peer = peer.next_call().await;
    let mut stream = begin(&mut at_peer, unavailable("text/plain"));
    let mut cx = Context::from_waker(Waker::noop());
    while exchange.http_error().is_none() {
        assert!(exchange.as_mut().poll(&mut cx).is_pending());
        tokio::task::yield_now().await;
    }
    drop(exchange);
    slots_taken(&connection, 0).await;
    assert_eq!(reset(&mut stream).await, Reason::CANCEL);
}

// D286
#[tokio::test(start_paused = true)]
async fn messages_behind_an_http_code_that_is_no_success_arrive() {
    let (connection, mut peer) = connected().await;
    let exchange = open(&connection, unary("")).await;
    let mut at_peer = peer.next_call().await;
    let mut stream = begin(&mut at_peer, unavailable("application/grpc"));
    let mut exchange = pin!(exchange);
    let mut cx = Context::from_waker(Waker::noop());
    while exchange.http_error().is_none() {
        assert!(exchange.as_mut().poll(&mut cx).is_pending());
        tokio::task::yield_now().await;
    }
    let message = Bytes::from_static(&[0, 0, 0, 0, 0]);
    stream.send_data(message.clone(), false).expect("open");
    let response = soon(exchange).await.expect("it is gRPC");
    assert_eq!(response.status(), 503);
    // Not before its first frame has told: it may take its time from there on.
    tokio::time::advance(Duration::from_secs(60)).await;
    stream.send_data(message, false).expect("open");
    stream.send_trailers(ok()).expect("open");
    let (body, trailers) = read(&mut response.into_body()).await.expect("a body");
    assert_eq!((&*body, trailers), (&[0; 10][..], Some(ok())));
    slots_taken(&connection, 0).await;
}

// D286
#[tokio::test(start_paused = true)]
async fn trailers_without_a_message_are_headers_of_the_response() {
    let (connection, mut peer) = connected().await;
    let exchange = open(&connection, unary("")).await;
    let mut at_peer = peer.next_call().await;
    let head = unavailable("application/grpc").header("x-first", "yes");
    let mut stream = begin(&mut at_peer, head);
    let mut trailers = ok();
    let broken = http::HeaderValue::from_static("!!!");
    trailers.insert("grpc-status-details-bin", broken);
    stream.send_trailers(trailers).expect("open");
    let response = soon(exchange).await.expect("it is gRPC");
    let headers = response.headers();
    assert_eq!(header(headers, "x-first"), Some("yes"));
    assert_eq!(header(headers, "grpc-status"), Some("0"));
    assert_eq!(header(headers, "grpc-status-details-bin"), None);
    let body = response.into_body();
    assert!(http_body::Body::is_end_stream(&body));
    slots_taken(&connection, 0).await;
}
