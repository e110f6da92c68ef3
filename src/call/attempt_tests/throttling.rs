//! `retryThrottling`, over the calls of a channel.

use super::*;

fn throttled(retries: &str, max_tokens: u32, token_ratio: &str) -> String {
    let throttling = format!(
        r#", "retryThrottling": {{"maxTokens": {max_tokens}, "tokenRatio": {token_ratio}}}}}"#
    );
    let rest = retries.strip_suffix('}').expect("an object");
    format!("{rest}{throttling}")
}

// T170
#[tokio::test(start_paused = true)]
async fn failures_stop_retries_until_enough_calls_have_succeeded() {
    let config = throttled(&retry(4, UNAVAILABLE), 10, "0.5");
    let mut setup = setup(1, &config, same, |_, number| match number {
        0 | 3 | 6 | 10..=14 | 16 | 18 => Reply::Ok,
        _ => Reply::Only(Code::Unavailable),
    })
    .await;
    let mut last = 0;
    let mut all = Vec::new();
    for _ in 0..12 {
        let code = setup.code().await;
        last += setup.came();
        all.push((code == Code::Ok, last - 1));
    }
    let expected = [
        (true, 0),
        (true, 3),
        (true, 6),
        (false, 8),
        (false, 9),
        (true, 10),
        (true, 11),
        (true, 12),
        (true, 13),
        (true, 14),
        (true, 16),
        (false, 17),
    ];
    assert_eq!(all, expected);
}

// T175
#[tokio::test(start_paused = true)]
async fn one_call_can_empty_the_bucket() {
    let config = throttled(&retry(5, UNAVAILABLE), 5, "0.1");
    let mut setup = setup(1, &config, same, |_, _| Reply::Only(Code::Unavailable)).await;
    let status = setup.call().await.expect_err("it fails");
    assert_eq!((status.code(), setup.came()), (Code::Unavailable, 3));
    assert!(
        status.message().contains("more are throttled"),
        "{}",
        status.message()
    );
}

// T174
#[tokio::test(start_paused = true)]
async fn calls_of_every_method_fill_the_bucket_with_their_status_ok() {
    let retries = retry(5, UNAVAILABLE).replace("[{}]", r#"[{"service": "demo.v1.Greeter"}]"#);
    let config = throttled(&retries, 4, "1");
    let mut setup = setup(1, &config, same, |_, number| match number {
        2 | 3 => Reply::Ok,
        4 => Reply::Headers(Code::NotFound),
        _ => Reply::Only(Code::Unavailable),
    })
    .await;
    // Empties it to a half.
    assert_eq!((setup.code().await, setup.came()), (Code::Unavailable, 2));
    let other = || {
        let mut request = unary();
        *request.uri_mut() = "/demo.v1.Other/Method".parse().expect("a path");
        request
    };
    for is_ok in [true, true, false] {
        let response = setup.send(other()).await.expect("headers");
        assert_eq!(finish(response).await.is_ok(), is_ok);
    }
    // 4 tokens: the first failure leaves 3, the second 2.
    assert_eq!((setup.came(), setup.code().await), (3, Code::Unavailable));
    assert_eq!(setup.came(), 2);
}

// T176
#[tokio::test(start_paused = true)]
async fn each_channel_has_a_bucket_of_its_own() {
    let config = throttled(&retry(5, UNAVAILABLE), 5, "0.1");
    let fails = |_, _| Reply::Only(Code::Unavailable);
    let mut one = setup(1, &config, same, fails).await;
    let mut other = setup(1, &config, same, fails).await;
    assert_eq!((one.code().await, one.came()), (Code::Unavailable, 3));
    assert_eq!((one.code().await, one.came()), (Code::Unavailable, 1));
    assert_eq!((other.code().await, other.came()), (Code::Unavailable, 3));
}

/// 1,000 callers while every backend is down: almost all of what they send is first attempts.
#[tokio::test(start_paused = true)]
async fn a_storm_of_failing_calls_makes_hardly_more_attempts_than_calls() {
    let config = throttled(&retry(4, UNAVAILABLE), 100, "0.1");
    let mut setup = setup(4, &config, same, |_, _| Reply::Only(Code::Unavailable)).await;
    let mut callers = tokio::task::JoinSet::new();
    for _ in 0..1_000 {
        let mut channel = setup.channel.clone();
        callers.spawn(async move {
            for _ in 0..5 {
                let outcome = channel.call(unary()).await;
                drop(outcome);
            }
        });
    }
    soon(callers.join_all()).await;
    let attempts = setup.came();
    assert!(
        (5_000..=5_500).contains(&attempts),
        "{attempts} attempts of 5,000 calls"
    );
}
