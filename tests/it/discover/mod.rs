//! What a channel makes of what its source says.

mod errors;
mod file;
#[cfg(feature = "hickory")]
mod names;
#[cfg(target_os = "linux")]
mod system_names;
mod targets;

use testing::{
    Backend, GREETER, WatchScript, by_hand, checking, endpoint, hello, order, outcome, refusal,
    spread, start, until, until_backends, until_ready,
};
use tonic_health_channel::{
    Channel,
    ConnectivityState::{Connecting, Ready, TransientFailure},
    ErrorKind,
    channel::Change,
    discover,
};

// R07, R28
#[tokio::test]
async fn a_backend_named_again_keeps_its_connection_and_its_watch() {
    let start = Backend::builder().scripted();
    let [a, b] = start.start_each(["A", "B"]).await;
    let (backends, builder) = by_hand(None);
    let channel = builder.service_config(checking(GREETER)).build();
    backends.insert("A", a.uri()).await;
    until_backends(&channel, &[Ready]).await;
    let before = channel.backends();

    for _ in 0..10 {
        backends.insert("A", a.uri()).await;
    }
    // What was said before B has been heard when B is there.
    backends.insert("B", b.uri()).await;
    until_backends(&channel, &[Ready; 2]).await;
    assert_eq!((a.connections(), a.watches()), (1, 1));
    assert_eq!(channel.backends()[0], before[0], "nothing happened to it");
}

// R28
#[tokio::test]
async fn a_backend_that_moves_is_used_where_it_was_until_it_is_ready_where_it_is() {
    let build = Backend::builder().scripted();
    let [old, new] = build.start_each(["old", "new"]).await;
    new.script_watch(WatchScript::HoldFirst);
    let (backends, builder) = by_hand(None);
    let channel = builder.service_config(checking(GREETER)).build();
    backends.insert("A", old.uri()).await;
    until(&channel, Ready).await;
    let held = start(&channel, "hold");
    old.until_held(1).await;

    backends.insert("A", new.uri()).await;
    new.until_open_watches(1).await;
    assert_eq!(channel.state(), Ready);
    assert_eq!(spread(&channel, 5, &[&old, &new]).await, [5, 0]);

    new.release_watches();
    old.until_open_watches(0).await;
    assert_eq!(spread(&channel, 5, &[&old, &new]).await, [0, 5]);
    assert_eq!(channel.backends().len(), 1, "it is the same backend");
    assert_eq!(channel.backends()[0].address(), new.addr().to_string());

    assert_eq!(old.open_connections(), 1, "a call is in flight on it");
    old.release();
    outcome(held).await.expect("a move ends no call");
    old.until_open_connections(0).await;
}

#[tokio::test]
async fn a_backend_that_moves_to_where_nobody_listens_takes_its_failure_along() {
    let old = Backend::start().await;
    let nobody = Backend::builder().reserve().await;
    let (backends, builder) = by_hand(None);
    let channel = builder.build();
    backends.insert("A", old.uri()).await;
    until(&channel, Ready).await;

    backends.insert("A", nobody.uri()).await;
    until(&channel, TransientFailure).await;
    let text = refusal(&channel).await;
    assert!(text.contains(&nobody.addr().to_string()), "{text}");
    old.until_open_connections(0).await;
}

#[tokio::test]
async fn removing_a_backend_lets_its_calls_finish() {
    let [gone, stays] = Backend::builder().start_each(["gone", "stays"]).await;
    let (backends, builder) = by_hand(None);
    let channel = builder.build();
    backends.insert("gone", gone.uri()).await;
    until(&channel, Ready).await;
    let held = start(&channel, "hold");
    gone.until_held(1).await;

    backends.remove("gone").await;
    backends.insert("stays", stays.uri()).await;
    until_ready(&channel, &["stays"]).await;
    assert_eq!(order(&channel, 3).await, ["stays"; 3]);
    assert_eq!((gone.open_calls(), gone.open_connections()), (1, 1));
    gone.release();
    let reply = outcome(held).await.expect("removal ends no call");
    assert_eq!(reply.backend, "gone");
    gone.until_open_connections(0).await;
}

#[tokio::test]
async fn a_key_that_comes_back_is_another_backend() {
    let backend = Backend::start().await;
    let (backends, builder) = by_hand(None);
    let channel = builder.build();
    backends.insert("A", backend.uri()).await;
    until_backends(&channel, &[Ready]).await;
    let before = channel.backends()[0].id();

    backends.remove("A").await;
    backends.insert("A", backend.uri()).await;
    backend.until_connections(2).await;
    until_backends(&channel, &[Ready]).await;
    assert_ne!(channel.backends()[0].id(), before);
    backend.until_open_connections(1).await;
}

// R37
#[test]
fn an_empty_list_is_refused() {
    let error = discover::list(Vec::<String>::new()).expect_err("nobody to call");
    assert_eq!(error.kind(), ErrorKind::InvalidEndpoint);
    assert!(
        error.message().contains("list of backends is empty"),
        "{error}"
    );
}

/// A key of which nothing can be printed.
#[derive(Clone, PartialEq, Eq, Hash)]
struct Mute(u8);

#[tokio::test]
async fn balance_channel_takes_keys_without_debug() {
    let [a, b] = Backend::builder().start_each(["A", "B"]).await;
    let (channel, changes) = Channel::balance_channel(4);
    assert_eq!(channel.state(), Connecting);
    for (key, backend) in [(Mute(1), &a), (Mute(2), &b)] {
        let change = Change::Insert(key, endpoint(backend.uri()));
        changes.send(change).await.expect("the channel listens");
    }
    until_backends(&channel, &[Ready; 2]).await;
    let labels: Vec<_> = channel
        .backends()
        .iter()
        .map(|b| b.label().to_owned())
        .collect();
    assert_eq!(labels, [&a, &b].map(|backend| backend.addr().to_string()));

    changes
        .send(Change::Remove(Mute(1)))
        .await
        .expect("as before");
    until_backends(&channel, &[Ready]).await;
    drop(changes);
    assert_eq!(spread(&channel, 3, &[&a, &b]).await, [0, 3]);
}

#[tokio::test]
async fn balance_list_spreads_calls_over_the_list() {
    let [a, b] = Backend::builder().start_each(["A", "B"]).await;
    let list = vec![endpoint(a.uri()), endpoint(b.uri())];
    let channel = Channel::balance_list(list.into_iter());
    until_backends(&channel, &[Ready; 2]).await;
    assert_eq!(spread(&channel, 6, &[&a, &b]).await, [3, 3]);
}

#[tokio::test]
async fn a_removal_of_what_was_never_named_is_nothing() {
    let backend = Backend::start().await;
    let (backends, builder) = by_hand(None);
    let channel = builder.build();
    backends.remove("ghost").await;
    backends.insert("A", backend.uri()).await;
    until_backends(&channel, &[Ready]).await;
    backends.remove("ghost").await;
    hello(&channel).await.expect("A is there");
}
