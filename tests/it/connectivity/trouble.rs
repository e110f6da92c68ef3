//! What a channel does about backends that it cannot use: it asks its source for
//! others, and it dials again when told to.

use std::convert::Infallible;

use futures_util::{FutureExt, StreamExt, stream};
use testing::{
    Backend, GREETER, balanced, endpoint, hello, order, outcome, start, start_patient, until,
    until_backends, until_that, within,
};
use tonic_health_channel::{
    Channel,
    ConnectivityState::{Idle, Ready, TransientFailure},
    channel::Change,
    discover::RefreshHandle,
};

use super::hourly;

/// Whether the source was asked since this was last called.
fn asked(refresh: &RefreshHandle) -> bool {
    refresh.requested().now_or_never().is_some()
}

#[tokio::test]
async fn a_source_is_asked_when_a_backend_is_lost_and_with_each_failed_attempt() {
    let backend = Backend::start().await;
    let refresh = RefreshHandle::new();
    let builder = balanced(&[&backend], None).on_reresolution_needed(refresh.clone());
    let channel = builder.build();
    until(&channel, Ready).await;
    hello(&channel).await.expect("all is well");
    assert!(!asked(&refresh), "all is well");

    backend.kill().await;
    within("the loss to be told", refresh.requested()).await;
    for attempt in 1..=3 {
        until_that(&channel, "a failed attempt", |status| {
            status.backends()[0].failed_attempts() >= attempt
        })
        .await;
        within("each failure to be told", refresh.requested()).await;
    }

    backend.restart().await;
    until(&channel, Ready).await;
    while asked(&refresh) {}
    hello(&channel).await.expect("all is well again");
    channel.enter_idle();
    until(&channel, Idle).await;
    backend.until_open_connections(0).await;
    hello(&channel).await.expect("a call wakes it");
    channel.close().await;
    assert!(!asked(&refresh), "to let go is no trouble");
}

#[tokio::test]
async fn a_source_is_asked_when_a_backend_turns_unhealthy() {
    let [a, b] = Backend::builder().scripted().start_each(["A", "B"]).await;
    let refresh = RefreshHandle::new();
    let builder = balanced(&[&a, &b], Some(GREETER)).on_reresolution_needed(refresh.clone());
    let channel = builder.build();
    until_backends(&channel, &[Ready; 2]).await;
    assert!(!asked(&refresh));

    b.set_not_serving(GREETER).await;
    within("the source to be asked", refresh.requested()).await;
    until_backends(&channel, &[Ready, TransientFailure]).await;
    b.set_serving(GREETER).await;
    until_backends(&channel, &[Ready; 2]).await;
    assert!(!asked(&refresh), "a recovery is no trouble");
}

#[tokio::test]
async fn a_source_that_looks_again_finds_the_backend_that_came_instead() {
    let [old, new] = Backend::builder().start_each(["old", "new"]).await;
    let refresh = RefreshHandle::new();
    let [at_old, at_new] = [&old, &new].map(|backend| endpoint(backend.uri()));
    let looks_again = {
        let refresh = refresh.clone();
        async move {
            refresh.requested().await;
            stream::iter([Change::Insert("new", at_new), Change::Remove("old")])
        }
    };
    let source = stream::iter([Change::Insert("old", at_old)])
        .chain(stream::once(looks_again).flatten())
        .map(Ok::<_, Infallible>);
    let channel = Channel::balance(source)
        .connect_backoff(hourly())
        .on_reresolution_needed(refresh)
        .build();
    assert_eq!(order(&channel, 3).await, ["old"; 3]);

    old.kill().await;
    let patient = start_patient(&channel, "you");
    let reply = outcome(patient).await.expect("there is another");
    assert_eq!(reply.backend, "new");
    assert_eq!(order(&channel, 3).await, ["new"; 3]);
}

// T14
#[tokio::test]
async fn a_backoff_that_is_reset_ends_at_once() {
    let [a, b] = [(); 2].map(|()| Backend::builder().reserve());
    let (a, b) = (a.await, b.await);
    let builder = balanced(&[&a, &b], None).connect_backoff(hourly());
    let channel = builder.build();
    until_backends(&channel, &[TransientFailure; 2]).await;
    let patient = start_patient(&channel, "you");

    a.restart().await;
    b.restart().await;
    channel.reset_connect_backoff();
    until_backends(&channel, &[Ready; 2]).await;
    outcome(patient).await.expect("the network is back");

    channel.reset_connect_backoff();
    let call = outcome(start(&channel, "you")).await;
    call.expect("who is connected does not mind");
    assert_eq!((a.connections(), b.connections()), (1, 1));
}
