//! One unary call, from its headers to the end of its stream.

use std::sync::Arc;

use bytes::Bytes;
use h2::{Reason, server};
use http::{Request, Uri, Version};
use http_body::Body as _;
use http_body_util::Full;
use tokio::io::{AsyncReadExt, duplex};
use tonic::{Code, body::Body};

use super::{
    ADDRESS, BackendContext, Endpoint, PIPE, alone, connected, connected_as, connected_by,
    connected_to, endpoint_over, frame, header, ok, open, read, slots_taken, soon, unary,
    wire::wired,
};
use crate::transport::AnsweredBy;

/// The head that the peer sees of `request` sent to `endpoint`.
async fn head_of(
    configure: impl FnOnce(Endpoint) -> Endpoint,
    request: Request<Body>,
) -> http::request::Parts {
    let (ours, theirs) = duplex(PIPE);
    let endpoint = configure(endpoint_over(ours));
    let (connection, mut peer) = connected_by(endpoint, &server::Builder::new(), theirs).await;
    let _exchange = open(&connection, request).await;
    peer.next_call().await.head
}

const USER_AGENT: &str = concat!("tonic-health-channel/", env!("CARGO_PKG_VERSION"));

#[tokio::test(start_paused = true)]
async fn a_request_goes_to_the_authority_of_its_endpoint() {
    let head = head_of(|endpoint| endpoint, unary("")).await;
    assert_eq!(head.uri, "http://backend.test:50051/demo.Greeter/Hello");
    assert_eq!(head.method, http::Method::POST);
    assert_eq!(head.version, Version::HTTP_2);
    assert_eq!(header(&head.headers, "te"), Some("trailers"));
    assert_eq!(header(&head.headers, "user-agent"), Some(USER_AGENT));
}

#[tokio::test(start_paused = true)]
async fn an_origin_stands_in_for_the_address() {
    let origin = Uri::from_static("https://greeter.example");
    let head = head_of(|endpoint| endpoint.origin(origin), unary("")).await;
    assert_eq!(head.uri, "https://greeter.example/demo.Greeter/Hello");
}

#[tokio::test(start_paused = true)]
async fn headers_of_an_http1_hop_stay_behind() {
    let mut request = unary("");
    for name in [
        "connection",
        "transfer-encoding",
        "upgrade",
        "host",
        "keep-alive",
        "proxy-connection",
        "te",
        "x-own",
    ] {
        let value = http::HeaderValue::from_static("hop");
        request.headers_mut().append(name, value);
    }
    let head = head_of(|endpoint| endpoint, request).await;
    let mut names: Vec<_> = head.headers.keys().map(|name| name.as_str()).collect();
    names.sort_unstable();
    assert_eq!(names, ["te", "user-agent", "x-own"]);
    assert_eq!(header(&head.headers, "te"), Some("trailers"));
}

#[tokio::test(start_paused = true)]
async fn a_message_goes_there_and_an_answer_comes_back() {
    let (connection, mut peer) = connected().await;
    let exchange = open(&connection, unary("hello")).await;
    let mut at_peer = peer.next_call().await;
    assert_eq!(at_peer.read().await.expect("ended by END_STREAM"), "hello");
    at_peer.answer_whole(b"good day");
    let response = soon(exchange).await.expect("headers");
    assert_eq!(
        header(response.headers(), "content-type"),
        Some("application/grpc")
    );
    let (body, trailers) = read(&mut response.into_body()).await.expect("a body");
    assert_eq!(body, "good day");
    assert_eq!(trailers, Some(ok()));
}

#[tokio::test(start_paused = true)]
async fn a_response_says_who_answered_if_it_is_to_say_so() {
    let backend = AnsweredBy::new("api-1".into(), "10.0.0.1:50051".into());
    for told in [None, Some(backend)] {
        let context = BackendContext {
            channel: "test".into(),
            backend: 0,
            answered_by: told.clone(),
            ..alone()
        };
        let (connection, mut peer) = connected_as(context).await;
        let exchange = open(&connection, unary("")).await;
        peer.next_call().await.answer_whole(b"");
        let response = soon(exchange).await.expect("headers");
        assert_eq!(response.extensions().get::<AnsweredBy>(), told.as_ref());

        let exchange = open(&connection, unary("")).await;
        peer.next_call().await.answer_trailers_only();
        let response = soon(exchange).await.expect("headers");
        assert_eq!(response.extensions().get::<AnsweredBy>(), told.as_ref());
    }
}

#[test]
fn who_answered_is_named_as_everywhere() {
    let address = "10.0.0.1:50051";
    let named = AnsweredBy::new("api-1".into(), address.into());
    assert_eq!(named.to_string(), "api-1 (10.0.0.1:50051)");
    assert_eq!((named.label(), named.address()), ("api-1", address));
    let unnamed = AnsweredBy::new(address.into(), address.into());
    assert_eq!(unnamed.to_string(), address);
}

#[tokio::test(start_paused = true)]
async fn a_request_without_a_body_ends_with_its_headers() {
    let (connection, mut peer) = connected().await;
    let _exchange = open(&connection, super::request(Body::empty())).await;
    assert!(peer.next_call().await.body.is_end_stream());
}

#[tokio::test(start_paused = true)]
async fn a_slot_is_free_when_the_stream_has_ended_read_or_not() {
    let (connection, mut peer) = connected().await;
    let exchange = open(&connection, unary("")).await;
    peer.next_call().await.answer_whole(b"all");
    let mut body = soon(exchange).await.expect("headers").into_body();
    assert_eq!(connection.streams(), 0, "it is not read");
    read(&mut body).await.expect("a body");
    assert_eq!(connection.streams(), 0);
    assert!(frame(&mut body).await.is_none(), "and it stays at its end");
    assert!(body.is_end_stream());
}

#[tokio::test(start_paused = true)]
async fn dropping_a_call_before_its_headers_cancels_it() {
    let (connection, mut peer) = connected().await;
    let exchange = open(&connection, unary("")).await;
    let mut at_peer = peer.next_call().await;
    assert_eq!(connection.streams(), 1);
    drop(exchange);
    slots_taken(&connection, 0).await;
    assert_eq!(at_peer.reset().await, Reason::CANCEL);
}

#[tokio::test(start_paused = true)]
async fn dropping_a_response_body_cancels_the_call() {
    let (connection, mut peer) = connected().await;
    let exchange = open(&connection, unary("")).await;
    let mut at_peer = peer.next_call().await;
    let mut stream = at_peer.answer();
    let response = soon(exchange).await.expect("headers");
    assert_eq!(connection.streams(), 1);
    drop(response);
    slots_taken(&connection, 0).await;
    let reset = soon(std::future::poll_fn(|cx| stream.poll_reset(cx))).await;
    assert_eq!(reset.expect("a reset"), Reason::CANCEL);
}

#[tokio::test(start_paused = true)]
async fn a_message_larger_than_the_peers_window_arrives_whole() {
    let mut settings = server::Builder::new();
    settings.initial_window_size(64 << 10);
    let (connection, mut peer) = connected_to(&settings).await;
    let message: Bytes = (0..3 << 20).map(|i| (i % 251) as u8).collect();
    let exchange = open(&connection, unary(message.clone())).await;
    let mut at_peer = peer.next_call().await;
    assert_eq!(at_peer.read().await.expect("all of it"), message);
    at_peer.answer_whole(b"");
    soon(exchange).await.expect("headers");
}

#[tokio::test(start_paused = true)]
async fn what_a_call_left_unread_does_not_weigh_on_the_next() {
    let (connection, mut peer) = connected().await;
    for _ in 0..8 {
        let exchange = open(&connection, unary("")).await;
        let mut at_peer = peer.next_call().await;
        let mut stream = at_peer.answer();
        let mebibyte = Bytes::from(vec![0; 1 << 20]);
        stream.send_data(mebibyte, false).expect("open");
        let mut body = soon(exchange).await.expect("headers").into_body();
        // Some of it is here, more is under way; the caller has seen enough.
        frame(&mut body).await.expect("a frame").expect("data");
        drop(body);
        let reset = soon(std::future::poll_fn(|cx| stream.poll_reset(cx))).await;
        assert_eq!(reset.expect("a reset"), Reason::CANCEL);
    }
    let message = vec![7; 4 << 20];
    let exchange = open(&connection, unary("")).await;
    let mut stream = peer.next_call().await.answer();
    stream
        .send_data(message.clone().into(), false)
        .expect("open");
    stream.send_trailers(ok()).expect("open");
    let mut body = soon(exchange).await.expect("headers").into_body();
    let (whole, _) = read(&mut body).await.expect("all of it");
    assert_eq!(whole.len(), message.len());
}

#[tokio::test(start_paused = true)]
async fn a_body_of_one_frame_is_replayable_and_a_stream_is_not() {
    let replayable = |request| async {
        let mut request = super::OutgoingRequest::new(request);
        request.prefetch().await.expect("a sound body");
        request.is_replayable()
    };
    assert!(
        replayable(super::request(Body::new(Full::new(Bytes::from_static(
            b"all"
        )))))
        .await
    );
    assert!(replayable(super::request(Body::empty())).await);
    let (frames, request) = super::streaming();
    frames.send(super::data(b"one")).expect("a reader");
    assert!(!replayable(request).await, "there may be more");
}

/// A codec's buffer has room for many messages.
#[tokio::test(start_paused = true)]
async fn a_small_request_does_not_keep_the_buffer_it_came_in() {
    for (size, is_kept) in [(1_024, false), (1_025, true)] {
        let buffer = Arc::new([7; 8_192]);
        let message = Bytes::from_owner(Whole(buffer.clone())).slice(..size);
        let mut request = super::OutgoingRequest::new(unary(message));
        request.prefetch().await.expect("a sound body");
        assert_eq!(Arc::strong_count(&buffer) > 1, is_kept, "{size} bytes");
        assert!(request.is_replayable());
    }
}

struct Whole(Arc<[u8; 8_192]>);

impl AsRef<[u8]> for Whole {
    fn as_ref(&self) -> &[u8] {
        &self.0[..]
    }
}

/// Each by itself would cost the peer and us a system call and a segment.
#[tokio::test(start_paused = true)]
async fn requests_of_callers_that_are_ready_go_out_together() {
    let (connection, mut wire) = wired(100).await;
    let has = |came: &[u8], text: &str| came.windows(text.len()).any(|at| at == text.as_bytes());
    // A task, as it takes its turn like one.
    let reading = tokio::spawn(async move {
        let mut came = Vec::new();
        while !has(&came, "one") {
            wire.0.read_buf(&mut came).await.expect("requests");
        }
        came
    });
    tokio::task::yield_now().await;
    let _under_way = [
        open(&connection, unary("one")).await,
        open(&connection, unary("two")).await,
    ];
    // The driver is awake, and now comes one who is behind it in the queue.
    let _late = tokio::spawn(async move {
        let exchange = open(&connection, unary("three")).await;
        exchange.await.map(drop)
    });
    let came = soon(reading).await.expect("no panic");
    assert!(has(&came, "two") && has(&came, "three"), "{came:?}");
}

#[tokio::test(start_paused = true)]
async fn a_response_of_trailers_only_holds_no_slot() {
    let (connection, mut peer) = connected().await;
    let exchange = open(&connection, unary("")).await;
    peer.next_call().await.answer_trailers_only();
    let response = soon(exchange).await.expect("headers");
    assert_eq!(header(response.headers(), "grpc-status"), Some("0"));
    let mut body = response.into_body();
    assert!(body.is_end_stream());
    assert_eq!(connection.streams(), 0, "a body at its end is not polled");
    assert!(frame(&mut body).await.is_none());
}

// D281
#[tokio::test(start_paused = true)]
async fn headers_that_are_all_there_is_fail_the_call_without_a_status() {
    let (connection, mut peer) = connected().await;
    let exchange = open(&connection, unary("")).await;
    let head = http::Response::builder().header("content-type", "application/grpc");
    let head = head.body(()).expect("a head");
    let mut at_peer = peer.next_call().await;
    at_peer.respond.send_response(head, true).expect("open");
    let failed = soon(exchange).await.map(drop).expect_err("no status");
    assert_eq!(failed.error.code(), Code::Unknown);
    let text = format!("missing grpc-status in the only headers of {ADDRESS}");
    assert_eq!(failed.error.message(), text);
    assert_eq!(connection.streams(), 0);
}

// D281
#[tokio::test(start_paused = true)]
async fn a_response_that_ends_with_data_frees_its_slot_when_it_has_ended() {
    let (connection, mut peer) = connected().await;
    let exchange = open(&connection, unary("")).await;
    let mut stream = peer.next_call().await.answer();
    stream
        .send_data(Bytes::from_static(b"all"), true)
        .expect("open");
    let mut body = soon(exchange).await.expect("headers").into_body();
    let data = frame(&mut body).await.expect("a frame").expect("data");
    assert_eq!(data.into_data().expect("data"), "all");
    let end = frame(&mut body).await.expect("an end");
    let status = end.expect_err("it has no status");
    assert_eq!(status.code(), Code::Unknown);
    let text = format!("missing grpc-status: {ADDRESS} closed the stream without sending trailers");
    assert_eq!(status.message(), text);
    assert!(frame(&mut body).await.is_none());
    assert!(body.is_end_stream());
    assert_eq!(connection.streams(), 0);
}

#[tokio::test(start_paused = true)]
async fn the_applications_name_comes_before_ours() {
    let named = |endpoint: Endpoint| endpoint.user_agent("greeter/1.2").expect("a value");
    let head = head_of(named, unary("")).await;
    let full = format!("greeter/1.2 {USER_AGENT}");
    assert_eq!(header(&head.headers, "user-agent"), Some(&*full));

    let mut request = unary("");
    let own = http::HeaderValue::from_static("call/3");
    request.headers_mut().insert("user-agent", own);
    let head = head_of(named, request).await;
    let full = format!("call/3 greeter/1.2 {USER_AGENT}");
    assert_eq!(header(&head.headers, "user-agent"), Some(&*full));
}

/// A frame of 2³¹ bytes is more than one `send_data` takes.
#[tokio::test(start_paused = true)]
async fn a_message_of_two_gibibytes_is_sent_as_the_window_allows() {
    let (connection, mut peer) = connected().await;
    let mut exchange = open(&connection, unary(vec![0; 1 << 31])).await;
    let mut at_peer = peer.next_call().await;
    tokio::select! {
        biased;
        outcome = &mut exchange => panic!("{:?}", outcome.map(|_| "answered")),
        chunk = at_peer.chunk() => assert!(!chunk.expect("data").expect("data").is_empty()),
    }
}
