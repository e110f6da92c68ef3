//! Messages on an open Watch decide who gets calls.

use testing::{
    Backend, GREETER, Logs, NOT_SERVING, SERVICE_UNKNOWN, UNKNOWN, WatchScript, balanced, by_hand,
    health_checked, hello, refusal, spread, until, until_backends,
};
use tonic_health_channel::{
    ConnectivityState::{Connecting, Ready, TransientFailure},
    health::HealthStatus,
};

use super::{states, until_health};

// H01
#[tokio::test]
async fn the_channel_follows_every_flip_on_one_watch() {
    let logs = Logs::capture();
    let start = Backend::builder().scripted().not_serving(GREETER);
    let backend = start.start().await;
    let channel = health_checked(&[&backend]);
    assert_eq!(channel.state(), Connecting);

    until(&channel, TransientFailure).await;
    backend.set_serving(GREETER).await;
    until(&channel, Ready).await;
    backend.clear_status(GREETER).await;
    until_health(&channel, &[HealthStatus::ServiceUnknown]).await;
    backend.set_serving(GREETER).await;
    until(&channel, Ready).await;
    backend.set_status(GREETER, UNKNOWN).await;
    until_health(&channel, &[HealthStatus::Unknown]).await;

    assert_eq!(
        states(&logs),
        [
            "TRANSIENT_FAILURE",
            "READY",
            "TRANSIENT_FAILURE",
            "READY",
            "TRANSIENT_FAILURE",
        ],
        "there is no CONNECTING between the two"
    );
    assert_eq!(backend.watches(), 1, "one Watch told it all");
    assert_eq!(backend.connections(), 1, "health never costs a connection");
}

// J02
#[tokio::test]
async fn every_status_but_serving_fails_calls_and_is_named() {
    let backend = Backend::builder().scripted().start().await;
    let channel = health_checked(&[&backend]);
    let others = [
        (NOT_SERVING, HealthStatus::NotServing, "NOT_SERVING"),
        (UNKNOWN, HealthStatus::Unknown, "UNKNOWN"),
        (
            SERVICE_UNKNOWN,
            HealthStatus::ServiceUnknown,
            "SERVICE_UNKNOWN",
        ),
        (17, HealthStatus::Unrecognized(17), "unrecognized status 17"),
    ];
    for (number, health, name) in others {
        backend.set_serving(GREETER).await;
        until(&channel, Ready).await;
        hello(&channel).await.expect("a healthy backend answers");

        backend.set_status(GREETER, number).await;
        until_health(&channel, &[health]).await;
        let text = refusal(&channel).await;
        let named = format!(
            "no healthy backend: {} health check: {name} (",
            backend.addr()
        );
        assert!(text.starts_with(&named), "{text}");
    }
}

#[tokio::test]
async fn a_number_that_the_protocol_does_not_define_is_unhealthy_from_the_start() {
    let backend = Backend::builder().scripted().start().await;
    backend.script_watch(WatchScript::UnknownNumber(4));
    let channel = health_checked(&[&backend]);
    until(&channel, TransientFailure).await;
    let text = refusal(&channel).await;
    assert!(
        text.contains("health check: unrecognized status 4"),
        "{text}"
    );
}

// C01–C06
#[tokio::test]
async fn calls_go_where_health_says_serving() {
    let start = Backend::builder().scripted().no_services();
    let [a, b, c] = start.start_each(["A", "B", "C"]).await;
    let all = [&a, &b, &c];
    let channel = health_checked(&all);

    until(&channel, TransientFailure).await;
    let text = refusal(&channel).await;
    assert!(text.contains("health check: SERVICE_UNKNOWN"), "{text}");

    a.set_serving(GREETER).await;
    until(&channel, Ready).await;
    assert_eq!(spread(&channel, 10, &all).await, [10, 0, 0]);

    c.set_serving(GREETER).await;
    until_backends(&channel, &[Ready, TransientFailure, Ready]).await;
    assert_eq!(spread(&channel, 10, &all).await, [5, 0, 5]);

    b.set_serving(GREETER).await;
    until_backends(&channel, &[Ready, Ready, Ready]).await;
    assert_eq!(spread(&channel, 9, &all).await, [3, 3, 3]);

    a.set_not_serving(GREETER).await;
    until_backends(&channel, &[TransientFailure, Ready, Ready]).await;
    assert_eq!(spread(&channel, 10, &all).await, [0, 5, 5]);

    b.set_not_serving(GREETER).await;
    c.set_not_serving(GREETER).await;
    until(&channel, TransientFailure).await;
    let text = refusal(&channel).await;
    for backend in all {
        let named = format!("{} health check: NOT_SERVING", backend.addr());
        assert!(text.contains(&named), "{text}");
    }
}

// C05
#[tokio::test]
async fn no_call_fails_while_health_flips_and_one_backend_is_healthy() {
    let start = Backend::builder().scripted();
    let [steady, flipping] = start.start_each(["steady", "flipping"]).await;
    let channel = health_checked(&[&steady, &flipping]);
    until_backends(&channel, &[Ready, Ready]).await;
    let flips = async {
        for _ in 0..20 {
            flipping.set_not_serving(GREETER).await;
            until_backends(&channel, &[Ready, TransientFailure]).await;
            flipping.set_serving(GREETER).await;
            until_backends(&channel, &[Ready, Ready]).await;
            flipping.until_hits(flipping.hits() + 1).await;
        }
    };
    let calls = async {
        loop {
            hello(&channel).await.expect("one backend is healthy");
        }
    };
    tokio::select! {
        () = flips => {}
        () = calls => unreachable!("it calls for ever"),
    }
    assert!(flipping.hits() >= 20, "one call at least for each recovery");
    assert_eq!([steady.watches(), flipping.watches()], [1, 1]);
}

// J01
#[tokio::test]
async fn each_backend_is_asked_once_by_the_name_in_the_config() {
    let start = Backend::builder().scripted();
    let [a, b, c] = start.start_each(["A", "B", "C"]).await;
    let all = [&a, &b, &c];
    let channel = health_checked(&all);
    until_backends(&channel, &[Ready, Ready, Ready]).await;
    spread(&channel, 9, &all).await;
    for backend in all {
        assert_eq!(backend.asked(), [GREETER]);
        let watch = backend.last_watch().expect("a Watch arrived");
        assert_eq!(watch.path, "/grpc.health.v1.Health/Watch");
        assert_eq!(watch.authority, Some(backend.addr().to_string()));
        let deadline = watch.metadata.get("grpc-timeout");
        assert_eq!(deadline, None, "a Watch has no deadline");
    }
}

// C08
#[tokio::test]
async fn a_killed_backend_is_used_again_after_its_restart() {
    let start = Backend::builder().scripted();
    let [a, b, c] = start.start_each(["A", "B", "C"]).await;
    let all = [&a, &b, &c];
    let channel = health_checked(&all);
    until_backends(&channel, &[Ready, Ready, Ready]).await;

    a.kill().await;
    until_backends(&channel, &[TransientFailure, Ready, Ready]).await;
    assert_eq!(spread(&channel, 10, &all).await, [0, 5, 5]);

    a.set_not_serving(GREETER).await;
    a.restart().await;
    until_health(
        &channel,
        &[
            HealthStatus::NotServing,
            HealthStatus::Serving,
            HealthStatus::Serving,
        ],
    )
    .await;
    assert_eq!(
        spread(&channel, 10, &all).await,
        [0, 5, 5],
        "to be connected is not to be healthy"
    );

    a.set_serving(GREETER).await;
    until_backends(&channel, &[Ready, Ready, Ready]).await;
    assert_eq!(spread(&channel, 9, &all).await, [3, 3, 3]);
    assert_eq!(a.watches(), 2, "the new connection has a Watch of its own");
    assert_eq!([b.watches(), c.watches()], [1, 1]);
}

// C10
#[tokio::test]
async fn two_channels_ask_one_server_by_two_names() {
    let start = Backend::builder().scripted();
    let backend = start.serving("day").not_serving("night").start().await;
    let day = balanced(&[&backend], Some("day")).build();
    let night = balanced(&[&backend], Some("night")).build();
    until(&day, Ready).await;
    until(&night, TransientFailure).await;
    hello(&day).await.expect("it is day");
    refusal(&night).await;

    backend.set_not_serving("day").await;
    backend.set_serving("night").await;
    until(&day, TransientFailure).await;
    until(&night, Ready).await;
    refusal(&day).await;
    hello(&night).await.expect("it is night");

    let mut asked = backend.asked();
    asked.sort();
    assert_eq!(asked, ["day", "night"]);
}

// D223
/// What is said right after the last publication waits. It is never lost.
#[tokio::test]
async fn one_of_hundreds_that_flips_again_and_again_is_told_of_each_time() {
    let start = Backend::builder().scripted().serving(GREETER);
    let [crowd, one] = start.start_each(["crowd", "one"]).await;
    let (backends, builder) = by_hand(Some(GREETER));
    let channel = builder.build();
    for number in 1..250 {
        let key = number.to_string().leak();
        backends.insert(key, crowd.uri()).await;
    }
    backends.insert("one", one.uri()).await;
    let up = [Ready; 250];
    let mut down = up;
    down[249] = TransientFailure;
    until_backends(&channel, &up).await;
    for _ in 0..20 {
        one.set_not_serving(GREETER).await;
        until_backends(&channel, &down).await;
        one.set_serving(GREETER).await;
        until_backends(&channel, &up).await;
    }
}
