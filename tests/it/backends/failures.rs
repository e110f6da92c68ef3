//! What a channel shows of a backend that cannot be used.

use std::time::Instant;

use testing::{
    Backend, GREETER, UNKNOWN, WatchScript, balanced, health_checked, quick_health, until,
    until_that,
};
use tonic::Code;
use tonic_health_channel::{
    ConnectivityState::{Connecting, Ready, TransientFailure},
    health::HealthStatus,
    status::CauseKind,
};

use super::{HOUR, first, hourly};

#[tokio::test]
async fn a_dead_backend_shows_why_since_when_and_when_it_is_tried_again() {
    let backend = Backend::builder().reserve().await;
    let started = Instant::now();
    let builder = balanced(&[&backend], None).connect_backoff(hourly());
    let channel = builder.build();
    until(&channel, TransientFailure).await;
    let noticed = Instant::now();

    let dead = first(&channel);
    let (cause, at) = dead.last_error().expect("it has failed");
    assert_eq!(cause.kind(), CauseKind::Connect);
    assert_eq!(cause.text(), "connection refused");
    assert!((started..=noticed).contains(&at));
    assert_eq!(dead.since(), at, "it is in TRANSIENT_FAILURE for that");
    assert_eq!(dead.failed_attempts(), 1);
    let next = dead.next_attempt().expect("it is not given up");
    assert!((started + HOUR..=noticed + HOUR).contains(&next));
    let expected = format!(
        "{} TRANSIENT_FAILURE, connect: connection refused (attempt 1)",
        backend.addr()
    );
    assert_eq!(dead.to_string(), expected);

    backend.restart().await;
    channel.reset_connect_backoff();
    until(&channel, Ready).await;
    let back = first(&channel);
    assert_eq!(back.id(), dead.id());
    assert_eq!(back.last_error(), dead.last_error(), "it stays to be read");
    assert!(back.since() > at);
    assert_eq!((back.failed_attempts(), back.next_attempt()), (0, None));
    assert_eq!(back.to_string(), format!("{} READY", backend.addr()));
}

#[tokio::test]
async fn attempts_that_fail_alike_are_counted_and_are_one_failure() {
    let backend = Backend::builder().reserve().await;
    let channel = balanced(&[&backend], None).build();
    until(&channel, TransientFailure).await;
    let first = first(&channel);
    let status = until_that(&channel, "a pause, two attempts later", |status| {
        let backend = &status.backends()[0];
        let more = backend.failed_attempts() >= first.failed_attempts() + 2;
        more && backend.next_attempt().is_some()
    })
    .await;
    let later = &status.backends()[0];
    assert_eq!(later.last_error(), first.last_error());
    assert_eq!(later.since(), first.since());
    assert!(later.next_attempt() > first.next_attempt());
}

#[tokio::test]
async fn a_connection_that_is_lost_is_an_error_and_no_failed_attempt() {
    let backend = Backend::builder().scripted().start().await;
    let channel = health_checked(&[&backend]);
    until(&channel, Ready).await;
    assert_eq!(first(&channel).last_error(), None, "nothing has failed");

    backend.script_watch(WatchScript::HoldFirst);
    backend.cut_connections();
    backend.until_watches(2).await;
    until_that(&channel, "the question to be asked anew", |status| {
        status.backends()[0].health() == HealthStatus::Pending
    })
    .await;
    let lost = first(&channel);
    assert_eq!(lost.state(), Connecting);
    let (cause, _) = lost.last_error().expect("the connection was lost");
    assert_eq!(cause.kind(), CauseKind::Disconnected);
    assert!(cause.text().contains("connection reset"), "{cause}");
    assert_eq!((lost.failed_attempts(), lost.next_attempt()), (0, None));

    backend.release_watches();
    until(&channel, Ready).await;
    assert_eq!(first(&channel).last_error(), lost.last_error());
}

#[tokio::test]
async fn an_unhealthy_backend_is_told_from_a_dead_one() {
    let start = Backend::builder().scripted();
    let backend = start.not_serving(GREETER).start().await;
    let channel = health_checked(&[&backend]);
    until(&channel, TransientFailure).await;
    let unhealthy = first(&channel);
    let (cause, at) = unhealthy.last_error().expect("it is unhealthy");
    assert_eq!(cause.kind(), CauseKind::Health);
    assert_eq!(cause.text(), "NOT_SERVING");
    assert_eq!(unhealthy.since(), at);
    // It has answered: there is nothing to try again.
    let attempts = (unhealthy.failed_attempts(), unhealthy.next_attempt());
    assert_eq!(attempts, (0, None));

    backend.set_status(GREETER, UNKNOWN).await;
    until_that(&channel, "the news", |status| {
        status.backends()[0].health() == HealthStatus::Unknown
    })
    .await;
    let unknown = first(&channel);
    let (cause, later) = unknown.last_error().expect("it is unhealthy");
    assert_eq!(cause.text(), "UNKNOWN");
    assert!(later > at, "that is another failure");
    assert_eq!(unknown.since(), later, "and another health");
}

#[tokio::test]
async fn a_health_check_that_fails_shows_when_it_is_repeated() {
    let backend = Backend::builder().scripted().start().await;
    backend.script_watch(WatchScript::EndWith {
        code: Code::Unavailable,
        after_messages: 0,
    });
    let started = Instant::now();
    let builder = balanced(&[&backend], Some(GREETER));
    let builder = builder.health_options(quick_health().backoff(hourly()));
    let channel = builder.build();
    until(&channel, TransientFailure).await;
    let failed = first(&channel);
    assert_eq!(failed.health(), HealthStatus::Failed);
    let (cause, _) = failed.last_error().expect("the Watch ended");
    assert_eq!(cause.kind(), CauseKind::Health);
    assert_eq!(failed.failed_attempts(), 1);
    let next = failed.next_attempt().expect("it will be asked again");
    assert!((started + HOUR..=Instant::now() + HOUR).contains(&next));
    assert_eq!(backend.connections(), 1);
}
