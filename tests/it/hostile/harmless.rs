//! Frames that are wrong, or odd, and change nothing: both calls are answered.

use h2::Reason;
use testing::http2::{self, END_STREAM, answer, frame, headers};
use tonic::Code;

use super::Stage;

/// Asserts that what `bytes` makes of an open stream, before or behind its answer,
/// harms nobody.
async fn check(bytes: impl Fn(u32) -> Vec<u8> + Clone + Send + Sync + 'static) {
    let stage = Stage::with_frames(bytes).await;
    for outcome in stage.two_calls().await {
        outcome.expect("both are answered");
    }
    stage.success().await;
    assert_eq!(stage.hostile.connections(), 1);
    stage.close().await;
}

/// `bytes`, and then a good answer.
fn before(stream: u32, bytes: &[u8]) -> Vec<u8> {
    [bytes, &answer(stream, b"")].concat()
}

/// A good answer, and then `bytes`.
fn behind(stream: u32, bytes: &[u8]) -> Vec<u8> {
    [&answer(stream, b""), bytes].concat()
}

#[tokio::test]
async fn frames_of_a_kind_that_nobody_knows() {
    check(|stream| {
        let unknown = [
            frame(0x63, 0xff, stream, b"what is this"),
            frame(0xff, 0, 0, &[0; 16 << 10]),
            frame(0x0a, 1, 4711, b""),
        ];
        before(stream, &unknown.concat())
    })
    .await;
}

#[tokio::test]
async fn priorities_of_any_stream() {
    check(|stream| {
        let priority = |stream| frame(http2::PRIORITY, 0, stream, &[0, 0, 0, 0, 255]);
        let all = [priority(stream), priority(1), priority(2), priority(4711)];
        before(stream, &all.concat())
    })
    .await;
}

#[tokio::test]
async fn settings_that_nobody_knows_and_their_repetition() {
    check(|stream| {
        let unknown = http2::settings_of(&[(0xfe, 1), (0xff, u32::MAX)]);
        before(stream, &unknown.repeat(3))
    })
    .await;
}

#[tokio::test]
async fn an_answer_to_a_ping_that_was_never_sent() {
    check(|stream| before(stream, &http2::ping_ack(b"whatever"))).await;
}

#[tokio::test]
async fn informational_responses_before_the_answer() {
    check(|stream| {
        let early = headers(stream, 0, &[(":status", "103"), ("link", "<a>")]);
        before(stream, &early.repeat(3))
    })
    .await;
}

#[tokio::test]
async fn messages_behind_the_end() {
    check(|stream| behind(stream, &http2::message(stream, b"more").repeat(3))).await;
}

#[tokio::test]
async fn headers_behind_the_end() {
    check(|stream| {
        let again = [
            http2::response(stream),
            http2::trailers(stream, Code::DataLoss),
        ];
        behind(stream, &again.concat())
    })
    .await;
}

#[tokio::test]
async fn resets_and_window_updates_behind_the_end() {
    check(|stream| {
        let late = [
            http2::reset(stream, Reason::INTERNAL_ERROR).repeat(3),
            http2::window_update(stream, u32::MAX >> 1).repeat(3),
        ];
        behind(stream, &late.concat())
    })
    .await;
}

#[tokio::test]
async fn a_message_in_frames_of_one_byte_between_empty_and_padded_ones() {
    check(|stream| {
        let padded = |byte: &[u8]| {
            let with_padding = [&[3], byte, &[0; 3]].concat();
            frame(http2::DATA, http2::PADDED, stream, &with_padding)
        };
        let bytes: Vec<u8> = [0; 5].iter().flat_map(|byte| padded(&[*byte])).collect();
        let frames = [
            http2::response(stream),
            padded(&[]),
            bytes,
            frame(http2::DATA, 0, stream, &[]),
            http2::trailers(stream, Code::Ok),
        ];
        frames.concat()
    })
    .await;
}

/// Other clients differ about it. There is a `grpc-status` to believe.
#[tokio::test]
async fn a_response_without_a_content_type() {
    check(|stream| {
        let frames = [
            headers(stream, 0, &[(":status", "200")]),
            http2::message(stream, b""),
            headers(stream, END_STREAM, &[("grpc-status", "0")]),
        ];
        frames.concat()
    })
    .await;
}
