//! Following the backends one by one.

use std::sync::Arc;

use futures_util::FutureExt;
use testing::{
    Backend, GREETER, WatchScript, balanced, by_hand, until, until_backends, until_ready,
    until_that, within,
};
use tokio::task::JoinHandle;
use tonic_health_channel::{
    Channel,
    ConnectivityState::{Connecting, Ready, TransientFailure},
    health::HealthStatus,
    status::{BackendEvent, BackendStatus, BackendWatch},
};

use super::first;

/// What somebody is told who follows the backends to the end of the channel: one
/// line for each event, except those that leave state and health as they were.
struct Follower(JoinHandle<Vec<String>>);

impl Follower {
    fn of(channel: &Channel) -> Self {
        let mut watch = channel.watch_backends();
        Self(tokio::spawn(async move {
            let mut told = Vec::new();
            let mut last = None;
            while let Some(event) = watch.next().await {
                told.extend(line(&event, last.take()));
                last = Some(newest(event));
            }
            told
        }))
    }

    async fn was_told(self) -> Vec<String> {
        within("the channel to end", self.0)
            .await
            .expect("who follows does not panic")
    }
}

/// The backend that the event is about, as of the event.
fn newest(event: BackendEvent) -> Arc<BackendStatus> {
    match event {
        BackendEvent::Added(now)
        | BackendEvent::Changed { now, .. }
        | BackendEvent::Removed(now) => now,
        other => panic!("no test knows of {other:?}"),
    }
}

/// With one backend, each event begins where the last one ended.
fn line(event: &BackendEvent, last: Option<Arc<BackendStatus>>) -> Option<String> {
    let shown = |backend: &BackendStatus| (backend.state(), backend.health());
    match event {
        BackendEvent::Added(now) => Some(format!("added {} {}", now.state(), now.health())),
        BackendEvent::Changed { before, now } => {
            assert_eq!(last.as_ref(), Some(before), "an event was left out");
            assert_ne!(before, now, "nothing has changed");
            assert_eq!(before.id(), now.id());
            let news = shown(before) != shown(now);
            news.then(|| format!("{} {}", now.state(), now.health()))
        }
        BackendEvent::Removed(before) => {
            assert_eq!(last.as_ref(), Some(before), "an event was left out");
            Some(format!("removed {} {}", before.state(), before.health()))
        }
        other => panic!("no test knows of {other:?}"),
    }
}

async fn next(watch: &mut BackendWatch) -> BackendEvent {
    let event = within("an event", watch.next()).await;
    event.expect("the channel is open")
}

async fn until_health(channel: &Channel, health: HealthStatus) {
    let what = format!("health {health}");
    until_that(channel, &what, |status| {
        status.backends().iter().any(|b| b.health() == health)
    })
    .await;
}

#[tokio::test]
async fn a_backend_is_followed_from_its_first_attempt_to_its_removal() {
    let backend = Backend::builder().scripted().reserve().await;
    backend.script_watch(WatchScript::HoldFirst);
    let (backends, builder) = by_hand(Some(GREETER));
    let channel = builder.build();
    let follower = Follower::of(&channel);
    backends.insert("A", backend.uri()).await;
    until_backends(&channel, &[TransientFailure]).await;

    backend.restart().await;
    backend.until_watches(1).await;
    until_health(&channel, HealthStatus::Pending).await;
    backend.release_watches();
    until_health(&channel, HealthStatus::Serving).await;
    backend.set_not_serving(GREETER).await;
    until_health(&channel, HealthStatus::NotServing).await;
    backend.set_serving(GREETER).await;
    until_health(&channel, HealthStatus::Serving).await;

    backend.cut_connections();
    backend.until_watches(2).await;
    until_health(&channel, HealthStatus::Pending).await;
    assert_eq!(channel.state(), Connecting);
    backend.release_watches();
    until_health(&channel, HealthStatus::Serving).await;

    backends.remove("A").await;
    until(&channel, TransientFailure).await;
    channel.close().await;
    assert_eq!(
        follower.was_told().await,
        [
            "added CONNECTING not checked",
            "TRANSIENT_FAILURE not checked",
            "TRANSIENT_FAILURE pending",
            "READY SERVING",
            "TRANSIENT_FAILURE NOT_SERVING",
            "READY SERVING",
            "CONNECTING not checked",
            "CONNECTING pending",
            "READY SERVING",
            "removed READY SERVING",
        ]
    );
}

#[tokio::test]
async fn a_closed_channel_has_lost_its_backends_and_nothing_follows() {
    let [a, b] = Backend::builder().start_each(["A", "B"]).await;
    let channel = balanced(&[&a, &b], None).build();
    until_backends(&channel, &[Ready, Ready]).await;
    let shown = channel.backends();
    let mut watch = channel.watch_backends();
    for backend in shown.iter() {
        assert_eq!(next(&mut watch).await, BackendEvent::Added(backend.clone()));
    }
    assert!(watch.next().now_or_never().is_none(), "nothing is new");

    let mut late = channel.watch_backends();
    drop(channel);
    for backend in shown.iter() {
        let removed = BackendEvent::Removed(backend.clone());
        assert_eq!(next(&mut watch).await, removed);
    }
    for _ in 0..2 {
        assert_eq!(within("the end", watch.next()).await, None);
    }
    let never = within("the end", late.next()).await;
    assert_eq!(never, None, "what comes and goes unseen is not told");
}

#[tokio::test]
async fn a_key_that_comes_back_is_another_backend() {
    let backend = Backend::start().await;
    let (backends, builder) = by_hand(None);
    let channel = builder.build();
    backends.insert("A", backend.uri()).await;
    until_ready(&channel, &["A"]).await;
    let mut watch = channel.watch_backends();
    let old = newest(next(&mut watch).await);

    // Taken in together: the set never shows that it was gone.
    backends.remove("A").await;
    backends.insert("A", backend.uri()).await;
    assert_eq!(next(&mut watch).await, BackendEvent::Removed(old.clone()));
    let BackendEvent::Added(new) = next(&mut watch).await else {
        panic!("it is there again");
    };
    assert_eq!(new.label(), old.label());
    assert_ne!(new.id(), old.id());
}

#[tokio::test]
async fn a_backend_that_moves_is_the_same_at_another_address() {
    let [old, new] = Backend::builder().start_each(["old", "new"]).await;
    let (backends, builder) = by_hand(None);
    let channel = builder.build();
    backends.insert("A", old.uri()).await;
    until_ready(&channel, &["A"]).await;
    let mut watch = channel.watch_backends();
    let at_first = newest(next(&mut watch).await);
    assert_eq!(at_first.address(), old.addr().to_string());

    backends.insert("A", new.uri()).await;
    let BackendEvent::Changed { before, now } = next(&mut watch).await else {
        panic!("it is the same backend");
    };
    assert_eq!(before, at_first);
    assert_eq!((now.id(), now.state()), (before.id(), Ready));
    assert_eq!(now.address(), new.addr().to_string());
    assert_eq!(*now, *first(&channel));
}

#[tokio::test]
async fn who_gives_up_an_event_gets_it_the_next_time() {
    let [a, b] = Backend::builder().start_each(["A", "B"]).await;
    let (backends, builder) = by_hand(None);
    let channel = builder.build();
    let mut watch = channel.watch_backends();
    assert!(watch.next().now_or_never().is_none(), "there is nobody");
    backends.insert("A", a.uri()).await;
    backends.insert("B", b.uri()).await;
    until_ready(&channel, &["A", "B"]).await;

    let mut other = watch.clone();
    for watch in [&mut watch, &mut other] {
        for label in ["A", "B"] {
            let Some(Some(BackendEvent::Added(backend))) = watch.next().now_or_never() else {
                panic!("{label} is there");
            };
            assert_eq!((backend.label(), backend.state()), (label, Ready));
        }
        assert!(watch.next().now_or_never().is_none(), "all is told");
    }
    b.kill().await;
    until_backends(&channel, &[Ready, TransientFailure]).await;
    let BackendEvent::Changed { before, now } = next(&mut watch).await else {
        panic!("B is down");
    };
    assert_eq!((before.label(), before.state()), ("B", Ready));
    assert_ne!(now.state(), Ready);
}
