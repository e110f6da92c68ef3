//! The idle timeout, in real time: none is shorter than a second.
//!
//! That a channel does *not* go to IDLE shows when another one with the same timeout
//! has done so twice, as it has nothing to do.

use std::time::Duration;

use testing::{
    Backend, Chat, GREETER, WatchScript, balanced, by_hand, hello, outcome, say, start, until,
    until_ready,
};
use tokio::time::Instant;
use tonic_health_channel::{
    Channel,
    ConnectivityState::{Connecting, Idle, Ready},
};

const TIMEOUT: Duration = Duration::from_secs(1);

/// A READY channel to `backend` that has nothing to do.
async fn quiet(backend: &Backend) -> Channel {
    let builder = balanced(&[backend], None).idle_timeout(TIMEOUT);
    let channel = builder.build();
    until(&channel, Ready).await;
    channel
}

/// Longer than a channel without calls takes to be IDLE.
async fn two_timeouts() {
    let backend = Backend::start().await;
    let quiet = quiet(&backend).await;
    until(&quiet, Idle).await;
    quiet.request_connection();
    until(&quiet, Ready).await;
    until(&quiet, Idle).await;
}

// T12
#[tokio::test]
async fn a_channel_without_calls_lets_go_of_its_connections_until_the_next_call() {
    let backend = Backend::builder().scripted().start().await;
    let started = Instant::now();
    let builder = balanced(&[&backend], Some(GREETER)).idle_timeout(TIMEOUT);
    let channel = builder.build();
    until(&channel, Ready).await;

    until(&channel, Idle).await;
    let rested = started.elapsed();
    assert!(rested >= TIMEOUT, "IDLE after {rested:?}");
    backend.until_open_watches(0).await;
    backend.until_open_connections(0).await;

    hello(&channel).await.expect("a call wakes it");
    assert_eq!((channel.state(), backend.connections()), (Ready, 2));
    until(&channel, Idle).await;
    backend.until_open_connections(0).await;
}

// T12
#[tokio::test]
async fn without_a_timeout_or_with_frequent_calls_a_channel_stays_ready() {
    let [busy, unused, other] = Backend::builder()
        .start_each(["busy", "unused", "other"])
        .await;
    let for_ever = balanced(&[&unused], None).idle_timeout(None).build();
    until(&for_ever, Ready).await;
    let called = quiet(&busy).await;
    let quiet = quiet(&other).await;
    for _ in 0..2 {
        while quiet.state() != Idle {
            say(&called, "slow:50").await.expect("an answer");
        }
        assert_eq!((called.state(), for_ever.state()), (Ready, Ready));
        hello(&quiet).await.expect("a call wakes it");
    }
    assert_eq!(other.connections(), 3, "this one was IDLE twice");
    assert_eq!((busy.connections(), unused.connections()), (1, 1));
}

// T12
#[tokio::test]
async fn a_call_that_waits_keeps_its_channel_from_idle() {
    let silent = Backend::builder().scripted().start().await;
    silent.script_watch(WatchScript::HoldFirst);
    let builder = balanced(&[&silent], Some(GREETER)).idle_timeout(TIMEOUT);
    let channel = builder.build();
    let waiting = start(&channel, "you");
    silent.until_watches(1).await;

    two_timeouts().await;
    assert_eq!((channel.state(), silent.watches()), (Connecting, 1));
    silent.release_watches();
    outcome(waiting).await.expect("health says yes");
}

// T12
#[tokio::test]
async fn a_call_in_flight_keeps_its_channel_from_idle_until_it_has_ended() {
    let [unary, streaming, removed, other] = Backend::builder()
        .start_each(["unary", "streaming", "removed", "other"])
        .await;
    let for_unary = quiet(&unary).await;
    let held = start(&for_unary, "hold");
    unary.until_held(1).await;
    let for_streaming = quiet(&streaming).await;
    let chat = Chat::start(&for_streaming).await;
    let (backends, builder) = by_hand(None);
    let for_removed = builder.idle_timeout(TIMEOUT).build();
    backends.insert("removed", removed.uri()).await;
    let old = Chat::start(&for_removed).await;
    backends.insert("other", other.uri()).await;
    backends.remove("removed").await;
    until_ready(&for_removed, &["other"]).await;

    two_timeouts().await;
    let busy = [&for_unary, &for_streaming, &for_removed];
    assert_eq!(busy.map(|channel| channel.state()), [Ready; 3]);

    unary.release();
    outcome(held).await.expect("an answer");
    chat.end().await;
    old.end().await;
    for channel in busy {
        until(channel, Idle).await;
    }
    for backend in [&unary, &streaming, &removed, &other] {
        backend.until_open_connections(0).await;
    }
}
