//! Answers from what is not a gRPC server.

use bytes::Bytes;
use tonic::Code;

use super::{ADDRESS, assert_usable, connected, header, ok, open, read, soon, unary};

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
        let start = format!("{ADDRESS} answered HTTP {http}");
        assert!(text.starts_with(&start), "{text}");
        assert!(!failed.unprocessed);
        assert_eq!(connection.streams(), 0);
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
        "{ADDRESS} answered HTTP 200 OK with content-type `text/html; charset=utf-8` \
         and no gRPC status"
    );
    assert_eq!(failed.error.message(), text);
    assert_eq!(connection.streams(), 0);
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
