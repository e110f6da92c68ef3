//! Tests of [`Backend`] itself, with tonic's own channel as the client.

use std::time::Duration;

use futures_util::FutureExt;
use tonic::{
    Code, Status, Streaming,
    transport::{Channel, Endpoint},
};

use crate::support::{
    Backend, CheckScript, GREETER, HealthKind, NOT_SERVING, SERVICE_UNKNOWN, SERVING, UNKNOWN,
    WatchScript,
    greeter::{HelloReply, HelloRequest, greeter_client::GreeterClient},
    health::{
        HealthCheckRequest, HealthCheckResponse, HealthListRequest, health_client::HealthClient,
    },
    within,
};

async fn channel(uri: String) -> Channel {
    let endpoint = Endpoint::from_shared(uri).expect("a backend's URI is one");
    within("a channel to connect", endpoint.connect())
        .await
        .expect("the backend accepts connections")
}

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

fn named(service: &str) -> HealthCheckRequest {
    HealthCheckRequest {
        service: service.into(),
    }
}

async fn watch(channel: &Channel, service: &str) -> Result<Streaming<HealthCheckResponse>, Status> {
    let mut client = HealthClient::new(channel.clone());
    within("response headers of Watch", client.watch(named(service)))
        .await
        .map(tonic::Response::into_inner)
}

async fn next(watch: &mut Streaming<HealthCheckResponse>) -> Result<Option<i32>, Status> {
    let answer = within("the next message of Watch", watch.message()).await?;
    Ok(answer.map(|answer| answer.status))
}

async fn scripted() -> (Backend, Channel) {
    let backend = Backend::builder().scripted().start().await;
    let channel = channel(backend.uri()).await;
    (backend, channel)
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

#[tokio::test]
async fn our_watch_tells_every_change_once() {
    let (backend, channel) = scripted().await;
    let mut known = watch(&channel, GREETER).await.expect("a stream");
    assert_eq!(next(&mut known).await.expect("open"), Some(SERVING));
    let mut unknown = watch(&channel, "other").await.expect("a stream");
    assert_eq!(
        next(&mut unknown).await.expect("open"),
        Some(SERVICE_UNKNOWN)
    );

    backend.set_serving(GREETER).await;
    backend.set_not_serving(GREETER).await;
    assert_eq!(next(&mut known).await.expect("open"), Some(NOT_SERVING));
    backend.set_status(GREETER, UNKNOWN).await;
    backend.set_status(GREETER, 17).await;
    assert_eq!(
        next(&mut known).await.expect("open"),
        Some(17),
        "the newest wins"
    );
    backend.clear_status(GREETER).await;
    assert_eq!(next(&mut known).await.expect("open"), Some(SERVICE_UNKNOWN));

    assert_eq!(backend.asked(), [GREETER, "other"]);
    assert_eq!((backend.watches(), backend.open_watches()), (2, 2));
    drop(known);
    backend.until_open_watches(1).await;
    backend.end_watches(Code::Ok);
    assert_eq!(next(&mut unknown).await.expect("a clean end"), None);
    backend.until_open_watches(0).await;
}

#[tokio::test]
async fn check_and_list_answer_or_follow_their_script() {
    let (backend, channel) = scripted().await;
    let mut client = HealthClient::new(channel);
    let known = client.check(named(GREETER)).await.expect("an answer");
    assert_eq!(known.into_inner().status, SERVING);
    let unknown = client.check(named("other")).await.expect_err("no answer");
    assert_eq!(unknown.code(), Code::NotFound);
    let list = client.list(HealthListRequest {}).await.expect("a list");
    assert_eq!(list.into_inner().statuses.len(), 2);

    backend.script_check(CheckScript::Status(9));
    let odd = client.check(named("other")).await.expect("an answer");
    assert_eq!(odd.into_inner().status, 9);
    backend.script_check(CheckScript::Unimplemented);
    let none = client.check(named("")).await.expect_err("no answer");
    assert_eq!(none.code(), Code::Unimplemented);
    assert_eq!(backend.checks(), 4);
}

#[tokio::test]
async fn every_kind_of_health_is_what_it_says() {
    let tonic = Backend::builder().not_serving(GREETER).start().await;
    let channel_to_tonic = channel(tonic.uri()).await;
    let mut stream = watch(&channel_to_tonic, GREETER).await.expect("a stream");
    assert_eq!(next(&mut stream).await.expect("open"), Some(NOT_SERVING));
    tonic.set_serving(GREETER).await;
    assert_eq!(next(&mut stream).await.expect("open"), Some(SERVING));
    assert_eq!(tonic.asked(), [GREETER]);
    let unknown = watch(&channel_to_tonic, "other")
        .await
        .expect_err("no stream");
    assert_eq!(unknown.code(), Code::NotFound);

    for kind in [HealthKind::CheckOnly, HealthKind::None] {
        let backend = Backend::builder().health(kind).start().await;
        let channel = channel(backend.uri()).await;
        let none = watch(&channel, "").await.expect_err("no Watch");
        assert_eq!(none.code(), Code::Unimplemented, "{kind:?}");
        assert_eq!(backend.watches(), 1);
        let check = HealthClient::new(channel).check(named("")).await;
        assert_eq!(check.is_ok(), kind == HealthKind::CheckOnly, "{kind:?}");
    }
}

#[tokio::test]
async fn a_scripted_watch_follows_its_script() {
    let (backend, channel) = scripted().await;

    for html in [false, true] {
        backend.script_next_watches(1, WatchScript::Http404 { html });
        let missing = watch(&channel, "").await.expect_err("no stream");
        assert_eq!(missing.code(), Code::Unimplemented, "HTTP 404 maps to it");
    }
    for after_messages in [0, 2] {
        let code = Code::Aborted;
        let script = WatchScript::EndWith {
            code,
            after_messages,
        };
        backend.script_next_watches(1, script);
        assert_eq!(
            messages(&channel).await,
            (vec![SERVING; after_messages], code)
        );
    }
    backend.script_next_watches(1, WatchScript::Flood(3));
    let mut flood = watch(&channel, "").await.expect("a stream");
    for status in [SERVING, NOT_SERVING, SERVING] {
        assert_eq!(next(&mut flood).await.expect("open"), Some(status));
    }
    backend.script_next_watches(1, WatchScript::UnknownNumber(17));
    let mut odd = watch(&channel, "").await.expect("a stream");
    assert_eq!(next(&mut odd).await.expect("open"), Some(17));
    backend.script_next_watches(1, WatchScript::Garbage);
    let mut garbage = watch(&channel, "").await.expect("a stream");
    let undecodable = next(&mut garbage).await.expect_err("not a message");
    assert_eq!(undecodable.code(), Code::Internal);
    backend.script_next_watches(1, WatchScript::DelayFirst(Duration::from_millis(1)));
    let mut late = watch(&channel, "").await.expect("a stream");
    assert_eq!(next(&mut late).await.expect("open"), Some(SERVING));

    backend.script_watch(WatchScript::HoldFirst);
    let mut held = watch(&channel, "").await.expect("headers");
    assert!(held.message().now_or_never().is_none());
    backend.release_watches();
    assert_eq!(next(&mut held).await.expect("open"), Some(SERVING));

    drop((flood, odd, garbage, late, held));
    backend.until_open_watches(0).await;
}

/// All messages of a Watch of `""`, and the code it ends with.
async fn messages(channel: &Channel) -> (Vec<i32>, Code) {
    let mut messages = Vec::new();
    let mut watch = match watch(channel, "").await {
        Ok(watch) => watch,
        Err(status) => return (messages, status.code()),
    };
    loop {
        match next(&mut watch).await {
            Ok(Some(status)) => messages.push(status),
            Ok(None) => return (messages, Code::Ok),
            Err(status) => return (messages, status.code()),
        }
    }
}

#[tokio::test]
async fn a_watch_without_an_answer_stays_open_until_the_client_leaves() {
    let (backend, channel) = scripted().await;
    for script in [WatchScript::NeverAnswer, WatchScript::HeadersOnly] {
        backend.script_watch(script.clone());
        let client = {
            let channel = channel.clone();
            tokio::spawn(async move { messages(&channel).await })
        };
        backend.until_open_watches(1).await;
        client.abort();
        backend.until_open_watches(0).await;
    }
}
