//! Servers that accept the question and do not answer it, or not yet.

use std::time::Duration;

use testing::{
    Backend, GREETER, Logs, WatchScript, balanced, call, health_checked, hello, quick_health,
    refusal, request, until, within,
};
use tonic::{Code, Request};
use tonic_health_channel::{
    Channel,
    ConnectivityState::{Connecting, Ready, TransientFailure},
    HealthOptions,
    health::HealthStatus,
};

use super::{hourly, states};

// H09
#[tokio::test]
async fn without_a_timeout_silence_is_connecting_and_calls_wait_in_vain() {
    for script in [WatchScript::NeverAnswer, WatchScript::HeadersOnly] {
        let logs = Logs::capture();
        let backend = silent(script).await;
        let channel = with(&backend, quick_health().first_response_timeout(None));
        backend.until_watches(1).await;

        let mut hasty = Request::new(request("you"));
        hasty.set_timeout(Duration::from_millis(300));
        let status = call(&channel, hasty).await.expect_err("nobody answers");
        assert_eq!(status.code(), Code::DeadlineExceeded, "{status}");
        let waited = format!(
            "deadline exceeded after 300ms, waiting for a backend: no healthy backend: \
             {} CONNECTING, health check: no answer yet",
            backend.addr()
        );
        assert!(status.message().starts_with(&waited), "{status}");

        assert_eq!(channel.state(), Connecting);
        assert_eq!(states(&logs), [""; 0], "it was CONNECTING from the start");
        assert_eq!(backend.watches(), 1, "and the question stays open");
        assert_eq!(backend.hits(), 0);
        drop(channel);
        // So that its farewell is not in the logs of the next round.
        backend.until_open_connections(0).await;
    }
}

#[tokio::test]
async fn silence_becomes_a_failure_and_the_question_is_asked_anew() {
    for script in [WatchScript::NeverAnswer, WatchScript::HeadersOnly] {
        let backend = silent(script).await;
        let patience = Duration::from_millis(150);
        let channel = with(
            &backend,
            quick_health().first_response_timeout(Some(patience)),
        );
        let waiting = {
            let channel = channel.clone();
            tokio::spawn(async move { refusal(&channel).await })
        };
        let text = within("the waiting call to fail", waiting).await;
        let text = text.expect("it fails with UNAVAILABLE");
        let named = format!("{} health check: no answer in 150ms", backend.addr());
        assert!(text.contains(&named), "{text}");

        backend.until_watches(3).await;
        assert_eq!(channel.state(), TransientFailure, "asking again is no news");
        backend.script_watch(WatchScript::Normal);
        until(&channel, Ready).await;
        hello(&channel).await.expect("it answers in the end");
        backend.until_open_watches(1).await;
        assert_eq!(backend.connections(), 1);
    }
}

#[tokio::test]
async fn a_question_that_is_given_up_is_cancelled() {
    for script in [WatchScript::NeverAnswer, WatchScript::HeadersOnly] {
        let backend = silent(script).await;
        let patience = Duration::from_millis(150);
        let options = hourly().first_response_timeout(Some(patience));
        let channel = with(&backend, options);
        until(&channel, TransientFailure).await;
        backend.until_open_watches(0).await;
        assert_eq!(backend.watches(), 1, "the next one is an hour away");
        assert_eq!(backend.open_connections(), 1);
    }
}

#[tokio::test]
async fn a_late_first_answer_is_in_time_within_the_timeout() {
    let backend = silent(WatchScript::DelayFirst(Duration::from_millis(300))).await;
    let channel = health_checked(&[&backend]);
    hello(&channel)
        .await
        .expect("the call waits for the answer");
    assert_eq!(backend.watches(), 1);
}

#[tokio::test]
async fn calls_wait_for_the_first_answer() {
    let backend = silent(WatchScript::HoldFirst).await;
    let channel = health_checked(&[&backend]);
    backend.until_watches(1).await;
    let waiting = {
        let channel = channel.clone();
        tokio::spawn(async move { hello(&channel).await })
    };
    // A second Watch, of another channel, is heard after the call began to wait.
    let other = health_checked(&[&backend]);
    backend.until_watches(2).await;
    assert_eq!(backend.hits(), 0);
    assert!(!waiting.is_finished());

    backend.release_watches();
    let answer = within("the waiting call to be sent", waiting).await;
    answer.expect("no panic").expect("the backend is healthy");
    until(&other, Ready).await;
}

#[tokio::test]
async fn a_backend_may_count_as_healthy_until_its_first_answer() {
    let start = Backend::builder().scripted().not_serving(GREETER);
    let backend = start.start().await;
    backend.script_watch(WatchScript::HoldFirst);
    let options = quick_health().assume_healthy_until_first_response(true);
    let channel = with(&backend, options);
    until(&channel, Ready).await;
    hello(&channel).await.expect("nothing is said against it");
    assert_eq!(channel.backends()[0].health(), HealthStatus::Pending);

    // A release is for the Watches that have arrived.
    backend.until_watches(1).await;
    backend.release_watches();
    until(&channel, TransientFailure).await;
    let text = refusal(&channel).await;
    assert!(text.contains("health check: NOT_SERVING"), "{text}");
}

async fn silent(script: WatchScript) -> Backend {
    let backend = Backend::builder().scripted().start().await;
    backend.script_watch(script);
    backend
}

fn with(backend: &Backend, options: HealthOptions) -> Channel {
    balanced(&[backend], Some(GREETER))
        .health_options(options)
        .build()
}
