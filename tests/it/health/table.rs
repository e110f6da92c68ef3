//! What an operator sees of the backends.

use std::time::Instant;

use testing::{
    Backend, GREETER, HealthKind, WatchScript, balanced, by_hand, health_checked, until, until_that,
};
use tonic::Code;
use tonic_health_channel::{
    Channel,
    ConnectivityState::{Ready, TransientFailure},
    health::HealthStatus,
    status::{BackendStatus, CauseKind},
};

use super::{ends_with, hourly, until_health};

#[tokio::test]
async fn each_backend_is_told_with_its_state_its_health_and_the_reason() {
    let start = Backend::builder().scripted();
    let [healthy, unhealthy, silent, ended] = start
        .start_each(["healthy", "unhealthy", "silent", "ended"])
        .await;
    unhealthy.set_not_serving(GREETER).await;
    silent.script_watch(WatchScript::HeadersOnly);
    ended.script_watch(ends_with(Code::PermissionDenied));
    let unaware = Backend::builder().health(HealthKind::None).start().await;
    let all = [&healthy, &unhealthy, &silent, &ended, &unaware];
    let channel = balanced(&all, Some(GREETER))
        .health_options(hourly())
        .build();
    until_health(
        &channel,
        &[
            HealthStatus::Serving,
            HealthStatus::NotServing,
            HealthStatus::Pending,
            HealthStatus::Failed,
            HealthStatus::Unimplemented,
        ],
    )
    .await;

    let lines = channel.backends();
    let lines: Vec<_> = lines.iter().map(ToString::to_string).collect();
    let at = all.map(|backend| backend.addr());
    assert_eq!(
        lines,
        [
            format!("{} READY, health SERVING", at[0]),
            format!("{} TRANSIENT_FAILURE, health check: NOT_SERVING", at[1]),
            format!("{} CONNECTING, health pending", at[2]),
            format!(
                "{} TRANSIENT_FAILURE, health check: Watch ended: PermissionDenied: \
                 the script ends this Watch (attempt 1)",
                at[3]
            ),
            format!("{} READY, health unimplemented", at[4]),
        ]
    );
    let ended = &channel.backends()[3];
    assert_eq!(ended.failed_attempts(), 1);
    let next = ended.next_attempt().expect("it will be asked again");
    assert!(next > Instant::now(), "the next question is in the future");
}

#[tokio::test]
async fn a_name_of_its_own_stands_before_the_address() {
    let backend = Backend::builder().scripted().start().await;
    let (changes, channel) = by_hand(Some(GREETER));
    let channel = channel.build();
    changes.insert("first", backend.uri()).await;
    until(&channel, Ready).await;
    let shown = only(&channel);
    assert_eq!(shown.label(), "first");
    assert_eq!(shown.address(), backend.addr().to_string());
    let line = format!("first ({}) READY, health SERVING", backend.addr());
    assert_eq!(shown.to_string(), line);
}

#[tokio::test]
async fn the_last_error_outlives_recovery_and_each_change_has_its_time() {
    let start = Backend::builder().scripted().not_serving(GREETER);
    let backend = start.start().await;
    let before = Instant::now();
    let channel = health_checked(&[&backend]);
    until(&channel, TransientFailure).await;
    let failing = only(&channel);
    let (cause, failed) = failing.last_error().expect("it fails for a reason");
    assert_eq!(cause.kind(), CauseKind::Health);
    assert_eq!(cause.text(), "NOT_SERVING");
    assert!(before <= failed && failed <= Instant::now());
    assert!(before <= failing.since() && failing.since() <= Instant::now());

    backend.set_serving(GREETER).await;
    until(&channel, Ready).await;
    let healthy = only(&channel);
    assert_eq!(healthy.id(), failing.id());
    assert_eq!(healthy.health(), HealthStatus::Serving);
    assert!(healthy.since() > failing.since(), "READY began later");
    assert_eq!(healthy.last_error(), failing.last_error());
    let line = format!("{} READY, health SERVING", backend.addr());
    assert_eq!(healthy.to_string(), line, "what is over is not in the line");

    backend.set_status(GREETER, 17).await;
    until(&channel, TransientFailure).await;
    let line = format!(
        "{} TRANSIENT_FAILURE, health check: unrecognized status 17",
        backend.addr()
    );
    assert_eq!(only(&channel).to_string(), line);
}

#[tokio::test]
async fn a_backend_that_is_down_is_told_apart_from_one_that_is_unhealthy() {
    let start = Backend::builder().scripted().not_serving(GREETER);
    let backend = start.start().await;
    let channel = health_checked(&[&backend]);
    until(&channel, TransientFailure).await;
    backend.kill().await;
    let down = until_that(&channel, "a connect error", |status| {
        let error = status.backends()[0].last_error();
        error.is_some_and(|(cause, _)| cause.kind() == CauseKind::Connect)
    })
    .await;
    let down = &down.backends()[0];
    assert_eq!(down.health(), HealthStatus::NotChecked);
    let (line, at) = (down.to_string(), backend.addr());
    let begins = format!("{at} TRANSIENT_FAILURE, connect: connection refused");
    assert!(line.starts_with(&begins), "{line}");
}

fn only(channel: &Channel) -> BackendStatus {
    let backends = channel.backends();
    assert_eq!(backends.len(), 1, "the channel has one backend");
    BackendStatus::clone(&backends[0])
}
