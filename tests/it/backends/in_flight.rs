//! How many calls a backend has, and that a channel with a call is not idle.

use std::time::Duration;

use testing::{
    Answer, Backend, Chat, GREETER, H2Peer, WatchScript, balanced, balanced_at, by_hand,
    health_checked, hello, outcome, say, start, until, until_backends, until_ready,
};
use tonic_health_channel::{
    Channel,
    ConnectivityState::{Idle, Ready, TransientFailure},
};

use super::first;

/// The calls in flight on each backend, in the order of the source.
fn in_flight(channel: &Channel) -> Vec<usize> {
    let backends = channel.backends();
    backends.iter().map(|b| b.calls_in_flight()).collect()
}

// D70
#[tokio::test]
async fn calls_are_counted_where_they_are_until_they_have_ended() {
    let start = Backend::builder().scripted();
    let [a, b] = start.start_each(["A", "B"]).await;
    let channel = health_checked(&[&a, &b]);
    until_backends(&channel, &[Ready, Ready]).await;
    assert_eq!([a.open_watches(), b.open_watches()], [1, 1]);
    assert_eq!(in_flight(&channel), [0, 0], "a Watch is no call");
    let shown = first(&channel);

    let mut chats: Vec<(String, Chat)> = Vec::new();
    for _ in 0..4 {
        let mut chat = Chat::start(&channel).await;
        let who = chat.greet("Ada").await.expect("an answer").backend;
        chats.push((who, chat));
        let on = |name| chats.iter().filter(|(who, _)| who == name).count();
        assert_eq!(in_flight(&channel), [on("A"), on("B")]);
    }
    assert_eq!(shown.calls_in_flight(), 2, "the number is of the moment");
    hello(&channel).await.expect("an answer");
    say(&channel, "fail:13").await.expect_err("it is to fail");
    assert_eq!(in_flight(&channel), [2, 2], "these have ended");

    let (_, dropped) = chats.pop().expect("four");
    drop(dropped);
    assert_eq!(in_flight(&channel).iter().sum::<usize>(), 3);
    for (_, chat) in chats {
        chat.end().await;
    }
    assert_eq!(in_flight(&channel), [0, 0]);
    assert_eq!(shown.calls_in_flight(), 0);
}

// D70
#[tokio::test]
async fn a_call_that_is_not_answered_counts_and_one_that_is_given_up_does_not() {
    let backend = Backend::start().await;
    let channel = balanced(&[&backend], None).build();
    let held = [start(&channel, "hold"), start(&channel, "hold")];
    backend.until_held(2).await;
    assert_eq!(in_flight(&channel), [2]);
    let [given_up, kept] = held;
    given_up.abort();
    given_up.await.expect_err("it was given up");
    assert_eq!(in_flight(&channel), [1]);
    backend.release();
    outcome(kept).await.expect("an answer");
    assert_eq!(in_flight(&channel), [0]);
}

// D70
#[tokio::test]
async fn calls_that_wait_are_on_no_backend() {
    let silent = Backend::builder().scripted().start().await;
    silent.script_watch(WatchScript::HoldFirst);
    let channel = health_checked(&[&silent]);
    let waiting = start(&channel, "hold");
    silent.until_watches(1).await;
    assert_eq!(in_flight(&channel), [0], "it waits for the health check");
    silent.release_watches();
    silent.until_held(1).await;
    assert_eq!(in_flight(&channel), [1]);
    silent.release();
    outcome(waiting).await.expect("an answer");

    let full = H2Peer::limited_to(1).await;
    full.answer_calls(Answer::KeepOpen);
    let channel = balanced_at([full.uri()], None).build();
    let calls = [start(&channel, "you"), start(&channel, "you")];
    full.until_open_calls(1).await;
    assert_eq!(in_flight(&channel), [1], "the other waits for a stream");
    full.end_open_calls(Answer::Ok);
    full.until_calls(2).await;
    full.until_open_calls(1).await;
    assert_eq!(in_flight(&channel), [1], "its turn has come");
    full.end_open_calls(Answer::Ok);
    for call in calls {
        outcome(call).await.expect("an answer");
    }
    assert_eq!(in_flight(&channel), [0]);
}

// D70
#[tokio::test]
async fn a_backend_keeps_its_calls_through_health_reconnects_and_removal() {
    let backend = Backend::builder().scripted().start().await;
    let (backends, builder) = by_hand(Some(GREETER));
    let channel = builder.build();
    backends.insert("A", backend.uri()).await;
    until_ready(&channel, &["A"]).await;
    let mut chat = Chat::start(&channel).await;
    chat.greet("Ada").await.expect("an answer");

    backend.set_not_serving(GREETER).await;
    until(&channel, TransientFailure).await;
    assert_eq!(in_flight(&channel), [1], "the Chat goes on");
    backend.set_serving(GREETER).await;
    until(&channel, Ready).await;
    hello(&channel).await.expect("an answer");
    assert_eq!(in_flight(&channel), [1]);

    let shown = first(&channel);
    backends.remove("A").await;
    until(&channel, TransientFailure).await;
    assert_eq!(shown.calls_in_flight(), 1, "also where it is shown no more");
    chat.end().await;
    assert_eq!(shown.calls_in_flight(), 0);
}

// D70
#[tokio::test]
async fn calls_that_are_lost_with_their_connection_are_counted_no_more() {
    let backend = Backend::start().await;
    let channel = balanced(&[&backend], None).build();
    let held = start(&channel, "hold");
    backend.until_held(1).await;
    assert_eq!(in_flight(&channel), [1]);
    backend.cut_connections();
    outcome(held).await.expect_err("its connection is gone");
    assert_eq!(in_flight(&channel), [0]);
    until(&channel, Ready).await;
    let held = start(&channel, "hold");
    backend.until_held(1).await;
    assert_eq!(in_flight(&channel), [1], "on the next connection");
    backend.release();
    outcome(held).await.expect("an answer");
}

/// The shortest there is.
const IDLE_TIMEOUT: Duration = Duration::from_secs(1);

// T12
#[tokio::test]
async fn a_channel_with_a_response_that_is_still_read_is_not_idle() {
    let [busy, left, quiet] = Backend::builder()
        .start_each(["busy", "left", "quiet"])
        .await;
    let (backends, builder) = by_hand(None);
    let channel = builder.idle_timeout(IDLE_TIMEOUT).build();
    backends.insert("busy", busy.uri()).await;
    until_ready(&channel, &["busy"]).await;
    let mut chat = Chat::start(&channel).await;
    chat.greet("Ada").await.expect("an answer");

    // A channel that is without its backend, but not without its call.
    let (taken_back, builder) = by_hand(None);
    let leaving = builder.idle_timeout(IDLE_TIMEOUT).build();
    taken_back.insert("left", left.uri()).await;
    until_ready(&leaving, &["left"]).await;
    let mut last = Chat::start(&leaving).await;
    last.greet("Ada").await.expect("an answer");
    taken_back.remove("left").await;
    until(&leaving, TransientFailure).await;

    // One that has nothing to do tells the time: twice, as it began last.
    let clock = balanced(&[&quiet], None);
    let clock = clock.idle_timeout(IDLE_TIMEOUT).build();
    for _ in 0..2 {
        until(&clock, Ready).await;
        until(&clock, Idle).await;
        clock.request_connection();
    }
    assert_eq!(channel.state(), Ready);
    assert_eq!(leaving.state(), TransientFailure);
    chat.greet("Bob").await.expect("it is open");
    last.greet("Bob").await.expect("it is open");

    chat.end().await;
    last.end().await;
    until(&channel, Idle).await;
    until(&leaving, Idle).await;
    busy.until_open_connections(0).await;
    assert_eq!(busy.connections(), 1);
}
