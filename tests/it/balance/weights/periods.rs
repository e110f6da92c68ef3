//! When weights are used: after a blackout, and until they expire.

use std::time::Duration;

use testing::{
    GREETER,
    kit::{
        ServingStatus::{NotServing, Serving},
        until_ready_backends,
    },
};
use tonic_health_channel::{
    Channel,
    metrics::{Metrics, Prometheus},
};

use super::fleet::{Fleet, at_once, pass, weighted};

const SECOND: Duration = Duration::from_secs(1);

/// Whether calls are shared by weights of 1 and 10.
async fn is_weighted(fleet: &Fleet, channel: &Channel) -> bool {
    match fleet.spread(channel, 44).await[..] {
        [22, 22] => false,
        [3..=5, 39..=41] => true,
        ref other => panic!("neither 1 to 1 nor 1 to 10: {other:?}"),
    }
}

// W10
#[tokio::test(start_paused = true)]
async fn weights_count_after_the_blackout() {
    let (fleet, builder) = Fleet::start(&["A", "B"]).await;
    let config = weighted(r#""blackoutPeriod": "10s""#);
    let channel = builder.service_config(config).build();
    until_ready_backends(&channel, 2).await;
    fleet.load("A").is(10.0, 1.0);
    fleet.load("B").is(10.0, 0.1);
    assert!(!is_weighted(&fleet, &channel).await);
    pass(SECOND * 9).await;
    assert!(!is_weighted(&fleet, &channel).await);
    pass(SECOND * 2).await;
    assert!(is_weighted(&fleet, &channel).await);
}

// D413
#[tokio::test(start_paused = true)]
async fn updates_of_weights_are_recorded() {
    let (fleet, builder) = Fleet::start(&["A", "B"]).await;
    let config = weighted(r#""blackoutPeriod": "10s", "weightExpirationPeriod": "60s""#);
    let meter = Prometheus::new();
    let metrics = Metrics::new(meter.clone()).enable([
        "grpc.lb.wrr.rr_fallback",
        "grpc.lb.wrr.endpoint_weight_not_yet_usable",
        "grpc.lb.wrr.endpoint_weight_stale",
        "grpc.lb.wrr.endpoint_weights",
    ]);
    let builder = builder.metrics(metrics).expect("known names");
    let channel = builder.service_config(config).build();
    until_ready_backends(&channel, 2).await;
    let weights = "grpc_lb_wrr_endpoint_weights_bucket{grpc_target=\"balance:///\",le=";
    let has = |what: &str| meter.render().lines().any(|line| line.starts_with(what));
    let value = |series: &str| {
        let text = meter.render();
        let line = text.lines().find(|line| line.starts_with(series));
        let value = line.and_then(|line| line.rsplit(' ').next());
        value.map_or(0, |value| value.parse::<u64>().expect("a number"))
    };
    let names = ["rr_fallback", "endpoint_weight_not_yet_usable"];
    let early = names.map(|name| value(&format!("grpc_lb_wrr_{name}_total")));
    assert!(early[0] > 0 && early[1] >= early[0], "{early:?}");
    assert!(!has("grpc_lb_wrr_endpoint_weight_stale"));
    fleet.load("A").is(10.0, 1.0);
    fleet.load("B").is(10.0, 0.1);
    is_weighted(&fleet, &channel).await;
    pass(SECOND * 20).await;
    let zeros = value(&format!("{weights}\"0\"}}"));
    let fallbacks = value("grpc_lb_wrr_rr_fallback_total");
    pass(SECOND * 10).await;
    assert_eq!(value(&format!("{weights}\"0\"}}")), zeros, "all are usable");
    assert_eq!(value("grpc_lb_wrr_rr_fallback_total"), fallbacks);
    let [low, high] = ["16", "128"].map(|le| value(&format!("{weights}\"{le}\"}}")));
    assert!(low > zeros && high > low, "10 and 100: {}", meter.render());
    pass(SECOND * 60).await;
    assert!(has("grpc_lb_wrr_endpoint_weight_stale"));
    assert!(value("grpc_lb_wrr_rr_fallback_total") > fallbacks);
}

// W11
#[tokio::test(start_paused = true)]
async fn weights_expire_and_begin_with_a_blackout() {
    let (fleet, builder) = Fleet::start(&["A", "B"]).await;
    let config = weighted(r#""blackoutPeriod": "10s", "weightExpirationPeriod": "60s""#);
    let channel = builder.service_config(config).build();
    until_ready_backends(&channel, 2).await;
    let (a, b) = (fleet.load("A"), fleet.load("B"));
    a.is(10.0, 1.0);
    b.is(10.0, 0.1);
    is_weighted(&fleet, &channel).await;
    a.is_text(&[]);
    b.is_text(&[]);
    pass(SECOND * 59).await;
    assert!(is_weighted(&fleet, &channel).await);
    pass(SECOND * 2).await;
    assert!(!is_weighted(&fleet, &channel).await);

    a.is(10.0, 1.0);
    b.is(10.0, 0.1);
    is_weighted(&fleet, &channel).await;
    pass(SECOND * 9).await;
    assert!(!is_weighted(&fleet, &channel).await);
    pass(SECOND * 2).await;
    assert!(is_weighted(&fleet, &channel).await);
}

/// 3 backends whose weights are 10, 100 and 100 after the blackout of 10 s.
async fn three() -> (Fleet, Channel) {
    let (fleet, builder) = Fleet::start(&["A", "B", "C"]).await;
    let json = format!(
        r#"{{"loadBalancingConfig": [{{"weighted_round_robin": {{}}}}],
             "healthCheckConfig": {{"serviceName": "{GREETER}"}}}}"#
    );
    let config = json.parse().expect("a valid service config");
    let channel = builder.service_config(config).build();
    until_ready_backends(&channel, 3).await;
    fleet.load("A").is(10.0, 1.0);
    for name in ["B", "C"] {
        fleet.load(name).is(10.0, 0.1);
    }
    fleet.spread(&channel, 6).await;
    pass(SECOND * 11).await;
    assert_a_has(1, &fleet, &channel).await;
    (fleet, channel)
}

/// Of 21 or 30 calls.
async fn assert_a_has(share: usize, fleet: &Fleet, channel: &Channel) {
    let shares = fleet.spread(channel, 20 + share).await;
    assert!(shares[0].abs_diff(share) <= 1, "{shares:?}");
}

/// A backend is READY again: it has the mean of the others until its blackout is over.
async fn assert_blackout(fleet: &Fleet, channel: &Channel) {
    assert_a_has(10, fleet, channel).await;
    pass(SECOND * 9).await;
    assert_a_has(10, fleet, channel).await;
    pass(SECOND * 2).await;
    assert_a_has(1, fleet, channel).await;
}

// W12
#[tokio::test(start_paused = true)]
async fn a_backend_that_reconnects_begins_with_a_blackout() {
    let (fleet, channel) = three().await;
    let backend = &fleet.reporter("A").backend;
    backend.kill().await;
    until_ready_backends(&channel, 2).await;
    backend.restart().await;
    until_ready_backends(&channel, 3).await;
    assert_blackout(&fleet, &channel).await;
}

// W12
#[tokio::test(start_paused = true)]
async fn a_backend_that_is_healthy_again_begins_with_a_blackout() {
    let (fleet, channel) = three().await;
    let backend = &fleet.reporter("A").backend;
    backend.set_health(GREETER, NotServing);
    until_ready_backends(&channel, 2).await;
    backend.set_health(GREETER, Serving);
    until_ready_backends(&channel, 3).await;
    assert_blackout(&fleet, &channel).await;
}

// D333
#[tokio::test(start_paused = true)]
async fn a_backend_at_another_address_begins_with_a_blackout() {
    let (mut fleet, channel) = three().await;
    let old = fleet.reporters.remove(0);
    fleet.add_at("A", "elsewhere").await;
    fleet.reporters.rotate_right(1);
    fleet.load("A").is(10.0, 1.0);
    old.backend.open_connections().until_exactly(0).await;
    assert_blackout(&fleet, &channel).await;
}

// W23
#[tokio::test(start_paused = true)]
async fn weights_are_updated_10_times_a_second_at_most() {
    let (fleet, builder) = Fleet::start(&["A", "B"]).await;
    let config = at_once(r#", "weightUpdatePeriod": "0.001s""#);
    let channel = builder.service_config(config).build();
    until_ready_backends(&channel, 2).await;
    fleet.load("A").is(10.0, 1.0);
    fleet.load("B").is(10.0, 0.1);
    pass(SECOND / 100).await;
    is_weighted(&fleet, &channel).await;
    pass(SECOND / 20).await;
    assert!(!is_weighted(&fleet, &channel).await);
    pass(SECOND / 10).await;
    assert!(is_weighted(&fleet, &channel).await);
}
