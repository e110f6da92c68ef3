//! Closing a channel while others hold it.

use futures_util::FutureExt;
use testing::{
    Backend, GREETER, Peer, PeerScript, WatchScript, balanced, balanced_at, greeter,
    greeter::HelloRequest, health_checked, hello, outcome, start, start_patient, until, until_that,
    within,
};
use tonic::{Code, body::Body};
use tonic_health_channel::{
    Channel,
    ConnectivityState::{Connecting, Ready, Shutdown, TransientFailure},
    ErrorKind,
};
use tower::ServiceExt;

use super::hourly;

/// How a call without a body fails on `channel`.
async fn raw_failure(channel: &Channel) -> tonic_health_channel::Error {
    let request = http::Request::new(Body::empty());
    let outcome = within("an answer", channel.clone().oneshot(request)).await;
    outcome.expect_err("the channel is closed")
}

#[tokio::test]
async fn every_clone_of_a_closed_channel_fails_new_calls() {
    let backend = Backend::builder().scripted().start().await;
    let channel = health_checked(&[&backend]);
    let clone = channel.clone();
    until(&channel, Ready).await;

    within("the channel to close", channel.close()).await;
    for handle in [&channel, &clone] {
        assert_eq!(handle.state(), Shutdown);
        assert!(handle.backends().is_empty());
        let error = raw_failure(handle).await;
        assert_eq!(error.kind(), ErrorKind::Closed);
        let status = hello(handle).await.expect_err("it is closed");
        assert_eq!(status.code(), Code::Unavailable, "{status}");
        assert_eq!(status.message(), "the channel was closed");
        let ready = handle.wait_until_ready().now_or_never();
        let error = ready.expect("at once").expect_err("never again");
        assert_eq!(error.kind(), ErrorKind::Closed);
    }
    backend.until_open_watches(0).await;
    backend.until_open_connections(0).await;

    clone.request_connection();
    clone.enter_idle();
    clone.reset_connect_backoff();
    within("a second close", clone.close()).await;
    assert_eq!(channel.state(), Shutdown, "for good");
    assert_eq!((backend.connections(), backend.hits()), (1, 0));
}

#[tokio::test]
async fn calls_that_wait_are_told_of_the_close() {
    let backend = Backend::builder().scripted().start().await;
    backend.script_watch(WatchScript::HoldFirst);
    let connecting = health_checked(&[&backend]);
    let waiting = start(&connecting, "you");
    backend.until_watches(1).await;
    assert_eq!(connecting.state(), Connecting);

    let down = Backend::builder().reserve().await;
    let failing = balanced(&[&down], None).build();
    until(&failing, TransientFailure).await;
    let patient = start_patient(&failing, "you");
    // It waits from the first time that anybody else has a turn.
    tokio::task::yield_now().await;

    for (channel, call) in [(connecting, waiting), (failing, patient)] {
        within("the channel to close", channel.close()).await;
        let status = outcome(call).await.expect_err("it cannot be sent any more");
        assert_eq!(status.code(), Code::Unavailable, "{status}");
        assert_eq!(status.message(), "the channel was closed");
    }
    assert_eq!(backend.hits(), 0);
}

#[tokio::test]
async fn a_call_in_flight_goes_on_to_its_end_and_then_the_connection_closes() {
    let backend = Backend::start().await;
    let channel = balanced(&[&backend], None).build();
    let held = HelloRequest {
        name: "hold".into(),
        count: 2,
    };
    let call = greeter(&channel).say_hello_many(held).await;
    let mut stream = call.expect("a stream").into_inner();
    let unary = start(&channel, "hold");
    backend.until_hits(2).await;

    within("the channel to close", channel.close()).await;
    for _ in 0..2 {
        let reply = within("a reply", stream.message()).await;
        reply.expect("the stream is open").expect("two replies");
    }
    backend.until_held(2).await;
    assert_eq!(backend.open_connections(), 1, "calls are on it");
    backend.release();
    let end = within("the end", stream.message()).await;
    assert_eq!(end.expect("an orderly end"), None);
    outcome(unary).await.expect("an answer");
    backend.until_open_connections(0).await;
}

// T14
#[tokio::test]
async fn a_close_does_not_wait_for_the_next_attempt_to_connect() {
    let down = Backend::builder().reserve().await;
    let channel = balanced(&[&down], None).connect_backoff(hourly()).build();
    until(&channel, TransientFailure).await;
    within("the channel to close", channel.close()).await;
    assert_eq!(channel.state(), Shutdown);
}

// T14
#[tokio::test]
async fn nobody_is_dialled_after_a_close() {
    let peer = Peer::start(PeerScript::ClosesAtOnce).await;
    let other = Peer::start(PeerScript::ClosesAtOnce).await;
    let channel = balanced_at([peer.uri()], Some(GREETER)).build();
    let metronome = balanced_at([other.uri()], None).build();
    until_that(&channel, "a second attempt to fail", |status| {
        let mut backends = status.backends().iter();
        backends.any(|backend| backend.failed_attempts() >= 2)
    })
    .await;
    channel.close().await;

    let dials = peer.connections();
    other.until_connections(other.connections() + 3).await;
    assert_eq!(peer.connections(), dials);
    drop(metronome);
}

#[tokio::test]
async fn who_follows_a_channel_that_is_closed_sees_its_end_and_nothing_more() {
    let backend = Backend::start().await;
    let channel = balanced(&[&backend], None).build();
    until(&channel, Ready).await;
    let (mut status, mut late) = (channel.watch_status(), channel.watch_status());
    status.status();
    channel.close().await;
    let last = within("the end", status.changed()).await;
    assert_eq!(last.map(|last| last.state()), Some(Shutdown));
    assert!(within("nothing more", status.changed()).await.is_none());
    let last = within("the end", late.wait_for(|status| status.state() == Ready)).await;
    assert_eq!(
        last.state(),
        Shutdown,
        "the condition can no longer come true"
    );
    drop(channel);
}
