//! Very many calls, given up or read slowly, on one connection.

use std::time::Duration;

use testing::{
    Answer, Backend, Flow, H2Peer, Valve, balanced, balanced_at, greeter, greeter::HelloRequest,
    hello, request, until, until_that, within,
};
use tokio::task::JoinSet;
use tonic_health_channel::{Channel, ConnectivityState::Ready};

/// More than `h2` by default remembers of cancelled streams.
const CROWD: usize = 1_500;

/// That many calls, of which the peer has heard and which it does not answer.
async fn crowd(channel: &Channel, peer: &H2Peer) -> JoinSet<()> {
    peer.answer_calls(Answer::KeepOpen);
    let mut calls = JoinSet::new();
    for _ in 0..CROWD {
        let mut client = greeter(channel);
        calls.spawn(async move {
            let ended = client.say_hello(request("you")).await;
            panic!("{ended:?} although nobody answers");
        });
    }
    peer.until_open_calls(CROWD).await;
    peer.answer_calls(Answer::Ok);
    calls
}

async fn assert_serves(channel: &Channel, peer: &H2Peer) {
    until_that(channel, "all slots to be free", |status| {
        status.backends()[0].calls_in_flight() == 0
    })
    .await;
    hello(channel).await.expect("an answer");
    assert_eq!(peer.connections(), 1, "on the connection that it was");
}

// D63
#[tokio::test]
async fn fifteen_hundred_calls_cancelled_at_once_leave_a_connection_that_serves() {
    let peer = H2Peer::start().await;
    let channel = balanced_at([peer.uri()], None).build();
    let mut calls = crowd(&channel, &peer).await;
    calls.shutdown().await;
    peer.until_client_resets(CROWD).await;
    peer.until_open_calls(0).await;
    assert_serves(&channel, &peer).await;
}

// D63
#[tokio::test]
async fn so_do_those_cancelled_while_the_peer_reads_nothing() {
    let peer = H2Peer::start().await;
    let valve = Valve::before(peer.addr());
    let channel = balanced_at([valve.uri()], None).build();
    let mut calls = crowd(&channel, &peer).await;
    valve.to_server(Flow::Stands);
    calls.shutdown().await;
    assert_eq!(
        channel.backends()[0].calls_in_flight(),
        0,
        "none is held up"
    );
    // Late answers to all of them, and a call behind.
    peer.end_open_calls(Answer::Ok);
    peer.until_open_calls(0).await;
    let next = {
        let channel = channel.clone();
        tokio::spawn(async move { hello(&channel).await })
    };
    valve.to_server(Flow::Passes);
    let next = within("the next call", next).await.expect("no panic");
    next.expect("an answer");
    assert_serves(&channel, &peer).await;
    assert_eq!(valve.connections(), 1);
}

// D63
#[tokio::test]
async fn a_slow_reader_of_tiny_messages_stalls_nobody_beside_him() {
    /// More than a stream's window holds.
    const MESSAGES: u32 = 150_000;
    let backend = Backend::builder().name("A").start().await;
    let channel = balanced(&[&backend], None).build();
    until(&channel, Ready).await;
    let many = HelloRequest {
        name: "you".into(),
        count: MESSAGES,
    };
    let call = greeter(&channel).say_hello_many(many).await;
    let mut slow = call.expect("response headers").into_inner();
    let mut left = MESSAGES;
    // A message, then a hundred calls, and so on while his window is full.
    for _ in 0..5 {
        let message = within("a message", slow.message()).await;
        message.expect("in time").expect("one of many");
        left -= 1;
        for _ in 0..100 {
            let quick = tokio::time::timeout(Duration::from_secs(2), hello(&channel)).await;
            quick.expect("at once").expect("an answer");
        }
    }
    while let Some(_message) = within("a message", slow.message()).await.expect("the rest") {
        left -= 1;
    }
    assert_eq!(left, 0, "none was lost");
    assert_eq!(backend.connections(), 1);
}
