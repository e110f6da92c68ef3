//! The metrics of calls with a policy for their attempts (gRFC A96).

use futures_util::{StreamExt, stream};
use testing::{
    Answer, Backend, H2Peer, balanced, balanced_at, greeter, hello, of_all_methods, request, say,
    within,
};
use tonic::Code;
use tonic_health_channel::metrics::{Metrics, Prometheus};

use super::scrape::{ATTEMPTS, SENT, STARTED, build, ended, sum};

const RETRIES: [&str; 4] = [
    "grpc.client.call.retries",
    "grpc.client.call.transparent_retries",
    "grpc.client.call.hedges",
    "grpc.client.call.retry_delay",
];

fn with_retries(metrics: Metrics) -> Metrics {
    metrics.enable(RETRIES)
}

fn retrying(most: u32) -> String {
    of_all_methods(&format!(
        r#""retryPolicy": {{"maxAttempts": {most}, "initialBackoff": "0.01s",
            "maxBackoff": "0.01s", "backoffMultiplier": 1,
            "retryableStatusCodes": ["UNAVAILABLE"]}}"#
    ))
}

/// Of retries, transparent retries, hedges and delays: how many calls had some, and the sum.
fn policy(meter: &Prometheus) -> [[f64; 2]; 4] {
    [
        "retries",
        "transparent_retries",
        "hedges",
        "retry_delay_seconds",
    ]
    .map(|name| {
        ["count", "sum"].map(|end| sum(meter, &format!("grpc_client_call_{name}_{end}"), &[]))
    })
}

// T113, D404
#[tokio::test]
async fn each_retry_is_an_attempt_of_one_call() {
    let backend = Backend::start().await;
    let config = retrying(4).parse().expect("a config");
    let builder = balanced(&[&backend], None).service_config(config);
    let (channel, meter) = build(builder, with_retries);
    hello(&channel).await.expect("an answer");
    assert_eq!(policy(&meter), [[0.0; 2]; 4]);

    say(&channel, "again:2").await.expect("the third attempt");
    assert_eq!(sum(&meter, STARTED, &[]), 4.0);
    assert_eq!(ended(&meter, "UNAVAILABLE"), [0.0, 2.0]);
    assert_eq!(ended(&meter, "OK"), [2.0, 2.0]);
    let [retries, transparent, hedges, delay] = policy(&meter);
    assert_eq!(
        [retries, transparent, hedges],
        [[1.0, 2.0], [0.0; 2], [0.0; 2]]
    );
    assert!(delay[1] >= 0.01, "2 pauses of about 10 ms: {delay:?}");

    say(&channel, "fail:14").await.expect_err("4 attempts fail");
    assert_eq!(ended(&meter, "UNAVAILABLE"), [1.0, 6.0]);
    assert_eq!(policy(&meter)[0], [2.0, 5.0]);
}

// D404
#[tokio::test]
async fn a_request_that_streams_counts_in_each_attempt() {
    let peer = H2Peer::start().await;
    let config = retrying(2).parse().expect("a config");
    let builder = balanced_at([peer.uri()], None).service_config(config);
    let (channel, meter) = build(builder, with_retries);
    peer.answer_next_calls(1, Answer::Status(Code::Unavailable));
    // 3, 5 and 7 bytes, the last of them late.
    let late = stream::once(async {
        tokio::task::yield_now().await;
        request("abcde")
    });
    let names = stream::iter([request("a"), request("abc")]).chain(late);
    let mut client = greeter(&channel);
    let answer = client.greet_all(names);
    within("an answer", answer)
        .await
        .expect("the second attempt");
    assert_eq!(ended(&meter, "OK"), [1.0, 1.0]);
    assert_eq!(sum(&meter, SENT, &[("grpc_status", "OK")]), 15.0);
}

// D404
#[tokio::test]
async fn hedges_are_attempts_of_one_call_and_those_that_lose_are_cancelled() {
    let peer = H2Peer::start().await;
    let config = of_all_methods(r#""hedgingPolicy": {"maxAttempts": 3, "hedgingDelay": "0.01s"}"#);
    let config = config.parse().expect("a config");
    let builder = balanced_at([peer.uri()], None).service_config(config);
    let (channel, meter) = build(builder, with_retries);
    peer.answer_next_calls(2, Answer::KeepOpen);
    hello(&channel).await.expect("the answer to the third");
    assert_eq!(sum(&meter, STARTED, &[]), 3.0);
    assert_eq!(ended(&meter, "OK"), [1.0, 1.0]);
    assert_eq!(ended(&meter, "CANCELLED"), [0.0, 2.0]);
    let [retries, transparent, hedges, delay] = policy(&meter);
    assert_eq!(
        [retries, transparent, hedges],
        [[0.0; 2], [0.0; 2], [1.0, 2.0]]
    );
    assert_eq!(delay, [0.0; 2], "there was always one under way");
    assert_eq!(sum(&meter, ATTEMPTS, &[]), 3.0);

    peer.answer_next_calls(1, Answer::Reset(h2::Reason::REFUSED_STREAM));
    hello(&channel).await.expect("the second attempt");
    assert_eq!(policy(&meter)[1], [1.0, 1.0]);
}

// D404
#[tokio::test]
async fn throttling_without_a_policy_leaves_the_record_as_it_is() {
    let backend = Backend::start().await;
    let config = r#"{"retryThrottling": {"maxTokens": 10, "tokenRatio": 0.1}}"#;
    let builder = balanced(&[&backend], None).service_config(config.parse().expect("a config"));
    let (channel, meter) = build(builder, with_retries);
    hello(&channel).await.expect("an answer");
    say(&channel, "fail:14").await.expect_err("it is to fail");
    let mut many = request("you");
    many.count = 2;
    let replies = within("headers", greeter(&channel).say_hello_many(many)).await;
    let mut replies = replies.expect("a stream").into_inner();
    while let Some(_reply) = within("a reply", replies.message()).await.expect("a reply") {}
    assert_eq!(ended(&meter, "OK"), [2.0, 2.0]);
    assert_eq!(ended(&meter, "UNAVAILABLE"), [1.0, 1.0]);
    assert_eq!(policy(&meter), [[0.0; 2]; 4]);
}
