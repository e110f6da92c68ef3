//! `round_robin` over those that are READY.

use std::collections::BTreeMap;

use testing::{
    Backend, GREETER, balanced, by_hand, dead_addr, endpoint, health_checked, hello, order,
    refusal, spread, until, until_backends, within,
};
use tonic_health_channel::ConnectivityState::{Ready, TransientFailure};

/// Asserts that `order` repeats one round in which each of `names` has a turn.
#[track_caller]
fn assert_rotation(order: &[String], names: &[&str]) {
    let (round, rest) = order.split_at(names.len());
    let mut sorted = round.to_vec();
    sorted.sort();
    assert_eq!(sorted, names, "a round is one turn for each");
    for (i, name) in rest.iter().enumerate() {
        let expected = &round[i % round.len()];
        assert_eq!(name, expected, "every round is like the first: {order:?}");
    }
}

// R02
#[tokio::test]
async fn five_backends_take_turns_strictly() {
    let names = ["A", "B", "C", "D", "E"];
    let backends = Backend::builder().start_each(names).await;
    let all: Vec<_> = backends.iter().collect();
    let channel = balanced(&all, None).build();
    until_backends(&channel, &[Ready; 5]).await;

    assert_rotation(&order(&channel, 25).await, &names);
    assert_eq!(spread(&channel, 50, &all).await, [10; 5]);
    for backend in all {
        assert_eq!(backend.connections(), 1, "one connection takes all calls");
    }
}

// R14
#[tokio::test]
async fn turns_are_in_the_order_of_the_list() {
    let [a, b, c] = Backend::builder().start_each(["A", "B", "C"]).await;
    let channel = balanced(&[&c, &a, &b], None).build();
    until_backends(&channel, &[Ready; 3]).await;

    let order = order(&channel, 7).await.concat();
    assert!(
        "CABCABCABC".contains(&order),
        "the turns may begin anywhere in C, A, B and keep to it, but were {order}"
    );
}

// R33
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn callers_that_race_still_take_turns() {
    let [a, b, c] = Backend::builder().start_each(["A", "B", "C"]).await;
    let all = [&a, &b, &c];
    let channel = balanced(&all, None).build();
    until_backends(&channel, &[Ready; 3]).await;

    let callers = (0..12).map(|_| {
        let channel = channel.clone();
        tokio::spawn(async move {
            for _ in 0..25 {
                hello(&channel).await.expect("an answer");
            }
        })
    });
    let callers = futures_util::future::join_all(callers);
    for caller in within("twelve callers to be done", callers).await {
        caller.expect("a caller does not panic");
    }
    assert_eq!(
        all.map(|backend| backend.hits()),
        [100; 3],
        "300 calls are 100 rounds, whoever made them"
    );
}

// R05, R26
#[tokio::test]
async fn a_backend_that_dies_is_left_out_until_it_is_back() {
    let [a, b, c] = Backend::builder().start_each(["A", "B", "C"]).await;
    let all = [&a, &b, &c];
    let channel = balanced(&all, None).build();
    until_backends(&channel, &[Ready; 3]).await;

    b.kill().await;
    until_backends(&channel, &[Ready, TransientFailure, Ready]).await;
    assert_eq!(spread(&channel, 10, &all).await, [5, 0, 5]);

    b.restart().await;
    until_backends(&channel, &[Ready; 3]).await;
    assert_eq!(spread(&channel, 9, &all).await, [3, 3, 3]);
    assert_eq!(
        all.map(|backend| backend.connections()),
        [1, 2, 1],
        "only the one that died was dialled again, and once"
    );
}

// R06, R21
#[tokio::test]
async fn when_all_die_calls_fail_and_when_one_is_back_they_do_not() {
    let [a, b] = Backend::builder().start_each(["A", "B"]).await;
    let all = [&a, &b];
    let channel = balanced(&all, None).build();
    until(&channel, Ready).await;

    for backend in all {
        backend.kill().await;
    }
    until(&channel, TransientFailure).await;
    let text = refusal(&channel).await;
    for backend in all {
        let named = format!("{} connect: connection refused", backend.addr());
        assert!(text.contains(&named), "{text}");
    }

    a.restart().await;
    until(&channel, Ready).await;
    assert_eq!(spread(&channel, 4, &all).await, [4, 0]);
}

// R17
#[tokio::test]
async fn an_address_where_nobody_listens_fails_no_call() {
    let [a, b] = Backend::builder().start_each(["A", "B"]).await;
    let nobody = dead_addr();
    let (backends, builder) = by_hand(None);
    let channel = builder.build();
    backends.insert("A", a.uri()).await;
    until(&channel, Ready).await;

    backends.insert("nobody", nobody.uri()).await;
    backends.insert("B", b.uri()).await;
    assert_eq!(
        spread(&channel, 10, &[&a, &b]).await.iter().sum::<usize>(),
        10
    );
    until_backends(&channel, &[Ready, TransientFailure, Ready]).await;
    assert_eq!(spread(&channel, 10, &[&a, &b]).await, [5, 5]);
}

// R35
#[tokio::test]
async fn what_happens_to_one_backend_does_not_touch_another() {
    let start = Backend::builder().scripted();
    let [a, b] = start.start_each(["A", "B"]).await;
    let channel = health_checked(&[&a, &b]);
    until_backends(&channel, &[Ready; 2]).await;
    let before = channel.backends();

    b.set_not_serving(GREETER).await;
    until_backends(&channel, &[Ready, TransientFailure]).await;
    b.kill().await;
    until(&channel, Ready).await;
    b.restart().await;
    b.set_serving(GREETER).await;
    until_backends(&channel, &[Ready; 2]).await;

    let after = channel.backends();
    assert_eq!(before[0], after[0], "nothing about A has changed");
    assert_ne!(before[1], after[1], "B has a failure behind it");
    assert_eq!((a.connections(), a.watches()), (1, 1));
}

// R36
#[tokio::test]
async fn a_connected_backend_gets_calls_only_while_it_is_healthy() {
    let healthy = Backend::builder().scripted().name("A").start().await;
    let sick = Backend::builder().scripted().name("B").not_serving(GREETER);
    let sick = sick.start().await;
    let all = [&healthy, &sick];
    let channel = health_checked(&all);
    until_backends(&channel, &[Ready, TransientFailure]).await;
    assert_eq!(spread(&channel, 4, &all).await, [4, 0]);

    sick.set_serving(GREETER).await;
    until_backends(&channel, &[Ready; 2]).await;
    assert_eq!(spread(&channel, 4, &all).await, [2, 2]);
    assert_eq!(sick.connections(), 1, "health never costs a connection");
}

// R38
#[tokio::test]
async fn a_backend_listed_twice_is_one_backend() {
    let [a, b] = Backend::builder().start_each(["A", "B"]).await;
    let list = [&a, &b, &a].map(|backend| endpoint(backend.uri()));
    let channel = tonic_health_channel::Channel::balance_list(list.into_iter());
    until_backends(&channel, &[Ready; 2]).await;

    let counts = order(&channel, 10).await.into_iter().fold(
        BTreeMap::new(),
        |mut counts: BTreeMap<String, usize>, name| {
            *counts.entry(name).or_default() += 1;
            counts
        },
    );
    assert_eq!(counts.into_values().collect::<Vec<_>>(), [5, 5]);
    assert_eq!(a.connections(), 1);
}
