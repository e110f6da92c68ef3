//! The set of backends changes, and the channel's state follows.

use std::time::Duration;

use testing::{
    Backend, GREETER, Peer, PeerScript, WatchScript, by_hand, call, dead_addr, health_checked,
    hello, outcome, refusal, request_within, spread, start, until, until_backends, until_ready,
};
use tonic::Code;
use tonic_health_channel::{
    ConnectivityState::{Connecting, Ready, TransientFailure},
    status::CauseKind,
};

// R01, T08
#[tokio::test]
async fn before_the_source_says_anything_calls_wait_until_their_deadline() {
    let (_silent, builder) = by_hand(None);
    let channel = builder.build();
    assert_eq!(channel.state(), Connecting);

    let hurried = request_within("you", Duration::from_millis(100));
    let status = call(&channel, hurried).await.expect_err("nobody to call");
    assert_eq!(status.code(), Code::DeadlineExceeded, "{status}");
    assert_eq!(channel.state(), Connecting, "silence is no failure");
}

// R15, P07
#[tokio::test]
async fn a_call_that_waits_for_the_first_backend_is_sent_once() {
    let backend = Backend::start().await;
    let (backends, builder) = by_hand(None);
    let channel = builder.build();
    let waiting = start(&channel, "you");

    backends.insert("A", backend.uri()).await;
    outcome(waiting).await.expect("a backend came");
    assert_eq!(backend.hits(), 1);
}

// R03
#[tokio::test]
async fn a_set_that_is_emptied_fails_calls_with_no_backends() {
    let backend = Backend::start().await;
    let (backends, builder) = by_hand(None);
    let channel = builder.build();
    backends.insert("A", backend.uri()).await;
    until(&channel, Ready).await;

    backends.remove("A").await;
    until(&channel, TransientFailure).await;
    let text = refusal(&channel).await;
    assert!(text.contains("no backends"), "{text}");
    let status = channel.status();
    let cause = status.cause().expect("an empty set has a cause");
    assert_eq!(cause.kind(), CauseKind::NoBackends);
    assert!(status.backends().is_empty());
}

// R20
#[tokio::test]
async fn a_set_that_is_empty_before_anybody_is_ready_fails_the_calls_that_wait() {
    let silent = Peer::start(PeerScript::Silent).await;
    let (backends, builder) = by_hand(None);
    let channel = builder.build();
    backends.insert("silent", silent.uri()).await;
    silent.until_connections(1).await;
    let waiting = start(&channel, "you");
    backends.remove("silent").await;
    let status = outcome(waiting).await.expect_err("there is nobody");
    assert_eq!(status.code(), Code::Unavailable, "{status}");
    assert_eq!(
        status.message(),
        "no healthy backend: no backends: the source produced zero addresses"
    );
    assert_eq!(channel.state(), TransientFailure);

    let backend = Backend::start().await;
    backends.insert("A", backend.uri()).await;
    until(&channel, Ready).await;
    hello(&channel).await.expect("now there is one");
}

// R27
#[tokio::test]
async fn every_backend_is_dialled_and_the_first_that_is_ready_takes_all_calls() {
    let start = Backend::builder().scripted();
    let [a, b, c] = start.start_each(["A", "B", "C"]).await;
    let all = [&a, &b, &c];
    for backend in all {
        backend.script_watch(WatchScript::HoldFirst);
    }
    let channel = health_checked(&all);
    for backend in all {
        backend.until_open_watches(1).await;
    }
    assert_eq!(channel.state(), Connecting);

    b.release_watches();
    until_backends(&channel, &[Connecting, Ready, Connecting]).await;
    assert_eq!(channel.state(), Ready);
    assert_eq!(spread(&channel, 6, &all).await, [0, 6, 0]);

    a.release_watches();
    c.release_watches();
    until_backends(&channel, &[Ready; 3]).await;
    assert_eq!(spread(&channel, 6, &all).await, [2, 2, 2]);
    let connections = all.map(|backend| backend.connections());
    assert_eq!(connections, [1; 3], "no call made another connection");
}

// R28
#[tokio::test]
async fn an_update_touches_only_the_backends_that_come_and_go() {
    let start = Backend::builder().scripted();
    let [a, b, c, d] = start.start_each(["A", "B", "C", "D"]).await;
    let (backends, builder) = by_hand(Some(GREETER));
    let channel = builder.build();
    for (name, backend) in [("A", &a), ("B", &b), ("C", &c)] {
        backends.insert(name, backend.uri()).await;
    }
    until_ready(&channel, &["A", "B", "C"]).await;
    let before = channel.backends();

    for (name, backend) in [("A", &a), ("C", &c), ("D", &d)] {
        backends.insert(name, backend.uri()).await;
    }
    backends.remove("B").await;
    until_ready(&channel, &["A", "C", "D"]).await;
    b.until_open_connections(0).await;
    let after = channel.backends();
    assert_eq!([&after[0], &after[1]], [&before[0], &before[2]]);
    for kept in [&a, &c, &d] {
        let made = (kept.connections(), kept.watches(), kept.open_watches());
        assert_eq!(made, (1, 1, 1), "{}", kept.name());
    }
    assert_eq!(spread(&channel, 6, &[&a, &b, &c, &d]).await, [2, 0, 2, 2]);
}

// R08
#[tokio::test]
async fn the_channel_is_what_its_best_backend_is() {
    let silent = Peer::start(PeerScript::Silent).await;
    let good = Backend::start().await;
    let nobody = dead_addr();
    let (backends, builder) = by_hand(None);
    let channel = builder.build();

    backends.insert("nobody", nobody.uri()).await;
    until(&channel, TransientFailure).await;
    backends.insert("silent", silent.uri()).await;
    until(&channel, Connecting).await;
    backends.insert("good", good.uri()).await;
    until(&channel, Ready).await;
    until_backends(&channel, &[TransientFailure, Connecting, Ready]).await;
    hello(&channel).await.expect("one is enough");

    backends.remove("good").await;
    until(&channel, Connecting).await;
    backends.remove("silent").await;
    until(&channel, TransientFailure).await;
    backends.remove("nobody").await;
    until_backends(&channel, &[]).await;
    until(&channel, TransientFailure).await;
}

// R16
#[tokio::test]
async fn calls_follow_the_set_from_update_to_update() {
    let [a, b, c] = Backend::builder().start_each(["A", "B", "C"]).await;
    let all = [&a, &b, &c];
    let (backends, builder) = by_hand(None);
    let channel = builder.build();

    backends.insert("A", a.uri()).await;
    until_backends(&channel, &[Ready]).await;
    assert_eq!(spread(&channel, 6, &all).await, [6, 0, 0]);

    backends.insert("B", b.uri()).await;
    until_backends(&channel, &[Ready; 2]).await;
    backends.remove("A").await;
    until_backends(&channel, &[Ready]).await;
    assert_eq!(spread(&channel, 6, &all).await, [0, 6, 0]);

    backends.insert("A", a.uri()).await;
    backends.insert("C", c.uri()).await;
    until_backends(&channel, &[Ready; 3]).await;
    assert_eq!(spread(&channel, 6, &all).await, [2, 2, 2]);

    backends.remove("B").await;
    until_backends(&channel, &[Ready; 2]).await;
    assert_eq!(spread(&channel, 6, &all).await, [3, 0, 3]);

    backends.remove("A").await;
    backends.remove("C").await;
    until(&channel, TransientFailure).await;
    refusal(&channel).await;
    for backend in all {
        backend.until_open_connections(0).await;
    }

    backends.insert("B", b.uri()).await;
    until(&channel, Ready).await;
    assert_eq!(spread(&channel, 6, &all).await, [0, 6, 0]);
}

// P09
#[tokio::test]
async fn the_whole_set_can_be_swapped_under_load() {
    let [old, new] = Backend::builder().start_each(["old", "new"]).await;
    let (backends, builder) = by_hand(None);
    let channel = builder.build();
    backends.insert("old", old.uri()).await;
    until(&channel, Ready).await;
    let held = start(&channel, "hold");
    old.until_held(1).await;

    backends.insert("new", new.uri()).await;
    backends.remove("old").await;
    for _ in 0..20 {
        hello(&channel)
            .await
            .expect("one of the two is always there");
    }
    until_ready(&channel, &["new"]).await;
    assert_eq!(spread(&channel, 5, &[&old, &new]).await, [0, 5]);

    assert_eq!(old.open_connections(), 1, "its call keeps it open");
    old.release();
    assert_eq!(outcome(held).await.expect("it finishes").backend, "old");
    old.until_open_connections(0).await;
}

// R18
#[tokio::test]
async fn a_set_that_is_named_again_and_again_costs_no_call_and_no_connection() {
    let names = ["A", "B", "C", "D"];
    let started = Backend::builder().start_each(names).await;
    let (backends, builder) = by_hand(None);
    let channel = builder.build();
    let mut rng = fastrand::Rng::with_seed(18);
    let mut shuffled = [0, 1, 2, 3];
    for round in 0..1_000 {
        rng.shuffle(&mut shuffled);
        for i in shuffled {
            backends.insert(names[i], started[i].uri()).await;
        }
        if round % 10 == 0 {
            hello(&channel).await.expect("every update names them all");
        }
    }
    until_backends(&channel, &[Ready; 4]).await;
    for backend in &started {
        assert_eq!(backend.connections(), 1, "{} stayed", backend.name());
    }
}
