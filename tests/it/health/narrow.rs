//! Servers that allow few streams at a time, of which the Watch takes one.

use testing::{
    Answer, Backend, GREETER, H2Peer, Logs, balanced_at, health_checked, hello, refusal, spread,
    until, within,
};
use tonic_health_channel::{
    Channel,
    ConnectivityState::{Connecting, Ready, TransientFailure},
};

use super::warnings;

#[tokio::test]
async fn a_limit_of_one_gets_the_watch_a_connection_to_itself() {
    let logs = Logs::capture();
    let start = Backend::builder().scripted().max_concurrent_streams(1);
    let backend = start.start().await;
    let channel = health_checked(&[&backend]);
    until(&channel, Ready).await;
    assert_eq!(spread(&channel, 5, &[&backend]).await, [5]);
    assert_eq!(backend.connections(), 2);
    assert_eq!([backend.watches(), backend.open_watches()], [1, 1]);
    let warnings = warnings(&logs);
    assert_eq!(warnings.len(), 1, "{warnings:?}");
    let named = "the server allows at most 1 stream per connection";
    assert!(warnings[0].contains(named), "{warnings:?}");

    backend.set_not_serving(GREETER).await;
    until(&channel, TransientFailure).await;
    let text = refusal(&channel).await;
    assert!(text.contains("health check: NOT_SERVING"), "{text}");
    backend.set_serving(GREETER).await;
    until(&channel, Ready).await;
    hello(&channel).await.expect("health goes on as ever");

    drop(channel);
    backend.until_open_watches(0).await;
    backend.until_open_connections(0).await;
}

#[tokio::test]
async fn calls_beside_a_limit_of_one_take_turns() {
    let peer = H2Peer::limited_to(1).await;
    let channel = checked_peer(&peer);
    until(&channel, Ready).await;
    let calls = (0..10).map(|_| hello(&channel));
    let answers = futures_util::future::join_all(calls);
    for answer in within("all ten answers", answers).await {
        answer.expect("each has its turn");
    }
    assert_eq!([peer.calls(), peer.watches()], [10, 1]);
    assert_eq!(peer.connections(), 2);
    assert_eq!(peer.most_open_streams(), 1, "the limit is kept");
}

#[tokio::test]
async fn both_connections_are_made_anew_when_they_are_lost() {
    let start = Backend::builder().scripted().max_concurrent_streams(1);
    let backend = start.start().await;
    let channel = health_checked(&[&backend]);
    until(&channel, Ready).await;
    backend.cut_connections();
    backend.until_watches(2).await;
    until(&channel, Ready).await;
    hello(&channel).await.expect("it is connected again");
    backend.until_open_connections(2).await;
    backend.until_open_watches(1).await;
    assert_eq!(backend.connections(), 4);
}

#[tokio::test]
async fn a_limit_of_zero_is_waited_out_whatever_it_is_raised_to() {
    for limit in [1, 2, 100] {
        let peer = H2Peer::limited_to(0).await;
        let channel = checked_peer(&peer);
        peer.until_settings_acks(1).await;
        let waiting = {
            let channel = channel.clone();
            tokio::spawn(async move { hello(&channel).await })
        };
        assert_eq!(channel.state(), Connecting);
        assert_eq!([peer.calls(), peer.watches()], [0, 0]);

        peer.set_max_concurrent_streams(limit);
        let answer = within("the waiting call to be answered", waiting).await;
        let answer = answer.expect("no panic");
        answer.unwrap_or_else(|status| panic!("there is room for {limit}: {status}"));
        assert_eq!([peer.calls(), peer.watches()], [1, 1]);
    }
}

#[tokio::test]
async fn a_limit_that_falls_to_one_parts_the_watch_from_the_calls() {
    let peer = H2Peer::limited_to(100).await;
    peer.answer_next_calls(1, Answer::KeepOpen);
    let channel = checked_peer(&peer);
    let kept = {
        let channel = channel.clone();
        tokio::spawn(async move { hello(&channel).await })
    };
    peer.until_open_calls(1).await;
    assert_eq!(peer.connections(), 1);

    peer.set_max_concurrent_streams(1);
    peer.until_connections(3).await;
    hello(&channel)
        .await
        .expect("there is a connection for calls");
    peer.until_open_watches(1).await;
    assert_eq!(peer.watches(), 2);

    peer.end_open_calls(Answer::Ok);
    let answer = within("the call of before to be answered", kept).await;
    answer.expect("no panic").expect("it was left alone");
    peer.until_open_connections(2).await;
}

fn checked_peer(peer: &H2Peer) -> Channel {
    balanced_at([peer.uri()], Some(GREETER)).build()
}
