//! The end of a channel: what it waits for, and who hears of it.

mod leftovers;

use std::pin::pin;

use futures_util::FutureExt;
use testing::{
    Answer, Backend, H2Peer, WatchScript, balanced, by_hand, greeter, greeter::HelloRequest,
    health_checked, hello, outcome, request, start, until, within,
};
use tokio::runtime::Runtime;
use tonic::{Code, body::Body};
use tonic_health_channel::{
    Channel,
    ConnectivityState::{Connecting, Ready, Shutdown},
    ErrorKind, discover,
};
use tower::{Service, ServiceExt};

#[tokio::test]
async fn a_client_that_waits_outlives_the_channel_it_was_made_from() {
    let backend = Backend::builder().scripted().start().await;
    backend.script_watch(WatchScript::HoldFirst);
    let channel = health_checked(&[&backend]);
    let mut client = greeter(&channel);
    let mut call = Box::pin(async move { client.say_hello(request("you")).await });
    assert!((&mut call).now_or_never().is_none(), "health is silent yet");

    drop(channel);
    backend.until_open_watches(1).await;
    backend.release_watches();
    let answer = within("an answer to the last call", call).await;
    answer.expect("a call that was begun is seen through");
    backend.until_open_connections(0).await;
}

#[tokio::test]
async fn a_future_that_was_not_even_polled_keeps_the_channel() {
    let backend = Backend::start().await;
    let channel = balanced(&[&backend], None).build();
    let waiting = {
        let mut client = greeter(&channel);
        async move { client.say_hello(request("you")).await }
    };
    drop(channel);
    let answer = within("an answer", waiting).await;
    answer.expect("the client was a handle");
}

/// `SayHello` with an empty message, as a channel takes it.
fn raw_hello() -> http::Request<Body> {
    let message = http_body_util::Full::from(&[0; 5][..]);
    http::Request::post("/demo.v1.Greeter/SayHello")
        .header("content-type", "application/grpc")
        .body(Body::new(message))
        .expect("a request")
}

#[tokio::test]
async fn a_call_that_waits_keeps_the_channel_without_a_handle() {
    let backend = Backend::builder().scripted().start().await;
    backend.script_watch(WatchScript::HoldFirst);
    let mut channel = health_checked(&[&backend]);
    let mut status = channel.watch_status();
    let call = channel.call(raw_hello());
    drop(channel);
    backend.until_open_watches(1).await;
    assert_eq!(status.status().state(), Connecting, "somebody waits for it");

    backend.release_watches();
    let response = within("an answer to the last call", call).await;
    response.expect("a call that was begun is seen through");
    let last = within("SHUTDOWN", status.wait_for(|_| false)).await;
    assert_eq!(last.state(), Shutdown);
}

#[tokio::test]
async fn a_call_that_waits_for_a_stream_keeps_the_channel_too() {
    let peer = H2Peer::limited_to(1).await;
    peer.answer_calls(Answer::KeepOpen);
    let list = discover::list([peer.uri()]).expect("a list of one");
    let mut channel = Channel::balance(list).build();
    let first = tokio::spawn(channel.call(raw_hello()));
    peer.until_open_calls(1).await;
    let second = tokio::spawn(channel.call(raw_hello()));
    drop(channel);

    for call in [first, second] {
        peer.until_open_calls(1).await;
        peer.end_open_calls(Answer::Ok);
        let response = within("an answer", call).await.expect("no panic");
        response.expect("each has its turn");
    }
    peer.until_client_goaway().await;
    peer.until_open_connections(0).await;
}

#[tokio::test]
async fn a_response_stream_outlives_the_channel() {
    let backend = Backend::start().await;
    let channel = balanced(&[&backend], None).build();
    let held = HelloRequest {
        name: "hold".into(),
        count: 2,
    };
    let call = greeter(&channel).say_hello_many(held).await;
    let mut stream = call.expect("a stream").into_inner();

    let mut status = channel.watch_status();
    drop(channel);
    within(
        "SHUTDOWN",
        status.wait_for(|status| status.state() == Shutdown),
    )
    .await;
    for _ in 0..2 {
        let reply = within("a reply", stream.message()).await;
        reply.expect("the stream is open").expect("two replies");
    }
    backend.until_held(1).await;
    assert_eq!(backend.open_connections(), 1);
    backend.release();
    let end = within("the end", stream.message()).await;
    assert_eq!(end.expect("an orderly end"), None);
    backend.until_open_connections(0).await;
}

#[tokio::test]
async fn who_looks_at_a_channel_does_not_keep_it_alive() {
    let backend = Backend::builder().scripted().start().await;
    let channel = health_checked(&[&backend]);
    until(&channel, Ready).await;
    let snapshot = (channel.backends(), channel.status());
    let mut watch = channel.watch_status();
    let mut second = watch.clone();

    drop(channel);
    backend.until_open_connections(0).await;
    let last = within("SHUTDOWN", watch.wait_for(|_| false)).await;
    assert_eq!(last.state(), Shutdown);
    assert!(last.backends().is_empty());
    within("the watch to end", async {
        while second.changed().await.is_some() {}
    })
    .await;
    assert_eq!(second.status().state(), Shutdown, "a watch keeps the last");
    assert_eq!(snapshot.0[0].state(), Ready, "a snapshot is of its moment");
    assert_eq!(snapshot.1.state(), Ready);
}

#[tokio::test]
async fn a_response_future_that_is_dropped_lets_the_channel_go() {
    let peer = H2Peer::start().await;
    let list = discover::list([peer.uri()]).expect("a list of one");
    let channel = Channel::balance(list).build();
    until(&channel, Ready).await;
    peer.answer_calls(Answer::KeepOpen);
    let call = start(&channel, "you");
    peer.until_open_calls(1).await;
    drop(channel);
    assert_eq!(peer.client_goaways(), 0, "a call is in flight");
    call.abort();
    peer.until_client_resets(1).await;
    peer.until_client_goaway().await;
    peer.until_open_connections(0).await;
}

/// A runtime of its own for a channel, that can go away under it.
fn other_runtime() -> Runtime {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .expect("a runtime")
}

#[tokio::test]
async fn a_channel_whose_runtime_is_gone_fails_calls_instead_of_letting_them_hang() {
    let backend = Backend::builder().scripted().start().await;
    let runtime = other_runtime();
    let channel = {
        let _context = runtime.enter();
        health_checked(&[&backend])
    };
    until(&channel, Ready).await;
    hello(&channel).await.expect("all is well");
    let in_flight = start(&channel, "hold");
    backend.until_held(1).await;

    runtime.shutdown_background();
    until(&channel, Shutdown).await;
    let status = outcome(in_flight)
        .await
        .expect_err("its connection is gone");
    assert_eq!(status.code(), Code::Unavailable, "{status}");
    let status = hello(&channel)
        .await
        .expect_err("nobody drives the channel");
    assert_eq!(status.code(), Code::Unavailable);
    assert_eq!(status.message(), "the channel's runtime has ended");
    let body = Body::empty();
    let raw = channel.clone().oneshot(http::Request::new(body)).await;
    assert_eq!(raw.expect_err("as above").kind(), ErrorKind::Closed);
    let ready = within("an answer", channel.wait_until_ready()).await;
    assert_eq!(ready.expect_err("never again").kind(), ErrorKind::Closed);
    backend.until_open_connections(0).await;
}

#[tokio::test]
async fn calls_that_wait_hear_of_the_end_of_the_runtime() {
    let (_silent, builder) = by_hand(None);
    let runtime = other_runtime();
    let channel = {
        let _context = runtime.enter();
        builder.build()
    };
    let mut waiting = pin!(hello(&channel));
    assert!((&mut waiting).now_or_never().is_none());
    assert_eq!(channel.state(), Connecting);

    runtime.shutdown_background();
    let status = waiting.await.expect_err("nobody will ever name a backend");
    assert_eq!(status.message(), "the channel's runtime has ended");
}
