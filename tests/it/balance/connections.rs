//! Backends with several connections for their calls.

use std::num::NonZeroUsize;

use futures_util::StreamExt;
use testing::{
    Answer, Backend, GREETER, H2Peer, Pending, balanced, balanced_at, by_hand, endpoint, hello,
    outcome, spread, start, until, until_backends, until_that, within,
};
use tonic::Code;
use tonic_health_channel::{
    Channel,
    ConnectivityState::{self, Ready, TransientFailure},
    channel::Change,
    discover,
};
use tower::ServiceExt;

/// A number of connections.
fn times(n: usize) -> NonZeroUsize {
    NonZeroUsize::new(n).expect("above 0")
}

/// Awaits that each backend has so many connections for calls.
async fn until_connected(channel: &Channel, connections: &[usize]) {
    let what = format!("the backends to have {connections:?} connections");
    until_that(channel, &what, |status| {
        let now = status.backends().iter().map(|b| b.connections());
        now.eq(connections.iter().copied())
    })
    .await;
}

/// Calls that the backend holds, one begun after the other.
async fn hold(channel: &Channel, backend: &Backend, calls: usize) -> Vec<Pending> {
    let mut held = Vec::new();
    for _ in 0..calls {
        held.push(start(channel, "hold"));
        backend.until_held(held.len()).await;
    }
    held
}

/// How many of the calls were answered; the others broke with their connection.
async fn answered(calls: Vec<Pending>) -> usize {
    let mut answered = 0;
    for call in calls {
        match outcome(call).await {
            Ok(_) => answered += 1,
            Err(status) => {
                assert_eq!(status.code(), Code::Unavailable, "{status}");
                assert!(status.message().starts_with("stream to "), "{status}");
            }
        }
    }
    answered
}

/// All states that the channel has been in when it is done.
fn states(channel: &Channel) -> tokio::task::JoinHandle<Vec<ConnectivityState>> {
    let mut watch = channel.watch_status();
    tokio::spawn(async move {
        let mut states = vec![watch.status().state()];
        while let Some(status) = watch.changed().await {
            states.push(status.state());
        }
        states
    })
}

// D165
#[tokio::test]
async fn a_backend_has_several_connections_and_one_watch() {
    let backend = Backend::builder().scripted().start().await;
    let builder = balanced(&[&backend], Some(GREETER));
    let channel = builder.connections_per_backend(times(3)).build();
    until_connected(&channel, &[3]).await;
    assert_eq!(spread(&channel, 9, &[&backend]).await, [9]);
    assert_eq!((backend.connections(), backend.open_connections()), (3, 3));
    assert_eq!((backend.watches(), backend.open_watches()), (1, 1));
}

// D165
#[tokio::test]
async fn one_connection_is_all_there_is_unless_more_are_asked_for() {
    let [a, b] = Backend::builder().start_each(["A", "B"]).await;
    let several = endpoint(b.uri()).connections_per_backend(times(2));
    let list = discover::list([endpoint(a.uri()), several]).expect("endpoints");
    let channel = Channel::balance(list).build();
    until_connected(&channel, &[1, 2]).await;
    assert_eq!((a.connections(), b.connections()), (1, 2));
}

// D165
#[tokio::test]
async fn a_channel_to_one_endpoint_can_have_several_connections() {
    let backend = Backend::start().await;
    let endpoint = endpoint(backend.uri()).connections_per_backend(times(3));
    let channel = endpoint.connect().await.expect("it listens");
    until_connected(&channel, &[3]).await;
    let held = hold(&channel, &backend, 3).await;
    backend.cut_connection(2);
    backend.release();
    assert!(
        (2..=3).contains(&answered(held).await),
        "one was on the third"
    );
}

// D169
#[tokio::test]
async fn more_calls_are_in_flight_than_one_connection_allows() {
    let peer = H2Peer::limited_to(2).await;
    peer.answer_calls(Answer::KeepOpen);
    let builder = balanced_at([peer.uri()], None);
    let channel = builder.connections_per_backend(times(3)).build();
    until_connected(&channel, &[3]).await;
    let calls: Vec<_> = (0..7).map(|_| start(&channel, "you")).collect();
    peer.until_open_calls(6).await;
    assert_eq!(peer.most_open_streams(), 2, "the limit is kept");
    assert_eq!(peer.calls(), 6, "the seventh waits");

    peer.answer_calls(Answer::Ok);
    peer.end_open_calls(Answer::Ok);
    assert_eq!(answered(calls).await, 7);
}

// D169
#[tokio::test]
async fn a_call_that_waits_for_a_stream_gets_it_on_the_connection_that_joins() {
    let peer = H2Peer::limited_to(1).await;
    peer.answer_calls(Answer::KeepOpen);
    let builder = balanced_at([peer.uri()], None);
    let channel = builder.connections_per_backend(times(2)).build();
    let calls = [start(&channel, "you"), start(&channel, "you")];
    peer.until_open_calls(2).await;
    assert_eq!((peer.connections(), peer.most_open_streams()), (2, 1));
    peer.end_open_calls(Answer::Ok);
    assert_eq!(answered(calls.into()).await, 2);
}

// D169
#[tokio::test]
async fn calls_take_the_connections_of_a_backend_in_turn() {
    let peer = H2Peer::start().await;
    peer.answer_calls(Answer::KeepOpen);
    let builder = balanced_at([peer.uri()], None);
    let channel = builder.connections_per_backend(times(4)).build();
    until_connected(&channel, &[4]).await;
    let calls: Vec<_> = (0..12).map(|_| start(&channel, "you")).collect();
    peer.until_open_calls(12).await;
    assert_eq!(peer.most_open_streams(), 3, "12 calls on 4 connections");
    peer.end_open_calls(Answer::Ok);
    assert_eq!(answered(calls).await, 12);
}

// D169
#[tokio::test]
async fn the_share_of_a_backend_does_not_depend_on_its_connections() {
    let [a, b, c] = Backend::builder().start_each(["A", "B", "C"]).await;
    let endpoints = [(&a, 1), (&b, 3), (&c, 4)]
        .map(|(backend, n)| endpoint(backend.uri()).connections_per_backend(times(n)));
    let list = discover::list(endpoints).expect("endpoints");
    let channel = Channel::balance(list).build();
    until_connected(&channel, &[1, 3, 4]).await;
    assert_eq!(spread(&channel, 36, &[&a, &b, &c]).await, [12; 3]);
}

// D167
#[tokio::test]
async fn a_connection_that_is_lost_takes_only_its_own_calls_and_comes_back() {
    let backend = Backend::builder().scripted().start().await;
    let builder = balanced(&[&backend], Some(GREETER));
    let channel = builder.connections_per_backend(times(3)).build();
    until_connected(&channel, &[3]).await;
    let states = states(&channel);
    let held = hold(&channel, &backend, 3).await;

    backend.cut_connection(1);
    backend.until_connections(4).await;
    until_connected(&channel, &[3]).await;
    assert_eq!(spread(&channel, 6, &[&backend]).await, [6]);
    backend.release();
    assert_eq!(answered(held).await, 2, "the third was on it");
    assert_eq!(backend.open_connections(), 3);
    assert_eq!((backend.watches(), backend.open_watches()), (1, 1));

    channel.close().await;
    let states = within("the states", states).await.expect("no panic");
    let (last, before) = states.split_last().expect("at least the first");
    assert_eq!(*last, ConnectivityState::Shutdown);
    assert!(before.iter().all(|state| *state == Ready), "{states:?}");
}

// D168
#[tokio::test]
async fn the_watch_moves_when_the_first_connection_is_lost() {
    let backend = Backend::builder().scripted().start().await;
    let builder = balanced(&[&backend], Some(GREETER));
    let channel = builder.connections_per_backend(times(3)).build();
    until_connected(&channel, &[3]).await;
    let states = states(&channel);
    let held = hold(&channel, &backend, 3).await;

    backend.cut_connection(0);
    backend.until_watches(2).await;
    assert_eq!(spread(&channel, 6, &[&backend]).await, [6]);
    until_connected(&channel, &[3]).await;
    backend.release();
    assert_eq!(answered(held).await, 2, "the third was on it");
    backend.until_open_watches(1).await;

    channel.close().await;
    let states = within("the states", states).await.expect("no panic");
    let (_, before) = states.split_last().expect("at least the first");
    assert!(before.iter().all(|state| *state == Ready), "{states:?}");
}

// D168
#[tokio::test]
async fn the_watch_that_has_moved_goes_on_to_decide() {
    let backend = Backend::builder().scripted().start().await;
    let builder = balanced(&[&backend], Some(GREETER));
    let channel = builder.connections_per_backend(times(2)).build();
    until_connected(&channel, &[2]).await;
    backend.cut_connection(0);
    backend.until_watches(2).await;
    backend.set_not_serving(GREETER).await;
    until(&channel, TransientFailure).await;
    hello(&channel).await.expect_err("both are out");
    backend.set_serving(GREETER).await;
    until(&channel, Ready).await;
    until_connected(&channel, &[2]).await;
    assert_eq!(spread(&channel, 4, &[&backend]).await, [4]);
}

// D167, D168
#[tokio::test]
async fn a_goaway_retires_one_connection_alone() {
    for number in [0, 1] {
        let peer = H2Peer::start().await;
        let builder = balanced_at([peer.uri()], Some(GREETER));
        let channel = builder.connections_per_backend(times(2)).build();
        until_connected(&channel, &[2]).await;
        peer.answer_calls(Answer::KeepOpen);
        let calls = [start(&channel, "you"), start(&channel, "you")];
        peer.until_open_calls(2).await;

        peer.go_away_on(number);
        peer.until_connections(3).await;
        peer.answer_calls(Answer::Ok);
        for _ in 0..4 {
            hello(&channel).await.expect("an answer");
        }
        assert_eq!(channel.state(), Ready);
        peer.end_open_calls(Answer::Ok);
        assert_eq!(answered(calls.into()).await, 2, "both go on to their ends");
        until_connected(&channel, &[2]).await;
        peer.until_open_connections(2).await;
        peer.until_open_watches(1).await;
    }
}

// D165
#[tokio::test]
async fn an_unhealthy_backend_offers_none_of_its_connections() {
    let start = Backend::builder().scripted();
    let [a, b] = start.start_each(["A", "B"]).await;
    let builder = balanced(&[&a, &b], Some(GREETER));
    let channel = builder.connections_per_backend(times(3)).build();
    until_connected(&channel, &[3, 3]).await;
    assert_eq!(spread(&channel, 12, &[&a, &b]).await, [6, 6]);

    a.set_not_serving(GREETER).await;
    until_backends(&channel, &[TransientFailure, Ready]).await;
    assert_eq!(spread(&channel, 12, &[&a, &b]).await, [0, 12]);
    a.set_serving(GREETER).await;
    until_backends(&channel, &[Ready; 2]).await;
    assert_eq!(spread(&channel, 12, &[&a, &b]).await, [6, 6]);
    assert_eq!((a.connections(), b.connections()), (3, 3));
    assert_eq!((a.watches(), b.watches()), (1, 1));
}

// D168
#[tokio::test]
async fn a_backend_that_dies_comes_back_with_all_its_connections() {
    let [a, b] = Backend::builder().scripted().start_each(["A", "B"]).await;
    let builder = balanced(&[&a, &b], Some(GREETER));
    let channel = builder.connections_per_backend(times(3)).build();
    until_connected(&channel, &[3, 3]).await;
    a.kill().await;
    until_backends(&channel, &[TransientFailure, Ready]).await;
    until_connected(&channel, &[0, 3]).await;
    assert_eq!(spread(&channel, 4, &[&a, &b]).await, [0, 4]);
    a.restart().await;
    until_connected(&channel, &[3, 3]).await;
    assert_eq!(spread(&channel, 12, &[&a, &b]).await, [6, 6]);
    a.until_open_watches(1).await;
}

// D170
#[tokio::test]
async fn a_limit_of_one_gets_the_watch_a_connection_beside_those_for_calls() {
    let builder = Backend::builder().scripted().max_concurrent_streams(1);
    let backend = builder.start().await;
    let builder = balanced(&[&backend], Some(GREETER));
    let channel = builder.connections_per_backend(times(2)).build();
    until_connected(&channel, &[2]).await;
    let held = hold(&channel, &backend, 2).await;
    assert_eq!(backend.open_connections(), 3);
    assert_eq!((backend.watches(), backend.open_watches()), (1, 1));
    backend.release();
    assert_eq!(answered(held).await, 2);

    backend.cut_connections();
    backend.until_watches(2).await;
    until_connected(&channel, &[2]).await;
    hello(&channel).await.expect("it is connected again");
    backend.until_open_connections(3).await;
}

// D172
#[tokio::test]
async fn other_balancers_see_the_first_connection() {
    let backend = Backend::builder().scripted().start().await;
    let builder = balanced(&[&backend], Some(GREETER));
    let channel = builder.connections_per_backend(times(2)).build();
    let mut backends = channel.ready_backends();
    let mut next = async || match within("a change", backends.next()).await {
        Some(Ok(Change::Insert(id, connection))) => (id, connection),
        other => panic!("{other:?} is no new connection"),
    };
    let (id, first) = next().await;
    until_connected(&channel, &[2]).await;
    backend.cut_connection(0);
    let (same, mut second) = next().await;
    assert_eq!(same, id);
    within("the new one to be ready", second.ready())
        .await
        .expect("it is up");
    drop((first, second));
}

// D165
#[tokio::test]
async fn nothing_is_left_of_several_connections() {
    let [a, b, c] = Backend::builder()
        .scripted()
        .start_each(["A", "B", "C"])
        .await;
    let (backends, builder) = by_hand(Some(GREETER));
    let channel = builder.connections_per_backend(times(3)).build();
    backends.insert("A", a.uri()).await;
    backends.insert("B", b.uri()).await;
    until_connected(&channel, &[3, 3]).await;

    let held = vec![start(&channel, "hold"), start(&channel, "hold")];
    a.until_held(1).await;
    b.until_held(1).await;
    backends.remove("A").await;
    backends.insert("C", c.uri()).await;
    until_connected(&channel, &[3, 3]).await;
    a.until_open_connections(1).await;
    a.release();
    b.release();
    assert_eq!(answered(held).await, 2, "they went on to their ends");
    a.until_open_connections(0).await;

    channel.enter_idle();
    for backend in [&b, &c] {
        backend.until_open_connections(0).await;
    }
    channel.request_connection();
    until_connected(&channel, &[3, 3]).await;
    drop(channel);
    for backend in [&b, &c] {
        backend.until_open_watches(0).await;
        backend.until_open_connections(0).await;
    }
}
