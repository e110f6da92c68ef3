//! Good HTTP/2 that is bad gRPC: the call fails, and the connection is as good as
//! before.
//!
//! What tonic reads, it tells in its own words, without the backend.

use testing::{
    GREETER, RawConnection,
    http2::{self, END_STREAM, frame, headers},
};
use tonic::{Code, Status};
use tonic_health_channel::status::CauseKind;

use super::Stage;

/// How a call ends that gets what `bytes` makes of its stream, while another on the
/// same connection is answered.
async fn outcome_of(bytes: impl Fn(u32) -> Vec<u8> + Clone + Send + Sync + 'static) -> Status {
    let stage = Stage::with_frames(bytes).await;
    let [first, second] = stage.two_calls().await;
    first.expect("the other call is answered");
    stage.success().await;
    assert_eq!(stage.hostile.connections(), 1);
    let address = stage.hostile.addr().to_string();
    stage.close().await;
    let status = second.expect_err("that is no answer");
    let text = status.message().replace(&address, "ADDRESS");
    Status::with_details(status.code(), text, status.details().to_vec().into())
}

async fn check(
    code: Code,
    text: &str,
    bytes: impl Fn(u32) -> Vec<u8> + Clone + Send + Sync + 'static,
) {
    let status = outcome_of(bytes).await;
    assert_eq!(status.code(), code, "{status}");
    assert!(status.message().contains(text), "{status}");
}

/// Headers that are all there is, beside those of a gRPC response.
fn status_only(stream: u32, fields: &[(&str, &str)]) -> Vec<u8> {
    let response = [(":status", "200"), ("content-type", "application/grpc")];
    headers(stream, END_STREAM, &[&response, fields].concat())
}

#[tokio::test]
async fn http_errors_with_a_page() {
    for (http, code) in [
        ("400", Code::Internal),
        ("401", Code::Unauthenticated),
        ("403", Code::PermissionDenied),
        ("404", Code::Unimplemented),
        ("429", Code::Unavailable),
        ("502", Code::Unavailable),
        ("503", Code::Unavailable),
        ("504", Code::Unavailable),
        ("500", Code::Unknown),
    ] {
        let text =
            format!("stream to ADDRESS: unexpected HTTP status code received from server: {http}");
        check(code, &text, move |stream| {
            let head = [(":status", http), ("content-type", "text/html")];
            let page = frame(http2::DATA, END_STREAM, stream, &[b'<'; 10_000]);
            [headers(stream, 0, &head), page].concat()
        })
        .await;
    }
}

#[tokio::test]
async fn a_page_of_a_proxy_with_200() {
    let text = "stream to ADDRESS: unexpected HTTP status code received from server: 200 (OK); \
                received unexpected content-type `text/html`; no gRPC status";
    check(Code::Unknown, text, |stream| {
        let head = [(":status", "200"), ("content-type", "text/html")];
        let page = frame(http2::DATA, END_STREAM, stream, b"<html>");
        [headers(stream, 0, &head), page].concat()
    })
    .await;
}

/// Its frames look like gRPC's, and its trailers come in a message.
// D282
#[tokio::test]
async fn an_answer_of_grpc_web_or_of_another_type_that_begins_alike() {
    for content in [
        "application/grpc-web",
        "application/grpc-web+proto",
        "application/grpc-web-text",
        "application/grpcx",
        "application/grp",
    ] {
        let text = format!(
            "stream to ADDRESS: unexpected HTTP status code received from server: 200 (OK); \
             received unexpected content-type `{content}`"
        );
        check(Code::Unknown, &text, move |stream| {
            let head = [(":status", "200"), ("content-type", content)];
            let message = http2::message(stream, b"");
            let end = headers(stream, END_STREAM, &[("grpc-status", "0")]);
            [headers(stream, 0, &head), message, end].concat()
        })
        .await;
    }
}

// D282
#[tokio::test]
async fn an_answer_of_grpc_however_its_type_goes_on() {
    for content in [
        "application/grpc",
        "application/grpc+proto",
        "application/grpc;charset=utf-8",
        "application/grpc ; charset=utf-8",
        "Application/gRPC+Proto",
    ] {
        let stage = Stage::with_frames(move |stream| {
            let head = [(":status", "200"), ("content-type", content)];
            let message = http2::message(stream, b"");
            let end = headers(stream, END_STREAM, &[("grpc-status", "0")]);
            [headers(stream, 0, &head), message, end].concat()
        })
        .await;
        for outcome in stage.two_calls().await {
            outcome.unwrap_or_else(|status| panic!("{content}: {status}"));
        }
        stage.close().await;
    }
}

#[tokio::test]
async fn an_end_without_a_status() {
    let no_status = "missing grpc-status";
    check(Code::Unknown, no_status, |stream| {
        let end = headers(stream, END_STREAM, &[("a", "b")]);
        [http2::response(stream), http2::message(stream, b""), end].concat()
    })
    .await;
    check(Code::Unknown, no_status, |stream| {
        let end = frame(http2::DATA, END_STREAM, stream, &[0; 5]);
        [http2::response(stream), end].concat()
    })
    .await;
    check(Code::Unknown, no_status, |stream| status_only(stream, &[])).await;
}

#[tokio::test]
async fn a_response_without_a_content_type_or_a_status() {
    check(Code::Unknown, "missing grpc-status", |stream| {
        let head = headers(stream, 0, &[(":status", "200")]);
        [head, frame(http2::DATA, END_STREAM, stream, &[0; 5])].concat()
    })
    .await;
}

#[tokio::test]
async fn a_message_that_the_end_cuts_off() {
    check(Code::Unknown, "missing grpc-status", |stream| {
        let cut = frame(http2::DATA, END_STREAM, stream, &[0, 0, 0, 0, 9, 1]);
        [http2::response(stream), cut].concat()
    })
    .await;
}

#[tokio::test]
async fn a_message_of_four_gigabytes_is_not_waited_for() {
    check(Code::OutOfRange, "4294967295 bytes", |stream| {
        let begun = frame(http2::DATA, 0, stream, &[0, 255, 255, 255, 255, 1]);
        [http2::response(stream), begun].concat()
    })
    .await;
}

#[tokio::test]
async fn a_compressed_message_without_an_encoding() {
    check(Code::Internal, "no grpc-encoding", |stream| {
        let message = frame(http2::DATA, 0, stream, &[1, 0, 0, 0, 1, 1]);
        [http2::response(stream), message].concat()
    })
    .await;
    check(Code::Internal, "invalid compression flag: 7", |stream| {
        let message = frame(http2::DATA, 0, stream, &[7, 0, 0, 0, 1, 1]);
        [http2::response(stream), message].concat()
    })
    .await;
}

#[tokio::test]
async fn a_message_that_is_not_of_its_type() {
    check(Code::Internal, "decode", |stream| {
        [http2::response(stream), http2::message(stream, &[0xff; 9])].concat()
    })
    .await;
}

#[tokio::test]
async fn a_status_that_is_no_number() {
    for given in ["", "-1", "17", "999999999999", "OK", "\u{1f4a9}"] {
        check(Code::Unknown, "the text", move |stream| {
            let fields = [("grpc-status", given), ("grpc-message", "the%20text")];
            status_only(stream, &fields)
        })
        .await;
    }
}

#[tokio::test]
async fn a_text_that_is_not_percent_encoded_utf8() {
    check(Code::NotFound, "100%, %zz", |stream| {
        let fields = [("grpc-status", "5"), ("grpc-message", "100%, %zz")];
        status_only(stream, &fields)
    })
    .await;
    check(Code::Unknown, "invalid utf-8", |stream| {
        let fields = [("grpc-status", "5"), ("grpc-message", "%ff%fe")];
        status_only(stream, &fields)
    })
    .await;
}

#[tokio::test]
async fn a_text_as_long_as_headers_may_be() {
    let long = "m".repeat(16_000);
    let told = long.clone();
    check(Code::NotFound, &told, move |stream| {
        let fields = [("grpc-status", "5"), ("grpc-message", &long)];
        status_only(stream, &fields)
    })
    .await;
}

/// tonic would panic over them.
#[tokio::test]
async fn details_that_are_not_base64_are_none() {
    let fields = |details| {
        [
            ("grpc-status", "9"),
            ("grpc-message", "the text"),
            ("grpc-status-details-bin", details),
        ]
    };
    let status = outcome_of(move |stream| status_only(stream, &fields("!!!"))).await;
    assert_eq!(status.code(), Code::FailedPrecondition, "{status}");
    assert_eq!((status.message(), status.details()), ("the text", &[][..]));

    let status = outcome_of(move |stream| {
        let end = headers(stream, END_STREAM, &fields("AQI, AQI"));
        [http2::response(stream), end].concat()
    })
    .await;
    assert_eq!(status.code(), Code::FailedPrecondition, "{status}");
    assert_eq!((status.message(), status.details()), ("the text", &[][..]));

    let status = outcome_of(move |stream| status_only(stream, &fields("AQI"))).await;
    assert_eq!(
        status.details(),
        [1, 2],
        "they are kept where they are good"
    );
}

/// A panic there would be the end of the backend's own task.
#[tokio::test]
async fn details_that_are_not_base64_fail_a_watch_and_nothing_else() {
    let script = |mut wire: RawConnection| async move {
        wire.open().await?;
        loop {
            let stream = wire.whole_request().await?;
            let details = [("grpc-status", "7"), ("grpc-status-details-bin", "!!!")];
            wire.write(&status_only(stream, &details)).await?;
        }
    };
    let stage = Stage::set(Some(GREETER), |endpoint| endpoint, script).await;
    stage
        .until_blamed(CauseKind::Health, "PermissionDenied")
        .await;
    assert_eq!(
        stage.hostile.connections(),
        1,
        "health is no reason to leave"
    );
    stage.close().await;
}
