//! The health of a [`Backend`]: each kind, each script, each count.

use std::time::Duration;

use futures_util::FutureExt;
use http::StatusCode;
use http_body_util::{BodyExt, Full};
use testing::{
    Backend, CheckScript, GREETER, HealthKind, NOT_SERVING, SERVICE_UNKNOWN, SERVING, UNKNOWN,
    WatchScript,
    health::{
        HealthCheckRequest, HealthCheckResponse, HealthListRequest, health_client::HealthClient,
    },
    within,
};
use tonic::{Code, Status, Streaming, body::Body, transport::Channel};
use tower::ServiceExt;

use super::channel;

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
    let start = Backend::builder().health(HealthKind::TonicHealth);
    let tonic = start.not_serving(GREETER).start().await;
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
        let response = raw_watch(&channel).await;
        assert_eq!(response.status(), StatusCode::NOT_FOUND);
        let page = response.into_body().collect().await.expect("a body");
        assert_eq!(page.to_bytes().starts_with(b"<html>"), html);
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

async fn scripted() -> (Backend, Channel) {
    let backend = Backend::builder().scripted().start().await;
    let channel = channel(backend.uri()).await;
    (backend, channel)
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

/// The answer to a Watch of `""` before anything of gRPC is read into it.
async fn raw_watch(channel: &Channel) -> http::Response<Body> {
    let message = Full::from(&[0; 5][..]);
    let request = http::Request::post("/grpc.health.v1.Health/Watch")
        .body(Body::new(message))
        .expect("a request");
    within("an HTTP response", channel.clone().oneshot(request))
        .await
        .expect("the backend answers")
}

fn named(service: &str) -> HealthCheckRequest {
    HealthCheckRequest {
        service: service.into(),
    }
}
