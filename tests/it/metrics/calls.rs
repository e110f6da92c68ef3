//! The metrics of each call (gRFC A66).

use std::time::Duration;

use bytes::Bytes;
use futures_util::stream;
use http_body::Frame;
use http_body_util::StreamBody;
use testing::{
    Answer, Backend, Chat, Configs, H2Peer, balanced, balanced_at, by_hand, call, dead_addr,
    greeter, hello, outcome, request, request_within, say, start, until, waiting_for_ready, within,
};
use tonic::{Code, Request, Status, body::Body};
use tonic_health_channel::{
    Channel,
    ConnectivityState::{Ready, TransientFailure},
    channel::RequestInfo,
    metrics::{CustomLabel, Metrics, Prometheus},
};
use tonic_prost::ProstCodec;
use tower::ServiceExt;

use super::scrape::{
    ATTEMPTS, CALLS, RECEIVED, SAY_HELLO, SENT, STARTED, build, ended, lines, metered, sum,
};

fn as_it_is(metrics: Metrics) -> Metrics {
    metrics
}

// M02
#[tokio::test]
async fn a_unary_call_is_recorded_once_by_each_instrument() {
    let backend = Backend::start().await;
    let (channel, meter) = metered(&[&backend], as_it_is);
    let reply = hello(&channel).await.expect("an answer");
    let method = [
        ("grpc_method", SAY_HELLO),
        ("grpc_target", "channel:///shop"),
    ];
    let all = [method[0], method[1], ("grpc_status", "OK")];
    assert_eq!(sum(&meter, STARTED, &method), 1.0);
    for name in [ATTEMPTS, CALLS] {
        assert_eq!(sum(&meter, name, &all), 1.0, "{name}");
    }
    // Field 1, "you"; fields 1 and 2 of the reply.
    assert_eq!(sum(&meter, SENT, &all), 5.0);
    let size = 4 + reply.message.len() + reply.backend.len();
    assert_eq!(sum(&meter, RECEIVED, &all), size as f64);
    for name in [STARTED, ATTEMPTS, CALLS, SENT, RECEIVED] {
        assert_eq!(
            lines(&meter, name, &[]).len(),
            1,
            "no health checks: {name}"
        );
    }
}

/// One unary call by hand: its request has no `GrpcMethod`.
async fn by_path(channel: &Channel, path: &'static str) -> Result<(), Status> {
    let mut client = tonic::client::Grpc::new(channel.clone());
    client.ready().await.expect("it is always ready");
    let codec =
        ProstCodec::<testing::greeter::HelloRequest, testing::greeter::HelloReply>::default();
    let path = http::uri::PathAndQuery::from_static(path);
    let answer = client.unary(Request::new(request("you")), path, codec);
    within("an answer", answer).await.map(|_| ())
}

// M03
#[tokio::test]
async fn a_path_without_a_generated_client_is_other_unless_a_filter_takes_it() {
    let backend = Backend::start().await;
    let (channel, meter) = metered(&[&backend], as_it_is);
    by_path(&channel, "/demo.v1.Greeter/SayHello")
        .await
        .expect("an answer");
    assert_eq!(sum(&meter, CALLS, &[("grpc_method", "other")]), 1.0);
    assert_eq!(lines(&meter, CALLS, &[]).len(), 1);

    let (channel, meter) = metered(&[&backend], |metrics| {
        metrics.method_filter(|path| path.ends_with("/SayHello"))
    });
    for _ in 0..2 {
        by_path(&channel, "/demo.v1.Greeter/SayHello")
            .await
            .expect("an answer");
    }
    by_path(&channel, "/made.up.By/AClient")
        .await
        .expect_err("it is not there");
    assert_eq!(sum(&meter, CALLS, &[("grpc_method", SAY_HELLO)]), 2.0);
    let other = [("grpc_method", "other"), ("grpc_status", "UNIMPLEMENTED")];
    assert_eq!(sum(&meter, CALLS, &other), 1.0);
}

// M06
#[tokio::test]
async fn a_message_counts_as_it_is_on_the_wire_wherever_frames_end() {
    let peer = H2Peer::start().await;
    let (channel, meter) = build(balanced_at([peer.uri()], None), as_it_is);
    // Compressed to 7 bytes, and cut within its prefix.
    let frames = [&[1, 0, 0][..], &[0, 7, 1, 2], &[3, 4, 5, 6, 7]];
    let frames = frames.map(|frame| Ok::<_, Status>(Frame::data(Bytes::from_static(frame))));
    let body = Body::new(StreamBody::new(stream::iter(frames)));
    let request = http::Request::post("/demo.v1.Greeter/SayHello");
    let request = request.body(body).expect("a request");
    let response = within("an answer", channel.oneshot(request)).await;
    drop(response.expect("an answer"));
    assert_eq!(sum(&meter, SENT, &[]), 7.0);
}

// M07
#[tokio::test]
async fn an_empty_message_is_recorded_as_0_bytes() {
    let peer = H2Peer::start().await;
    let (channel, meter) = build(balanced_at([peer.uri()], None), as_it_is);
    say(&channel, "").await.expect("an answer");
    let empty = [("le", "0"), ("grpc_status", "OK")];
    for (name, total) in [("sent", SENT), ("rcvd", RECEIVED)] {
        let name = format!("grpc_client_attempt_{name}_total_compressed_message_size_bytes_bucket");
        assert_eq!(sum(&meter, &name, &empty), 1.0, "{name}");
        assert_eq!(sum(&meter, total, &[]), 0.0);
    }
}

// M08
#[tokio::test]
async fn a_stream_that_is_given_up_is_cancelled_with_what_has_come() {
    let backend = Backend::start().await;
    let (channel, meter) = metered(&[&backend], as_it_is);
    let mut wanted = request("hold");
    wanted.count = 3;
    let replies = within("headers", greeter(&channel).say_hello_many(wanted)).await;
    let mut replies = replies.expect("a stream").into_inner();
    let first = within("a reply", replies.message()).await;
    let first = first.expect("a reply").expect("the first of 3");
    assert_eq!(ended(&meter, "CANCELLED"), [0.0, 0.0], "it is under way");
    drop(replies);
    assert_eq!(ended(&meter, "CANCELLED"), [1.0, 1.0]);
    let size = 4 + first.message.len() + first.backend.len();
    let received = sum(&meter, RECEIVED, &[]);
    assert!(received >= size as f64, "{received}");
    assert_eq!(received % size as f64, 0.0, "replies that came in 1 frame");
}

// M09
#[tokio::test]
async fn a_call_that_is_given_up_while_it_waits_is_cancelled() {
    let (_backends, builder) = by_hand(None);
    let (channel, meter) = build(builder, as_it_is);
    let waits = start(&channel, "you");
    let waiting = "tonic_health_channel_calls_waiting";
    while sum(&meter, waiting, &[]) < 1.0 {
        tokio::task::yield_now().await;
    }
    assert_eq!(sum(&meter, STARTED, &[]), 1.0);
    waits.abort();
    waits.await.expect_err("it was given up");
    assert_eq!(sum(&meter, STARTED, &[]), 1.0);
    assert_eq!(ended(&meter, "CANCELLED"), [1.0, 1.0]);
    assert_eq!(sum(&meter, SENT, &[]), 0.0);
    assert_eq!(sum(&meter, waiting, &[]), 0.0);
    let waited = "tonic_health_channel_calls_wait_duration_seconds_count";
    assert_eq!(sum(&meter, waited, &[("outcome", "cancelled")]), 1.0);
}

// M10
#[tokio::test]
async fn a_call_that_fails_fast_is_an_attempt_that_sends_nothing() {
    let (channel, meter) = build(balanced_at([dead_addr().uri()], None), as_it_is);
    until(&channel, TransientFailure).await;
    hello(&channel).await.expect_err("there is no backend");
    assert_eq!(sum(&meter, STARTED, &[]), 1.0);
    assert_eq!(ended(&meter, "UNAVAILABLE"), [1.0, 1.0]);
    assert_eq!(sum(&meter, SENT, &[]), 0.0);
    let nothing = "tonic_health_channel_calls_wait_duration_seconds_count";
    assert_eq!(sum(&meter, nothing, &[]), 0.0, "it did not wait");
}

// M11
#[tokio::test]
async fn a_call_without_a_config_has_no_attempt() {
    let backend = Backend::start().await;
    let meter = Prometheus::new();
    let builder = balanced(&[&backend], None);
    let builder = builder
        .metrics(Metrics::new(meter.clone()))
        .expect("no names");
    let (configs, channel) = Configs::of(builder);
    let late = request_within("you", Duration::from_millis(20));
    call(&channel, late).await.expect_err("no config comes");
    assert_eq!(ended(&meter, "DEADLINE_EXCEEDED"), [1.0, 0.0]);
    assert_eq!(sum(&meter, STARTED, &[]), 0.0);
    let waited = "tonic_health_channel_calls_wait_duration_seconds_count";
    assert_eq!(sum(&meter, waited, &[("outcome", "expired")]), 1.0);

    configs.say("{}");
    call(&channel, waiting_for_ready("you", true))
        .await
        .expect("an answer");
    assert_eq!(ended(&meter, "OK"), [1.0, 1.0]);
}

// M12, M13
#[tokio::test]
async fn a_transparent_retry_is_an_attempt_and_a_call_without_has_no_value() {
    let peer = H2Peer::start().await;
    let retries = "grpc_client_call_transparent_retries";
    let (channel, meter) = build(balanced_at([peer.uri()], None), |metrics| {
        metrics.enable([
            "grpc.client.call.transparent_retries",
            "grpc.client.call.retry_delay",
        ])
    });
    hello(&channel).await.expect("an answer");
    assert!(!meter.render().contains(retries), "not even as 0");

    peer.answer_next_calls(1, Answer::Reset(h2::Reason::REFUSED_STREAM));
    hello(&channel)
        .await
        .expect("an answer to the second attempt");
    assert_eq!(sum(&meter, STARTED, &[]), 3.0);
    assert_eq!(ended(&meter, "UNAVAILABLE"), [0.0, 1.0]);
    assert_eq!(ended(&meter, "OK"), [2.0, 2.0]);
    let [count, total] = ["count", "sum"].map(|end| sum(&meter, &format!("{retries}_{end}"), &[]));
    assert_eq!([count, total], [1.0, 1.0]);
    assert!(
        !meter.render().contains("retry_delay"),
        "it follows at once"
    );
}

// M14
#[tokio::test]
async fn by_default_nothing_of_subchannels_policies_and_tls_is_recorded() {
    let backend = Backend::start().await;
    let (channel, meter) = metered(&[&backend], as_it_is);
    hello(&channel).await.expect("an answer");
    backend.cut_connections();
    until(&channel, Ready).await;
    let text = meter.render();
    let off = [
        "grpc_subchannel_",
        "grpc_lb_",
        "grpc_client_tls_",
        "grpc_client_call_retr",
    ];
    for prefix in off {
        assert!(!text.contains(prefix), "{text}");
    }
    let (channel, meter) = metered(&[&backend], |metrics| {
        metrics.disable(["grpc.client.call.duration"])
    });
    hello(&channel).await.expect("an answer");
    assert_eq!(ended(&meter, "OK"), [0.0, 1.0]);
}

// M19, M20
#[tokio::test]
async fn optional_labels_that_are_not_known_are_empty() {
    let backend = Backend::start().await;
    let (channel, meter) = metered(&[&backend], |metrics| {
        metrics.optional_labels([
            "grpc.lb.locality",
            "grpc.lb.backend_service",
            "grpc.client.call.custom",
        ])
    });
    hello(&channel).await.expect("an answer");
    let unknown = [("grpc_lb_locality", ""), ("grpc_lb_backend_service", "")];
    assert_eq!(sum(&meter, ATTEMPTS, &unknown), 1.0);
    assert_eq!(sum(&meter, CALLS, &[("grpc_client_call_custom", "")]), 1.0);

    let mut labelled = Request::new(request("you"));
    labelled
        .extensions_mut()
        .insert(CustomLabel::new("checkout \"1\"\n\\"));
    call(&channel, labelled).await.expect("an answer");
    let custom = [("grpc_client_call_custom", r#"checkout \"1\"\n\\"#)];
    for name in [STARTED, ATTEMPTS, CALLS] {
        assert_eq!(sum(&meter, name, &custom), 1.0, "{name}");
    }
}

// M27
#[tokio::test]
async fn two_channels_share_a_meter_and_not_their_series() {
    let backend = Backend::start().await;
    let meter = Prometheus::new();
    let channel = |name: &str| {
        let builder = balanced(&[&backend], None).name(name);
        let builder = builder.metrics(Metrics::new(meter.clone()));
        builder.expect("no names").build()
    };
    let (orders, shop) = (channel("orders"), channel("shop"));
    hello(&orders).await.expect("an answer");
    hello(&shop).await.expect("an answer");
    hello(&shop).await.expect("an answer");
    for (target, calls) in [("channel:///orders", 1.0), ("channel:///shop", 2.0)] {
        assert_eq!(sum(&meter, CALLS, &[("grpc_target", target)]), calls);
    }
}

// D403
#[tokio::test]
async fn a_call_ends_with_the_status_that_its_caller_sees() {
    let backend = Backend::start().await;
    let (channel, meter) = metered(&[&backend], as_it_is);
    say(&channel, "fail:5").await.expect_err("it is to fail");
    assert_eq!(ended(&meter, "NOT_FOUND"), [1.0, 1.0]);

    let mut chat = Chat::start(&channel).await;
    chat.greet("Ada").await.expect("an answer");
    chat.greet("Grace").await.expect("an answer");
    assert_eq!(ended(&meter, "OK"), [0.0, 0.0], "it is under way");
    chat.end().await;
    assert_eq!(ended(&meter, "OK"), [1.0, 1.0]);
    let chats = [("grpc_method", "demo.v1.Greeter/Chat")];
    assert_eq!(sum(&meter, SENT, &chats), 12.0, "both names");

    let lost = start(&channel, "hold");
    backend.until_held(1).await;
    backend.cut_connections();
    outcome(lost).await.expect_err("its connection is gone");
    assert_eq!(ended(&meter, "UNAVAILABLE"), [1.0, 1.0]);

    let late = call(&channel, request_within("hold", Duration::from_millis(50)));
    late.await.expect_err("it is held");
    assert_eq!(ended(&meter, "DEADLINE_EXCEEDED"), [1.0, 1.0]);
}

// D403
#[tokio::test]
async fn an_attempt_that_is_refused_here_has_sent_nothing() {
    let backend = Backend::start().await;
    let credentials = |_: RequestInfo| async { Err(Status::unauthenticated("no token")) };
    let builder = balanced(&[&backend], None)
        .call_credentials(credentials)
        .allow_plaintext_credentials(true);
    let (channel, meter) = build(builder, as_it_is);
    let refused = hello(&channel).await.expect_err("it has no token");
    assert_eq!(refused.code(), Code::Unauthenticated);
    assert_eq!(ended(&meter, "UNAUTHENTICATED"), [1.0, 1.0]);
    assert_eq!(sum(&meter, SENT, &[]), 0.0);

    let broken = stream::iter([Err::<Frame<Bytes>, _>(Status::aborted("no more"))]);
    let request = http::Request::post("/demo.v1.Greeter/SayHello");
    let request = request.body(Body::new(StreamBody::new(broken)));
    let answer = channel.oneshot(request.expect("a request"));
    within("an answer", answer)
        .await
        .expect_err("it has no body");
    assert_eq!(ended(&meter, "ABORTED"), [1.0, 1.0]);
}
