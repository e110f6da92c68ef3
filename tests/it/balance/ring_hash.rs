//! `ring_hash_experimental` over real sockets: which backend gets the calls of one user.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use testing::{
    Backend, GREETER, Pending, WatchScript, balanced, call, outcome, refusal, request, spread,
    start, until, until_backends, within,
};
use tonic::{Code, Request, Response};
use tonic_health_channel::{
    Channel,
    ConnectivityState::{Connecting, Ready, TransientFailure},
    ServiceConfig,
};

const NAMES: [&str; 3] = ["A", "B", "C"];
const USERS: u32 = 60;

/// By the header `x-user`, with health checks of the greeter.
fn by_user() -> ServiceConfig {
    let config = format!(
        r#"{{"loadBalancingConfig": [{{"ring_hash_experimental": {{"requestHashHeader": "X-User"}}}}],
             "healthCheckConfig": {{"serviceName": "{GREETER}"}}}}"#
    );
    config.parse().expect("a valid service config")
}

fn channel(backends: &[&Backend]) -> Channel {
    let builder = balanced(backends, None);
    builder.service_config(by_user()).build()
}

fn of_user(user: u32, name: &str) -> Request<testing::greeter::HelloRequest> {
    let mut request = Request::new(request(name));
    let user = format!("user-{user}").parse().expect("a header value");
    request.metadata_mut().insert("x-user", user);
    request
}

/// Which backend answers each user.
async fn homes(channel: &Channel) -> BTreeMap<u32, String> {
    let mut homes = BTreeMap::new();
    for user in 0..USERS {
        match call(channel, of_user(user, "you")).await {
            Ok(reply) => homes.insert(user, reply.into_inner().backend),
            Err(status) => panic!("the call of user {user} failed: {status}"),
        };
    }
    homes
}

fn user_of(homes: &BTreeMap<u32, String>, backend: &str) -> u32 {
    let mut users = homes.iter();
    let user = users.find(|(_, home)| *home == backend);
    *user.expect("each backend has users").0
}

fn start_of(channel: &Channel, user: u32, name: &'static str) -> Pending {
    let channel = channel.clone();
    tokio::spawn(async move {
        let reply = call(&channel, of_user(user, name)).await;
        reply.map(Response::into_inner)
    })
}

// K12, K13
#[tokio::test]
async fn users_keep_their_backend_and_come_back_to_it() {
    let [a, b, c] = Backend::builder().serving(GREETER).start_each(NAMES).await;
    let channel = channel(&[&a, &b, &c]);
    until_backends(&channel, &[Ready; 3]).await;
    let before = homes(&channel).await;
    assert_eq!(BTreeSet::from_iter(before.values()).len(), 3);
    assert_eq!(homes(&channel).await, before);

    b.kill().await;
    until_backends(&channel, &[Ready, TransientFailure, Ready]).await;
    let without = homes(&channel).await;
    for (user, home) in &before {
        match &**home {
            "B" => assert_ne!(without[user], "B"),
            home => assert_eq!(without[user], home, "user {user}"),
        }
    }

    b.restart().await;
    until_backends(&channel, &[Ready; 3]).await;
    assert_eq!(homes(&channel).await, before);
}

#[tokio::test]
async fn users_keep_their_backend_when_all_connections_are_lost() {
    let [a, b, c] = Backend::builder().serving(GREETER).start_each(NAMES).await;
    let channel = channel(&[&a, &b, &c]);
    until_backends(&channel, &[Ready; 3]).await;
    let before = homes(&channel).await;
    for backend in [&a, &b, &c] {
        backend.cut_connections();
    }
    for backend in [&a, &b, &c] {
        backend.until_connections(2).await;
    }
    until_backends(&channel, &[Ready; 3]).await;
    assert_eq!(homes(&channel).await, before);
}

// K20
#[tokio::test]
async fn users_of_an_unhealthy_backend_are_served_by_the_next_ones() {
    let [a, b, c] = Backend::builder().serving(GREETER).start_each(NAMES).await;
    let channel = channel(&[&a, &b, &c]);
    until_backends(&channel, &[Ready; 3]).await;
    let before = homes(&channel).await;

    a.set_not_serving(GREETER).await;
    until_backends(&channel, &[TransientFailure, Ready, Ready]).await;
    for (user, home) in homes(&channel).await {
        assert_ne!(home, "A");
        assert!(before[&user] == "A" || before[&user] == home, "{user}");
    }

    a.set_serving(GREETER).await;
    until_backends(&channel, &[Ready; 3]).await;
    assert_eq!(homes(&channel).await, before);
    assert_eq!(a.connections(), 1);
}

// K20
#[tokio::test]
async fn users_of_an_ejected_backend_are_served_by_the_next_ones() {
    let [a, b, c] = Backend::builder().start_each(NAMES).await;
    let config = r#"{"loadBalancingConfig": [{"outlier_detection_experimental": {
        "interval": "0.05s", "baseEjectionTime": "0.2s", "maxEjectionPercent": 34,
        "failurePercentageEjection": {"threshold": 50, "minimumHosts": 1, "requestVolume": 3},
        "childPolicy": [{"ring_hash_experimental": {"requestHashHeader": "x-user"}}]}}]}"#;
    let builder = balanced(&[&a, &b, &c], None);
    let channel = builder
        .service_config(config.parse().expect("valid"))
        .build();
    until_backends(&channel, &[Ready; 3]).await;
    let before = homes(&channel).await;
    let user = user_of(&before, "B");

    b.end_calls_with(Code::Unavailable);
    let served_elsewhere = async {
        loop {
            if let Ok(reply) = call(&channel, of_user(user, "you")).await {
                return reply.into_inner().backend;
            }
        }
    };
    assert_ne!(within("an ejection", served_elsewhere).await, "B");

    b.end_calls_with(Code::Ok);
    until_backends(&channel, &[Ready; 3]).await;
    assert_eq!(homes(&channel).await, before);
}

// K24
#[tokio::test]
async fn a_call_waits_for_its_backend_to_connect() {
    let builder = Backend::builder().scripted();
    let [a, b, c] = builder.start_each(NAMES).await;
    let channel = channel(&[&a, &b, &c]);
    until_backends(&channel, &[Ready; 3]).await;
    let before = homes(&channel).await;

    b.script_watch(WatchScript::HoldFirst);
    b.cut_connections();
    until_backends(&channel, &[Ready, Connecting, Ready]).await;
    let bs = user_of(&before, "B");
    let mut hurried = of_user(bs, "you");
    hurried.set_timeout(Duration::from_millis(100));
    let status = call(&channel, hurried).await.expect_err("B is not READY");
    assert_eq!(status.code(), Code::DeadlineExceeded, "{status}");
    let text = status.message();
    let why = "the backend for the call's hash key is not READY: ";
    let whom = format!("{why}{} CONNECTING", b.addr());
    assert!(text.contains(&whom), "{text}");

    let waiting = start_of(&channel, bs, "you");
    let other = call(&channel, of_user(user_of(&before, "A"), "you")).await;
    assert_eq!(other.expect("A is READY").into_inner().backend, "A");
    assert!(!waiting.is_finished());
    b.until_connections(2).await;
    b.until_open_watches(1).await;
    b.release_watches();
    let reply = outcome(waiting).await.expect("B is READY");
    assert_eq!(reply.backend, "B");
}

// K04
#[tokio::test]
async fn a_call_that_waits_for_its_backend_goes_on_when_that_fails() {
    let [a, b, c] = Backend::builder().scripted().start_each(NAMES).await;
    let channel = channel(&[&a, &b, &c]);
    until_backends(&channel, &[Ready; 3]).await;
    let before = homes(&channel).await;

    b.script_watch(WatchScript::HoldFirst);
    b.cut_connections();
    until_backends(&channel, &[Ready, Connecting, Ready]).await;
    let waiting = start_of(&channel, user_of(&before, "B"), "you");
    b.until_connections(2).await;
    b.kill().await;
    let reply = outcome(waiting).await.expect("others are READY");
    assert_ne!(reply.backend, "B");
}

// K26
#[tokio::test]
async fn a_full_backend_passes_a_call_on_and_has_the_next() {
    let builder = Backend::builder().max_concurrent_streams(1);
    let [a, b, c] = builder.start_each(NAMES).await;
    let config = r#"{"loadBalancingConfig": [
        {"ring_hash_experimental": {"requestHashHeader": "x-user"}}]}"#;
    let builder = balanced(&[&a, &b, &c], None);
    let channel = builder
        .service_config(config.parse().expect("valid"))
        .build();
    until_backends(&channel, &[Ready; 3]).await;
    let homes = homes(&channel).await;
    let user = user_of(&homes, "B");

    let first = start_of(&channel, user, "hold");
    b.until_held(1).await;
    let passed_on = call(&channel, of_user(user, "you")).await;
    let passed_on = passed_on.expect("others are free").into_inner().backend;
    assert_ne!(passed_on, "B");
    let again = call(&channel, of_user(user, "you")).await;
    assert_eq!(again.expect("it is").into_inner().backend, passed_on);

    // All are full: the call takes the stream that is free first.
    let others: Vec<_> = [&a, &c].map(|_| start_of(&channel, user, "hold")).into();
    for backend in [&a, &c] {
        backend.until_held(1).await;
    }
    let queued = start_of(&channel, user, "you");
    c.release();
    assert_eq!(outcome(queued).await.expect("C is free").backend, "C");

    for backend in [&a, &b] {
        backend.release();
    }
    for held in others.into_iter().chain([first]) {
        outcome(held).await.expect("it has a stream of its own");
    }
    let back = call(&channel, of_user(user, "you")).await;
    assert_eq!(back.expect("B is free").into_inner().backend, "B");
}

// K05
#[tokio::test]
async fn calls_without_the_header_are_spread() {
    let [a, b, c] = Backend::builder().serving(GREETER).start_each(NAMES).await;
    let all = [&a, &b, &c];
    let channel = channel(&all);
    until_backends(&channel, &[Ready; 3]).await;
    // The ring has 1,026 entries, so each has about a third of the circle.
    for share in spread(&channel, 90, &all).await {
        assert!(share > 5, "{share} of 90");
    }
}

// K18
#[tokio::test]
async fn calls_fail_when_all_backends_do_and_until_one_is_back() {
    let [a, b] = Backend::builder()
        .serving(GREETER)
        .start_each(["A", "B"])
        .await;
    let channel = channel(&[&a, &b]);
    until_backends(&channel, &[Ready; 2]).await;
    for backend in [&a, &b] {
        backend.kill().await;
    }
    until(&channel, TransientFailure).await;
    let text = refusal(&channel).await;
    assert!(text.contains(&a.addr().to_string()), "{text}");
    b.restart().await;
    until(&channel, Ready).await;
    for backend in homes(&channel).await.into_values() {
        assert_eq!(backend, "B");
    }
    start(&channel, "you").await.expect("no panic").expect("B");
}
