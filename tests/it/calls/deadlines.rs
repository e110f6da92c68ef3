//! When a call's time runs out.

use std::time::Duration;

use testing::{
    Answer, Backend, GREETER, H2Peer, HealthKind, WatchScript, balanced, by_hand, call, endpoint,
    greeter, greeter::HelloRequest, outcome, request_within, say, start, until, until_backends,
    within,
};
use tokio::time::Instant;
use tonic::{Code, Request};
use tonic_health_channel::{
    Channel,
    ConnectivityState::{Connecting, Ready},
    Endpoint,
};

use super::connected;

/// A time that runs out.
const SHORT: Duration = Duration::from_millis(150);

/// A time that runs out, but not before a server that is up has answered.
const LONG: Duration = Duration::from_millis(800);

fn two_then_hold() -> HelloRequest {
    HelloRequest {
        name: "hold".into(),
        count: 2,
    }
}

#[tokio::test]
async fn the_server_is_told_how_much_time_is_left() {
    let (backend, channel) = connected().await;
    let deadline = Duration::from_secs(8);
    let prompt = call(&channel, request_within("you", deadline)).await;
    prompt.expect("in time");
    let seen = backend.last_timeout();
    assert!(seen <= deadline, "{seen:?} is more than there was");
    assert!(seen > deadline / 2, "{seen:?} left of a prompt call");
}

#[tokio::test]
async fn the_time_a_call_waited_is_not_left_for_the_server() {
    let backend = Backend::builder()
        .health(HealthKind::Scripted)
        .start()
        .await;
    backend.script_watch(WatchScript::HoldFirst);
    let channel = balanced(&[&backend], Some(GREETER)).build();
    let deadline = Duration::from_secs(8);
    let waiting = {
        let channel = channel.clone();
        tokio::spawn(async move { call(&channel, request_within("you", deadline)).await })
    };
    backend.until_open_watches(1).await;
    // A second call waits SHORT beside the first, in vain.
    let hurried = call(&channel, request_within("you", SHORT)).await;
    hurried.expect_err("health is silent");
    backend.release_watches();
    waiting.await.expect("no panic").expect("an answer in time");
    let seen = backend.last_timeout();
    assert!(
        seen <= deadline - SHORT,
        "{seen:?} of {deadline:?} are left after waiting {SHORT:?}"
    );
}

#[tokio::test]
async fn waiting_for_a_backend_counts_and_the_text_says_for_which() {
    let backend = Backend::builder().scripted().start().await;
    backend.script_watch(WatchScript::HoldFirst);
    let channel = balanced(&[&backend], Some(GREETER)).build();
    let status = call(&channel, request_within("you", SHORT)).await;
    let status = status.expect_err("health is silent");
    assert_eq!(status.code(), Code::DeadlineExceeded);
    let expected = format!(
        "deadline exceeded after {SHORT:?}, waiting for a backend: no healthy backend: {} CONNECTING",
        backend.addr()
    );
    assert!(status.message().starts_with(&expected), "{status}");
    assert_eq!(backend.hits(), 0, "it was never sent");
}

#[tokio::test]
async fn a_deadline_ends_a_unary_call_and_the_server_hears_of_it() {
    let peer = H2Peer::start().await;
    peer.answer_calls(Answer::KeepOpen);
    let (backends, builder) = by_hand(None);
    let channel = builder.build();
    backends.insert("A", peer.uri()).await;
    until(&channel, Ready).await;
    let status = call(&channel, request_within("you", SHORT)).await;
    let status = status.expect_err("never answered");
    assert_eq!(status.code(), Code::DeadlineExceeded);
    let expected = format!("waiting for the response of {}", peer.addr());
    assert!(status.message().ends_with(&expected), "{status}");
    peer.until_client_resets(1).await;
    peer.until_open_calls(0).await;

    peer.answer_calls(Answer::Ok);
    say(&channel, "you")
        .await
        .expect("the connection is none the worse");
    assert_eq!(peer.connections(), 1);
}

#[tokio::test]
async fn a_deadline_in_the_middle_of_a_response_stream_ends_it() {
    let (backend, channel) = connected().await;
    let mut request = Request::new(two_then_hold());
    request.set_timeout(LONG);
    let call = greeter(&channel).say_hello_many(request).await;
    let mut stream = call.expect("response headers in time").into_inner();
    for _ in 0..2 {
        let reply = within("a reply", stream.message()).await;
        reply.expect("in time").expect("one of two");
    }
    let end = within("the deadline", stream.message()).await;
    let status = end.expect_err("the third never comes");
    assert_eq!(status.code(), Code::DeadlineExceeded, "{status}");
    backend.until_open_calls(0).await;
}

/// A channel to `backend` alone whose calls must have headers in time.
async fn with_timeout(backend: &Backend, timeout: Duration) -> tonic_health_channel::Channel {
    let endpoint: Endpoint = endpoint(backend.uri()).timeout(timeout);
    within("a connection", endpoint.connect())
        .await
        .expect("it is up")
}

#[tokio::test]
async fn the_endpoints_timeout_bounds_the_wait_for_headers() {
    let backend = Backend::start().await;
    let channel = with_timeout(&backend, SHORT).await;
    let status = say(&channel, "hold").await.expect_err("no headers");
    assert_eq!(status.code(), Code::DeadlineExceeded, "{status}");
    backend.until_open_calls(0).await;
    let seen = backend.last_metadata().expect("there was a call");
    assert!(!seen.contains_key("grpc-timeout"), "it is the client's own");
}

#[tokio::test]
async fn the_endpoints_timeout_does_not_bound_the_response_stream() {
    let backend = Backend::start().await;
    let channel = with_timeout(&backend, LONG).await;
    let call = greeter(&channel).say_hello_many(two_then_hold()).await;
    let mut stream = call.expect("headers at once").into_inner();
    let status = say(&channel, "hold").await.expect_err("no headers");
    assert_eq!(status.code(), Code::DeadlineExceeded, "{status}");
    backend.until_held(1).await;
    backend.release();
    for i in 0..3 {
        let reply = within("a reply", stream.message()).await;
        let reply = reply.expect("the timeout is over headers only");
        assert_eq!(reply.is_some(), i < 2, "two replies and the end");
    }
}

#[tokio::test]
async fn the_endpoints_timeout_covers_the_connect_of_a_single_channel() {
    let silent = testing::Peer::start(testing::PeerScript::Silent).await;
    let channel = endpoint(silent.uri()).timeout(SHORT).connect_lazy();
    let status = say(&channel, "you").await.expect_err("no connection");
    assert_eq!(status.code(), Code::DeadlineExceeded, "{status}");
}

/// Where every endpoint has one, the longest counts; that of a template before there are any.
// D309
#[tokio::test]
async fn timeouts_of_endpoints_bound_the_wait_of_balanced_channels() {
    let silent = testing::Peer::start(testing::PeerScript::Silent).await;
    let waiting = |error: tonic::Status, time: Duration| {
        assert_eq!(error.code(), Code::DeadlineExceeded, "{error}");
        let text = format!("deadline exceeded after {time:?}, waiting for a backend: ");
        assert!(error.message().starts_with(&text), "{error}");
    };
    let within = |timeout: Duration| endpoint(silent.uri()).timeout(timeout);
    let short = Channel::list([within(SHORT)]).expect("a list").build();
    waiting(say(&short, "you").await.expect_err("it is silent"), SHORT);

    let target = silent.addr().to_string();
    let template = endpoint("http://template").timeout(SHORT);
    let of_target = Channel::target_with(&target, template).expect("a target");
    waiting(
        say(&of_target.build(), "you").await.expect_err("silent"),
        SHORT,
    );

    let (backends, builder) = by_hand(None);
    let channel = builder.build();
    backends.insert_as("a", within(SHORT)).await;
    backends.insert_as("b", within(2 * SHORT)).await;
    until_backends(&channel, &[Connecting; 2]).await;
    let began = Instant::now();
    waiting(
        say(&channel, "you").await.expect_err("it is silent"),
        2 * SHORT,
    );
    assert!(began.elapsed() >= 2 * SHORT);

    // One without a timeout is waited for, and what is said meanwhile counts.
    backends.insert_as("c", endpoint(silent.uri())).await;
    until_backends(&channel, &[Connecting; 3]).await;
    let mut call = start(&channel, "you");
    let early = tokio::time::timeout(3 * SHORT, &mut call).await;
    assert!(early.is_err(), "nothing bounds the wait");
    backends.remove("c").await;
    waiting(outcome(call).await.expect_err("it is silent"), 2 * SHORT);
}

// D309
#[tokio::test]
async fn a_timeout_of_nothing_always_fails() {
    let backend = Backend::start().await;
    let none = || endpoint(backend.uri()).timeout(Duration::ZERO);
    let balanced = Channel::list([none()]).expect("a list").build();
    until(&balanced, Ready).await;
    for channel in [none().connect_lazy(), balanced] {
        for _ in 0..20 {
            let status = say(&channel, "you").await.expect_err("it has no time");
            assert_eq!(status.code(), Code::DeadlineExceeded, "{status}");
        }
    }
    assert_eq!(backend.hits(), 0);
}

#[tokio::test]
async fn the_earlier_of_both_bounds_wins() {
    let backend = Backend::start().await;
    let channel = endpoint(backend.uri())
        .timeout(Duration::from_secs(60))
        .connect_lazy();
    let status = call(&channel, request_within("hold", SHORT)).await;
    let status = status.expect_err("the deadline is earlier");
    assert_eq!(status.code(), Code::DeadlineExceeded, "{status}");

    let channel = with_timeout(&backend, SHORT).await;
    let patient = request_within("hold", Duration::from_secs(60));
    let status = call(&channel, patient)
        .await
        .expect_err("the timeout is earlier");
    assert_eq!(status.code(), Code::DeadlineExceeded, "{status}");
    backend.until_open_calls(0).await;
}

#[tokio::test]
async fn a_call_without_a_deadline_waits_as_long_as_it_takes() {
    let (backend, channel) = connected().await;
    let held = start(&channel, "hold");
    backend.until_held(1).await;
    let hurried = call(&channel, request_within("hold", SHORT)).await;
    hurried.expect_err("not released in time");
    assert!(!held.is_finished(), "only the other had a deadline");
    backend.until_held(1).await;
    backend.release();
    outcome(held).await.expect("an answer");
    until(&channel, Ready).await;
}
