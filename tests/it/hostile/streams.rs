//! Frames that end their stream: its call fails with INTERNAL, as gRPC has it for
//! such errors, and the other call on the connection is answered.

use testing::http2::{self, END_STREAM, frame, headers};
use tonic::Code;

use super::Stage;

/// Asserts that what `bytes` makes of an open stream ends that stream alone, for a
/// reason with this text.
async fn check(reason: &str, bytes: impl Fn(u32) -> Vec<u8> + Clone + Send + Sync + 'static) {
    let stage = Stage::with_frames(bytes).await;
    let [first, second] = stage.two_calls().await;
    first.expect("the other call is answered");
    let status = second.expect_err("its stream is gone");
    let text = stage.stream_failed(&status, Code::Internal);
    assert_eq!(text, reason);
    stage.success().await;
    assert_eq!(stage.hostile.connections(), 1);
    stage.close().await;
}

const PROTOCOL: &str = "the response is not valid HTTP/2, or its headers are larger than the 16384 \
                        bytes of `Endpoint::http2_max_header_list_size`";

#[tokio::test]
async fn headers_twice() {
    check(PROTOCOL, |stream| http2::response(stream).repeat(2)).await;
}

#[tokio::test]
async fn headers_without_a_status() {
    check(PROTOCOL, |stream| {
        headers(stream, 0, &[("content-type", "application/grpc")])
    })
    .await;
}

#[tokio::test]
async fn a_pseudo_header_after_the_others_or_of_a_request() {
    check(PROTOCOL, |stream| {
        headers(stream, 0, &[("a", "b"), (":status", "200")])
    })
    .await;
    check(PROTOCOL, |stream| {
        headers(stream, 0, &[(":status", "200"), (":status", "200")])
    })
    .await;
}

#[tokio::test]
async fn a_header_about_one_hop_of_http1() {
    check(PROTOCOL, |stream| {
        headers(stream, 0, &[(":status", "200"), ("connection", "close")])
    })
    .await;
}

#[tokio::test]
async fn an_informational_response_that_is_the_end() {
    check(PROTOCOL, |stream| {
        headers(stream, END_STREAM, &[(":status", "103")])
    })
    .await;
}

#[tokio::test]
async fn a_content_length_that_is_not_kept_to() {
    check(PROTOCOL, |stream| {
        let head = [(":status", "200"), ("content-length", "3")];
        [headers(stream, 0, &head), http2::message(stream, b"")].concat()
    })
    .await;
}

#[tokio::test]
async fn a_stream_that_depends_on_itself() {
    check(PROTOCOL, |stream| {
        let on_itself = [&stream.to_be_bytes()[..], &[0]].concat();
        frame(http2::PRIORITY, 0, stream, &on_itself)
    })
    .await;
}

#[tokio::test]
async fn headers_larger_than_we_read() {
    check(PROTOCOL, |stream| {
        let long = "m".repeat(16_330);
        headers(
            stream,
            END_STREAM,
            &[(":status", "200"), ("grpc-message", &long)],
        )
    })
    .await;
}
