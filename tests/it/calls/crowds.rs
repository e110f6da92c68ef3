//! Many calls at a time.

use std::collections::BTreeSet;

use testing::{
    Answer, Backend, GREETER, H2Peer, balanced, by_hand, checking, health_checked, hello, outcome,
    request, start, until_backends, within,
};
use tokio::task::JoinSet;
use tonic::{Code, Status};
use tonic_health_channel::{Channel, ConnectivityState::Ready};

/// Starts `n` calls at once and awaits them all. Every call has its own name.
async fn crowd(channel: &Channel, n: usize) -> Vec<Result<String, Status>> {
    let mut calls = JoinSet::new();
    for i in 0..n {
        let mut client = testing::greeter(channel);
        calls.spawn(async move {
            let reply = client.say_hello(request(&i.to_string())).await?;
            Ok(reply.into_inner().message)
        });
    }
    within("every call of the crowd to end", calls.join_all()).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_thousand_calls_at_once_are_each_answered_once() {
    let backends = Backend::builder().start_each(["A", "B", "C"]).await;
    let all: Vec<_> = backends.iter().collect();
    let channel = balanced(&all, None).build();
    until_backends(&channel, &[Ready; 3]).await;

    let answers = crowd(&channel, 1000).await;
    let answers: BTreeSet<_> = answers
        .into_iter()
        .map(|answer| answer.expect("an answer"))
        .collect();
    let expected = (0..1000).map(|i| format!("Hello {i}!")).collect();
    assert_eq!(answers, expected, "everyone got his own answer");
    let mut hits: Vec<_> = all.iter().map(|backend| backend.hits()).collect();
    hits.sort_unstable();
    assert_eq!(
        hits,
        [333, 333, 334],
        "each call was sent once, in rotation"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn two_hundred_calls_go_through_two_backends_of_three_streams() {
    let peers = [H2Peer::limited_to(3).await, H2Peer::limited_to(3).await];
    let (backends, builder) = by_hand(None);
    let channel = builder.service_config(checking(GREETER)).build();
    backends.insert("A", peers[0].uri()).await;
    backends.insert("B", peers[1].uri()).await;
    until_backends(&channel, &[Ready; 2]).await;

    for answer in crowd(&channel, 200).await {
        answer.expect("each has its turn");
    }
    let calls: Vec<_> = peers.iter().map(H2Peer::calls).collect();
    assert_eq!(calls.iter().sum::<usize>(), 200, "each was sent once");
    for peer in &peers {
        assert!(peer.calls() > 0, "both were used: {calls:?}");
        let most = peer.most_open_streams();
        assert!(most <= 3, "{most} streams at a time, the Watch included");
        assert_eq!(peer.connections(), 1);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn two_hundred_calls_go_through_two_servers_that_refuse_a_fourth_stream() {
    let limited = Backend::builder().max_concurrent_streams(3);
    let backends = limited.start_each(["A", "B"]).await;
    let all: Vec<_> = backends.iter().collect();
    let channel = health_checked(&all);
    until_backends(&channel, &[Ready; 2]).await;

    for answer in crowd(&channel, 200).await {
        answer.expect("each has its turn");
    }
    let hits: Vec<_> = all.iter().map(|backend| backend.hits()).collect();
    assert_eq!(hits.iter().sum::<usize>(), 200, "each was sent once");
    assert!(
        hits.iter().all(|hits| *hits > 0),
        "both were used: {hits:?}"
    );
}

#[tokio::test]
async fn full_backends_serve_those_who_wait_in_the_order_of_arrival() {
    let peer = H2Peer::limited_to(1).await;
    peer.answer_calls(Answer::KeepOpen);
    let (backends, builder) = by_hand(None);
    let channel = builder.build();
    backends.insert("A", peer.uri()).await;
    until_backends(&channel, &[Ready]).await;
    let mut calls = std::collections::VecDeque::new();
    for _ in 0..5 {
        calls.push_back(start(&channel, "you"));
    }
    for served in 1..=5 {
        peer.until_calls(served).await;
        peer.until_open_calls(1).await;
        peer.end_open_calls(Answer::Ok);
        let first = calls.pop_front().expect("five calls");
        outcome(first).await.expect("the oldest is served first");
    }
    assert_eq!(peer.most_open_streams(), 1);
}

#[tokio::test]
async fn one_call_too_many_that_waits_is_turned_away() {
    let (backends, builder) = by_hand(None);
    let channel = builder.max_waiting_calls(2).build();
    let waiting = [start(&channel, "you"), start(&channel, "you")];
    // Both wait by the time a third, started later on this thread, does.
    let third = start(&channel, "you");
    let status = outcome(third).await.expect_err("two wait already");
    assert_eq!(status.code(), Code::ResourceExhausted);
    assert_eq!(
        status.message(),
        "2 calls already wait for a backend, which is the maximum"
    );

    let backend = Backend::start().await;
    backends.insert("A", backend.uri()).await;
    for call in waiting {
        outcome(call).await.expect("those who waited are served");
    }
    hello(&channel).await.expect("there is room again");
}

#[tokio::test]
async fn a_waiting_call_that_is_dropped_gives_its_place_to_another() {
    let (backends, builder) = by_hand(None);
    let channel = builder.max_waiting_calls(1).build();
    for _ in 0..10 {
        let leaving = start(&channel, "you");
        tokio::task::yield_now().await;
        leaving.abort();
        let left = leaving.await.expect_err("it was aborted");
        assert!(left.is_cancelled(), "it waited until then");
    }
    let waiting = start(&channel, "you");
    let backend = Backend::start().await;
    backends.insert("A", backend.uri()).await;
    outcome(waiting).await.expect("nobody else waits");
}
