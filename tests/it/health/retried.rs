//! Watches that end, and are asked again: at once, or after a pause.

use std::time::{Duration, Instant};

use testing::{
    Backend, GREETER, HealthKind, Logs, WatchScript, balanced, health_checked, hello, quick_health,
    refusal, until,
};
use tonic::Code;
use tonic_health_channel::{
    Channel,
    ConnectivityState::{Ready, TransientFailure},
    HealthOptions,
    channel::BackoffConfig,
    health::{HealthStatus, OnNotFound},
};

use super::{FLOOR, ends_with, hourly, states, until_health};

// H15
#[tokio::test]
async fn watches_that_say_nothing_are_asked_again_after_growing_pauses() {
    let backend = Backend::builder().scripted().start().await;
    backend.script_watch(ends_with(Code::Unavailable));
    let [initial, max] = [100, 10_000].map(Duration::from_millis);
    let growing = BackoffConfig::default()
        .initial(initial)
        .and_then(|backoff| backoff.multiplier(1.5))
        .and_then(|backoff| backoff.jitter(0.0))
        .expect("a valid backoff")
        .max(max);
    let started = Instant::now();
    let channel = with(&backend, quick_health().backoff(growing));
    until(&channel, TransientFailure).await;
    let text = refusal(&channel).await;
    let named = "health check: Watch ended: Unavailable: the script ends this Watch (attempt 1";
    assert!(text.contains(named), "{text}");

    backend.until_watches(4).await;
    let pauses = started.elapsed();
    assert!(
        pauses >= Duration::from_millis(100 + 150 + 225),
        "the fourth question came after {pauses:?}"
    );
    backend.script_watch(WatchScript::Normal);
    until(&channel, Ready).await;
    assert_eq!(backend.watches(), 5);
    assert_eq!(backend.connections(), 1);
}

// C12, J05
#[tokio::test]
async fn an_end_with_ok_is_no_answer_and_repeated_without_haste() {
    let logs = Logs::capture();
    let backend = Backend::builder().scripted().start().await;
    backend.script_watch(ends_with(Code::Ok));
    let started = Instant::now();
    let channel = health_checked(&[&backend]);
    until(&channel, TransientFailure).await;
    let text = refusal(&channel).await;
    assert!(text.contains("health check: Watch ended: Ok"), "{text}");

    backend.until_watches(6).await;
    let (asked, took) = (backend.watches() as u32, started.elapsed());
    assert!(
        took >= FLOOR * (asked - 1),
        "{asked} questions in {took:?} are too many"
    );
    assert_eq!(states(&logs), ["TRANSIENT_FAILURE"]);

    backend.script_watch(WatchScript::Normal);
    until(&channel, Ready).await;
    hello(&channel).await.expect("a real answer counts");
}

// J06
#[tokio::test]
async fn a_watch_that_had_answered_is_asked_again_at_once() {
    let logs = Logs::capture();
    let backend = Backend::builder().scripted().start().await;
    let channel = with(&backend, hourly());
    for code in [Code::Unavailable, Code::Ok] {
        until(&channel, Ready).await;
        let before = backend.watches();
        backend.end_watches(code);
        backend.until_watches(before + 1).await;
    }
    until(&channel, Ready).await;
    assert_eq!(
        states(&logs),
        [
            "READY",
            "TRANSIENT_FAILURE",
            "READY",
            "TRANSIENT_FAILURE",
            "READY"
        ]
    );
}

#[tokio::test]
async fn a_server_that_answers_and_hangs_up_is_not_asked_in_haste() {
    let backend = Backend::builder().scripted().start().await;
    backend.script_watch(WatchScript::EndWith {
        code: Code::Ok,
        after_messages: 1,
    });
    let started = Instant::now();
    let channel = with(&backend, hourly());
    backend.until_watches(5).await;
    let (asked, took) = (backend.watches() as u32, started.elapsed());
    assert!(
        took >= FLOOR * (asked - 1),
        "{asked} questions in {took:?} are too many"
    );
    drop(channel);
}

// C13
#[tokio::test]
async fn a_message_that_does_not_decode_ends_the_watch() {
    let backend = Backend::builder().scripted().start().await;
    backend.script_watch(WatchScript::Garbage);
    let channel = health_checked(&[&backend]);
    until(&channel, TransientFailure).await;
    let text = refusal(&channel).await;
    assert!(
        text.contains("health check: Watch ended: Internal: "),
        "{text}"
    );
    assert!(text.contains("decode"), "it says what is wrong: {text}");

    backend.until_watches(3).await;
    backend.script_watch(WatchScript::Normal);
    until(&channel, Ready).await;
    backend.until_open_watches(1).await;
    assert_eq!(
        backend.connections(),
        1,
        "the calls of garbage are cancelled"
    );
}

#[tokio::test]
async fn a_name_that_is_not_registered_yet_is_a_failure_until_it_is() {
    let start = Backend::builder().health(HealthKind::TonicHealth);
    let backend = start.no_services().start().await;
    let channel = health_checked(&[&backend]);
    until(&channel, TransientFailure).await;
    let text = refusal(&channel).await;
    let named = format!("{} health check: Watch ended: NotFound: ", backend.addr());
    assert!(text.contains(&named), "{text}");
    assert!(text.contains(&format!("(asked for {GREETER:?})")), "{text}");
    backend.set_serving(GREETER).await;
    until(&channel, Ready).await;
}

#[tokio::test]
async fn a_name_that_is_not_registered_yet_may_be_asked_for_at_an_interval() {
    let start = Backend::builder().health(HealthKind::TonicHealth);
    let backend = start.no_services().start().await;
    let often = Duration::from_millis(100);
    let channel = with(
        &backend,
        hourly().on_not_found(OnNotFound::RetryEvery(often)),
    );
    until(&channel, TransientFailure).await;
    backend.until_watches(3).await;
    assert_eq!(channel.state(), TransientFailure);
    backend.set_serving(GREETER).await;
    until(&channel, Ready).await;
}

#[tokio::test]
async fn a_name_that_is_taken_back_is_a_failure_until_it_returns() {
    let start = Backend::builder().health(HealthKind::TonicHealth);
    let backend = start.start().await;
    let options = quick_health().on_not_found(OnNotFound::RetryEvery(FLOOR));
    let channel = with(&backend, options);
    until(&channel, Ready).await;
    backend.clear_status(GREETER).await;
    until_health(&channel, &[HealthStatus::Failed]).await;
    let text = refusal(&channel).await;
    assert!(text.contains("health check: Watch ended: "), "{text}");
    backend.set_serving(GREETER).await;
    until(&channel, Ready).await;
}

fn with(backend: &Backend, options: HealthOptions) -> Channel {
    balanced(&[backend], Some(GREETER))
        .health_options(options)
        .build()
}
