//! Answers of HTTP that have no gRPC status, as proxies and web servers give them.
//!
//! The call has a status by gRPC's table of HTTP codes. Its metadata are the headers, its
//! text quotes the body. A unary call and a stream get it at the same moment.

use testing::{
    GREETER, RawConnection, greeter,
    greeter::HelloRequest,
    http2::{self, END_STREAM, frame, headers},
    request, within,
};
use tonic::{Code, Status};
use tonic_health_channel::status::CauseKind;

use super::Stage;

/// What a gateway sends that wants to be asked otherwise.
fn unauthorized(stream: u32) -> Vec<u8> {
    let fields = [
        (":status", "401"),
        ("content-type", "application/json"),
        ("www-authenticate", "Bearer realm=\"api\""),
        ("retry-after", "7"),
        ("x-request-id", "f00"),
    ];
    headers(stream, 0, &fields)
}

fn body(stream: u32, flags: u8, bytes: &[u8]) -> Vec<u8> {
    frame(http2::DATA, flags, stream, bytes)
}

/// How a unary call ends that is answered so, and how a stream does.
async fn both(
    bytes: impl Fn(u32) -> Vec<u8> + Clone + Send + Sync + 'static,
) -> [(String, Status); 2] {
    let unary = Stage::answering(bytes.clone()).await;
    let of_unary = unary.failure().await;
    let streaming = Stage::answering(bytes).await;
    let of_stream = stream_failure(&streaming).await;
    let mut both = Vec::new();
    for (stage, status) in [(unary, of_unary), (streaming, of_stream)] {
        stage.success().await;
        assert_eq!(stage.hostile.connections(), 1);
        let address = stage.hostile.addr().to_string();
        let text = status.message().replace(&address, "ADDRESS");
        stage.close().await;
        both.push((text, status));
    }
    both.try_into().expect("a unary call and a stream")
}

/// How a stream ends on the hostile backend, which sends nothing but its end.
async fn stream_failure(stage: &Stage) -> Status {
    stage.until_connected().await;
    loop {
        let mut client = greeter(&stage.channel);
        let one = HelloRequest {
            count: 1,
            ..request("you")
        };
        let mut replies = match within("headers", client.say_hello_many(one)).await {
            Ok(replies) => replies.into_inner(),
            Err(status) => return status,
        };
        let reply = within("a reply", replies.message()).await;
        let reply = reply.expect("an HTTP error is known before there are headers");
        assert_eq!(reply.expect("a reply").backend, stage.good.name());
    }
}

// D283
#[tokio::test]
async fn headers_of_an_http_error_are_the_metadata_of_the_status() {
    let both = both(|stream| {
        let json = body(stream, END_STREAM, br#"{"error":"token expired"}"#);
        [unauthorized(stream), json].concat()
    })
    .await;
    for (text, status) in both {
        assert_eq!(status.code(), Code::Unauthenticated, "{status}");
        for (name, value) in [
            ("www-authenticate", "Bearer realm=\"api\""),
            ("retry-after", "7"),
            ("x-request-id", "f00"),
        ] {
            let told = status.metadata().get(name);
            let told = told.unwrap_or_else(|| panic!("{name} is lost: {status:?}"));
            assert_eq!(told, value);
        }
        assert_eq!(
            text,
            "stream to ADDRESS: unexpected HTTP status code received from server: 401 \
             (Unauthorized); no gRPC status: {\"error\":\"token expired\"}"
        );
    }
}

// D283
#[tokio::test]
async fn headers_of_an_answer_without_a_body_are_metadata_too() {
    let both = both(|stream| {
        let fields = [(":status", "503"), ("retry-after", "7")];
        headers(stream, END_STREAM, &fields)
    })
    .await;
    for (text, status) in both {
        assert_eq!(status.code(), Code::Unavailable, "{status}");
        assert_eq!(status.metadata().get("retry-after").expect("kept"), "7");
        assert_eq!(
            text,
            "stream to ADDRESS: unexpected HTTP status code received from server: 503 (Service \
             Unavailable); no gRPC status"
        );
    }
}

// D284
#[tokio::test]
async fn a_body_is_quoted_in_one_line_of_a_kilobyte() {
    for (content, quoted) in [
        ("text/html; charset=utf-8", true),
        ("TEXT/plain", true),
        ("application/json", true),
        ("application/problem+json;v=1", true),
        ("application/octet-stream", false),
        ("image/png", false),
        ("application/jsonp", false),
    ] {
        let both = both(move |stream| {
            let head = [(":status", "500"), ("content-type", content)];
            let page = ["\x1b[2J\r\n\u{202e}<h1>", &"é".repeat(3_000)].concat();
            let pieces = page.as_bytes().chunks(7);
            let pieces: Vec<u8> = pieces.flat_map(|piece| body(stream, 0, piece)).collect();
            let end = body(stream, END_STREAM, b"");
            [headers(stream, 0, &head), pieces, end].concat()
        })
        .await;
        for (text, status) in both {
            assert_eq!(status.code(), Code::Unknown, "{status}");
            let quote = text.strip_prefix(
                "stream to ADDRESS: unexpected HTTP status code received from server: 500 \
                 (Internal Server Error); no gRPC status",
            );
            let quote = quote.unwrap_or_else(|| panic!("{text}"));
            if !quoted {
                assert_eq!(quote, "", "of {content}");
                continue;
            }
            assert!(
                quote.starts_with(": \\u{1b}[2J\\r\\n\\u{202e}<h1>é"),
                "{quote}"
            );
            assert!(quote.ends_with("é…"), "{quote}");
            assert!(quote.len() > 1_000 && quote.len() < 1_100, "{quote}");
        }
    }
}

/// What is compressed is not text.
// D284
#[tokio::test]
async fn a_compressed_body_is_not_quoted() {
    let both = both(|stream| {
        let head = [
            (":status", "500"),
            ("content-type", "text/html"),
            ("content-encoding", "gzip"),
        ];
        let page = body(stream, END_STREAM, b"\x1f\x8b\x08\0\0\0");
        [headers(stream, 0, &head), page].concat()
    })
    .await;
    for (text, _) in both {
        assert!(text.ends_with("no gRPC status"), "{text}");
    }
}

/// Headers and a part of the body, and then nothing.
// D285
#[tokio::test]
async fn a_body_that_never_ends_is_not_waited_for() {
    let parts: [fn(u32) -> Vec<u8>; 2] = [|_| Vec::new(), |stream| body(stream, 0, b"{\"error\":")];
    for (part, quote) in parts.into_iter().zip(["", ": {\"error\":…"]) {
        let both = both(move |stream| [unauthorized(stream), part(stream)].concat());
        for (text, status) in both.await {
            assert_eq!(status.code(), Code::Unauthenticated, "{status}");
            let start = "stream to ADDRESS: unexpected HTTP status code received from server: 401 \
                         (Unauthorized); no gRPC status";
            assert_eq!(text, format!("{start}{quote}"));
            assert!(status.metadata().contains_key("www-authenticate"));
        }
    }
}

/// A reset is the end of the body.
// D285
#[tokio::test]
async fn a_body_that_is_reset_or_cut_off_is_quoted_as_far_as_it_came() {
    let both = both(|stream| {
        let part = body(stream, 0, b"{\"error\":");
        let reset = http2::reset(stream, h2::Reason::INTERNAL_ERROR);
        [unauthorized(stream), part, reset].concat()
    })
    .await;
    for (text, status) in both {
        assert_eq!(status.code(), Code::Unauthenticated, "{status}");
        assert!(text.ends_with(": {\"error\":…"), "{text}");
    }
}

/// An HTTP code that is no success, and all that gRPC needs.
// D286
#[tokio::test]
async fn complete_trailers_count_more_than_an_http_error() {
    for (messages, status, code) in [
        (1, "0", Code::Ok),
        (1, "8", Code::ResourceExhausted),
        (0, "8", Code::ResourceExhausted),
    ] {
        let stage = Stage::with_frames(move |stream| {
            let head = [(":status", "503"), ("content-type", "application/grpc")];
            let message = http2::message(stream, b"").repeat(messages);
            let last = [("grpc-status", status), ("x-last", "yes")];
            let end = headers(stream, END_STREAM, &last);
            [headers(stream, 0, &head), message, end].concat()
        })
        .await;
        let [first, second] = stage.two_calls().await;
        first.expect("it is answered well");
        match second {
            Ok(_) => assert_eq!(code, Code::Ok),
            Err(status) => {
                assert_eq!(status.code(), code, "{status}");
                assert!(status.metadata().contains_key("x-last"), "{status:?}");
            }
        }
        stage.close().await;
    }
}

/// Also in the headers that are all there is.
// D286
#[tokio::test]
async fn a_status_in_the_only_headers_counts_more_than_an_http_error() {
    for content in ["application/grpc", "text/html"] {
        let both = both(move |stream| {
            let fields = [
                (":status", "503"),
                ("content-type", content),
                ("grpc-status", "8"),
                ("grpc-message", "too%20much from ADDRESS"),
            ];
            headers(stream, END_STREAM, &fields)
        })
        .await;
        for (text, status) in both {
            assert_eq!(status.code(), Code::ResourceExhausted, "{status}");
            assert_eq!(text, "too much from ADDRESS");
        }
    }
}

/// The content type says gRPC, and nothing else does.
// D286
#[tokio::test]
async fn an_http_error_that_only_claims_to_be_grpc_is_one() {
    let ends: [fn(u32) -> Vec<u8>; 5] = [
        |stream| body(stream, END_STREAM, b"<html>"),
        |stream| body(stream, END_STREAM, b""),
        |stream| body(stream, 0, b""),
        |stream| headers(stream, END_STREAM, &[("grpc-message", "none")]),
        |stream| {
            let begun = http2::message(stream, b"");
            [begun, body(stream, END_STREAM, b"")].concat()
        },
    ];
    for end in ends {
        let stage = Stage::with_frames(move |stream| {
            let head = [(":status", "503"), ("content-type", "application/grpc")];
            [headers(stream, 0, &head), end(stream)].concat()
        })
        .await;
        let [first, second] = stage.two_calls().await;
        first.expect("it is answered well");
        let status = second.expect_err("an HTTP error");
        let address = stage.hostile.addr();
        assert_eq!(
            status.message(),
            format!(
                "stream to {address}: unexpected HTTP status code received from server: 503 \
                 (Service Unavailable); no gRPC status"
            )
        );
        assert_eq!(status.code(), Code::Unavailable, "{status}");
        stage.close().await;
    }
}

/// A status before the last frame counts no more here than elsewhere.
// D280
#[tokio::test]
async fn a_status_in_the_headers_of_a_page_is_ignored() {
    let both = both(|stream| {
        let fields = [
            (":status", "502"),
            ("content-type", "text/plain"),
            ("grpc-status", "0"),
            ("grpc-message", "fine"),
        ];
        let page = body(stream, END_STREAM, b"no upstream");
        [headers(stream, 0, &fields), page].concat()
    })
    .await;
    for (text, status) in both {
        assert_eq!(status.code(), Code::Unavailable, "{status}");
        assert!(text.ends_with(": no upstream"), "{text}");
        assert!(!status.metadata().contains_key("grpc-status"));
        assert!(!status.metadata().contains_key("grpc-message"));
    }
}

/// The health check learns it in time, too, and says why.
// D285
#[tokio::test]
async fn a_watch_that_gets_a_page_without_an_end_fails() {
    let script = |mut wire: RawConnection| async move {
        wire.open().await?;
        loop {
            let stream = wire.whole_request().await?;
            let head = [(":status", "502"), ("content-type", "text/plain")];
            let page = body(stream, 0, b"no upstream");
            wire.write(&[headers(stream, 0, &head), page].concat())
                .await?;
        }
    };
    let stage = Stage::set(Some(GREETER), |endpoint| endpoint, script).await;
    stage
        .until_blamed(CauseKind::Health, "no gRPC status: no upstream…")
        .await;
    stage.close().await;
}
