//! IDLE: how a channel is put there, and what wakes it.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Duration,
};

use testing::{
    Backend, Chat, WatchScript, balanced, by_hand, call, health_checked, hello, outcome,
    request_within, start, until, until_backends, within,
};
use tokio::task::JoinSet;
use tonic::Code;
use tonic_health_channel::{
    Channel,
    ConnectivityState::{Connecting, Idle, Ready},
};

async fn idle(channel: &Channel) {
    channel.enter_idle();
    until(channel, Idle).await;
}

// T13
#[tokio::test]
async fn an_idle_channel_has_let_go_of_everything_and_connects_when_asked() {
    let [a, b] = Backend::builder().scripted().start_each(["A", "B"]).await;
    let channel = health_checked(&[&a, &b]);
    until_backends(&channel, &[Ready; 2]).await;

    idle(&channel).await;
    until_backends(&channel, &[Idle; 2]).await;
    for backend in [&a, &b] {
        backend.until_open_watches(0).await;
        backend.until_open_connections(0).await;
        assert_eq!(backend.connections(), 1, "nobody wants another");
    }

    channel.request_connection();
    until_backends(&channel, &[Ready; 2]).await;
    assert_eq!([a.hits(), b.hits()], [0; 2], "no call was needed");
    assert_eq!([a.watches(), b.watches()], [2; 2]);
}

// T12
#[tokio::test]
async fn a_call_wakes_an_idle_channel_and_is_answered() {
    let backend = Backend::builder().scripted().start().await;
    let channel = health_checked(&[&backend]);
    until(&channel, Ready).await;
    for _ in 0..3 {
        idle(&channel).await;
        backend.until_open_connections(0).await;
        hello(&channel).await.expect("a call wakes it");
        until(&channel, Ready).await;
    }
    assert_eq!((backend.hits(), backend.connections()), (3, 4));
}

// T08
#[tokio::test]
async fn while_the_source_is_silent_an_idle_channel_gets_to_connecting_and_stays() {
    let (_silent, builder) = by_hand(None);
    let channel = builder.build();
    idle(&channel).await;
    channel.request_connection();
    until(&channel, Connecting).await;

    idle(&channel).await;
    let hurried = request_within("you", Duration::from_millis(100));
    let status = call(&channel, hurried).await.expect_err("nobody to call");
    assert_eq!(status.code(), Code::DeadlineExceeded, "{status}");
    assert_eq!(channel.state(), Connecting, "silence is no failure");
}

#[tokio::test]
async fn a_set_that_changes_in_idle_is_for_when_the_channel_wakes() {
    let [old, new] = Backend::builder().start_each(["old", "new"]).await;
    let (backends, builder) = by_hand(None);
    let channel = builder.build();
    backends.insert("old", old.uri()).await;
    until(&channel, Ready).await;
    idle(&channel).await;

    backends.insert("new", new.uri()).await;
    until_backends(&channel, &[Idle; 2]).await;
    backends.remove("old").await;
    until_backends(&channel, &[Idle]).await;
    assert_eq!((channel.state(), new.connections()), (Idle, 0));

    let reply = hello(&channel).await.expect("a call wakes it");
    assert_eq!(reply.backend, "new");
    assert_eq!(old.connections(), 1);
}

#[tokio::test]
async fn a_call_in_flight_goes_on_while_its_channel_is_idle() {
    let backend = Backend::builder().scripted().start().await;
    let channel = health_checked(&[&backend]);
    let mut chat = Chat::start(&channel).await;
    chat.greet("you").await.expect("a greeting");

    idle(&channel).await;
    backend.until_open_watches(0).await;
    chat.greet("you").await.expect("a greeting all the same");
    assert_eq!(channel.state(), Idle, "to go on is not to wake");
    assert_eq!(backend.open_connections(), 1);
    chat.end().await;
    backend.until_open_connections(0).await;
}

#[tokio::test]
async fn calls_that_wait_wake_the_channel_at_once() {
    let backend = Backend::builder().scripted().start().await;
    backend.script_watch(WatchScript::HoldFirst);
    let channel = health_checked(&[&backend]);
    let waiting: Vec<_> = (0..10).map(|_| start(&channel, "you")).collect();
    backend.until_watches(1).await;

    channel.enter_idle();
    backend.until_watches(2).await;
    backend.release_watches();
    for call in waiting {
        outcome(call).await.expect("it still waits");
    }
    backend.until_open_connections(1).await;
    assert_eq!(backend.hits(), 10, "each was sent once");
}

#[tokio::test]
async fn what_is_asked_for_last_holds() {
    let backend = Backend::start().await;
    let channel = balanced(&[&backend], None).build();
    for _ in 0..20 {
        until(&channel, Ready).await;
        channel.request_connection();
        idle(&channel).await;
        backend.until_open_connections(0).await;
        assert_eq!(channel.state(), Idle, "the request came before");

        channel.request_connection();
        until(&channel, Ready).await;
        let before = backend.connections();
        channel.enter_idle();
        channel.request_connection();
        backend.until_connections(before + 1).await;
    }
    until(&channel, Ready).await;
}

#[tokio::test]
async fn who_waits_for_ready_is_not_left_in_idle() {
    let backend = Backend::builder().scripted().start().await;
    backend.script_watch(WatchScript::HoldFirst);
    let channel = health_checked(&[&backend]);
    let waiting = {
        let channel = channel.clone();
        tokio::spawn(async move { channel.wait_until_ready().await })
    };
    backend.until_watches(1).await;
    channel.enter_idle();
    backend.until_watches(2).await;
    backend.release_watches();
    let ready = within("the channel to be READY", waiting).await;
    ready.expect("no panic").expect("it is not closed");
}

// T12
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_hundred_rounds_of_idle_against_calls_fail_no_call() {
    const ROUNDS: usize = 200;
    const CALLERS: usize = 4;
    let backend = Backend::builder().scripted().start().await;
    let channel = health_checked(&[&backend]);
    let stop = Arc::new(AtomicBool::new(false));
    let mut callers = JoinSet::new();
    for _ in 0..CALLERS {
        let (channel, stop) = (channel.clone(), stop.clone());
        callers.spawn(async move {
            let mut calls: usize = 0;
            while !stop.load(Relaxed) {
                calls += 1;
                if let Err(status) = hello(&channel).await {
                    panic!("call {calls} failed: {status}");
                }
            }
            calls
        });
    }
    for _ in 0..ROUNDS {
        let before = backend.hits();
        channel.enter_idle();
        backend.until_hits(before + 1).await;
    }
    stop.store(true, Relaxed);
    let calls = within("every caller to end", callers.join_all()).await;
    assert_eq!(
        backend.hits(),
        calls.iter().sum::<usize>(),
        "sent once each"
    );
    let connections = backend.connections();
    assert!(connections > ROUNDS / 10, "{connections} connections only");

    idle(&channel).await;
    backend.until_open_watches(0).await;
    backend.until_open_connections(0).await;
}
