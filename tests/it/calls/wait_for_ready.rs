//! Calls that wait where others fail.

use std::time::Duration;

use testing::{
    Backend, GREETER, balanced, by_hand, call, health_checked, outcome, refusal, request_within,
    start, start_patient, until, until_that, waiting_for_ready,
};
use tonic::Code;
use tonic_health_channel::{
    ConnectivityState::{Connecting, Ready, TransientFailure},
    WaitForReady,
};

// P04
#[tokio::test]
async fn a_failure_fails_other_calls_and_one_that_waits_for_ready_waits() {
    let backend = Backend::builder().scripted().not_serving(GREETER);
    let backend = backend.start().await;
    let channel = health_checked(&[&backend]);
    until(&channel, TransientFailure).await;

    let patient = start_patient(&channel, "you");
    refusal(&channel).await;
    backend.kill().await;
    until_that(&channel, "two attempts to fail", |status| {
        status.backends()[0].failed_attempts() >= 2
    })
    .await;
    refusal(&channel).await;
    assert!(!patient.is_finished(), "no failure is news to it");

    backend.set_serving(GREETER).await;
    backend.restart().await;
    outcome(patient).await.expect("a healthy backend");
    assert_eq!(backend.hits(), 1, "it was sent once");
}

// P08
#[tokio::test]
async fn a_call_that_waits_for_ready_waits_until_a_dead_server_is_back() {
    let backend = Backend::start().await;
    let channel = balanced(&[&backend], None).build();
    until(&channel, Ready).await;
    backend.kill().await;
    until(&channel, TransientFailure).await;
    let patient = start_patient(&channel, "you");
    refusal(&channel).await;
    assert!(!patient.is_finished());

    backend.restart().await;
    outcome(patient).await.expect("the server is back");
}

// R04
#[tokio::test]
async fn a_call_that_waits_for_ready_waits_for_a_set_to_be_filled_again() {
    let [gone, new] = Backend::builder().start_each(["gone", "new"]).await;
    let (backends, builder) = by_hand(None);
    let channel = builder.build();
    backends.insert("gone", gone.uri()).await;
    until(&channel, Ready).await;
    backends.remove("gone").await;
    until(&channel, TransientFailure).await;

    let patient = start_patient(&channel, "you");
    refusal(&channel).await;
    assert!(!patient.is_finished());
    backends.insert("new", new.uri()).await;
    let reply = outcome(patient).await.expect("a backend came");
    assert_eq!(reply.backend, "new");
}

#[tokio::test]
async fn a_deadline_ends_the_wait_and_tells_the_last_error() {
    let backend = Backend::builder().scripted().not_serving(GREETER);
    let backend = backend.start().await;
    let channel = health_checked(&[&backend]);
    until(&channel, TransientFailure).await;

    let short = Duration::from_millis(150);
    let mut request = request_within("you", short);
    request.extensions_mut().insert(WaitForReady(true));
    let status = call(&channel, request).await.expect_err("never healthy");
    assert_eq!(status.code(), Code::DeadlineExceeded, "{status}");
    let expected = format!(
        "deadline exceeded after {short:?}, waiting for a backend: no healthy backend: \
         {} health check: NOT_SERVING",
        backend.addr()
    );
    assert!(status.message().starts_with(&expected), "{status}");
    assert_eq!(backend.hits(), 0, "it was never sent");
}

#[tokio::test]
async fn a_channel_may_wait_for_ready_unless_a_call_says_otherwise() {
    let backend = Backend::builder().reserve().await;
    let builder = balanced(&[&backend], None).wait_for_ready(true);
    let channel = builder.build();
    until(&channel, TransientFailure).await;

    let patient = start(&channel, "you");
    let hasty = call(&channel, waiting_for_ready("you", false)).await;
    let status = hasty.expect_err("nobody listens");
    assert_eq!(status.code(), Code::Unavailable, "{status}");
    assert!(!patient.is_finished());

    backend.restart().await;
    outcome(patient).await.expect("a backend came");
}

#[tokio::test]
async fn to_wait_for_ready_costs_a_connecting_channel_nothing() {
    let (backends, builder) = by_hand(None);
    let channel = builder.build();
    assert_eq!(channel.state(), Connecting);
    let calls = [start(&channel, "you"), start_patient(&channel, "you")];
    let backend = Backend::start().await;
    backends.insert("A", backend.uri()).await;
    for call in calls {
        outcome(call).await.expect("both wait while it connects");
    }
}
