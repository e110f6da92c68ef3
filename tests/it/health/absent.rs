//! Servers without the health service.

use testing::{
    Backend, GREETER, HealthKind, Logs, WatchScript, balanced, health_checked, hello, quick_health,
    refusal, spread, until, until_backends,
};
use tonic::Code;
use tonic_health_channel::{
    ConnectivityState::{Ready, TransientFailure},
    health::{HealthStatus, OnUnimplemented},
};

use super::{ends_with, errors, metronome, states, until_health, warnings};

// H02
#[tokio::test]
async fn a_server_without_health_service_is_healthy_and_asked_once_per_connection() {
    let logs = Logs::capture();
    let unaware = unaware().await;
    let metronome = metronome().await;
    let channel = health_checked(&[&unaware, &metronome]);
    until_backends(&channel, &[Ready, TransientFailure]).await;
    hello(&channel).await.expect("it counts as healthy");
    metronome.until_watches(4).await;
    assert_eq!(unaware.watches(), 1, "it is not asked again");
    let errors_of_one = errors(&logs);
    assert_eq!(errors_of_one.len(), 1, "{errors_of_one:?}");
    for part in [
        "the server has no health service; it counts as healthy",
        &format!("backend={}", unaware.addr()),
        &format!("service={GREETER}"),
    ] {
        assert!(errors_of_one[0].contains(part), "{errors_of_one:?}");
    }

    unaware.cut_connections();
    unaware.until_watches(2).await;
    until_backends(&channel, &[Ready, TransientFailure]).await;
    assert_eq!(errors(&logs).len(), 2, "a new connection, a new question");
}

// C07
#[tokio::test]
async fn servers_without_health_service_share_the_calls() {
    let start = Backend::builder().health(HealthKind::None);
    let [a, b, c] = start.start_each(["A", "B", "C"]).await;
    let all = [&a, &b, &c];
    let channel = health_checked(&all);
    until_backends(&channel, &[Ready, Ready, Ready]).await;
    assert_eq!(spread(&channel, 9, &all).await, [3, 3, 3]);
}

// J04
#[tokio::test]
async fn unimplemented_on_one_backend_is_no_news_about_another() {
    let logs = Logs::capture();
    let start = Backend::builder().scripted().not_serving(GREETER);
    let [a, b] = start.start_each(["A", "B"]).await;
    let all = [&a, &b];
    a.script_next_watches(1, ends_with(Code::Unimplemented));
    let channel = health_checked(&all);
    until_health(
        &channel,
        &[HealthStatus::Unimplemented, HealthStatus::NotServing],
    )
    .await;
    assert_eq!(spread(&channel, 4, &all).await, [4, 0]);
    b.set_serving(GREETER).await;
    until_backends(&channel, &[Ready, Ready]).await;
    assert_eq!(spread(&channel, 4, &all).await, [2, 2]);

    a.cut_connections();
    until_health(&channel, &[HealthStatus::NotServing, HealthStatus::Serving]).await;
    assert_eq!(spread(&channel, 4, &all).await, [0, 4]);
    a.set_serving(GREETER).await;
    until_backends(&channel, &[Ready, Ready]).await;
    assert_eq!([a.watches(), b.watches()], [2, 1]);
    assert_eq!(errors(&logs).len(), 1, "{:?}", errors(&logs));
}

#[tokio::test]
async fn unimplemented_after_messages_means_healthy_too() {
    let logs = Logs::capture();
    let start = Backend::builder().scripted().not_serving(GREETER);
    let backend = start.start().await;
    let channel = health_checked(&[&backend]);
    until(&channel, TransientFailure).await;
    backend.end_watches(Code::Unimplemented);
    until(&channel, Ready).await;
    hello(&channel).await.expect("it counts as healthy");
    assert_eq!(backend.watches(), 1);
    assert_eq!(errors(&logs).len(), 1, "{:?}", errors(&logs));
}

#[tokio::test]
async fn http_404_means_that_there_is_no_health_service() {
    for html in [false, true] {
        let logs = Logs::capture();
        let backend = Backend::builder().scripted().start().await;
        backend.script_watch(WatchScript::Http404 { html });
        let channel = health_checked(&[&backend]);
        until_health(&channel, &[HealthStatus::Unimplemented]).await;
        assert_eq!(states(&logs), ["READY"], "with HTML: {html}");
        hello(&channel).await.expect("it counts as healthy");
        assert_eq!(errors(&logs).len(), 1, "{:?}", errors(&logs));
        assert_eq!(backend.watches(), 1);
        drop(channel);
        // So that its farewell is not in the logs of the next round.
        backend.until_open_connections(0).await;
    }
}

#[tokio::test]
async fn a_server_without_health_service_may_count_as_unhealthy() {
    let logs = Logs::capture();
    let unaware = unaware().await;
    let metronome = metronome().await;
    let channel = balanced(&[&unaware, &metronome], Some(GREETER))
        .health_options(quick_health().on_unimplemented(OnUnimplemented::Unhealthy))
        .build();
    until(&channel, TransientFailure).await;
    let text = refusal(&channel).await;
    let named = format!(
        "{} health check: no health service: Unimplemented",
        unaware.addr()
    );
    assert!(text.contains(&named), "{text}");

    metronome.until_watches(4).await;
    assert_eq!(unaware.watches(), 1, "it is not asked again");
    assert_eq!(errors(&logs), [""; 0]);
    let warnings = warnings(&logs);
    assert_eq!(warnings.len(), 1, "{warnings:?}");
    let named = "the server has no health service; it counts as unhealthy";
    assert!(warnings[0].contains(named), "{warnings:?}");
}

async fn unaware() -> Backend {
    Backend::builder().health(HealthKind::None).start().await
}
