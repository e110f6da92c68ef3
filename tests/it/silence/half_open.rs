//! Connections whose other end is gone, or is not reached any more, and nobody has
//! said so. That PINGs find them is tested in paused time: the shortest interval is
//! ten seconds.

use std::time::Duration;

use testing::{
    Backend, Backends, Flow, GREETER, Valve, by_hand, call, endpoint, hello, request_within, until,
    until_backends,
};
use tonic_health_channel::{Channel, ConnectivityState::Ready};

use super::{DEADLINE, on_time};

/// A channel over one backend behind a valve, to which others can be added.
async fn behind_a_valve(service: Option<&str>) -> (Backend, Valve, Backends, Channel) {
    let backend = Backend::builder().name("A").start().await;
    let valve = Valve::before(backend.addr());
    let (backends, builder) = by_hand(service);
    let endpoint = endpoint(valve.uri())
        .tcp_user_timeout(Some(Duration::from_millis(500)))
        .connect_timeout(Duration::from_millis(300));
    backends.insert_as("A", endpoint).await;
    let channel = builder.build();
    until(&channel, Ready).await;
    (backend, valve, backends, channel)
}

// D196
#[cfg(target_os = "linux")]
#[tokio::test]
async fn a_peer_that_takes_nothing_is_given_up_after_the_user_timeout() {
    use testing::{greeter, outcome, request, spread, start};
    use tonic::Code;
    use tonic_health_channel::ConnectivityState::TransientFailure;

    let (behind, valve, backends, channel) = behind_a_valve(None).await;
    let (names, requests) = tokio::sync::mpsc::unbounded_channel();
    let requests = tokio_stream::wrappers::UnboundedReceiverStream::new(requests);
    let mut client = greeter(&channel);
    let streaming = tokio::spawn(async move { client.greet_all(requests).await });
    let held = start(&channel, "hold");
    behind.until_held(1).await;
    behind.until_open_calls(2).await;
    let other = Backend::builder().name("B").start().await;
    backends.insert("B", other.uri()).await;
    until_backends(&channel, &[Ready, Ready]).await;

    valve.set(Flow::Stands);
    // More than the buffers of the two sockets hold.
    for _ in 0..1_000 {
        let name = request(&"x".repeat(16 << 10));
        names.send(name).expect("the call is open");
    }
    let expected = format!("stream to {}: connection timed out", valve.addr());
    for end in [
        outcome(held).await.map(drop),
        streaming.await.expect("no panic").map(drop),
    ] {
        let status = end.expect_err("the peer takes nothing");
        assert_eq!(status.code(), Code::Unavailable, "{status}");
        assert_eq!(status.message(), expected);
    }
    assert_eq!(spread(&channel, 4, &[&behind, &other]).await, [0, 4]);
    until_backends(&channel, &[TransientFailure, Ready]).await;
    let failed = channel.backends()[0].to_string();
    assert!(
        failed.contains("waiting for the peer's HTTP/2 SETTINGS"),
        "{failed}"
    );

    valve.set(Flow::Passes);
    until_backends(&channel, &[Ready, Ready]).await;
    assert_eq!(spread(&channel, 4, &[&behind, &other]).await, [2, 2]);
}

// D197
#[tokio::test]
async fn without_pings_a_half_open_backend_stays_in_use_and_calls_end_at_their_deadlines() {
    let (behind, valve, backends, channel) = behind_a_valve(Some(GREETER)).await;
    let other = Backend::builder().name("B").start().await;
    backends.insert("B", other.uri()).await;
    until_backends(&channel, &[Ready, Ready]).await;
    behind.until_open_watches(1).await;

    // What is sent is acknowledged, and arrives nowhere.
    valve.set(Flow::Vanishes);
    behind.set_not_serving(GREETER).await;
    let started = tokio::time::Instant::now();
    let calls = (0..8).map(|_| call(&channel, request_within("you", DEADLINE)));
    let outcomes = futures_util::future::join_all(calls).await;
    on_time(started);
    let (answered, failed): (Vec<_>, Vec<_>) = outcomes.into_iter().partition(Result::is_ok);
    assert_eq!((answered.len(), failed.len()), (4, 4));
    for status in failed.into_iter().filter_map(Result::err) {
        let text = format!(
            "deadline exceeded after {DEADLINE:?}, waiting for the response of {}",
            valve.addr()
        );
        assert_eq!(status.message(), text);
    }
    assert_eq!(behind.hits(), 0, "none arrived");
    // The answer that is not heard is no news: an open Watch may be silent for years.
    until_backends(&channel, &[Ready, Ready]).await;
    assert_eq!(valve.connections(), 1);
    for backend in channel.backends().iter() {
        assert_eq!(backend.calls_in_flight(), 0, "{backend}");
    }

    backends.remove("A").await;
    until_backends(&channel, &[Ready]).await;
    hello(&channel).await.expect("the other is none the worse");
}
