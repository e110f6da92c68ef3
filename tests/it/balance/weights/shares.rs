//! How calls are shared by weights.

use std::time::Duration;

use testing::{kit::until_ready_backends, within};
use tonic_health_channel::Channel;

use super::fleet::{Fleet, at_once, pass, weighted};

const SECOND: Duration = Duration::from_secs(1);

/// The next update of weights is over.
async fn update() {
    pass(SECOND + SECOND / 10).await;
}

#[track_caller]
fn assert_shares(shares: &[usize], expected: &[usize]) {
    let is_near = |(share, expected): (&usize, &usize)| share.abs_diff(*expected) <= 2;
    assert!(
        shares.len() == expected.len() && shares.iter().zip(expected).all(is_near),
        "{shares:?} instead of {expected:?}"
    );
}

/// 2 backends that are READY, and the channel over them.
async fn pair(config: &str) -> (Fleet, Channel) {
    let (fleet, builder) = Fleet::start(&["A", "B"]).await;
    let channel = builder.service_config(at_once(config)).build();
    until_ready_backends(&channel, 2).await;
    (fleet, channel)
}

// W03
#[tokio::test(start_paused = true)]
async fn calls_are_shared_by_the_load_that_is_reported() {
    let (fleet, channel) = pair("").await;
    fleet.load("A").is(10.0, 1.0);
    fleet.load("B").is(10.0, 0.1);
    assert_shares(&fleet.spread(&channel, 20).await, &[10, 10]);
    update().await;
    assert_shares(&fleet.spread(&channel, 110).await, &[10, 100]);
}

// W05
#[tokio::test(start_paused = true)]
async fn other_loads_are_other_shares_after_the_next_update() {
    let (fleet, channel) = pair("").await;
    fleet.load("A").is(10.0, 1.0);
    fleet.load("B").is(10.0, 0.1);
    fleet.spread(&channel, 4).await;
    update().await;
    fleet.load("A").is(10.0, 0.1);
    fleet.load("B").is(10.0, 1.0);
    assert_shares(&fleet.spread(&channel, 110).await, &[10, 100]);
    update().await;
    assert_shares(&fleet.spread(&channel, 110).await, &[100, 10]);
}

// W02
#[tokio::test(start_paused = true)]
async fn without_reports_and_with_one_backend_it_is_rotation() {
    let (mut fleet, channel) = pair("").await;
    assert_shares(&fleet.spread(&channel, 20).await, &[10, 10]);
    update().await;
    assert_shares(&fleet.spread(&channel, 20).await, &[10, 10]);
    // W22: a single weight makes no difference.
    fleet.load("A").is(10.0, 0.1);
    fleet.spread(&channel, 4).await;
    update().await;
    assert_shares(&fleet.spread(&channel, 20).await, &[10, 10]);
    fleet.remove("B").await;
    until_ready_backends(&channel, 1).await;
    update().await;
    assert_eq!(fleet.spread(&channel, 20).await, [20]);
}

// W07
#[tokio::test(start_paused = true)]
async fn errors_make_a_backend_as_light_as_the_config_says() {
    for (penalty, expected) in [("0", [10, 100]), ("0.9", [55, 55])] {
        let (fleet, channel) = pair(&format!(r#", "errorUtilizationPenalty": {penalty}"#)).await;
        fleet.load("A").is(10.0, 1.0);
        fleet.load("B").is_report(testing::orca::OrcaLoadReport {
            rps_fractional: 10.0,
            application_utilization: 0.1,
            eps: 10.0,
            ..Default::default()
        });
        fleet.spread(&channel, 4).await;
        update().await;
        assert_shares(&fleet.spread(&channel, 110).await, &expected);
    }
}

// W09, W24
#[tokio::test(start_paused = true)]
async fn backends_come_and_go_and_each_has_its_share() {
    let (mut fleet, builder) = Fleet::start(&["A", "B", "C"]).await;
    let channel = builder.service_config(at_once("")).build();
    until_ready_backends(&channel, 3).await;
    fleet.load("A").is(10.0, 1.0);
    fleet.load("B").is(100.0, 1.0);
    fleet.load("C").is(20.0, 1.0);
    fleet.spread(&channel, 6).await;
    update().await;
    assert_shares(&fleet.spread(&channel, 130).await, &[10, 100, 20]);

    fleet.add("D").await;
    until_ready_backends(&channel, 4).await;
    // Until it reports, it has the mean of the others: 43.
    assert_shares(&fleet.spread(&channel, 173).await, &[10, 100, 20, 43]);
    fleet.load("D").is(200.0, 1.0);
    fleet.spread(&channel, 20).await;
    update().await;
    assert_shares(&fleet.spread(&channel, 165).await, &[5, 50, 10, 100]);

    fleet.remove("C").await;
    until_ready_backends(&channel, 3).await;
    fleet.remove("B").await;
    until_ready_backends(&channel, 2).await;
    assert_shares(&fleet.spread(&channel, 105).await, &[5, 100]);
}

/// The metric that the config names is what counts.
// W33
#[tokio::test(start_paused = true)]
async fn the_config_names_the_metric_that_counts() {
    let names = r#", "metricNamesForComputingUtilization": ["named_metrics.queue"]"#;
    let (fleet, channel) = pair(names).await;
    for (name, queue) in [("A", 1.0), ("B", 0.1)] {
        fleet.load(name).is_report(testing::orca::OrcaLoadReport {
            rps_fractional: 10.0,
            application_utilization: 0.5,
            named_metrics: [("queue".to_owned(), queue)].into(),
            ..Default::default()
        });
    }
    fleet.spread(&channel, 4).await;
    update().await;
    assert_shares(&fleet.spread(&channel, 110).await, &[10, 100]);
}

/// Reports that come with calls count, whatever the field says.
// W06
#[tokio::test(start_paused = true)]
async fn reports_of_calls_count_though_others_are_asked_for() {
    let (fleet, channel) = pair(r#", "enableOobLoadReport": true"#).await;
    fleet.load("A").is(10.0, 1.0);
    fleet.load("B").is(10.0, 0.1);
    fleet.spread(&channel, 4).await;
    update().await;
    assert_shares(&fleet.spread(&channel, 110).await, &[10, 100]);
}

// D331
#[tokio::test(start_paused = true)]
async fn an_update_of_weights_is_no_news_for_those_who_follow_the_channel() {
    let (fleet, channel) = pair("").await;
    fleet.load("A").is(10.0, 1.0);
    fleet.load("B").is(10.0, 0.1);
    let mut watch = channel.watch_status();
    let generation = watch.status().generation();
    fleet.spread(&channel, 4).await;
    pass(SECOND * 10).await;
    assert_shares(&fleet.spread(&channel, 110).await, &[10, 100]);
    assert_eq!(channel.status().generation(), generation);

    fleet.reporter("A").backend.kill().await;
    let next = within("the next status", watch.changed()).await;
    let next = next.expect("the channel is open").generation();
    assert_eq!(next, generation + 1);
}

/// The policy of another config begins without weights.
// D332
#[tokio::test(start_paused = true)]
async fn weights_are_forgotten_with_the_policy() {
    let (fleet, builder) = Fleet::start(&["A", "B"]).await;
    let (configs, channel) = testing::Configs::of(builder);
    let weighted =
        r#"{"loadBalancingConfig": [{"weighted_round_robin": {"blackoutPeriod": "0s"}}]}"#;
    configs.say(weighted);
    until_ready_backends(&channel, 2).await;
    fleet.load("A").is(10.0, 1.0);
    fleet.load("B").is(10.0, 0.1);
    fleet.spread(&channel, 4).await;
    update().await;
    assert_shares(&fleet.spread(&channel, 110).await, &[10, 100]);

    let other = r#"{"loadBalancingConfig": [{"round_robin": {}}]}"#;
    configs.put_in_force(&channel, other).await;
    assert_eq!(fleet.spread(&channel, 20).await, [10, 10]);
    fleet.load("A").is_text(&[]);
    fleet.load("B").is_text(&[]);
    configs.put_in_force(&channel, weighted).await;
    update().await;
    assert_eq!(fleet.spread(&channel, 20).await, [10, 10]);
}

/// Weights are those of the reports so far as soon as another config is in force.
// W22
#[tokio::test(start_paused = true)]
async fn another_config_of_the_policy_keeps_the_weights() {
    let (fleet, builder) = Fleet::start(&["A", "B"]).await;
    let (configs, channel) = testing::Configs::of(builder);
    let config = |fields| {
        format!(
            r#"{{"loadBalancingConfig": [{{"weighted_round_robin": {{
                "blackoutPeriod": "0s", "weightUpdatePeriod": "3600s"{fields}
            }}}}]}}"#
        )
    };
    configs.say(&config(""));
    until_ready_backends(&channel, 2).await;
    fleet.load("A").is(10.0, 1.0);
    fleet.load("B").is(10.0, 0.1);
    assert_shares(&fleet.spread(&channel, 20).await, &[10, 10]);
    let other = config(r#", "errorUtilizationPenalty": 2"#);
    configs.put_in_force(&channel, &other).await;
    assert_shares(&fleet.spread(&channel, 110).await, &[10, 100]);
}

// W23
#[tokio::test(start_paused = true)]
async fn defaults_are_those_of_the_proposal() {
    let (fleet, builder) = Fleet::start(&["A", "B"]).await;
    let channel = builder.service_config(weighted("")).build();
    until_ready_backends(&channel, 2).await;
    fleet.load("A").is(10.0, 1.0);
    fleet.load("B").is(10.0, 0.1);
    fleet.spread(&channel, 4).await;
    pass(SECOND * 9).await;
    assert_shares(&fleet.spread(&channel, 20).await, &[10, 10]);
    pass(SECOND * 2).await;
    assert_shares(&fleet.spread(&channel, 110).await, &[10, 100]);
}
