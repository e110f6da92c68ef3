//! Statuses in frames that carry none: the status of a call is that of its last frame.
//!
//! gRPC sends a status in trailers, or in HEADERS that are the whole answer
//! ("Trailers-Only"). A status in any other frame is ignored.

use testing::http2::{self, END_STREAM, frame, headers};
use tonic::{Code, Status};

use super::Stage;

/// The answer's HEADERS, which have a status and are not its last frame.
fn begun_with(stream: u32, status: &str) -> Vec<u8> {
    let fields = [
        (":status", "200"),
        ("content-type", "application/grpc"),
        ("x-hostile", "yes"),
        ("grpc-status", status),
        ("grpc-message", "of the headers"),
        ("grpc-status-details-bin", "AQI"),
    ];
    headers(stream, 0, &fields)
}

fn trailers(stream: u32, fields: &[(&str, &str)]) -> Vec<u8> {
    headers(stream, END_STREAM, fields)
}

/// What a stream brings that is answered by what `bytes` makes of it: how many messages, and
/// its end. The good backend does not notice.
async fn stream_of(
    bytes: impl Fn(u32) -> Vec<u8> + Clone + Send + Sync + 'static,
) -> (usize, Result<(), Status>) {
    let stage = Stage::answering(bytes).await;
    let mut replies = stage.stream_of_hostile().await;
    let mut messages = 0;
    let end = loop {
        match replies.message().await {
            Ok(Some(_)) => messages += 1,
            Ok(None) => break Ok(()),
            Err(status) => break Err(status),
        }
    };
    drop(replies);
    assert_eq!(stage.hostile.connections(), 1);
    stage.close().await;
    (messages, end)
}

/// A stream that is answered by HEADERS with `status`, a message, and what `end` makes of it,
/// ends with this code and text.
async fn check(
    status: &'static str,
    code: Code,
    text: &str,
    end: impl Fn(u32) -> Vec<u8> + Clone + Send + Sync + 'static,
) {
    let (messages, outcome) = stream_of(move |stream| {
        let message = http2::message(stream, b"");
        [begun_with(stream, status), message, end(stream)].concat()
    })
    .await;
    assert_eq!(messages, 1, "the message arrives");
    let outcome = outcome.err().unwrap_or_else(|| Status::ok("a clean end"));
    assert_eq!(outcome.code(), code, "{outcome}");
    assert!(outcome.message().contains(text), "{outcome}");
    assert!(outcome.details().is_empty(), "{outcome:?}");
}

// D280
#[tokio::test]
async fn a_status_in_headers_that_are_not_the_last_frame_is_ignored() {
    let broken = [("grpc-status", "13"), ("grpc-message", "broken")];
    for status in ["0", "5"] {
        check(status, Code::Internal, "broken", move |stream| {
            trailers(stream, &broken)
        })
        .await;
        check(status, Code::Ok, "a clean end", |stream| {
            trailers(stream, &[("grpc-status", "0")])
        })
        .await;
    }
}

// D281
#[tokio::test]
async fn an_end_without_trailers_or_without_a_status_in_them_lacks_a_status() {
    for status in ["0", "5"] {
        check(status, Code::Unknown, "missing grpc-status", |stream| {
            frame(http2::DATA, END_STREAM, stream, &[])
        })
        .await;
        check(status, Code::Unknown, "missing grpc-status", |stream| {
            trailers(stream, &[("grpc-message", "of the trailers")])
        })
        .await;
    }
}

/// An answer of HEADERS and an empty DATA frame is not Trailers-Only.
// D280
#[tokio::test]
async fn a_status_in_headers_before_an_empty_data_frame_is_ignored() {
    let (messages, end) = stream_of(|stream| {
        let end = frame(http2::DATA, END_STREAM, stream, &[]);
        [begun_with(stream, "0"), end].concat()
    })
    .await;
    assert_eq!(messages, 0);
    let status = end.expect_err("no frame has a status that counts");
    assert_eq!(status.code(), Code::Unknown, "{status}");
}

/// A unary call, as tonic's client reads the headers of both.
// D280
#[tokio::test]
async fn a_unary_call_has_the_status_of_its_trailers() {
    for (status, code) in [("0", Code::Ok), ("13", Code::Internal)] {
        let stage = Stage::with_frames(move |stream| {
            let message = http2::message(stream, b"");
            let end = trailers(stream, &[("grpc-status", status)]);
            [begun_with(stream, "7"), message, end].concat()
        })
        .await;
        let outcomes = stage.two_calls().await;
        let codes =
            outcomes.map(|outcome| outcome.map_or_else(|status| status.code(), |_| Code::Ok));
        assert_eq!(codes, [Code::Ok, code]);
        stage.close().await;
    }
}

/// As a server writes it that takes its trailers for a second response.
// D277
#[tokio::test]
async fn trailers_with_the_status_of_http_are_malformed() {
    check("0", Code::Internal, "not valid HTTP/2", |stream| {
        let block = b"\x88\x00\x0bgrpc-status\x010";
        let flags = END_STREAM | http2::END_HEADERS;
        frame(http2::HEADERS, flags, stream, block)
    })
    .await;
}
