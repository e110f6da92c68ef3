//! Backends come, go and change their minds under load, and no call pays for it.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use testing::{
    Answer, Backend, GREETER, H2Peer, WatchScript, balanced, by_hand, health_checked, hello,
    outcome, spread, start, until, until_backends, until_ready, within,
};
use tokio::task::JoinSet;
use tonic::Status;
use tonic_health_channel::{
    Channel,
    ConnectivityState::{Ready, TransientFailure},
    discover,
};

/// Callers that begin a call whenever their last one was answered.
struct Load {
    callers: JoinSet<Result<(), Status>>,
    answered: Arc<AtomicUsize>,
    stop: Arc<AtomicBool>,
}

impl Load {
    fn of(callers: usize, channel: &Channel) -> Self {
        let mut load = Self {
            callers: JoinSet::new(),
            answered: Arc::default(),
            stop: Arc::default(),
        };
        for _ in 0..callers {
            let (channel, answered) = (channel.clone(), load.answered.clone());
            let stop = load.stop.clone();
            load.callers.spawn(async move {
                while !stop.load(Relaxed) {
                    hello(&channel).await?;
                    answered.fetch_add(1, Relaxed);
                }
                Ok(())
            });
        }
        load
    }

    /// Ends the load, none of whose calls may have failed: how many there were.
    async fn without_failures(mut self) -> usize {
        self.stop.store(true, Relaxed);
        let answered = self.answered.clone();
        let all = async {
            while let Some(caller) = self.callers.join_next().await {
                if let Err(status) = caller.expect("a caller does not panic") {
                    panic!(
                        "after {} answers a call failed: {status}",
                        answered.load(Relaxed)
                    );
                }
            }
        };
        within("the last calls to end", all).await;
        self.answered.load(Relaxed)
    }
}

fn channel_to(peer: &H2Peer) -> Channel {
    Channel::balance(discover::list([peer.uri()]).expect("a list of one")).build()
}

// R05
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn flips_to_not_serving_under_64_concurrent_calls_fail_no_call() {
    let [a, b, c] = Backend::builder()
        .scripted()
        .start_each(["A", "B", "C"])
        .await;
    let all = [&a, &b, &c];
    let channel = health_checked(&all);
    until_backends(&channel, &[Ready; 3]).await;
    let load = Load::of(64, &channel);

    for _ in 0..15 {
        for (i, backend) in all.iter().enumerate() {
            let mut expected = [Ready; 3];
            expected[i] = TransientFailure;
            backend.set_not_serving(GREETER).await;
            until_backends(&channel, &expected).await;
            backend.set_serving(GREETER).await;
            until_backends(&channel, &[Ready; 3]).await;
        }
    }
    let answered = load.without_failures().await;
    assert!(answered > 64, "there was load: {answered} calls");
    let connections = all.map(|backend| backend.connections());
    assert_eq!(connections, [1; 3], "a flip costs no connection");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn flips_of_full_backends_strand_no_call_that_waits_for_a_stream() {
    let few_streams = Backend::builder().scripted().max_concurrent_streams(3);
    let [a, b] = few_streams.start_each(["A", "B"]).await;
    let channel = health_checked(&[&a, &b]);
    until_backends(&channel, &[Ready; 2]).await;
    let load = Load::of(64, &channel);

    for _ in 0..20 {
        for (backend, expected) in [
            (&a, [TransientFailure, Ready]),
            (&b, [Ready, TransientFailure]),
        ] {
            backend.set_not_serving(GREETER).await;
            until_backends(&channel, &expected).await;
            backend.set_serving(GREETER).await;
            until_backends(&channel, &[Ready; 2]).await;
        }
    }
    assert!(load.without_failures().await > 64, "there was load");
}

// P09
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn backends_that_move_and_leave_under_load_fail_no_call() {
    let [here, there, other] = Backend::builder()
        .start_each(["here", "there", "other"])
        .await;
    let (backends, builder) = by_hand(None);
    let channel = builder.build();
    backends.insert("moving", here.uri()).await;
    until_ready(&channel, &["moving"]).await;
    let load = Load::of(64, &channel);

    let mut status = channel.watch_status();
    for home in [&there, &here].into_iter().cycle().take(10) {
        backends.insert("other", other.uri()).await;
        backends.insert("moving", home.uri()).await;
        let address = home.addr().to_string();
        let moved = status.wait_for(|status| {
            let moving = &status.backends()[0];
            moving.address() == address && moving.state() == Ready
        });
        within("the move to be done", moved).await;
        backends.remove("other").await;
        until_ready(&channel, &["moving"]).await;
    }
    assert!(load.without_failures().await > 64, "there was load");
    there.until_open_connections(0).await;
    other.until_open_connections(0).await;
    // The last move was back.
    here.until_open_connections(1).await;
}

// X02, X03
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_graceful_stop_under_load_is_prompt_and_fails_no_call() {
    let [a, b, c] = Backend::builder()
        .scripted()
        .start_each(["A", "B", "C"])
        .await;
    let all = [&a, &b, &c];
    let channel = health_checked(&all);
    until_backends(&channel, &[Ready; 3]).await;
    let load = Load::of(64, &channel);

    for round in 0..5 {
        let stopped = tokio::time::timeout(Duration::from_secs(5), b.stop_gracefully()).await;
        assert!(
            stopped.is_ok(),
            "our Watch held the server in round {round}"
        );
        until_backends(&channel, &[Ready, TransientFailure, Ready]).await;
        b.restart().await;
        until_backends(&channel, &[Ready; 3]).await;
    }
    assert!(load.without_failures().await > 64, "there was load");
    assert_eq!(spread(&channel, 9, &all).await, [3; 3]);
}

// X02
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn connections_that_live_a_tenth_of_a_second_fail_no_call() {
    let start = Backend::builder().scripted();
    let backend = start.max_connection_age(Duration::from_millis(100));
    let backend = backend.start().await;
    let channel = health_checked(&[&backend]);
    until(&channel, Ready).await;
    let load = Load::of(8, &channel);
    backend.until_connections(10).await;
    backend.until_hits(500).await;
    load.without_failures().await;
    assert!(backend.watches() >= 9, "each connection had its Watch");
}

// X02, D30
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn goaways_under_load_fail_no_call_and_send_none_twice() {
    let peer = H2Peer::start().await;
    let channel = channel_to(&peer);
    until(&channel, Ready).await;
    let load = Load::of(64, &channel);
    for goaways in 1..=5 {
        peer.until_calls(peer.calls() + 200).await;
        peer.go_away();
        peer.until_connections(goaways + 1).await;
    }
    let answered = load.without_failures().await;
    assert_eq!(peer.calls(), answered, "each call was looked at once");
    peer.until_open_connections(1).await;
}

// X03
#[tokio::test]
async fn a_call_survives_any_number_of_goaways_and_new_calls_go_elsewhere() {
    let peer = H2Peer::start().await;
    let channel = channel_to(&peer);
    until(&channel, Ready).await;
    peer.answer_next_calls(1, Answer::KeepOpen);
    let pending = start(&channel, "you");
    peer.until_open_calls(1).await;

    for connections in 2..4 {
        peer.go_away();
        peer.until_connections(connections).await;
        hello(&channel).await.expect("the new connection takes it");
    }
    assert!(!pending.is_finished(), "its stream is still open");
    peer.end_open_calls(Answer::Ok);
    outcome(pending)
        .await
        .expect("GOAWAY lets open streams end");
    peer.until_open_connections(1).await;
}

// X06
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_channel_and_a_server_that_stop_together_do_not_wait_for_each_other() {
    for _ in 0..20 {
        let backend = Backend::builder().scripted().start().await;
        let channel = health_checked(&[&backend]);
        until(&channel, Ready).await;
        let stopped = backend.stop_gracefully();
        let dropped = tokio::spawn(async move { drop(channel) });
        within("the server to stop", stopped).await;
        dropped.await.expect("dropping a channel does not panic");
    }
}

// X06
#[tokio::test]
async fn a_dropped_channel_says_goaway_and_closes() {
    let peer = H2Peer::start().await;
    let channel = channel_to(&peer);
    until(&channel, Ready).await;
    drop(channel);
    peer.until_client_goaway().await;
    peer.until_open_connections(0).await;
}

// R25
#[tokio::test]
async fn calls_wait_out_a_lost_connection_if_the_next_one_comes() {
    let backend = Backend::builder().scripted().start().await;
    let channel = balanced(&[&backend], Some(GREETER)).build();
    until(&channel, Ready).await;
    for _ in 0..5 {
        backend.script_next_watches(1, WatchScript::HoldFirst);
        let connections = backend.connections();
        backend.cut_connections();
        backend.until_connections(connections + 1).await;
        let waiting = start(&channel, "you");
        backend.until_open_watches(1).await;
        backend.release_watches();
        outcome(waiting).await.expect("the server never was away");
    }
}
