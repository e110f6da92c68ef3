//! Which responses report, and what counts as a report.

use std::time::Duration;

use testing::{
    Chat, Logs, greeter, greeter::HelloRequest, kit::until_ready_backends, request, say, within,
};
use tonic_health_channel::Channel;
use tracing::Level;

use super::fleet::{Fleet, at_once, pass};

const SECOND: Duration = Duration::from_secs(1);

/// A and B with weights of 1 and 10.
async fn weighted_pair() -> (Fleet, Channel) {
    let (fleet, builder) = Fleet::start(&["A", "B"]).await;
    let channel = builder.service_config(at_once("")).build();
    until_ready_backends(&channel, 2).await;
    fleet.load("A").is(10.0, 1.0);
    fleet.load("B").is(10.0, 0.1);
    (fleet, channel)
}

/// Of 110 calls, after the next update.
async fn assert_b_has(share: usize, fleet: &Fleet, channel: &Channel) {
    pass(SECOND + SECOND / 10).await;
    let shares = fleet.spread(channel, 110).await;
    assert!(shares[1].abs_diff(share) <= 2, "{shares:?}");
}

// W26
#[tokio::test(start_paused = true)]
async fn what_is_no_report_changes_nothing() {
    let logs = Logs::capture();
    let (fleet, channel) = weighted_pair().await;
    fleet.spread(&channel, 4).await;
    let cases: [&[&str]; 5] = [
        &[],
        &["%%%"],
        &["/////w"],
        &["", ""],
        // A report that says nothing.
        &[""],
    ];
    for values in cases {
        for name in ["A", "B"] {
            fleet.load(name).is_text(values);
        }
        assert_b_has(100, &fleet, &channel).await;
    }
    let told = logs.at(Level::DEBUG, "tonic_health_channel::backend");
    let told = told
        .iter()
        .filter(|text| text.contains("a report of load is ignored"));
    assert_eq!(told.count(), 2, "once for each backend");
}

// W27
#[tokio::test(start_paused = true)]
async fn a_call_reports_at_its_end_whatever_its_kind() {
    let (fleet, channel) = weighted_pair().await;
    // Headers that are all there is.
    for _ in 0..2 {
        say(&channel, "fail:13").await.expect_err("it is to fail");
    }
    assert_b_has(100, &fleet, &channel).await;

    let on_b = loop {
        let mut chat = Chat::start(&channel).await;
        if chat.greet("Ada").await.expect("an answer").backend == "B" {
            break chat;
        }
    };
    fleet.load("B").is_text(&[]);
    assert_b_has(100, &fleet, &channel).await;
    fleet.load("B").is(10.0, 1.0);
    on_b.end().await;
    fleet.load("B").is_text(&[]);
    assert_b_has(55, &fleet, &channel).await;

    fleet.load("A").is(10.0, 0.1);
    let mut client = greeter(&channel);
    for _ in 0..2 {
        let many = HelloRequest {
            count: 3,
            ..request("you")
        };
        let many = client.say_hello_many(many).await.expect("an answer");
        let mut many = many.into_inner();
        while within("a reply", many.message())
            .await
            .expect("OK")
            .is_some()
        {}
    }
    fleet.load("A").is_text(&[]);
    assert_b_has(10, &fleet, &channel).await;
}
