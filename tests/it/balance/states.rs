//! The states that a channel goes through, and what its calls hear in them.

use testing::{
    Backend, GREETER, H2Peer, NOT_SERVING, UNKNOWN, WatchScript, by_hand, dead_addr, endpoint,
    health_checked, hello, refusal, until, until_backends, until_that, within,
};
use tokio::{net::TcpListener, task::JoinHandle};
use tonic_health_channel::{
    Channel,
    ConnectivityState::{self, Connecting, Idle, Ready, Shutdown, TransientFailure},
    status::CauseKind,
};

/// What somebody sees who follows the channel to its end.
struct Follower(JoinHandle<Vec<ConnectivityState>>);

impl Follower {
    fn of(channel: &Channel) -> Self {
        let mut watch = channel.watch_status();
        let mut seen = vec![watch.status().state()];
        Self(tokio::spawn(async move {
            while let Some(status) = watch.changed().await {
                seen.push(status.state());
            }
            // A status is also news of a backend, and then the state may stay.
            seen.dedup();
            seen
        }))
    }

    async fn saw(self) -> Vec<ConnectivityState> {
        within("the channel to end", self.0)
            .await
            .expect("who follows does not panic")
    }
}

// T01, T07
#[tokio::test]
async fn a_channel_goes_from_idle_through_connecting_to_ready() {
    let peer = H2Peer::start().await;
    let channel = endpoint(peer.uri()).connect_lazy();
    let follower = Follower::of(&channel);
    hello(&channel).await.expect("the call connects");
    until(&channel, Ready).await;
    drop(channel);
    assert_eq!(
        follower.saw().await,
        [Idle, Connecting, Ready, Shutdown],
        "a connection is READY with the SETTINGS of the peer"
    );
}

// T04, T07, R29
#[tokio::test]
async fn who_follows_a_channel_sees_every_state_in_order() {
    let backend = Backend::builder().scripted().start().await;
    backend.script_watch(WatchScript::HoldFirst);
    let channel = health_checked(&[&backend]);
    let follower = Follower::of(&channel);
    backend.until_open_watches(1).await;
    backend.release_watches();
    until(&channel, Ready).await;

    backend.cut_connections();
    until(&channel, Connecting).await;
    // Nobody calls: it connects by itself.
    backend.until_watches(2).await;
    backend.until_open_watches(1).await;
    backend.release_watches();
    until(&channel, Ready).await;

    backend.set_not_serving(GREETER).await;
    until(&channel, TransientFailure).await;
    backend.cut_connections();
    backend.until_watches(3).await;
    backend.until_open_watches(1).await;
    backend.set_serving(GREETER).await;
    backend.release_watches();
    until(&channel, Ready).await;

    drop(channel);
    assert_eq!(
        follower.saw().await,
        [
            Connecting,
            Ready,
            Connecting,
            Ready,
            TransientFailure,
            Ready,
            Shutdown
        ],
        "a lost connection is not IDLE, and no failure is over before READY"
    );
}

/// The next to connect to a listener that says nothing.
async fn taken(listener: &TcpListener) -> tokio::net::TcpStream {
    let accepted = within("a connection", listener.accept()).await;
    accepted.expect("a listener accepts").0
}

// R23, R31
#[tokio::test]
async fn a_dial_that_hangs_does_not_end_a_failure() {
    let (hanging, down) = (dead_addr(), Backend::builder().reserve().await);
    let (backends, builder) = by_hand(None);
    let channel = builder.build();
    backends.insert("hanging", hanging.uri()).await;
    backends.insert("down", down.uri()).await;
    until_backends(&channel, &[TransientFailure; 2]).await;
    let follower = Follower::of(&channel);

    let listener = hanging.listen();
    let _nothing_is_said_here = taken(&listener).await;
    until_that(&channel, "the other to fail again", |status| {
        status.backends()[1].failed_attempts() >= 2
    })
    .await;
    let text = refusal(&channel).await;
    assert!(text.contains("hanging ("), "{text}");
    assert!(text.contains("connect: connection refused"), "{text}");

    down.restart().await;
    until_backends(&channel, &[TransientFailure, Ready]).await;
    hello(&channel).await.expect("one of the two is back");
    drop(channel);
    assert_eq!(follower.saw().await, [TransientFailure, Ready, Shutdown]);
}

// R24
#[tokio::test]
async fn calls_that_fail_tell_the_latest_reason() {
    let backend = Backend::builder().scripted().not_serving(GREETER);
    let backend = backend.start().await;
    let channel = health_checked(&[&backend]);
    until(&channel, TransientFailure).await;
    let text = refusal(&channel).await;
    assert!(text.contains("health check: NOT_SERVING"), "{text}");

    backend.set_status(GREETER, UNKNOWN).await;
    until_cause(&channel, CauseKind::Health, "UNKNOWN").await;
    let text = refusal(&channel).await;
    assert!(text.contains("health check: UNKNOWN"), "{text}");
    assert!(!text.contains("NOT_SERVING"), "{text}");

    backend.kill().await;
    until_cause(&channel, CauseKind::Connect, "connection refused").await;
    let text = refusal(&channel).await;
    assert!(text.contains("connect: connection refused"), "{text}");
    assert!(!text.contains("UNKNOWN"), "{text}");

    backend.set_status(GREETER, NOT_SERVING).await;
    backend.restart().await;
    until_cause(&channel, CauseKind::Health, "NOT_SERVING").await;
    let text = refusal(&channel).await;
    assert!(text.contains("health check: NOT_SERVING"), "{text}");
    assert!(!text.contains("refused"), "{text}");
}

/// Awaits what the only backend last failed with.
async fn until_cause(channel: &Channel, kind: CauseKind, text: &str) {
    until_that(channel, &format!("the cause {text}"), |status| {
        let last = status.backends()[0].last_error();
        last.is_some_and(|(cause, _)| cause.kind() == kind && cause.text() == text)
    })
    .await;
}
