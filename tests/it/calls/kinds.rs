//! The four kinds of call, through generated clients.

use futures_util::Stream;
use testing::{
    GREETER, SERVING, greeter,
    greeter::{HelloReply, HelloRequest},
    health::{HealthCheckRequest, health_client::HealthClient},
    request, say, within,
};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Streaming};
use tonic_health_channel::Channel;

use super::connected;

/// Three quarters of what tonic accepts in one message.
const LARGE: usize = 3 << 20;

fn replies(count: u32) -> HelloRequest {
    HelloRequest {
        name: "you".into(),
        count,
    }
}

async fn chat(
    channel: &Channel,
    requests: impl Stream<Item = HelloRequest> + Send + 'static,
) -> Streaming<HelloReply> {
    let mut client = greeter(channel);
    within("response headers", client.chat(requests))
        .await
        .expect("a stream")
        .into_inner()
}

async fn next(replies: &mut Streaming<HelloReply>) -> Option<String> {
    let reply = within("the next reply", replies.message()).await;
    reply
        .expect("a reply or the end")
        .map(|reply| reply.message)
}

#[tokio::test]
async fn a_unary_call_is_answered() {
    let (_backend, channel) = connected().await;
    let reply = say(&channel, "you").await.expect("an answer");
    assert_eq!((&*reply.message, &*reply.backend), ("Hello you!", "A"));
}

#[tokio::test]
async fn a_server_streams_its_replies() {
    let (backend, channel) = connected().await;
    let call = greeter(&channel).say_hello_many(replies(1000)).await;
    let mut stream = call.expect("a stream").into_inner();
    for i in 0..1000 {
        assert_eq!(
            next(&mut stream).await.as_deref(),
            Some("Hello you!"),
            "reply {i}"
        );
    }
    assert_eq!(next(&mut stream).await, None);
    backend.until_open_calls(0).await;
}

#[tokio::test]
async fn a_client_streams_its_requests() {
    let (_backend, channel) = connected().await;
    let names: Vec<_> = (0..1000).map(|i| i.to_string()).collect();
    let requests: Vec<_> = names.iter().map(|name| request(name)).collect();
    let call = greeter(&channel)
        .greet_all(tokio_stream::iter(requests))
        .await;
    let reply = call.expect("one answer to all").into_inner();
    assert_eq!(reply.message, format!("Hello {}!", names.join(", ")));
}

#[tokio::test]
async fn both_sides_talk_in_turn() {
    let (_backend, channel) = connected().await;
    let (names, requests) = mpsc::channel(1);
    // Response headers come before the first request is sent.
    let mut chat = chat(&channel, ReceiverStream::new(requests)).await;
    for i in 0..100 {
        let name = i.to_string();
        names.send(request(&name)).await.expect("the call is open");
        assert_eq!(next(&mut chat).await, Some(format!("Hello {name}!")));
    }
    drop(names);
    assert_eq!(next(&mut chat).await, None, "the client has said its last");
}

#[tokio::test]
async fn a_client_that_sends_a_thousand_messages_before_it_reads_does_not_stall() {
    let (_backend, channel) = connected().await;
    let (names, requests) = mpsc::channel(1000);
    for i in 0..1000 {
        names
            .try_send(request(&i.to_string()))
            .expect("there is room");
    }
    drop(names);
    let mut chat = chat(&channel, ReceiverStream::new(requests)).await;
    let mut read = 0;
    while next(&mut chat).await.is_some() {
        read += 1;
    }
    assert_eq!(read, 1000);
}

#[tokio::test]
async fn messages_may_be_larger_than_any_window() {
    let (_backend, channel) = connected().await;
    let large = "x".repeat(LARGE);
    let reply = say(&channel, &large).await.expect("an answer");
    assert_eq!(reply.message.len(), "Hello !".len() + LARGE);

    let requests = tokio_stream::iter([request(&large), request("you"), request(&large)]);
    let mut chat = chat(&channel, requests).await;
    for len in [LARGE, 3, LARGE] {
        let reply = next(&mut chat).await.expect("three replies");
        assert_eq!(reply.len(), "Hello !".len() + len);
    }
    assert_eq!(next(&mut chat).await, None);
}

#[tokio::test]
async fn every_status_code_comes_through_unchanged() {
    let (backend, channel) = connected().await;
    for number in 1..=16 {
        let name = format!("fail:{number}");
        let status = say(&channel, &name).await.expect_err("asked to fail");
        assert_eq!(status.code(), Code::from(number));
        assert_eq!(status.message(), "the test asked for this");

        let request = HelloRequest { name, count: 2 };
        let call = greeter(&channel).say_hello_many(request).await;
        let mut stream = call.expect("two replies come first").into_inner();
        for _ in 0..2 {
            next(&mut stream).await.expect("a reply before the failure");
        }
        let end = within("the end", stream.message()).await;
        let status = end.expect_err("asked to fail");
        assert_eq!(status.code(), Code::from(number), "after replies");
    }
    assert_eq!(
        backend.hits(),
        32,
        "an answer is an answer: nothing is sent twice"
    );
    assert_eq!(backend.connections(), 1);
}

#[tokio::test]
async fn a_call_that_is_dropped_is_cancelled_at_the_server() {
    let (backend, channel) = connected().await;
    let unary = {
        let channel = channel.clone();
        tokio::spawn(async move { say(&channel, "hold").await })
    };
    backend.until_held(1).await;
    unary.abort();
    backend.until_open_calls(0).await;

    let mut held = replies(2);
    held.name = "hold".into();
    let call = greeter(&channel).say_hello_many(held).await;
    let mut stream = call.expect("a stream").into_inner();
    next(&mut stream).await.expect("one of two");
    assert_eq!(backend.open_calls(), 1);
    drop(stream);
    backend.until_open_calls(0).await;

    let (names, requests) = mpsc::channel(1);
    let chat = chat(&channel, ReceiverStream::new(requests)).await;
    names.send(request("hold")).await.expect("the call is open");
    backend.until_held(1).await;
    drop(chat);
    backend.until_open_calls(0).await;
    within("the request stream to be let go", names.closed()).await;
    assert_eq!(backend.connections(), 1, "the connection is none the worse");
}

#[tokio::test]
async fn a_request_that_the_client_cannot_encode_fails_with_its_own_reason() {
    let (backend, channel) = connected().await;
    let mut client = greeter(&channel).max_encoding_message_size(100);
    let large = request(&"x".repeat(1000));
    let call = within("an answer", client.say_hello(large.clone())).await;
    let status = call.expect_err("too large");
    assert_eq!(status.code(), Code::OutOfRange, "{status}");
    assert_eq!(backend.hits(), 0, "it was never sent");

    let (names, requests) = mpsc::channel(1);
    let mut chat = within("a stream", client.chat(ReceiverStream::new(requests)))
        .await
        .expect("a stream")
        .into_inner();
    names.send(request("you")).await.expect("the call is open");
    assert_eq!(next(&mut chat).await.as_deref(), Some("Hello you!"));
    names.send(large).await.expect("the call is open");
    let end = within("the end", chat.message()).await;
    let status = end.expect_err("the second is too large");
    assert_eq!(status.code(), Code::OutOfRange, "{status}");
    backend.until_open_calls(0).await;
}

#[tokio::test]
async fn a_generated_health_client_works_on_the_channel() {
    let (backend, channel) = connected().await;
    let mut client = HealthClient::new(channel);
    let service = GREETER.to_owned();
    let check = client.check(HealthCheckRequest { service });
    let answer = within("an answer to Check", check)
        .await
        .expect("an answer");
    assert_eq!(answer.into_inner().status, SERVING);
    assert_eq!(backend.checks(), 1);

    let service = "other".to_owned();
    let unknown = client.check(HealthCheckRequest { service }).await;
    assert_eq!(unknown.expect_err("no such service").code(), Code::NotFound);
}
