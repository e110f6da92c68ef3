//! Checks of dependencies, in paused time.

use std::{
    convert::Infallible,
    future::pending,
    num::NonZeroU32,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use grpc_health_service::{
    CheckOptions, HealthHandle, HealthService,
    ServingStatus::{self, NotServing, Serving},
};
use tokio::{sync::mpsc, time::Instant};

/// The next result of a probe.
#[derive(Clone, Copy, Debug)]
enum Next {
    Ok,
    Error,
    Panic,
    Silence,
}

fn options() -> CheckOptions {
    let twice = NonZeroU32::new(2).expect("above zero");
    let options = CheckOptions::default().jitter(0.0);
    options.up_after(twice).down_after(twice)
}

fn status(health: &HealthHandle) -> Option<ServingStatus> {
    health.status("orders")
}

#[tokio::test(start_paused = true)]
async fn errors_panics_and_timeouts_count_as_failed() {
    use Next::{Error, Ok as Good, Panic, Silence};
    for bad in [Error, Panic, Silence] {
        let (health, _service) = HealthService::new();
        let results = [Good, Good, bad, Good, bad, bad, Good, Good];
        let mut left = results.into_iter();
        // With each probe, the status that the results before it have led to.
        let (seen, mut statuses) = mpsc::unbounded_channel();
        let own = health.clone();
        let check = health.check("orders", options(), move || {
            let next = left.next();
            seen.send(status(&own)).expect("the test waits");
            async move {
                match next {
                    Some(Good) => Ok(()),
                    Some(Error) => Err("no answer"),
                    Some(Panic) => panic!("a fault of the probe, as the test asks"),
                    Some(Silence) | None => pending().await,
                }
            }
        });
        let _check = check.expect("the only check");
        assert_eq!(status(&health), Some(NotServing));
        for expected in [
            NotServing, NotServing, Serving, Serving, Serving, Serving, NotServing, NotServing,
            Serving,
        ] {
            let seen = statuses.recv().await.expect("the check probes");
            assert_eq!(seen, Some(expected), "{bad:?}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_check_pauses_between_probes_and_stops_with_its_guard() {
    let (health, _service) = HealthService::new();
    let (asked, mut probes) = mpsc::unbounded_channel();
    let began = Instant::now();
    let check = health.check("orders", CheckOptions::default().jitter(0.0), move || {
        let _ = asked.send(began.elapsed());
        async { Ok::<_, Infallible>(()) }
    });
    let check = check.expect("the only check");
    for seconds in [0, 10, 20] {
        let at = probes.recv().await.expect("the check probes");
        assert_eq!(at, Duration::from_secs(seconds));
    }
    drop(check);
    assert_eq!(probes.recv().await, None, "the probe was dropped");
    assert_eq!(status(&health), Some(Serving), "the last status stays");
}

#[tokio::test(start_paused = true)]
async fn pauses_differ_by_the_jitter() {
    let (health, _service) = HealthService::new();
    let (asked, mut probes) = mpsc::unbounded_channel();
    let options = CheckOptions::default().jitter(0.5);
    let check = health.check("orders", options, move || {
        asked.send(Instant::now()).expect("the test waits");
        async { Ok::<_, Infallible>(()) }
    });
    let _check = check.expect("the only check");
    let mut last = probes.recv().await.expect("the check probes");
    let mut pauses = Vec::new();
    for _ in 0..20 {
        let next = probes.recv().await.expect("the check probes");
        pauses.push(next - last);
        last = next;
    }
    let range = Duration::from_secs(5)..=Duration::from_millis(15_001);
    assert!(pauses.iter().all(|it| range.contains(it)), "{pauses:?}");
    pauses.dedup();
    assert!(pauses.len() > 10, "{pauses:?}");
}

#[tokio::test(start_paused = true)]
async fn a_check_does_not_undo_a_drain_and_settles_after_a_resume() {
    let (health, _service) = HealthService::new();
    let probes = Arc::new(AtomicUsize::new(0));
    let (asked, mut asks) = mpsc::unbounded_channel();
    let own = Arc::clone(&probes);
    let options = CheckOptions::default().jitter(0.0);
    let check = health.check("orders", options, move || {
        asked.send(()).expect("the test waits");
        let good = own.fetch_add(1, Relaxed) != 2;
        async move { if good { Ok(()) } else { Err("once") } }
    });
    let _check = check.expect("the only check");
    health.shutdown();
    for _ in 0..2 {
        asks.recv().await.expect("the check probes");
    }
    assert_eq!(status(&health), Some(NotServing));
    health.resume();
    assert_eq!(status(&health), Some(Serving));
    health.set("orders", NotServing);
    for _ in 0..2 {
        asks.recv().await.expect("the check probes");
    }
    assert_eq!(
        status(&health),
        Some(Serving),
        "one failure is below the limit"
    );
    health
        .drain(grpc_health_service::DrainOptions::default())
        .await;
    for _ in 0..2 {
        asks.recv().await.expect("the check probes");
    }
    assert_eq!(status(&health), Some(NotServing));
}

#[tokio::test(start_paused = true)]
async fn an_interval_without_end_probes_once() {
    let (health, _service) = HealthService::new();
    let (asked, mut probes) = mpsc::unbounded_channel();
    let options = CheckOptions::default().interval(Duration::MAX);
    let check = health.check("orders", options, move || {
        asked.send(()).expect("the test waits");
        async { Ok::<_, Infallible>(()) }
    });
    let check = check.expect("the only check");
    probes.recv().await.expect("the first probe");
    let second = tokio::time::timeout(Duration::from_secs(1_000_000), probes.recv()).await;
    assert!(
        second.is_err(),
        "neither another probe nor the end of the check"
    );
    assert_eq!(status(&health), Some(Serving));
    drop(check);
}

#[tokio::test(start_paused = true)]
async fn a_second_check_of_a_name_is_refused_until_the_first_has_stopped() {
    let (health, _service) = HealthService::new();
    let (asked, mut asks) = mpsc::unbounded_channel();
    let check = |succeeds: bool| {
        let asked = asked.clone();
        let probe = move || {
            asked.send(succeeds).expect("the test waits");
            async move { if succeeds { Ok(()) } else { Err("no answer") } }
        };
        health.check("orders", CheckOptions::default(), probe)
    };
    let first = check(true).expect("the first check");
    let refused = check(false).expect_err("the second check");
    assert_eq!(
        refused.to_string(),
        "the service \"orders\" already has a check"
    );
    for _ in 0..5 {
        assert_eq!(asks.recv().await, Some(true), "the first goes on alone");
    }
    assert_eq!(status(&health), Some(Serving));
    drop(first);
    let second = check(false).expect("the only check");
    assert_eq!(status(&health), Some(NotServing));
    drop(second);
}
