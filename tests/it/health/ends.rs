//! A Watch ends with its connection, its backend or its channel, and takes no
//! user's call with it.

use testing::{
    Backend, Chat, GREETER, HealthKind, WatchScript, balanced, by_hand, health_checked, hello,
    refusal, until, until_backends, within,
};
use tokio::runtime::Handle;
use tonic::Code;
use tonic_health_channel::ConnectivityState::{Ready, Shutdown, TransientFailure};

use super::ends_with;

// H03
#[tokio::test]
async fn a_graceful_stop_ends_the_watch_and_not_the_calls() {
    let backend = Backend::builder().scripted().start().await;
    let channel = health_checked(&[&backend]);
    let mut chat = Chat::start(&channel).await;
    chat.greet("Ada").await.expect("the backend is up");
    assert_eq!(backend.open_watches(), 1);

    let stopped = backend.stop_gracefully();
    backend.until_open_watches(0).await;
    chat.greet("Bob").await.expect("the Chat outlives GOAWAY");
    assert_eq!(backend.open_calls(), 1);

    chat.end().await;
    within("the server to finish stopping", stopped).await;
    until(&channel, TransientFailure).await;
    assert_eq!(
        backend.watches(),
        1,
        "a connection that drains is not asked"
    );
}

// H04
#[tokio::test]
async fn a_closed_connection_ends_its_watch_and_leaks_nothing() {
    let backend = Backend::builder().scripted().start().await;
    let channel = health_checked(&[&backend]);
    until(&channel, Ready).await;

    backend.cut_connections();
    backend.until_watches(2).await;
    until(&channel, Ready).await;
    backend.until_open_watches(1).await;
    backend.until_open_connections(1).await;

    backend.kill().await;
    until(&channel, TransientFailure).await;
    backend.until_open_watches(0).await;
    drop(channel);
    until_no_task_is_left().await;
}

// H05
#[tokio::test]
async fn removing_a_backend_ends_its_watch_and_not_the_calls() {
    let backend = Backend::builder().scripted().start().await;
    let (changes, channel) = by_hand(Some(GREETER));
    let channel = channel.build();
    changes.insert("A", backend.uri()).await;
    let mut chat = Chat::start(&channel).await;
    chat.greet("Ada").await.expect("the backend is up");

    changes.remove("A").await;
    backend.until_open_watches(0).await;
    until(&channel, TransientFailure).await;
    let text = refusal(&channel).await;
    assert_eq!(
        text,
        "no healthy backend: no backends: the source produced zero addresses"
    );
    chat.greet("Bob").await.expect("the Chat outlives removal");

    chat.end().await;
    backend.until_open_connections(0).await;
    assert_eq!(backend.watches(), 1);
}

#[tokio::test]
async fn a_backend_that_turns_unhealthy_keeps_its_calls() {
    let backend = Backend::builder().scripted().start().await;
    let channel = health_checked(&[&backend]);
    let mut chat = Chat::start(&channel).await;
    backend.set_not_serving(GREETER).await;
    until(&channel, TransientFailure).await;
    refusal(&channel).await;
    chat.greet("Ada")
        .await
        .expect("the Chat outlives NOT_SERVING");
    chat.end().await;
    assert_eq!(backend.open_connections(), 1, "and so does the connection");
}

// H06
#[tokio::test]
async fn dropping_the_channel_cancels_its_watches() {
    let start = Backend::builder().scripted();
    let [a, b] = start.start_each(["A", "B"]).await;
    let channel = health_checked(&[&a, &b]);
    until_backends(&channel, &[Ready, Ready]).await;
    let clone = channel.clone();
    drop(channel);
    hello(&clone).await.expect("a clone is the channel");
    assert_eq!([a.open_watches(), b.open_watches()], [1, 1]);

    drop(clone);
    for backend in [a, b] {
        backend.until_open_watches(0).await;
        backend.until_open_connections(0).await;
        assert_eq!(backend.watches(), 1);
    }
}

// H07
#[tokio::test]
async fn a_silent_watch_does_not_outlive_its_backend() {
    for script in [WatchScript::NeverAnswer, WatchScript::HeadersOnly] {
        let backend = Backend::builder().scripted().start().await;
        backend.script_watch(script);
        let (changes, channel) = by_hand(Some(GREETER));
        let channel = channel.build();
        changes.insert("A", backend.uri()).await;
        backend.until_open_watches(1).await;
        changes.remove("A").await;
        backend.until_open_watches(0).await;
        backend.until_open_connections(0).await;
        until(&channel, TransientFailure).await;
    }
}

// H08
#[tokio::test]
async fn a_silent_watch_does_not_hold_up_a_server_that_stops() {
    for script in [WatchScript::NeverAnswer, WatchScript::HeadersOnly] {
        let backend = Backend::builder().scripted().start().await;
        backend.script_watch(script);
        let channel = health_checked(&[&backend]);
        backend.until_open_watches(1).await;
        within("the server to finish stopping", backend.stop_gracefully()).await;
        backend.until_open_watches(0).await;
        until(&channel, TransientFailure).await;
    }
}

// H08
#[tokio::test]
async fn a_silent_watch_does_not_outlive_a_server_that_dies() {
    for script in [WatchScript::NeverAnswer, WatchScript::HeadersOnly] {
        let backend = Backend::builder().scripted().start().await;
        backend.script_next_watches(1, script);
        let channel = health_checked(&[&backend]);
        backend.until_open_watches(1).await;
        backend.kill().await;
        until(&channel, TransientFailure).await;
        backend.restart().await;
        until(&channel, Ready).await;
        assert_eq!(backend.watches(), 2, "the new connection is asked anew");
    }
}

// H19, J03
#[tokio::test]
async fn nothing_follows_the_end_of_the_channel() {
    let backend = Backend::builder().scripted().start().await;
    let channel = health_checked(&[&backend]);
    let mut follow = channel.watch_status();
    until(&channel, Ready).await;

    drop(channel);
    let ended = follow.wait_for(|status| status.state() == Shutdown);
    let last = within("the channel to be SHUTDOWN", ended).await;
    assert_eq!(last.state(), Shutdown);
    backend.set_not_serving(GREETER).await;
    backend.set_serving(GREETER).await;
    let next = within("the end of the channel's news", follow.changed()).await;
    assert!(next.is_none(), "after SHUTDOWN came {next:?}");
    assert_eq!(follow.status().generation(), last.generation());
    assert_eq!(backend.watches(), 1);
}

// J15
#[tokio::test]
async fn dropping_the_channel_ends_whatever_its_health_checks_were_doing() {
    let start = Backend::builder().scripted();
    let [healthy, unhealthy, silent, repeated] = start
        .start_each(["healthy", "unhealthy", "silent", "repeated"])
        .await;
    unhealthy.set_not_serving(GREETER).await;
    silent.script_watch(WatchScript::HeadersOnly);
    repeated.script_watch(ends_with(Code::Unavailable));
    let unaware = Backend::builder().health(HealthKind::None).start().await;
    let all = [&healthy, &unhealthy, &silent, &repeated, &unaware];
    let channel = balanced(&all, Some(GREETER)).build();
    for backend in all {
        backend.until_watches(1).await;
    }
    until(&channel, Ready).await;

    drop(channel);
    for backend in all {
        backend.until_open_watches(0).await;
        backend.until_open_connections(0).await;
    }
    let asked = all.map(|backend| backend.watches());
    for backend in all {
        backend.kill().await;
    }
    until_no_task_is_left().await;
    assert_eq!(asked, all.map(|backend| backend.watches()));
}

/// The test itself is not a task of its runtime; the servers it started are.
async fn until_no_task_is_left() {
    let metrics = Handle::current().metrics();
    within("the last task to end", async {
        // The runtime has no event for that.
        while metrics.num_alive_tasks() > 0 {
            tokio::task::yield_now().await;
        }
    })
    .await;
}
