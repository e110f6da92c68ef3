//! The log, in paused time.

use std::{num::NonZeroU32, time::Duration};

use futures_util::future::join;
use grpc_health_service::{
    CheckOptions, DrainOptions, HealthService,
    ServingStatus::{NotServing, Serving},
};
use testing::Logs;
use tokio::sync::mpsc;
use tracing::Level;

use super::in_memory::Stream;

const TARGET: &str = "grpc_health_service";

/// The lines above DEBUG, each with its level.
fn lines(logs: &Logs) -> Vec<String> {
    let lines = logs.all().into_iter();
    let loud = lines.filter(|line| line.level <= Level::INFO);
    loud.map(|line| format!("{} {}", line.level, line.text))
        .collect()
}

#[tokio::test(start_paused = true)]
async fn each_change_of_a_status_has_one_line() {
    let logs = Logs::capture_from(TARGET);
    let (health, _service) = HealthService::new();
    health.set("a", Serving);
    health.set("a", Serving);
    health.set("a", NotServing);
    health.clear("a");
    health.clear("a");
    health.set_each(["a", "b", "a"], Serving);
    health.set_all(NotServing);
    health.set_all(NotServing);
    health.resume();
    health.shutdown();
    health.set("a", Serving);
    health.shutdown();
    assert_eq!(
        lines(&logs),
        [
            "INFO status service=a from=SERVICE_UNKNOWN to=SERVING",
            "INFO status service=a from=SERVING to=NOT_SERVING",
            "INFO status service=a from=NOT_SERVING to=SERVICE_UNKNOWN",
            "INFO statuses services=2 to=SERVING by=set_each",
            "INFO statuses services=3 to=NOT_SERVING by=set_all",
            "INFO statuses services=3 to=SERVING by=resume",
            "INFO statuses services=3 to=NOT_SERVING by=shutdown",
        ]
    );
}

#[tokio::test(start_paused = true)]
async fn statuses_that_change_often_do_not_fill_the_log() {
    let logs = Logs::capture_from(TARGET);
    let (health, _service) = HealthService::new();
    let flip = |times: usize| {
        for _ in 0..times {
            health.set("", NotServing);
            health.set("", Serving);
        }
    };
    flip(100);
    let loud = lines(&logs);
    assert_eq!(loud.len(), 61, "60 changes, and the line about the others");
    let last = "WARN too many changes; they are logged at DEBUG for up to 60 s source=statuses";
    assert!(loud.iter().any(|line| line == last), "{loud:?}");
    assert_eq!(logs.at(Level::DEBUG, TARGET).len(), 140);
    tokio::time::advance(Duration::from_secs(60)).await;
    flip(1);
    assert_eq!(lines(&logs).len(), 63);
}

#[tokio::test(start_paused = true)]
async fn a_check_tells_when_it_begins_to_fail_and_to_succeed() {
    let logs = Logs::capture_from(TARGET);
    let (health, _service) = HealthService::new();
    let (asked, mut asks) = mpsc::unbounded_channel();
    let mut probes = 0;
    let twice = NonZeroU32::new(2).expect("above zero");
    let options = CheckOptions::default().up_after(twice).down_after(twice);
    let check = health.check("orders", options, move || {
        probes += 1;
        asked.send(probes).expect("the test waits");
        async move {
            match probes {
                1 | 7.. => Err("connection refused"),
                4 => panic!("a fault of the probe, as the test asks"),
                5 => std::future::pending().await,
                _ => Ok(()),
            }
        }
    });
    let _check = check.expect("the only check");
    while asks.recv().await.expect("the check probes") < 11 {}
    assert_eq!(
        lines(&logs),
        [
            "WARN the check fails service=orders status=NOT_SERVING error=connection refused",
            "INFO the check succeeds service=orders status=NOT_SERVING",
            "INFO the check succeeds service=orders status=SERVING",
            "WARN the check fails service=orders status=SERVING error=the probe panicked",
            "WARN the check fails service=orders status=NOT_SERVING error=no answer within 1s",
            "INFO the check succeeds service=orders status=NOT_SERVING",
            "WARN the check fails service=orders status=NOT_SERVING error=connection refused",
        ]
    );
}

#[tokio::test(start_paused = true)]
async fn a_check_that_flips_does_not_fill_the_log() {
    let logs = Logs::capture_from(TARGET);
    let (health, _service) = HealthService::new();
    let (asked, mut asks) = mpsc::unbounded_channel();
    let mut probes = 0;
    let options = CheckOptions::default()
        .interval(Duration::from_millis(10))
        .down_after(NonZeroU32::MIN);
    let check = health.check("orders", options, move || {
        probes += 1;
        asked.send(probes).expect("the test waits");
        async move {
            if probes % 2 == 0 {
                Ok(())
            } else {
                Err("every other")
            }
        }
    });
    let _check = check.expect("the only check");
    while asks.recv().await.expect("the check probes") < 1_000 {}
    let loud = lines(&logs);
    assert_eq!(loud.len(), 61);
    let last = "WARN too many changes; they are logged at DEBUG for up to 60 s source=orders";
    assert!(loud.iter().any(|line| line == last), "{loud:?}");
    assert_eq!(logs.at(Level::DEBUG, TARGET).len(), 940);

    // The lines about other services are as loud as before.
    health.set("other", Serving);
    assert_eq!(lines(&logs).len(), 62);
}

#[tokio::test(start_paused = true)]
async fn each_step_of_a_drain_has_its_line() {
    let logs = Logs::capture_from(TARGET);
    let (health, service) = HealthService::new();
    let _silent = Stream::open(&service, "").await;
    let options = DrainOptions::default().linger(Duration::from_secs(3));
    let drain = health.drain_on(async {}, options);
    let cut_off = drain.cut_off();
    join(drain, cut_off).await;
    assert_eq!(
        lines(&logs),
        [
            "INFO drain: all services are NOT_SERVING services=1 watchers=1",
            "WARN drain: watchers have not taken it untold=1 watchers_timeout=5s",
            "INFO drain: the server still takes calls linger=3s",
            "INFO drain: the Watch streams end, and the server may stop watchers=1",
            "WARN drain: open calls are cut off calls_timeout=20s",
        ]
    );

    let logs = Logs::capture_from(TARGET);
    let (health, _service) = HealthService::new();
    health.drain(DrainOptions::default()).await;
    assert_eq!(
        lines(&logs),
        [
            "INFO drain: all services are NOT_SERVING services=1 watchers=0",
            "INFO drain: every watcher has taken it",
            "INFO drain: the Watch streams end, and the server may stop watchers=0",
        ]
    );
}
