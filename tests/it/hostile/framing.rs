//! Frames that end the connection: both calls on it fail with UNAVAILABLE, for
//! nothing is known of them, and the backend is connected to anew.

use h2::Reason;
use testing::http2::{self, END_HEADERS, frame, headers};
use tonic::Code;
use tonic_health_channel::status::CauseKind;

use super::Stage;

/// Asserts that what `bytes` makes of an open stream ends its connection, for a
/// reason with this text.
async fn check(reason: &str, bytes: impl Fn(u32) -> Vec<u8> + Clone + Send + Sync + 'static) {
    let stage = Stage::with_frames(bytes).await;
    for outcome in stage.two_calls().await {
        let status = outcome.expect_err("its connection is gone");
        let text = stage.stream_failed(&status, Code::Unavailable);
        assert!(text.contains(reason), "{text}");
    }
    stage.until_blamed(CauseKind::Disconnected, reason).await;
    stage.success().await;
    assert_eq!(stage.hostile.connections(), 2);
    stage.close().await;
}

const PROTOCOL: &str = "connection error detected: unspecific protocol error detected";
const FLOW: &str = "connection error detected: flow-control protocol violated";

#[tokio::test]
async fn a_push_promise_although_push_is_off() {
    let request = [0x82, 0x84, 0x86];
    check(PROTOCOL, move |stream| {
        let promised = [&[0, 0, 0, 2][..], &request].concat();
        frame(http2::PUSH_PROMISE, END_HEADERS, stream, &promised)
    })
    .await;
}

#[tokio::test]
async fn headers_that_hpack_cannot_read() {
    check(PROTOCOL, |stream| {
        frame(http2::HEADERS, END_HEADERS, stream, &[0xff; 6])
    })
    .await;
}

/// A malformed response is an error of its stream (RFC 9113 §8.1.1). `h2` takes a
/// name that is none for a header block that it cannot read.
#[tokio::test]
async fn a_header_name_in_capitals_ends_the_connection_in_h2() {
    check(PROTOCOL, |stream| {
        headers(stream, 0, &[(":status", "200"), ("Content-Type", "a/b")])
    })
    .await;
}

#[tokio::test]
async fn a_header_name_with_a_space() {
    check(PROTOCOL, |stream| {
        headers(stream, 0, &[(":status", "200"), ("a b", "c")])
    })
    .await;
}

#[tokio::test]
async fn a_message_before_the_headers() {
    check(PROTOCOL, |stream| http2::message(stream, b"early")).await;
}

#[tokio::test]
async fn frames_of_streams_that_the_client_never_opened() {
    check(PROTOCOL, |_| http2::message(99, b"")).await;
    check(PROTOCOL, |_| http2::response(99)).await;
    check(PROTOCOL, |_| http2::reset(99, Reason::CANCEL)).await;
    check(PROTOCOL, |_| http2::window_update(99, 1)).await;
}

#[tokio::test]
async fn a_stream_that_the_server_opened() {
    check(PROTOCOL, |_| http2::response(2)).await;
}

#[tokio::test]
async fn a_window_of_the_connection_that_overflows() {
    check(FLOW, |_| http2::window_update(0, u32::MAX >> 1)).await;
}

#[tokio::test]
async fn a_window_that_is_updated_by_nothing() {
    check(PROTOCOL, |_| http2::window_update(0, 0)).await;
}

#[tokio::test]
async fn settings_out_of_their_range() {
    check(PROTOCOL, |_| {
        http2::settings_of(&[(http2::MAX_FRAME_SIZE, 16_383)])
    })
    .await;
    check(PROTOCOL, |_| {
        http2::settings_of(&[(http2::MAX_FRAME_SIZE, 1 << 24)])
    })
    .await;
    check(PROTOCOL, |_| {
        http2::settings_of(&[(http2::INITIAL_WINDOW_SIZE, 1 << 31)])
    })
    .await;
}

#[tokio::test]
async fn settings_that_are_cut_off_or_of_a_stream() {
    check(PROTOCOL, |_| frame(http2::SETTINGS, 0, 0, &[0, 3, 0])).await;
    check(PROTOCOL, |stream| frame(http2::SETTINGS, 0, stream, &[])).await;
}

#[tokio::test]
async fn settings_acknowledged_that_were_never_sent() {
    check(PROTOCOL, |_| http2::settings_ack()).await;
}

#[tokio::test]
async fn a_ping_of_three_bytes() {
    check(PROTOCOL, |_| frame(http2::PING, 0, 0, b"abc")).await;
}

#[tokio::test]
async fn a_frame_longer_than_allowed() {
    check("frame with invalid size", |stream| {
        frame(http2::DATA, 0, stream, &[0; 16_385])
    })
    .await;
}

#[tokio::test]
async fn a_continuation_of_nothing_and_headers_that_are_interrupted() {
    check(PROTOCOL, |stream| {
        frame(http2::CONTINUATION, END_HEADERS, stream, &[])
    })
    .await;
    check(PROTOCOL, |stream| {
        let begun = frame(http2::HEADERS, 0, stream, &[0x88]);
        [begun, http2::ping(b"in there")].concat()
    })
    .await;
}

#[tokio::test]
async fn more_padding_than_there_is_frame() {
    check(PROTOCOL, |stream| {
        let padded = frame(http2::DATA, http2::PADDED, stream, &[200, 0]);
        [http2::response(stream), padded].concat()
    })
    .await;
}
