//! Messages larger than the service config allows.

use prost::Message;
use testing::{
    Answer, Backend, Chat, Configs, H2Peer, balanced, balanced_at, greeter,
    greeter::{HelloReply, HelloRequest},
    hello, of_all_methods, outcome, request, say, start, until, within,
};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Status};
use tonic_health_channel::{Channel, ConnectivityState::Ready, ServiceConfig};

/// The rules of a method config for its requests and its responses.
const REQUEST: &str = "maxRequestMessageBytes";
const RESPONSE: &str = "maxResponseMessageBytes";

const SHORT: &str = "you";
const LONGER: &str = "you and you";

/// The rule that allows `max` bytes.
fn limit(what: &str, max: usize) -> String {
    format!(r#""{what}": {max}"#)
}

fn config(json: &str) -> ServiceConfig {
    json.parse().expect("a valid service config")
}

/// A backend, and a READY channel to it with these rules for every method.
async fn limited(rules: &str) -> (Backend, Channel) {
    let backend = Backend::builder().name("A").start().await;
    let builder = balanced(&[&backend], None);
    let channel = builder.service_config(config(&of_all_methods(rules)));
    let channel = channel.build();
    until(&channel, Ready).await;
    (backend, channel)
}

fn request_size(name: &str) -> usize {
    request(name).encoded_len()
}

/// The size of what a backend named A replies to `name`.
fn reply_size(name: &str) -> usize {
    let reply = HelloReply {
        message: format!("Hello {name}!"),
        backend: "A".into(),
    };
    reply.encoded_len()
}

#[track_caller]
fn assert_too_large(outcome: Result<HelloReply, Status>, text: &str) {
    let status = outcome.expect_err("too large");
    assert_eq!(status.code(), Code::ResourceExhausted, "{status}");
    assert_eq!(status.message(), text);
}

fn request_text(size: usize, max: usize) -> String {
    format!(
        "trying to send message larger than max ({size} vs. {max}); the service config sets the \
         max, in bytes"
    )
}

fn response_text(size: usize, backend: &Backend, max: usize) -> String {
    let from = backend.addr();
    format!(
        "received message larger than max ({size} vs. {max}) from {from}; the service config sets \
         the max, in bytes"
    )
}

// V16
#[tokio::test]
async fn a_request_of_the_limit_is_sent_and_a_larger_one_is_not() {
    let max = request_size(SHORT);
    let (backend, channel) = limited(&limit(REQUEST, max)).await;
    hello(&channel).await.expect("exactly the limit");
    let more = format!("{SHORT}!");
    for _ in 0..10 {
        let outcome = say(&channel, &more).await;
        assert_too_large(outcome, &request_text(max + 1, max));
    }
    assert_eq!(backend.hits(), 1, "what is too large is not sent");
    assert_eq!(channel.backends()[0].calls_in_flight(), 0);
    hello(&channel).await.expect("the next is as good as ever");
    assert_eq!(backend.connections(), 1);
}

// V16
#[tokio::test]
async fn a_response_of_the_limit_is_taken_and_a_larger_one_is_not() {
    let max = reply_size(SHORT);
    let (backend, channel) = limited(&limit(RESPONSE, max)).await;
    let held = start(&channel, "hold");
    backend.until_held(1).await;
    hello(&channel).await.expect("exactly the limit");
    let more = format!("{SHORT}!");
    let text = response_text(max + 1, &backend, max);
    assert_too_large(say(&channel, &more).await, &text);
    assert_eq!(backend.hits(), 3, "it was sent, and answered");

    hello(&channel).await.expect("the next is as good as ever");
    backend.release();
    let held = outcome(held).await;
    let text = response_text(reply_size("hold"), &backend, max);
    assert_too_large(held, &text);
    backend.until_open_calls(0).await;
    assert_eq!(backend.connections(), 1);
}

#[tokio::test]
async fn at_zero_only_empty_messages_pass() {
    let (backend, channel) = limited(&limit(REQUEST, 0)).await;
    say(&channel, "").await.expect("an empty request");
    assert_too_large(say(&channel, "x").await, &request_text(3, 0));
    assert_eq!(backend.hits(), 1);

    let (backend, channel) = limited(&limit(RESPONSE, 0)).await;
    let size = reply_size("");
    assert_too_large(say(&channel, "").await, &response_text(size, &backend, 0));

    let peer = H2Peer::start().await;
    peer.answer_calls(Answer::Ok);
    let builder = balanced_at([peer.uri()], None);
    let json = of_all_methods(&limit(RESPONSE, 0));
    let channel = builder.service_config(config(&json)).build();
    let reply = hello(&channel).await.expect("an empty response");
    assert_eq!(reply, HelloReply::default());
}

#[tokio::test]
async fn a_limit_is_for_the_methods_that_are_named() {
    let named = r#"{"methodConfig": [{
        "name": [{"service": "demo.v1.Greeter", "method": "SayHello"}],
        "maxRequestMessageBytes": 0, "maxResponseMessageBytes": 0
    }]}"#;
    let backend = Backend::start().await;
    let builder = balanced(&[&backend], None).service_config(config(named));
    let channel = builder.build();
    assert_too_large(hello(&channel).await, &request_text(request_size(SHORT), 0));
    assert_eq!(backend.hits(), 0);

    let mut chat = Chat::start(&channel).await;
    chat.greet(SHORT).await.expect("another method");
    chat.end().await;
    let call = greeter(&channel).say_hello_many(replies(2)).await;
    let mut stream = call.expect("another method").into_inner();
    for _ in 0..2 {
        let reply = within("a reply", stream.message()).await;
        reply.expect("another method").expect("one of two");
    }
}

fn replies(count: u32) -> HelloRequest {
    HelloRequest {
        name: SHORT.into(),
        count,
    }
}

#[tokio::test]
async fn a_later_request_that_is_too_large_ends_its_call_and_no_other() {
    let max = request_size(SHORT);
    let (backend, channel) = limited(&limit(REQUEST, max)).await;
    let mut other = Chat::start(&channel).await;
    let mut chat = Chat::start(&channel).await;
    chat.greet(SHORT).await.expect("within the limit");
    let outcome = chat.greet(LONGER).await;
    assert_too_large(outcome, &request_text(request_size(LONGER), max));
    backend.until_open_calls(1).await;

    let (names, requests) = mpsc::channel(2);
    let mut client = greeter(&channel);
    let all = tokio::spawn(async move { client.greet_all(ReceiverStream::new(requests)).await });
    names.send(request(SHORT)).await.expect("a reader");
    backend.until_open_calls(2).await;
    names.send(request(LONGER)).await.expect("a reader");
    let outcome = within("an answer to all", all).await.expect("no panic");
    let outcome = outcome.map(tonic::Response::into_inner);
    assert_too_large(outcome, &request_text(request_size(LONGER), max));
    backend.until_open_calls(1).await;

    other.greet(SHORT).await.expect("its messages are small");
    other.end().await;
    assert_eq!(backend.connections(), 1);
}

#[tokio::test]
async fn a_later_response_that_is_too_large_ends_its_call_and_no_other() {
    let max = reply_size(SHORT);
    let (backend, channel) = limited(&limit(RESPONSE, max)).await;
    let mut other = Chat::start(&channel).await;
    let mut chat = Chat::start(&channel).await;
    chat.greet(SHORT).await.expect("within the limit");
    let outcome = chat.greet(LONGER).await;
    let text = response_text(reply_size(LONGER), &backend, max);
    assert_too_large(outcome, &text);
    backend.until_open_calls(1).await;

    other.greet(SHORT).await.expect("its messages are small");
    other.end().await;
    assert_eq!(backend.connections(), 1);
}

// V16
#[tokio::test]
async fn of_two_limits_the_smaller_counts() {
    let (request, reply) = (request_size(SHORT), reply_size(SHORT));
    let both = format!("{}, {}", limit(REQUEST, request), limit(RESPONSE, reply));
    let (backend, channel) = limited(&both).await;

    let code = async |sent: usize, received: usize, name: &str| {
        let client = greeter(&channel).max_encoding_message_size(sent);
        let mut client = client.max_decoding_message_size(received);
        let call = client.say_hello(self::request(name));
        let outcome = within("an answer", call).await;
        outcome.err().map_or(Code::Ok, |status| status.code())
    };
    assert_eq!(code(request, reply, SHORT).await, Code::Ok);
    // The client's own limit fails its own way.
    assert_eq!(code(request - 1, reply, SHORT).await, Code::OutOfRange);
    assert_eq!(code(request, reply - 1, SHORT).await, Code::OutOfRange);
    assert_eq!(backend.hits(), 2, "one of them got as far as the backend");
    // A client that allows more is allowed no more.
    let larger = code(1000, 1000, LONGER).await;
    assert_eq!(larger, Code::ResourceExhausted);
    assert_eq!(backend.hits(), 2);
}

// P06
#[tokio::test]
async fn a_call_that_waits_for_the_first_config_keeps_to_its_limit() {
    let backend = Backend::start().await;
    let (configs, channel) = Configs::of(balanced(&[&backend], None));
    let large = start(&channel, SHORT);
    let empty = start(&channel, "");
    tokio::task::yield_now().await;
    configs.say(&of_all_methods(&limit(REQUEST, 0)));
    assert_too_large(outcome(large).await, &request_text(request_size(SHORT), 0));
    outcome(empty).await.expect("an empty request");
    assert_eq!(backend.hits(), 1);
}

// V16
#[tokio::test]
async fn a_limit_that_changes_is_for_the_calls_from_then_on() {
    let backend = Backend::builder().name("A").start().await;
    let (configs, channel) = Configs::of(balanced(&[&backend], None));
    configs.say("{}");
    until(&channel, Ready).await;
    let mut older = Chat::start(&channel).await;
    older.greet(LONGER).await.expect("there is no limit");

    let max = request_size(SHORT);
    let limited = of_all_methods(&limit(REQUEST, max));
    configs.put_in_force(&channel, &limited).await;
    let text = request_text(request_size(LONGER), max);
    assert_too_large(say(&channel, LONGER).await, &text);
    let mut newer = Chat::start(&channel).await;
    older.greet(LONGER).await.expect("it began without a limit");
    newer.greet(SHORT).await.expect("within the limit");

    configs.put_in_force(&channel, "{}").await;
    say(&channel, LONGER).await.expect("the limit is gone");
    assert_too_large(newer.greet(LONGER).await, &text);
    older.end().await;
    assert_eq!(backend.connections(), 1);
}
