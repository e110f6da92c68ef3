//! Call credentials: what they are asked, where they go, and where not.

use std::{
    future::{pending, ready},
    sync::{Arc, Mutex},
    time::Duration,
};

use futures_util::StreamExt;
use h2::Reason;
use testing::{
    Answer, Authority, Backend, GREETER, H2Peer, TlsFront, balanced, call, endpoint,
    greeter::greeter_client::GreeterClient, hello, request, request_within, until, until_that,
    within,
};
use tokio::sync::watch;
use tonic::{Code, Request, Status, metadata::MetadataMap};
use tonic_health_channel::{
    ConnectivityState::{Ready, TransientFailure},
    ErrorKind,
    channel::{Change, RequestInfo},
    status::CauseKind,
};

use super::over;

const WATCH: &str = "/grpc.health.v1.Health/Watch";
const SAY_HELLO: &str = "/demo.v1.Greeter/SayHello";

fn token(text: &str) -> Result<MetadataMap, Status> {
    let mut metadata = MetadataMap::new();
    metadata.insert("authorization", text.parse().expect("ASCII"));
    Ok(metadata)
}

/// What was asked for.
#[derive(Clone, Default)]
struct Asked(Arc<Mutex<Vec<RequestInfo>>>);

impl Asked {
    fn note(&self, info: RequestInfo) -> usize {
        let mut all = self.0.lock().expect("no holder panics");
        all.push(info);
        all.len()
    }

    fn paths(&self) -> Vec<String> {
        let all = self.0.lock().expect("no holder panics");
        all.iter().map(|info| info.path().to_owned()).collect()
    }
}

// D99
#[tokio::test]
async fn every_call_and_every_watch_brings_its_credentials() {
    let (backend, authority) = (Backend::start().await, Authority::new());
    let front = TlsFront::of(&backend, &authority).await;
    let asked = Asked::default();
    let asking = asked.clone();
    let channel = over([front.endpoint(authority.trusted())], Some(GREETER))
        .call_credentials(move |info| {
            let n = asking.note(info);
            async move { token(&format!("token-{n}")) }
        })
        .build();
    until(&channel, Ready).await;
    let watch = backend.last_watch().expect("there is a Watch");
    assert_eq!(watch.metadata.get("authorization").expect("set"), "token-1");

    for n in ["token-2", "token-3"] {
        let mut request = Request::new(request("you"));
        let own = request.metadata_mut();
        own.insert("x-own", "stays".parse().expect("ASCII"));
        call(&channel, request).await.expect("a greeting");
        let metadata = backend.last_metadata().expect("there was a call");
        assert_eq!(metadata.get("authorization").expect("set"), n);
        assert_eq!(metadata.get("x-own").expect("set"), "stays");
    }
    assert_eq!(asked.paths(), [WATCH, SAY_HELLO, SAY_HELLO]);
    let info = asked.0.lock().expect("no holder panics")[1].clone();
    assert!(info.is_secure());
    assert_eq!(info.authority().as_str(), front.addr().to_string());
    let url = format!("https://{}/demo.v1.Greeter", front.addr());
    assert_eq!(info.service_url(), url);
}

// D99
#[tokio::test]
async fn another_attempt_is_asked_for_anew() {
    let peer = H2Peer::start().await;
    peer.answer_next_calls(1, Answer::Reset(Reason::REFUSED_STREAM));
    let asked = Asked::default();
    let asking = asked.clone();
    let channel = over([endpoint(peer.uri())], None)
        .call_credentials(move |info| {
            asking.note(info);
            ready(token("secret"))
        })
        .allow_plaintext_credentials(true)
        .build();
    hello(&channel).await.expect("the second time it is taken");
    assert_eq!(asked.paths(), [SAY_HELLO, SAY_HELLO]);
}

// D100
#[tokio::test]
async fn plaintext_calls_are_refused_without_asking_for_credentials() {
    let backend = Backend::start().await;
    let asked = Asked::default();
    let asking = asked.clone();
    let channel = balanced(&[&backend], None)
        .call_credentials(move |info| {
            asking.note(info);
            ready(token("secret"))
        })
        .build();
    until(&channel, Ready).await;
    let status = hello(&channel).await.expect_err("not in the clear");
    assert_eq!(status.code(), Code::Unauthenticated);
    let text = format!(
        "cannot send secure credentials on an insecure connection: {} is plaintext",
        backend.addr()
    );
    assert!(status.message().starts_with(&text), "{status}");
    assert_eq!((asked.paths().len(), backend.hits()), (0, 0));
}

// D100
#[tokio::test]
async fn a_plaintext_backend_cannot_be_watched_with_credentials() {
    let backend = Backend::start().await;
    let channel = balanced(&[&backend], Some(GREETER))
        .call_credentials(|_| ready(token("secret")))
        .build();
    until(&channel, TransientFailure).await;
    let backends = channel.backends();
    let (cause, _) = backends[0].last_error().expect("it has failed");
    assert_eq!(cause.kind(), CauseKind::Health);
    assert!(
        cause.text().contains("on an insecure connection"),
        "{cause}"
    );
    assert_eq!(backend.watches(), 0);
}

// D100
#[tokio::test]
async fn plaintext_can_be_allowed_by_name() {
    let backend = Backend::start().await;
    let channel = balanced(&[&backend], Some(GREETER))
        .call_credentials(|info| {
            assert!(!info.is_secure());
            ready(token("secret"))
        })
        .allow_plaintext_credentials(true)
        .build();
    until(&channel, Ready).await;
    hello(&channel).await.expect("a greeting");
    let metadata = backend.last_metadata().expect("there was a call");
    assert_eq!(metadata.get("authorization").expect("set"), "secret");
}

// D101
#[tokio::test]
async fn credentials_that_cannot_be_had_fail_the_call_with_their_code() {
    let (backend, authority) = (Backend::start().await, Authority::new());
    let front = TlsFront::of(&backend, &authority).await;
    for (given, code) in [
        (Code::PermissionDenied, Code::PermissionDenied),
        (Code::NotFound, Code::Internal),
    ] {
        let channel = over([front.endpoint(authority.trusted())], None)
            .call_credentials(move |_| ready(Err(Status::new(given, "no token today"))))
            .build();
        until(&channel, Ready).await;
        let status = hello(&channel).await.expect_err("no token");
        assert_eq!(status.code(), code);
        let start = "call credentials: no token today";
        assert!(status.message().starts_with(start), "{status}");
    }
    assert_eq!(backend.hits(), 0);
}

// D101
#[tokio::test]
async fn no_credentials_for_the_watch_is_no_word_of_the_server() {
    let (backend, authority) = (Backend::start().await, Authority::new());
    let front = TlsFront::of(&backend, &authority).await;
    let channel = over([front.endpoint(authority.trusted())], Some(GREETER))
        // From a server it would mean that there is no health service.
        .call_credentials(|_| ready(Err(Status::unimplemented("no token today"))))
        .build();
    until(&channel, TransientFailure).await;
    let status = until_that(&channel, "another attempt", |status| {
        status.backends()[0].failed_attempts() > 1
    })
    .await;
    let (cause, _) = status.backends()[0].last_error().expect("it has failed");
    assert_eq!(
        cause.text(),
        "Watch ended: Unauthenticated: call credentials: no token today"
    );
}

// D102
#[tokio::test]
async fn a_deadline_covers_the_wait_for_credentials() {
    let (backend, authority) = (Backend::start().await, Authority::new());
    let front = TlsFront::of(&backend, &authority).await;
    let channel = over([front.endpoint(authority.trusted())], None)
        .call_credentials(|_| pending())
        .build();
    until(&channel, Ready).await;
    let impatient = request_within("you", Duration::from_millis(100));
    let status = call(&channel, impatient).await.expect_err("no answer");
    assert_eq!(status.code(), Code::DeadlineExceeded);
    assert_eq!(
        status.message(),
        "deadline exceeded after 100ms, waiting for call credentials"
    );
    assert_eq!(backend.hits(), 0);
}

// D102
#[tokio::test]
async fn the_server_is_told_what_credentials_leave_of_the_deadline() {
    const SHORT: Duration = Duration::from_millis(150);
    let backend = Backend::start().await;
    let (open, gate) = watch::channel(false);
    let (asks, mut asked) = watch::channel(false);
    let channel = over([endpoint(backend.uri())], None)
        .call_credentials(move |_| {
            asks.send_replace(true);
            let mut gate = gate.clone();
            async move {
                let opened = gate.wait_for(|open| *open).await;
                opened.expect("the test opens it");
                token("secret")
            }
        })
        .allow_plaintext_credentials(true)
        .build();
    let deadline = Duration::from_secs(10);
    let waiting = {
        let channel = channel.clone();
        tokio::spawn(async move { call(&channel, request_within("you", deadline)).await })
    };
    let asked = within(
        "credentials to be asked for",
        asked.wait_for(|asked| *asked),
    )
    .await;
    asked.expect("the channel has them");
    // A second call waits SHORT beside the first, in vain.
    let hurried = call(&channel, request_within("you", SHORT)).await;
    hurried.expect_err("there are no credentials yet");
    open.send(true).expect("somebody waits");
    waiting.await.expect("no panic").expect("a greeting");
    let told = backend.last_timeout();
    assert!(told <= deadline - SHORT, "{told:?} after {SHORT:?}");
    assert!(told > deadline / 2, "{told:?}");
}

// D102
#[tokio::test]
async fn an_endpoints_timeout_covers_the_wait_for_credentials() {
    let backend = Backend::start().await;
    let endpoint = endpoint(backend.uri()).timeout(Duration::from_millis(100));
    let channel = over([endpoint], None)
        .call_credentials(|_| pending())
        .allow_plaintext_credentials(true)
        .build();
    until(&channel, Ready).await;
    let status = hello(&channel).await.expect_err("no answer");
    assert_eq!(status.code(), Code::DeadlineExceeded);
    assert!(status.message().ends_with("waiting for call credentials"));
}

#[tokio::test]
async fn a_tower_user_sees_the_kind() {
    use tower::ServiceExt;
    let backend = Backend::start().await;
    let channel = balanced(&[&backend], None)
        .call_credentials(|_| ready(token("secret")))
        .build();
    until(&channel, Ready).await;
    let request = http::Request::post(SAY_HELLO).body(tonic::body::Body::empty());
    let outcome = channel.oneshot(request.expect("a request")).await;
    let error = outcome.expect_err("not in the clear");
    assert_eq!(error.kind(), ErrorKind::Credentials);
}

// D99, D100
#[tokio::test]
async fn calls_through_towers_door_bring_credentials_too() {
    let backend = Backend::start().await;
    for allowed in [false, true] {
        let builder = over([endpoint(backend.uri())], None);
        let builder = builder.call_credentials(|_| ready(token("secret")));
        let channel = match allowed {
            true => builder.allow_plaintext_credentials(true).build(),
            false => builder.build(),
        };
        let first = within("a backend", channel.ready_backends().next()).await;
        let Some(Ok(Change::Insert(_, connection))) = first else {
            panic!("there is one");
        };
        let mut client = GreeterClient::new(connection);
        let answer = within("an answer", client.say_hello(request("Ada"))).await;
        if allowed {
            answer.expect("plaintext is allowed");
            let told = backend.last_metadata().expect("there was a call");
            assert_eq!(told.get("authorization").expect("a token"), "secret");
        } else {
            let status = answer.expect_err("it is in the clear");
            assert_eq!(status.code(), Code::Unauthenticated, "{status}");
            assert_eq!(backend.hits(), 0);
        }
    }
}
