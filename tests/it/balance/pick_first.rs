//! `pick_first`: one connection, no health checks, and policies that take over from
//! one another.

use testing::{
    Backend, Configs, Logs, Peer, PeerScript, balanced, balanced_at, by_hand, dead_addr, hello,
    quick_backoff, refusal, spread, until, until_backends, until_that, within,
};
use tokio::sync::oneshot::{self, error::TryRecvError};
use tonic_health_channel::{
    ConnectivityState::{Connecting, Idle, Ready, TransientFailure},
    ServiceConfig,
    health::HealthStatus,
};
use tracing::Level;

const PICK_FIRST: &str = r#"{"loadBalancingConfig": [{"pick_first": {}}]}"#;
const CHECKED: &str = r#"{"loadBalancingConfig": [{"pick_first": {}}],
    "healthCheckConfig": {"serviceName": "test.v1.Greeter"}}"#;

fn config(json: &str) -> ServiceConfig {
    json.parse().expect("a valid config")
}

// H11, H21, J18
#[tokio::test]
async fn health_is_not_checked_and_that_is_said() {
    let logs = Logs::capture();
    let start = Backend::builder().scripted().not_serving("test.v1.Greeter");
    let [a, b] = start.start_each(["A", "B"]).await;
    let builder = balanced(&[&a, &b], None).service_config(config(CHECKED));
    let channel = builder.build();
    until(&channel, Ready).await;
    assert_eq!(spread(&channel, 10, &[&a, &b]).await, [10, 0]);
    assert_eq!(a.watches() + b.watches(), 0);
    assert_eq!(channel.backends()[0].health(), HealthStatus::Disabled);
    let warnings = logs.at(Level::WARN, "tonic_health_channel::service_config");
    assert_eq!(warnings.len(), 1, "{warnings:?}");
    assert!(warnings[0].contains("pick_first"), "{warnings:?}");
}

#[tokio::test]
async fn the_first_that_can_be_connected_to_is_the_only_connection() {
    let [a, b] = Backend::builder().start_each(["A", "B"]).await;
    let dead = dead_addr();
    let uris = [dead.uri(), a.uri(), b.uri()];
    let channel = balanced_at(uris, None)
        .service_config(config(PICK_FIRST))
        .build();
    until_backends(&channel, &[Idle, Ready, Idle]).await;
    assert_eq!(spread(&channel, 10, &[&a, &b]).await, [10, 0]);
    assert_eq!(b.connections(), 0);
}

// gRFC A61
#[tokio::test]
async fn one_that_hangs_is_not_waited_for() {
    let silent = Peer::start(PeerScript::Silent).await;
    let backend = Backend::start().await;
    let uris = [silent.uri(), backend.uri()];
    let channel = balanced_at(uris, None)
        .service_config(config(PICK_FIRST))
        .build();
    // Long before its connect timeout of 20 s, after which the test would have failed.
    until_backends(&channel, &[Idle, Ready]).await;
    hello(&channel).await.expect("an answer");
    silent.until_open_connections(0).await;
}

// T05
#[tokio::test]
async fn it_fails_when_all_have_failed_and_recovers_with_any() {
    let (dead, late) = (dead_addr(), Backend::builder().reserve().await);
    let uris = [dead.uri(), late.uri()];
    let builder = balanced_at(uris, None).service_config(config(PICK_FIRST));
    let channel = builder.connect_backoff(quick_backoff()).build();
    until(&channel, TransientFailure).await;
    let text = refusal(&channel).await;
    assert!(text.contains(&dead.addr().to_string()), "{text}");
    assert!(text.contains(&late.addr().to_string()), "{text}");
    late.restart().await;
    until_backends(&channel, &[Idle, Ready]).await;
    hello(&channel).await.expect("an answer");
}

// T04, T06
#[tokio::test]
async fn a_connection_that_is_lost_is_idle_until_the_next_call() {
    let [a, b] = Backend::builder().start_each(["A", "B"]).await;
    let builder = balanced(&[&a, &b], None).service_config(config(PICK_FIRST));
    let channel = builder.build();
    let mut states = channel.watch_state();
    until(&channel, Ready).await;
    assert_eq!(states.state(), Ready);
    a.cut_connections();
    let next = within("the loss", states.changed()).await;
    assert_eq!(next, Some(Idle));
    assert_eq!(a.connections(), 1, "nobody has called");
    hello(&channel).await.expect("a call connects");
    assert_eq!(a.connections(), 2, "the first of the list again");

    a.kill().await;
    until(&channel, Idle).await;
    channel.request_connection();
    until_backends(&channel, &[Idle, Ready]).await;
    assert_eq!(spread(&channel, 4, &[&a, &b]).await, [0, 4]);
    a.restart().await;
    assert_eq!(spread(&channel, 4, &[&a, &b]).await, [0, 4], "B works");
}

#[tokio::test]
async fn a_backend_that_is_taken_back_is_replaced() {
    let [a, b] = Backend::builder().start_each(["A", "B"]).await;
    let (backends, builder) = by_hand(None);
    let channel = builder.service_config(config(PICK_FIRST)).build();
    backends.insert("a", a.uri()).await;
    until_backends(&channel, &[Ready]).await;
    backends.insert("b", b.uri()).await;
    until_backends(&channel, &[Ready, Idle]).await;
    backends.remove("a").await;
    until_backends(&channel, &[Ready]).await;
    assert_eq!(spread(&channel, 4, &[&a, &b]).await, [0, 4]);
    a.until_open_connections(0).await;
}

#[tokio::test]
async fn waiting_for_ready_outlasts_a_connection_that_is_lost() {
    let backend = Backend::builder().reserve().await;
    let builder = balanced(&[&backend], None).service_config(config(PICK_FIRST));
    let channel = builder.connect_backoff(quick_backoff()).build();
    until(&channel, TransientFailure).await;
    let waits = channel.wait_until_ready();
    backend.restart().await;
    within("READY", waits).await.expect("an open channel");
}

// V18
#[tokio::test]
async fn policies_take_over_from_one_another_and_no_call_fails() {
    let [a, b] = Backend::builder().start_each(["A", "B"]).await;
    let both = [&a, &b];
    let (configs, channel) = Configs::of(balanced(&both, None));
    configs.say("{}");
    until_backends(&channel, &[Ready, Ready]).await;
    let (stop, mut stopped) = oneshot::channel();
    let caller = tokio::spawn({
        let channel = channel.clone();
        async move {
            let mut calls = 0;
            while stopped.try_recv() == Err(TryRecvError::Empty) {
                hello(&channel).await.expect("no call fails");
                calls += 1;
            }
            calls
        }
    });
    for _ in 0..20 {
        configs.say(PICK_FIRST);
        until_that(&channel, "one connection", |status| {
            let states: Vec<_> = status.backends().iter().map(|b| b.state()).collect();
            assert!(matches!(status.state(), Ready), "{status:?}");
            states == [Ready, Idle]
        })
        .await;
        assert_eq!(a.connections(), 1, "the connection that was there");
        configs.say("{}");
        until_that(&channel, "both", |status| {
            assert!(matches!(status.state(), Ready), "{status:?}");
            status.backends().iter().all(|b| b.state() == Ready)
        })
        .await;
    }
    stop.send(()).expect("the caller goes on");
    let calls = within("the caller", caller).await.expect("no call failed");
    assert!(calls > 20, "{calls}");
}

// V18, H11
#[tokio::test]
async fn health_checks_begin_and_end_with_the_policy() {
    let start = Backend::builder().scripted().not_serving("test.v1.Greeter");
    let [a, b] = start.start_each(["A", "B"]).await;
    let (configs, channel) = Configs::of(balanced(&[&a, &b], None));
    configs.say(CHECKED);
    until_backends(&channel, &[Ready, Idle]).await;
    configs.check("test.v1.Greeter");
    until(&channel, TransientFailure).await;
    assert_eq!(a.connections(), 1);
    a.until_open_watches(1).await;
    configs.say(CHECKED);
    until_backends(&channel, &[Ready, Idle]).await;
    a.until_open_watches(0).await;
    b.until_open_watches(0).await;
}

// gRFC A62
#[tokio::test]
async fn shuffled_addresses_spread_clients_over_the_backends() {
    let [a, b] = Backend::builder().start_each(["A", "B"]).await;
    let shuffled =
        config(r#"{"loadBalancingConfig": [{"pick_first": {"shuffleAddressList": true}}]}"#);
    for attempt in 0.. {
        let builder = balanced(&[&a, &b], None).service_config(shuffled.clone());
        let channel = builder.build();
        until(&channel, Ready).await;
        if a.connections() > 0 && b.connections() > 0 {
            break;
        }
        assert!(attempt < 64, "one backend in two is not picked 64 times");
    }
}

#[tokio::test]
async fn before_a_backend_is_named_it_is_connecting() {
    let (backends, builder) = by_hand(None);
    let channel = builder.service_config(config(PICK_FIRST)).build();
    assert_eq!(channel.state(), Connecting);
    let backend = Backend::start().await;
    backends.insert("a", backend.uri()).await;
    until(&channel, Ready).await;
}
