//! Following a channel: its state, and its backends one by one.

use std::time::Duration;

use futures_util::{FutureExt, StreamExt};
use testing::{
    Backend, GREETER, Peer, PeerScript, WatchScript, by_hand, endpoint, health_checked, until,
    until_backends, until_that, within,
};
use tokio::time::timeout;
use tonic_health_channel::{
    ConnectivityState::{self, Connecting, Idle, Ready, Shutdown, TransientFailure},
    status::{BackendEvent, BackendStatus, BackendWatch, StateWatch},
};

async fn next(states: &mut StateWatch) -> Option<ConnectivityState> {
    within("the state to change", states.changed()).await
}

// T07
#[tokio::test]
async fn every_state_from_idle_to_shutdown_is_told_in_order() {
    let backend = Backend::builder().scripted().start().await;
    backend.script_watch(WatchScript::HoldFirst);
    let channel = health_checked(&[&backend]);
    backend.until_watches(1).await;
    channel.enter_idle();
    until(&channel, Idle).await;
    let mut states = channel.watch_state();
    assert_eq!(states.state(), Idle);

    channel.request_connection();
    assert_eq!(next(&mut states).await, Some(Connecting));
    backend.until_watches(2).await;
    backend.release_watches();
    assert_eq!(next(&mut states).await, Some(Ready));
    backend.set_not_serving(GREETER).await;
    assert_eq!(next(&mut states).await, Some(TransientFailure));

    backend.kill().await;
    until_that(&channel, "a failed attempt to connect", |status| {
        status.backends()[0].failed_attempts() >= 1
    })
    .await;
    let news = states.changed().now_or_never();
    assert_eq!(news, None, "news of a backend is no news of the state");

    channel.close().await;
    assert_eq!(next(&mut states).await, Some(Shutdown));
    assert_eq!(next(&mut states).await, None, "nothing follows SHUTDOWN");
    assert_eq!(states.state(), Shutdown);
}

// T07
#[tokio::test]
async fn who_follows_the_state_does_not_keep_the_channel() {
    let backend = Backend::start().await;
    let channel = endpoint(backend.uri()).connect_lazy();
    let mut states = channel.watch_state();
    let mut backends = channel.watch_backends();
    drop(channel);
    assert_eq!(next(&mut states).await, Some(Shutdown));
    within("the last event", async {
        while backends.next().await.is_some() {}
    })
    .await;
}

// T07
#[tokio::test]
async fn all_three_are_streams_that_end_with_the_channel() {
    let backend = Backend::start().await;
    let channel = endpoint(backend.uri()).connect_lazy();
    let states = tokio::spawn(channel.watch_state().collect::<Vec<_>>());
    let statuses = channel.watch_status().map(|status| status.state());
    let statuses = tokio::spawn(statuses.collect::<Vec<_>>());
    let events = tokio::spawn(channel.watch_backends().collect::<Vec<_>>());
    let mut late = channel.watch_backends();
    channel.request_connection();
    until(&channel, Ready).await;
    drop(channel);

    let states = within("the last state", states).await.expect("no panic");
    let [.., ready, shutdown] = states[..] else {
        panic!("{states:?}");
    };
    assert_eq!((ready, shutdown), (Ready, Shutdown));
    assert!(
        states.windows(2).all(|pair| pair[0] != pair[1]),
        "{states:?}"
    );
    let statuses = within("the last status", statuses).await.expect("no panic");
    assert_eq!(statuses.last(), Some(&Shutdown));
    let events = within("the last event", events).await.expect("no panic");
    assert!(matches!(events.first(), Some(BackendEvent::Added(_))));
    assert!(matches!(events.last(), Some(BackendEvent::Removed(_))));
    for _ in 0..2 {
        let end = within("the end", StreamExt::next(&mut late)).await;
        assert!(end.is_none(), "and stays at its end");
    }
}

// T11
#[tokio::test]
async fn a_change_of_state_is_waited_for() {
    let silent = Peer::start(PeerScript::Silent).await;
    let channel = endpoint(silent.uri()).connect_lazy();

    let other = channel.wait_for_state_change(Ready).now_or_never();
    assert_eq!(other, Some(Some(Idle)), "it is another already");
    let hurried = timeout(
        Duration::from_millis(50),
        channel.wait_for_state_change(Idle),
    );
    assert!(hurried.await.is_err(), "nothing happens to it");
    assert_eq!(silent.connections(), 0, "to wait is not to connect");

    let (change, ()) = tokio::join!(
        within("a change", channel.wait_for_state_change(Idle)),
        async { channel.request_connection() }
    );
    assert_eq!(change, Some(Connecting));
    let (change, ()) = tokio::join!(
        within("a change", channel.wait_for_state_change(Connecting)),
        channel.close()
    );
    assert_eq!(change, Some(Shutdown));
    let never = channel.wait_for_state_change(Shutdown).now_or_never();
    assert_eq!(never, Some(None), "SHUTDOWN is for good");
}

async fn event(backends: &mut BackendWatch) -> BackendEvent {
    let event = within("an event", backends.next()).await;
    event.expect("the channel is open")
}

/// Awaits a change that leaves the backend in `state`; until then there are only
/// changes of the same backend.
async fn until_changed(
    backends: &mut BackendWatch,
    label: &str,
    state: ConnectivityState,
) -> BackendStatus {
    loop {
        match event(backends).await {
            BackendEvent::Changed { before, now } => {
                assert_eq!((before.label(), now.label()), (label, label));
                assert_eq!(before.id(), now.id());
                if now.state() == state {
                    return (*now).clone();
                }
            }
            other => panic!("{other:?} instead of a change of {label}"),
        }
    }
}

#[tokio::test]
async fn backends_are_told_as_they_come_change_and_go() {
    let [a, b] = Backend::builder().scripted().start_each(["A", "B"]).await;
    let (backends, builder) = by_hand(Some(GREETER));
    let channel = builder.build();
    backends.insert("A", a.uri()).await;
    until_backends(&channel, &[Ready]).await;

    let mut events = channel.watch_backends();
    let BackendEvent::Added(first) = event(&mut events).await else {
        panic!("those that are there come first");
    };
    assert_eq!((first.label(), first.state()), ("A", Ready));

    backends.insert("B", b.uri()).await;
    let BackendEvent::Added(second) = event(&mut events).await else {
        panic!("B is new");
    };
    assert_eq!(second.label(), "B");
    if second.state() != Ready {
        until_changed(&mut events, "B", Ready).await;
    }

    a.set_not_serving(GREETER).await;
    let failed = until_changed(&mut events, "A", TransientFailure).await;
    let (cause, _) = failed.last_error().expect("it has failed");
    assert_eq!(cause.text(), "NOT_SERVING");

    backends.remove("A").await;
    let BackendEvent::Removed(last) = event(&mut events).await else {
        panic!("A is gone");
    };
    assert_eq!(*last, failed, "as it was last");

    channel.close().await;
    let BackendEvent::Removed(last) = event(&mut events).await else {
        panic!("a closed channel has no backends");
    };
    assert_eq!(last.label(), "B");
    assert!(within("the end", events.next()).await.is_none());
    assert!(within("the end", events.next()).await.is_none());
}
