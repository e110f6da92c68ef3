//! Bounds on the calls of a backend, and its address on this side.

use std::time::Duration;

use testing::{
    Backend, endpoint, greeter, hello, outcome, refusal, request_within, start, until_backends,
    within,
};
use tokio::time::Instant;
use tonic_health_channel::{Channel, ConnectivityState::Ready, Endpoint, channel::Change};

#[tokio::test]
async fn a_call_beyond_the_concurrency_limit_waits_within_its_deadline() {
    let backend = Backend::start().await;
    let channel = endpoint(backend.uri()).concurrency_limit(1).connect_lazy();
    let first = start(&channel, "hold");
    backend.until_held(1).await;
    let beyond = request_within("you", Duration::from_millis(50));
    let answer = within("the call to end", greeter(&channel).say_hello(beyond)).await;
    let status = answer.expect_err("there is one already");
    assert_eq!(status.code(), tonic::Code::DeadlineExceeded);
    assert_eq!(backend.hits(), 1, "it was never sent");

    let second = start(&channel, "you");
    backend.release();
    outcome(first).await.expect("a reply");
    outcome(second).await.expect("a reply");
}

#[tokio::test]
async fn a_balanced_call_goes_where_there_is_room() {
    let [a, b] = Backend::builder().start_each(["a", "b"]).await;
    let (channel, changes) = Channel::balance_channel(16);
    for (key, backend) in [("a", &a), ("b", &b)] {
        let endpoint = endpoint(backend.uri()).concurrency_limit(1);
        let change = Change::Insert(key, endpoint);
        changes.send(change).await.expect("the channel takes it");
    }
    until_backends(&channel, &[Ready, Ready]).await;
    let held = start(&channel, "hold");
    let (full, free) = tokio::select! {
        () = a.until_held(1) => (&a, &b),
        () = b.until_held(1) => (&b, &a),
    };
    for _ in 0..4 {
        let reply = hello(&channel).await.expect("a reply");
        assert_eq!(reply.backend, free.name());
    }
    full.release();
    outcome(held).await.expect("a reply");
}

#[tokio::test]
async fn calls_beyond_the_rate_are_sent_later() {
    let backend = Backend::start().await;
    let period = Duration::from_millis(100);
    let channel = endpoint(backend.uri()).rate_limit(2, period).connect_lazy();
    hello(&channel).await.expect("a reply");
    let start = Instant::now();
    for _ in 0..5 {
        hello(&channel).await.expect("a reply");
    }
    // The first period has begun before, and had one call left.
    assert!(start.elapsed() >= period, "{:?}", start.elapsed());
}

#[tokio::test]
async fn a_connection_comes_from_the_local_address() {
    let backend = Backend::start().await;
    let local = "127.0.0.1".parse().expect("an address");
    let from_here = endpoint(backend.uri()).local_address(Some(local));
    hello(&from_here.connect_lazy()).await.expect("a reply");

    // An address that is nobody's, for documents (RFC 5737).
    let elsewhere = "192.0.2.1".parse().expect("an address");
    let elsewhere = endpoint(backend.uri()).local_address(Some(elsewhere));
    let text = refusal(&elsewhere.connect_lazy()).await;
    assert!(
        text.contains("no connection from the local address 192.0.2.1"),
        "{text}"
    );
}

#[test]
fn endpoints_differ_by_their_options() {
    let plain = || Endpoint::from_static("http://10.0.0.1:50051");
    assert!(plain() == plain().buffer_size(7));
    for other in [
        plain().concurrency_limit(1),
        plain().rate_limit(1, Duration::from_secs(1)),
        plain().http2_keep_alive_interval(Duration::from_secs(60)),
        plain().keep_alive_while_idle(true),
        plain().max_frame_size(1 << 20),
        plain().http_proxy("http://proxy:3128").expect("a proxy"),
        Endpoint::from_static("unix:/run/greeter.sock"),
    ] {
        assert!(other != plain(), "{other:?}");
    }
}
