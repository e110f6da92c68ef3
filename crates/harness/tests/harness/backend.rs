//! [`Backend`]: its life, its greeter and what it counts.

use std::time::Duration;

use futures_util::FutureExt;
use testing::{
    Backend,
    greeter::{HelloReply, HelloRequest, greeter_client::GreeterClient},
    within,
};
use tonic::{
    Code, Status,
    transport::{Channel, Endpoint},
};

use super::channel;

async fn hello(channel: &Channel, name: &str) -> Result<HelloReply, Status> {
    let request = HelloRequest {
        name: name.into(),
        count: 0,
    };
    let mut client = GreeterClient::new(channel.clone());
    within("an answer to SayHello", client.say_hello(request))
        .await
        .map(tonic::Response::into_inner)
}

#[tokio::test]
async fn a_backend_greets_by_name_and_counts() {
    let backend = Backend::builder().name("A").start().await;
    let channel = channel(backend.uri()).await;

    let reply = hello(&channel, "you").await.expect("a greeting");
    assert_eq!(
        (reply.message.as_str(), reply.backend.as_str()),
        ("Hello you!", "A")
    );
    let failed = hello(&channel, "fail:8").await.expect_err("no greeting");
    assert_eq!(failed.code(), Code::ResourceExhausted);
    hello(&channel, "slow:1").await.expect("a slow greeting");

    assert_eq!(backend.hits(), 3, "every call counts, failed ones too");
    assert_eq!((backend.connections(), backend.open_connections()), (1, 1));
    backend.reset_hits();
    assert_eq!(backend.hits(), 0);
    drop(channel);
    backend.until_open_connections(0).await;
    assert_eq!(backend.connections(), 1, "the total does not go down");
}

#[tokio::test]
async fn a_held_call_waits_for_its_release_or_its_cancellation() {
    let backend = Backend::start().await;
    let channel = channel(backend.uri()).await;
    let call = |channel: Channel| tokio::spawn(async move { hello(&channel, "hold").await });

    let released = call(channel.clone());
    backend.until_held(1).await;
    backend.release();
    let reply = released.await.expect("the call does not panic");
    assert!(reply.is_ok(), "a released call is answered: {reply:?}");

    let cancelled = call(channel.clone());
    backend.until_held(1).await;
    assert_eq!(backend.open_calls(), 1);
    cancelled.abort();
    backend.until_held(0).await;
    backend.until_open_calls(0).await;
}

#[tokio::test]
async fn all_kinds_of_streams_work() {
    let backend = Backend::builder().name("A").start().await;
    let mut client = GreeterClient::new(channel(backend.uri()).await);
    let request = |name: &str| HelloRequest {
        name: name.into(),
        count: 2,
    };

    let many = client.say_hello_many(request("fail:14")).await;
    let mut many = many.expect("a stream").into_inner();
    for _ in 0..2 {
        assert!(many.message().await.expect("a reply").is_some());
    }
    let end = many
        .message()
        .await
        .expect_err("the end that was asked for");
    assert_eq!(end.code(), Code::Unavailable);

    let names = tokio_stream::iter([request("a"), request("b")]);
    let all = client.greet_all(names).await.expect("one reply");
    assert_eq!(all.into_inner().message, "Hello a, b!");

    let names = tokio_stream::iter([request("a"), request("b")]);
    let mut chat = client.chat(names).await.expect("a stream").into_inner();
    for expected in ["Hello a!", "Hello b!"] {
        let reply = chat.message().await.expect("a reply");
        assert_eq!(reply.expect("two replies").message, expected);
    }
    assert_eq!(backend.hits(), 3);
}

#[tokio::test]
async fn the_last_call_can_be_looked_at() {
    let backend = Backend::start().await;
    let mut client = GreeterClient::new(channel(backend.uri()).await);
    let mut request = tonic::Request::new(HelloRequest::default());
    request.set_timeout(Duration::from_secs(3));
    request
        .metadata_mut()
        .insert("x-test", "yes".parse().expect("ASCII"));
    client.say_hello(request).await.expect("a greeting");

    let metadata = backend.last_metadata().expect("there was a call");
    assert_eq!(metadata.get("grpc-timeout").expect("set"), "3000000u");
    assert_eq!(metadata.get("x-test").expect("set"), "yes");
    assert!(metadata.contains_key("user-agent"));
    let authority = backend.last_authority();
    assert_eq!(authority, Some(backend.addr().to_string()));
}

#[tokio::test]
async fn a_killed_backend_resets_refuses_and_comes_back_on_its_port() {
    let backend = Backend::start().await;
    let (addr, before) = (backend.addr(), channel(backend.uri()).await);
    let held = {
        let channel = before.clone();
        tokio::spawn(async move { hello(&channel, "hold").await })
    };
    backend.until_held(1).await;

    within("the backend to be killed", backend.kill()).await;
    held.await
        .expect("the call does not panic")
        .expect_err("a call does not survive its connection");
    let refused = tokio::net::TcpStream::connect(addr).await;
    assert_eq!(
        refused.expect_err("nobody listens").kind(),
        std::io::ErrorKind::ConnectionRefused
    );

    backend.restart().await;
    assert_eq!(backend.addr(), addr);
    let after = channel(backend.uri()).await;
    hello(&after, "again").await.expect("a greeting");
    backend.cut_connections();
    backend.until_open_connections(0).await;
    assert_eq!(backend.connections(), 2);
}

#[tokio::test]
async fn a_graceful_stop_waits_for_open_calls_only() {
    let backend = Backend::start().await;
    let channel = channel(backend.uri()).await;
    let held = tokio::spawn(async move { hello(&channel, "hold").await });
    backend.until_held(1).await;

    let mut stopped = Box::pin(backend.stop_gracefully());
    assert!(
        (&mut stopped).now_or_never().is_none(),
        "a held call keeps the server"
    );
    backend.release();
    within("the server to stop", stopped).await;
    let reply = held.await.expect("the call does not panic");
    assert!(reply.is_ok(), "the call ended well: {reply:?}");
}

#[tokio::test]
async fn a_reserved_backend_refuses_until_it_starts() {
    let backend = Backend::builder().reserve().await;
    let endpoint = Endpoint::from_shared(backend.uri()).expect("a URI");
    endpoint.connect().await.expect_err("nobody listens");
    backend.restart().await;
    endpoint.connect().await.expect("somebody listens");
}

#[tokio::test]
async fn backends_can_be_started_by_name() {
    let [a, b] = Backend::builder().scripted().start_each(["A", "B"]).await;
    assert_eq!((a.name(), b.name()), ("A", "B"));
    assert_ne!(a.addr(), b.addr());
}
