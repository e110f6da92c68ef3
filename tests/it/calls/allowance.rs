//! A peer that changes its mind about how many streams it allows, beside a Watch and
//! under a crowd of calls: none is lost, none hangs, none is sent beyond it.

use testing::{
    Answer, GREETER, H2Peer, Pending, balanced_at, outcome, start, until, until_backends, within,
};
use tonic::Code;
use tonic_health_channel::{
    Channel,
    ConnectivityState::{Connecting, Ready},
};

fn channel_to(peer: &H2Peer) -> Channel {
    balanced_at([peer.uri()], Some(GREETER)).build()
}

fn start_crowd(channel: &Channel, n: usize) -> Vec<Pending> {
    (0..n).map(|_| start(channel, "you")).collect()
}

async fn all_answered(crowd: Vec<Pending>) {
    for call in crowd {
        outcome(call).await.expect("each is answered");
    }
}

/// The calls that were started have got as far as they can: a runtime of one thread
/// runs each in its turn.
async fn let_them_wait() {
    for _ in 0..10 {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn a_crowd_that_waits_at_zero_is_answered_when_it_is_raised() {
    let peer = H2Peer::limited_to(0).await;
    let channel = channel_to(&peer);
    peer.until_settings_acks(1).await;
    let crowd = start_crowd(&channel, 50);
    let_them_wait().await;
    assert_eq!(channel.state(), Connecting);
    assert_eq!([peer.calls(), peer.watches()], [0, 0]);

    peer.set_max_concurrent_streams(5);
    all_answered(crowd).await;
    assert_eq!([peer.calls(), peer.watches()], [50, 1]);
    assert!(peer.most_open_streams() <= 5, "the limit is kept");
}

#[tokio::test]
async fn a_limit_that_closes_leaves_what_runs_and_holds_the_rest_until_it_opens() {
    let peer = H2Peer::limited_to(11).await;
    peer.answer_calls(Answer::KeepOpen);
    let channel = channel_to(&peer);
    until(&channel, Ready).await;
    let running = start_crowd(&channel, 10);
    peer.until_open_calls(10).await;

    peer.set_max_concurrent_streams(0);
    peer.until_settings_acks(2).await;
    let waiting = start_crowd(&channel, 40);
    peer.end_open_calls(Answer::Ok);
    all_answered(running).await;
    let_them_wait().await;
    assert_eq!(peer.calls(), 10, "nothing is sent where nothing is allowed");
    assert_eq!(peer.open_watches(), 1, "what was open stays so");

    peer.answer_calls(Answer::Ok);
    peer.set_max_concurrent_streams(4);
    all_answered(waiting).await;
    assert_eq!([peer.calls(), peer.watches()], [50, 1]);
    assert_eq!(peer.connections(), 1);
    assert_eq!(peer.most_open_streams(), 11, "the limit of before, no more");
}

#[tokio::test]
async fn fifty_calls_outlive_a_limit_of_two_and_the_next_take_turns() {
    let peer = H2Peer::limited_to(100).await;
    peer.answer_calls(Answer::KeepOpen);
    let channel = channel_to(&peer);
    until(&channel, Ready).await;
    let running = start_crowd(&channel, 50);
    peer.until_open_calls(50).await;

    peer.set_max_concurrent_streams(2);
    peer.until_settings_acks(2).await;
    let waiting = start_crowd(&channel, 8);
    let_them_wait().await;
    assert_eq!(peer.calls(), 50, "there are far more than two");
    peer.end_open_calls(Answer::Ok);
    all_answered(running).await;
    for turn in 1..=8 {
        peer.until_calls(50 + turn).await;
        peer.until_open_calls(1).await;
        assert_eq!(peer.calls(), 50 + turn, "one beside the Watch");
        peer.end_open_calls(Answer::Ok);
    }
    all_answered(waiting).await;
    assert_eq!(peer.connections(), 1);
    assert_eq!(peer.most_open_streams(), 51, "fifty calls and the Watch");
}

#[tokio::test]
async fn a_limit_that_flips_loses_no_call() {
    let peers = [H2Peer::limited_to(3).await, H2Peer::limited_to(3).await];
    let uris = peers.iter().map(|peer| peer.uri());
    let channel = balanced_at(uris, Some(GREETER)).build();
    until_backends(&channel, &[Ready, Ready]).await;
    let calls = async {
        for _ in 0..20 {
            all_answered(start_crowd(&channel, 20)).await;
        }
    };
    let flips = async {
        for flip in 2.. {
            let limit = if flip % 2 == 0 { 0 } else { 3 };
            for peer in &peers {
                peer.set_max_concurrent_streams(limit);
                peer.until_settings_acks(flip).await;
            }
        }
    };
    tokio::select! {
        () = calls => {}
        () = flips => unreachable!("it flips for ever"),
    }
    let calls = peers.iter().map(H2Peer::calls).sum::<usize>();
    assert_eq!(calls, 400, "each was sent once");
    for peer in &peers {
        assert!(peer.most_open_streams() <= 3, "no limit was exceeded");
        assert_eq!([peer.watches(), peer.connections()], [1, 1]);
    }
}

#[tokio::test]
async fn a_watch_that_ends_while_nothing_is_allowed_comes_back_when_something_is() {
    let peer = H2Peer::limited_to(2).await;
    let channel = channel_to(&peer);
    until(&channel, Ready).await;
    peer.set_max_concurrent_streams(0);
    peer.until_settings_acks(2).await;
    peer.end_open_watches(Answer::Status(Code::Aborted));
    peer.until_open_watches(0).await;
    let crowd = start_crowd(&channel, 5);
    let refused = within("calls to be refused while it is unhealthy", async {
        let mut refused = Vec::new();
        for call in crowd {
            refused.push(outcome(call).await.err().map(|status| status.code()));
        }
        refused
    });
    let refused = refused.await;
    assert_eq!(refused, [Some(Code::Unavailable); 5]);
    assert_eq!([peer.calls(), peer.watches()], [0, 1]);

    peer.set_max_concurrent_streams(2);
    peer.until_watches(2).await;
    until(&channel, Ready).await;
    all_answered(start_crowd(&channel, 5)).await;
    assert!(peer.most_open_streams() <= 2, "the limit is kept");
}
