//! Servers with half of the health service: `Check` is polled, where asked for.

use std::time::Duration;

use testing::{
    Backend, CheckScript, GREETER, HealthKind, Logs, PATIENCE, balanced, hello, quick_health,
    refusal, until,
};
use tonic::Code;
use tonic_health_channel::{
    Channel,
    ConnectivityState::{Ready, TransientFailure},
    health::{HealthStatus, OnUnimplemented},
};

use super::{ends_with, errors, metronome, until_health, warnings};

/// As often, and with as little patience, as the library does it.
const OFTEN: Duration = Duration::from_millis(100);

#[tokio::test]
async fn check_is_polled_where_watch_is_missing() {
    let logs = Logs::capture();
    let backend = check_only().await;
    let channel = polling(&[&backend]);
    until(&channel, Ready).await;
    hello(&channel).await.expect("Check said SERVING");

    backend.set_not_serving(GREETER).await;
    until(&channel, TransientFailure).await;
    let text = refusal(&channel).await;
    let named = format!("{} health check: Check: NOT_SERVING", backend.addr());
    assert!(text.contains(&named), "{text}");

    backend.set_serving(GREETER).await;
    until(&channel, Ready).await;
    hello(&channel).await.expect("Check said SERVING again");
    assert_eq!(backend.watches(), 1);
    assert_eq!(backend.connections(), 1);
    assert_eq!(errors(&logs), [""; 0]);
    let warnings = warnings(&logs);
    assert_eq!(warnings.len(), 1, "{warnings:?}");
    assert!(warnings[0].contains("polling Check"), "{warnings:?}");
}

#[tokio::test]
async fn a_check_that_is_never_answered_is_a_failure_and_polled_anew() {
    let backend = check_only().await;
    backend.script_check(CheckScript::NeverAnswer);
    let channel = polling_for(OFTEN, &[&backend]);
    until(&channel, TransientFailure).await;
    let text = refusal(&channel).await;
    assert!(
        text.contains("health check: Check: no answer in 100ms"),
        "{text}"
    );
    backend.until_checks(3).await;
    assert_eq!(channel.state(), TransientFailure);
    backend.script_check(CheckScript::Normal);
    until(&channel, Ready).await;
}

#[tokio::test]
async fn a_check_of_a_name_that_is_not_registered_is_a_failure_until_it_is() {
    let start = Backend::builder().health(HealthKind::CheckOnly);
    let backend = start.no_services().start().await;
    let channel = polling(&[&backend]);
    until(&channel, TransientFailure).await;
    let text = refusal(&channel).await;
    assert!(text.contains("health check: Check: NotFound: "), "{text}");
    assert!(text.contains(&format!("(asked for {GREETER:?})")), "{text}");
    backend.set_serving(GREETER).await;
    until(&channel, Ready).await;
}

#[tokio::test]
async fn a_server_without_watch_and_check_is_healthy() {
    let logs = Logs::capture();
    let unaware = Backend::builder().health(HealthKind::None).start().await;
    let metronome = metronome().await;
    let channel = polling(&[&unaware, &metronome]);
    until_health(
        &channel,
        &[HealthStatus::Unimplemented, HealthStatus::Failed],
    )
    .await;
    hello(&channel).await.expect("it counts as healthy");
    metronome.until_watches(4).await;
    assert_eq!([unaware.watches(), unaware.checks()], [1, 1]);
    let errors = errors(&logs);
    assert_eq!(errors.len(), 1, "{errors:?}");
    assert!(errors[0].contains("has no health service"), "{errors:?}");
}

#[tokio::test]
async fn a_check_that_loses_its_connection_gives_way_to_a_new_watch() {
    let backend = Backend::builder().scripted().start().await;
    backend.script_next_watches(1, ends_with(Code::Unimplemented));
    backend.script_check(CheckScript::NeverAnswer);
    let channel = polling(&[&backend]);
    backend.until_checks(1).await;
    backend.cut_connections();
    until(&channel, Ready).await;
    assert_eq!(backend.watches(), 2);
    assert_eq!(backend.open_watches(), 1);
}

async fn check_only() -> Backend {
    let start = Backend::builder().health(HealthKind::CheckOnly);
    start.start().await
}

/// Polls often, with all the patience that a busy machine may need.
fn polling(backends: &[&Backend]) -> Channel {
    polling_for(PATIENCE, backends)
}

fn polling_for(timeout: Duration, backends: &[&Backend]) -> Channel {
    let rule = OnUnimplemented::PollCheck {
        interval: OFTEN,
        timeout,
    };
    balanced(backends, Some(GREETER))
        .health_options(quick_health().on_unimplemented(rule))
        .build()
}
