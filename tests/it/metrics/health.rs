//! The metrics of backends and their health, which are this crate's own.

use std::{future::pending, time::Duration};

use testing::{
    Backend, Configs, GREETER, GreeterService, HealthKind, WatchScript, balanced, by_hand,
    dead_addr,
    greeter::greeter_server::GreeterServer,
    hello,
    kit::{self, Network, ServingStatus},
    quick_health, until, until_that, within,
};
use tokio::time::timeout;
use tonic::{Code, Status};
use tonic_health_channel::{
    Channel,
    ConnectivityState::{Idle, Ready, TransientFailure},
    metrics::{Metrics, Prometheus},
};

use super::scrape::{build, lines, metered, sum, until_sum};

const BACKENDS: &str = "tonic_health_channel_backends";
const BACKEND_TRANSITIONS: &str = "tonic_health_channel_backend_transitions_total";
const HEALTH_TRANSITIONS: &str = "tonic_health_channel_health_transitions_total";
const WATCHES: &str = "tonic_health_channel_health_watches_total";
const FAILURES: &str = "tonic_health_channel_health_watch_failures_total";
const TIME_TO_READY: &str = "tonic_health_channel_backend_time_to_ready_seconds_count";
const FIRST_ANSWER: &str = "tonic_health_channel_health_time_to_first_answer_seconds_count";
const OUTAGES: &str = "tonic_health_channel_backend_outage_duration_seconds";
const BACKEND_OUT: &str = "tonic_health_channel_backend_not_ready_time_seconds_total";
const CHANNEL_OUT: &str = "tonic_health_channel_channel_not_ready_time_seconds_total";

fn as_it_is(metrics: Metrics) -> Metrics {
    metrics
}

fn counted(meter: &Prometheus, state: &str, health: &str) -> f64 {
    let labels = [("state", state), ("health", health)];
    sum(meter, BACKENDS, &labels)
}

// M22
#[tokio::test]
async fn a_watch_does_not_count_as_a_call() {
    let backend = Backend::start().await;
    let (channel, meter) = metered(&[&backend], as_it_is);
    until(&channel, Ready).await;
    assert_eq!(sum(&meter, WATCHES, &[("rpc", "watch")]), 1.0);
    assert_eq!(sum(&meter, FIRST_ANSWER, &[("health", "serving")]), 1.0);
    assert_eq!(sum(&meter, TIME_TO_READY, &[]), 1.0);
    assert!(!meter.render().contains("grpc_client_"));
}

// M23
#[tokio::test]
async fn a_flip_of_health_is_2_transitions_and_an_outage() {
    let [a, b] = Backend::builder().start_each(["a", "b"]).await;
    let (channel, meter) = metered(&[&a, &b], as_it_is);
    until_that(&channel, "both", |status| {
        status
            .backends()
            .iter()
            .filter(|b| b.state() == Ready)
            .count()
            == 2
    })
    .await;
    assert_eq!(counted(&meter, "ready", "serving"), 2.0);
    assert_eq!(sum(&meter, BACKENDS, &[]), 2.0);
    a.set_not_serving(GREETER).await;
    until_sum(&meter, HEALTH_TRANSITIONS, &[("to", "not_serving")], 1.0).await;
    assert_eq!(counted(&meter, "transient_failure", "not_serving"), 1.0);
    assert_eq!(sum(&meter, BACKENDS, &[]), 2.0);
    let out = sum(&meter, BACKEND_OUT, &[("cause", "health")]);
    assert!(out > 0.0, "it lasts");
    a.set_serving(GREETER).await;
    let back = [("from", "not_serving"), ("to", "serving")];
    until_sum(&meter, HEALTH_TRANSITIONS, &back, 1.0).await;
    assert_eq!(counted(&meter, "ready", "serving"), 2.0);
    assert_eq!(sum(&meter, BACKENDS, &[]), 2.0);
    let transitions = [
        ("ready", "transient_failure"),
        ("transient_failure", "ready"),
    ];
    for (from, to) in transitions {
        let labels = [("from", from), ("to", to)];
        assert_eq!(
            sum(&meter, BACKEND_TRANSITIONS, &labels),
            1.0,
            "{from} to {to}"
        );
    }
    let ended = [("cause", "health"), ("ended", "ready")];
    assert_eq!(sum(&meter, &format!("{OUTAGES}_count"), &ended), 1.0);
    let lasted = sum(&meter, &format!("{OUTAGES}_sum"), &ended);
    let out = sum(&meter, BACKEND_OUT, &[("cause", "health")]);
    assert!((out - lasted).abs() < 1e-9, "{out} and {lasted}");
    assert_eq!(sum(&meter, TIME_TO_READY, &[]), 2.0, "the first time alone");
}

// M24
#[tokio::test]
async fn a_server_without_a_health_service_is_a_failure_and_ready() {
    let backend = Backend::builder().health(HealthKind::None).start().await;
    let (channel, meter) = metered(&[&backend], as_it_is);
    until(&channel, Ready).await;
    let missing = [("rpc", "watch"), ("reason", "unimplemented")];
    assert_eq!(sum(&meter, FAILURES, &missing), 1.0);
    assert_eq!(counted(&meter, "ready", "unimplemented"), 1.0);
    assert_eq!(sum(&meter, FAILURES, &[]), 1.0);
}

/// The reason of the first failure of a health RPC.
async fn first_failure(backend: &Backend) -> String {
    let options = quick_health().first_response_timeout(Duration::from_millis(50));
    let builder = balanced(&[backend], Some(GREETER)).health_options(options);
    let (_channel, meter) = build(builder, as_it_is);
    while lines(&meter, FAILURES, &[]).is_empty() {
        tokio::task::yield_now().await;
    }
    let (series, _) = lines(&meter, FAILURES, &[]).remove(0);
    let (_, reason) = series.split_once("reason=\"").expect("a label");
    reason.split('"').next().expect("its value").to_owned()
}

// D410
#[tokio::test]
async fn each_end_of_a_watch_has_its_reason() {
    let backend = Backend::builder().scripted().start().await;
    let ends = |code| WatchScript::EndWith {
        code,
        after_messages: 0,
    };
    for (script, reason) in [
        (ends(Code::NotFound), "not_found"),
        (ends(Code::Unavailable), "status"),
        (WatchScript::Garbage, "malformed"),
        (WatchScript::Flood(1_500), "flood"),
        (WatchScript::HeadersOnly, "timeout"),
    ] {
        backend.script_watch(script.clone());
        let told = within(reason, first_failure(&backend)).await;
        assert_eq!(told, reason, "{script:?}");
    }
}

// D410
#[tokio::test]
async fn a_watch_without_credentials_or_a_connection_has_its_reason() {
    let backend = Backend::start().await;
    let builder = balanced(&[&backend], Some(GREETER))
        .call_credentials(|_| async { Err(Status::not_found("no token")) })
        .allow_plaintext_credentials(true);
    let (_channel, meter) = build(builder, as_it_is);
    let refused = [("reason", "credentials")];
    while sum(&meter, FAILURES, &refused) < 1.0 {
        tokio::task::yield_now().await;
    }

    let (channel, meter) = metered(&[&backend], as_it_is);
    until(&channel, Ready).await;
    backend.cut_connections();
    until_sum(&meter, WATCHES, &[], 2.0).await;
    assert_eq!(sum(&meter, FAILURES, &[("reason", "disconnected")]), 1.0);
    assert_eq!(sum(&meter, FAILURES, &[]), 1.0);
    until_sum(&meter, FIRST_ANSWER, &[], 2.0).await;
}

/// Time passes.
async fn pass(time: Duration) {
    let _ = timeout(time, pending::<()>()).await;
}

// M25
#[tokio::test(start_paused = true)]
async fn an_outage_counts_while_it_lasts() {
    const MINUTE: Duration = Duration::from_secs(60);
    let network = Network::new();
    let start = |name| {
        kit::Backend::builder(GreeterServer::new(GreeterService::new(name)))
            .in_network(&network, name)
            .health(GREETER, ServingStatus::Serving)
            .start()
    };
    let [out, well] = ["out", "well"].map(start);
    let builder = Channel::list([out.endpoint(), well.endpoint()]).expect("2 endpoints");
    let builder = builder.health_check(GREETER);
    let (channel, meter) = build(builder, |metrics| metrics.optional_labels(["backend"]));
    kit::until_ready_backends(&channel, 2).await;
    assert!(!meter.render().contains(BACKEND_OUT), "none was out");
    out.set_health(GREETER, ServingStatus::NotServing);
    kit::until_ready_backends(&channel, 1).await;
    let of_it = [("cause", "health"), ("backend", "out:80")];
    for minute in 0..10 {
        let seconds = sum(&meter, BACKEND_OUT, &of_it);
        let expected = f64::from(minute) * 60.0;
        assert!(
            (seconds - expected).abs() < 0.1,
            "{seconds} s after {minute} min: {}",
            meter.render()
        );
        pass(MINUTE).await;
    }
    out.set_health(GREETER, ServingStatus::Serving);
    kit::until_ready_backends(&channel, 2).await;
    pass(MINUTE).await;
    let seconds = sum(&meter, BACKEND_OUT, &[]);
    assert!((seconds - 600.0).abs() < 0.1, "{seconds} s in all");
    let lasted = sum(&meter, &format!("{OUTAGES}_sum"), &of_it);
    assert!((lasted - seconds).abs() < 0.001, "{lasted}");

    let before = sum(&meter, CHANNEL_OUT, &[("state", "transient_failure")]);
    for backend in [&out, &well] {
        backend.set_health(GREETER, ServingStatus::NotServing);
    }
    until(&channel, TransientFailure).await;
    pass(MINUTE).await;
    let after = sum(&meter, CHANNEL_OUT, &[("state", "transient_failure")]);
    assert!(
        (after - before - 60.0).abs() < 0.1,
        "{before} s and {after} s"
    );
    channel.close().await;
    pass(MINUTE).await;
    let closed = sum(&meter, CHANNEL_OUT, &[("state", "transient_failure")]);
    assert!((closed - after).abs() < 0.1, "it is over with the channel");
    assert_eq!(sum(&meter, BACKENDS, &[]), 0.0);
    let removed = [("ended", "removed"), ("cause", "health")];
    assert_eq!(sum(&meter, &format!("{OUTAGES}_count"), &removed), 2.0);
}

// D411
#[tokio::test]
async fn a_backend_that_never_was_ready_is_out_since_its_first_failure() {
    let refuses = dead_addr();
    let (backends, builder) = by_hand(None);
    let (channel, meter) = build(builder, as_it_is);
    backends.insert("dead", refuses.uri()).await;
    until(&channel, TransientFailure).await;
    assert!(sum(&meter, BACKEND_OUT, &[("cause", "connect")]) > 0.0);
    assert_eq!(sum(&meter, TIME_TO_READY, &[]), 0.0);
    channel.enter_idle();
    until(&channel, Idle).await;
    let idle = [("cause", "connect"), ("ended", "idle")];
    assert_eq!(sum(&meter, &format!("{OUTAGES}_count"), &idle), 1.0);
    assert_eq!(counted(&meter, "idle", "not_checked"), 1.0);
    backends.remove("dead").await;
    until_that(&channel, "no backends", |status| {
        status.backends().is_empty()
    })
    .await;
    assert_eq!(sum(&meter, BACKENDS, &[]), 0.0);
}

// D412
#[tokio::test]
async fn sources_and_configs_count() {
    let backend = Backend::start().await;
    let (backends, builder) = by_hand(None);
    let meter = Prometheus::new();
    let builder = builder
        .metrics(Metrics::new(meter.clone()))
        .expect("no names");
    let (configs, channel) = Configs::of(builder);
    backends.insert("a", backend.uri()).await;
    configs.say("{}");
    until(&channel, Ready).await;
    configs.say(r#"{"loadBalancingConfig": 3}"#);
    let updates = "tonic_health_channel_service_config_updates_total";
    until_sum(&meter, updates, &[("result", "invalid")], 1.0).await;
    assert_eq!(sum(&meter, updates, &[("result", "applied")]), 1.0);
    backends.remove("a").await;
    until_sum(
        &meter,
        "tonic_health_channel_discover_updates_total",
        &[],
        2.0,
    )
    .await;
    hello(&channel).await.expect_err("there is no backend");
}
