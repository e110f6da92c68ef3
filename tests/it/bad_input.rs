//! What is wrong is said: what, where, and what happens next. Nothing panics and
//! nothing hangs.

use std::time::Duration;

use testing::{
    Backend, Logs, Peer, PeerScript, balanced, endpoint, hello, refusal, until, until_backends,
    within,
};
use tonic::{Code, body::Body};
use tonic_health_channel::{
    Channel,
    ConnectivityState::{Ready, TransientFailure},
    Endpoint, ErrorKind, HealthOptions, ServiceConfig, Uri,
    channel::BackoffConfig,
    discover,
    health::{OnNotFound, OnUnimplemented},
    status::{BackendStatus, CauseKind},
};
use tower::ServiceExt;
use tracing::Level;

#[test]
fn an_endpoint_that_cannot_be_dialled_is_refused_with_the_reason() {
    for (given, why) in [
        ("", "not a URI: "),
        (
            "127.0.0.1:50051",
            "there is no scheme; write `http://host:port`",
        ),
        ("localhost", "there is no scheme; write `http://host:port`"),
        (
            "/only/a/path",
            "there is no scheme; write `http://host:port`",
        ),
        ("ftp://127.0.0.1:21/", "the scheme must be http, not `ftp`"),
        ("http://", "not a URI: "),
        (
            "http://host:port/",
            "the port must be 0 to 65535, not `port`",
        ),
        (
            "http://[::1]:70000/",
            "the port must be 0 to 65535, not `70000`",
        ),
        ("http://ho st:1", "not a URI: "),
    ] {
        let expected = format!("endpoint `{given}`: {why}");
        let error = Endpoint::from_shared(given.to_owned()).expect_err(given);
        assert_eq!(error.kind(), ErrorKind::InvalidEndpoint, "{given}");
        assert_eq!(error.code(), Code::InvalidArgument, "{given}");
        assert!(error.message().starts_with(&expected), "{error}");

        let good = "http://127.0.0.1:1".to_owned();
        let list = discover::list([good, given.to_owned()]).expect_err(given);
        assert_eq!(
            list.message(),
            error.message(),
            "a list says which of its entries it is"
        );
    }
}

#[test]
fn an_endpoint_option_that_is_none_is_refused_with_its_endpoint() {
    let endpoint = Endpoint::from_static("http://127.0.0.1:1");
    let error = endpoint
        .user_agent("line\nbreak")
        .expect_err("no header value");
    assert_eq!(error.kind(), ErrorKind::InvalidEndpoint);
    let text = error.message();
    assert!(
        text.contains("http://127.0.0.1:1") && text.contains("user agent"),
        "{text}"
    );

    let error = BackoffConfig::default()
        .multiplier(0.5)
        .expect_err("it shrinks");
    assert_eq!(error.kind(), ErrorKind::InvalidOption);
    assert!(error.message().contains("0.5"), "{error}");
}

// D323
#[test]
fn a_time_below_its_least_counts_as_that_and_is_said() {
    let logs = Logs::capture_from("tonic_health_channel::channel");
    let short = Duration::from_millis(1);
    let list = discover::list(["http://127.0.0.1:1"]).expect("a backend");
    let endpoint = Endpoint::from_static("http://127.0.0.1:1");
    let _ = Channel::balance(list)
        .idle_timeout(short)
        .idle_timeout(None);
    let _ = endpoint.clone().http2_keep_alive_interval(short);
    let dns = discover::dns("127.0.0.1:1", endpoint).expect("a target");
    let _ = dns.min_interval(short);
    let every = OnNotFound::RetryEvery(short);
    let poll = OnUnimplemented::PollCheck {
        interval: Duration::from_secs(1),
        timeout: short,
    };
    let options = HealthOptions::default();
    let options = options.on_not_found(every).on_unimplemented(poll);
    let least = Duration::from_millis(100);
    let expected = HealthOptions::default().on_not_found(OnNotFound::RetryEvery(least));
    let expected = expected.on_unimplemented(OnUnimplemented::PollCheck {
        interval: Duration::from_secs(1),
        timeout: least,
    });
    assert_eq!(options, expected);
    let lines = logs.at(Level::WARN, "tonic_health_channel::channel");
    let told = [
        ("idle_timeout", "1s"),
        ("http2_keep_alive_interval", "10s"),
        ("min_interval", "100ms"),
        ("RetryEvery", "100ms"),
        ("PollCheck timeout", "100ms"),
    ];
    assert_eq!(lines.len(), told.len(), "{lines:?}");
    for (line, (option, least)) in lines.iter().zip(told) {
        assert!(line.contains(option) && line.contains(least), "{line}");
    }
}

// V20
#[test]
fn a_service_config_is_refused_with_path_rule_and_value() {
    for (json, expected) in [
        (
            r#"{"healthCheckConfig": {"serviceName": 5}}"#,
            "healthCheckConfig.serviceName: must be a string, got 5",
        ),
        (
            r#"{"healthCheckConfig": "demo"}"#,
            r#"healthCheckConfig: must be an object, got "demo""#,
        ),
        (
            r#"{"methodConfig": [{}, {"timeout": "5m"}]}"#,
            r#"methodConfig[1].timeout: must be a duration like "1.5s", got "5m""#,
        ),
    ] {
        let error = json.parse::<ServiceConfig>().expect_err(json);
        assert_eq!(error.kind(), ErrorKind::InvalidServiceConfig);
        assert_eq!(error.message(), format!("service config: {expected}"));
    }
    let error = r#"{"healthCheckConfig": "#.parse::<ServiceConfig>();
    let error = error.expect_err("half an object");
    assert!(error.message().contains("line 1 column"), "{error}");
}

/// A channel over the peer and a good backend, and what became of the peer.
async fn beside_a_good_one(bad: Endpoint) -> (std::sync::Arc<BackendStatus>, Channel, Backend) {
    let good = Backend::builder().name("good").start().await;
    let list = discover::list([bad, endpoint(good.uri())]).expect("two endpoints");
    let channel = Channel::balance(list).build();
    until_backends(&channel, &[TransientFailure, Ready]).await;
    (channel.backends()[0].clone(), channel, good)
}

/// Asserts that the endpoint is a failed backend for this reason, that its
/// failure harms nobody else, and that alone it fails calls at once.
async fn check(bad: Endpoint, reason: &str) {
    let (backend, channel, good) = beside_a_good_one(bad.clone()).await;
    let (cause, _) = backend.last_error().expect("a failure has a cause");
    assert_eq!(cause.kind(), CauseKind::Connect, "{cause}");
    assert!(
        cause.text().contains(reason),
        "{reason:?} is not in {cause}"
    );
    assert_eq!(backend.failed_attempts(), 1, "the first pause is a second");
    assert!(backend.next_attempt().is_some(), "it will be dialled again");
    assert!(backend.to_string().contains(reason), "{backend}");
    for _ in 0..3 {
        let reply = hello(&channel).await.expect("the good one answers");
        assert_eq!(reply.backend, good.name());
    }

    let alone = Channel::balance(discover::list([bad.clone()]).expect("one")).build();
    until(&alone, TransientFailure).await;
    let text = refusal(&alone).await;
    let what = format!("no healthy backend: {}", backend.label());
    assert!(text.starts_with(&what), "{text}");
    assert!(text.contains(" connect: "), "{text}");
    assert!(text.contains(reason), "{reason:?} is not in {text}");
    assert!(text.contains("(attempt 1, next in "), "{text}");

    let connected = within("the first attempt", bad.connect()).await;
    let error = connected.expect_err("it cannot be reached");
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    assert!(error.message().contains(reason), "{error}");
}

async fn check_peer(script: PeerScript, reason: &str) {
    let peer = Peer::start(script).await;
    check(endpoint(peer.uri()), reason).await;
    peer.until_open_connections(0).await;
}

#[tokio::test]
async fn a_server_that_speaks_http1() {
    check_peer(
        PeerScript::SpeaksHttp1,
        "the peer speaks HTTP/1, not HTTP/2",
    )
    .await;
}

#[tokio::test]
async fn a_server_that_speaks_tls() {
    check_peer(PeerScript::SpeaksTls, "the peer speaks TLS").await;
}

// T03, T16
#[tokio::test]
async fn a_server_that_says_nothing() {
    let peer = Peer::start(PeerScript::Silent).await;
    let impatient = endpoint(peer.uri()).connect_timeout(Duration::from_millis(200));
    let reason = "no connection within 200ms: waiting for the peer's HTTP/2 SETTINGS";
    check(impatient, reason).await;
}

#[tokio::test]
async fn a_server_that_sends_garbage() {
    check_peer(PeerScript::SendsGarbage, "the peer does not speak HTTP/2").await;
}

// T02
#[tokio::test]
async fn a_server_that_closes_at_once() {
    check_peer(
        PeerScript::ClosesAtOnce,
        "connection closed before server preface received (no SETTINGS)",
    )
    .await;
}

// T02
#[tokio::test]
async fn a_server_that_closes_during_the_handshake() {
    check_peer(
        PeerScript::ClosesAfterPreface,
        "connection closed before server preface received (no SETTINGS)",
    )
    .await;
}

#[tokio::test]
async fn a_name_that_does_not_resolve() {
    let name = "http://no-such-host.invalid:50051";
    check(endpoint(name), "name `no-such-host.invalid`").await;
}

#[cfg(not(feature = "tls-ring"))]
#[tokio::test]
async fn an_https_endpoint_without_tls() {
    check(endpoint("https://127.0.0.1:1"), "https needs TLS").await;
}

#[tokio::test]
async fn a_uri_that_nobody_checked() {
    let unchecked = Channel::builder(Uri::from_static("127.0.0.1:50051"));
    let error = within("the first attempt", unchecked.connect()).await;
    let error = error.expect_err("it cannot be dialled");
    assert!(error.message().contains("there is no scheme"), "{error}");
    let text = refusal(&unchecked.connect_lazy()).await;
    assert!(text.contains("there is no scheme"), "{text}");
}

#[tokio::test]
async fn a_request_that_http2_cannot_carry_is_internal_and_says_why() {
    let backend = Backend::start().await;
    let channel = balanced(&[&backend], None).build();
    until(&channel, Ready).await;
    let mut request = http::Request::new(Body::empty());
    *request.uri_mut() = Uri::from_static("other-host:1");
    let error = within("an answer", channel.clone().oneshot(request)).await;
    let error = error.expect_err("there is no path");
    assert_eq!(error.kind(), ErrorKind::InvalidRequest);
    assert_eq!(error.code(), Code::Internal);
    assert!(error.message().contains("without a path"), "{error}");

    hello(&channel).await.expect("it harmed nobody");
    assert_eq!((backend.connections(), backend.hits()), (1, 1));
}

#[tokio::test]
async fn headers_of_http1_are_left_out_and_harm_nobody() {
    let backend = Backend::start().await;
    let channel = balanced(&[&backend], None).build();
    until(&channel, Ready).await;
    let request = http::Request::post("/demo.v1.Greeter/SayHello")
        .version(http::Version::HTTP_11)
        .header("connection", "keep-alive, x-custom")
        .header("host", "elsewhere")
        .header("transfer-encoding", "chunked")
        .header("te", "gzip")
        .header("grpc-timeout", "soon")
        .header("content-type", "application/grpc")
        .body(Body::new(http_body_util::Full::from(&[0; 5][..])))
        .expect("a request");
    let response = within("an answer", channel.clone().oneshot(request)).await;
    assert_eq!(response.expect("an answer").status(), http::StatusCode::OK);
    let seen = backend.last_call().expect("it arrived");
    assert_eq!(seen.authority, Some(backend.addr().to_string()));
    assert!(!seen.metadata.contains_key("connection"));
}

#[tokio::test]
async fn a_path_that_the_server_does_not_know_is_unimplemented() {
    let backend = Backend::start().await;
    let channel = balanced(&[&backend], None).build();
    let request = http::Request::post("/no.such.Service/Method")
        .header("content-type", "application/grpc")
        .body(Body::empty())
        .expect("a request");
    let response = within("an answer", channel.oneshot(request)).await;
    let status = tonic::Status::from_header_map(response.expect("an answer").headers());
    assert_eq!(status.expect("trailers only").code(), Code::Unimplemented);
}
