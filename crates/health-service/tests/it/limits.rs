//! Requests that the service refuses, over real sockets, and many that it takes, in memory.

use std::{future::poll_fn, time::Duration};

use grpc_health_service::{
    HealthOptions, HealthService,
    ServingStatus::{NotServing, Serving},
};
use rustix::time::{ClockId, clock_gettime};
use testing::{SERVICE_UNKNOWN, SERVING, within};
use tokio::sync::mpsc;
use tonic::Code;

use super::{
    in_memory::{Polled, Stream},
    server::{check, open_watch, serve, watch},
};

#[tokio::test]
async fn a_name_of_more_than_200_bytes_is_an_invalid_argument() {
    let (health, service) = HealthService::new();
    let longest = "é".repeat(100);
    let too_long = format!("{longest}x");
    health.set_each([&longest, &too_long], Serving);
    let client = serve(service).await;
    assert_eq!(check(&client, &longest).await.expect("known"), SERVING);
    let refused = [
        check(&client, &too_long).await.expect_err("too long"),
        watch(&client, &too_long).await.expect_err("too long"),
    ];
    for refused in refused {
        assert_eq!(refused.code(), Code::InvalidArgument);
        assert_eq!(
            refused.message(),
            "the service name has 201 bytes, and at most 200 are allowed"
        );
    }
    assert_eq!(health.watchers(), 0);
}

#[tokio::test]
async fn a_request_of_more_than_4_kib_is_out_of_range() {
    let (health, service) = HealthService::new();
    let client = serve(service).await;
    // 3 bytes are the field and its length.
    let longest = "x".repeat(4 * 1024 - 3);
    let refused = check(&client, &longest).await.expect_err("too long");
    assert_eq!(refused.code(), Code::InvalidArgument);
    let too_long = format!("{longest}x");
    let refused = watch(&client, &too_long).await.expect_err("too long");
    assert_eq!(refused.code(), Code::OutOfRange);
    assert_eq!(health.watchers(), 0);
}

#[tokio::test]
async fn a_watch_above_the_limit_is_resource_exhausted() {
    let (health, service) = HealthService::with_options(HealthOptions::default().max_watchers(2));
    let client = serve(service).await;
    let mut first = open_watch(&client, "a").await;
    let mut second = open_watch(&client, "").await;
    first.expect(SERVICE_UNKNOWN).await;
    second.expect(SERVING).await;
    let refused = watch(&client, "b").await.expect_err("a third");
    assert_eq!(refused.code(), Code::ResourceExhausted);
    assert_eq!(
        refused.message(),
        "the server has 2 open Watch streams, which is its limit"
    );
    drop(first);
    let gone = async {
        while health.watchers() > 1 {
            tokio::task::yield_now().await;
        }
    };
    within("the first Watch to be removed", gone).await;
    open_watch(&client, "b").await.expect(SERVICE_UNKNOWN).await;
}

/// The CPU time of this thread, in which other processes of a busy machine have no part.
fn cpu_time() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::try_from(time).expect("a time since the thread began")
}

// Each watcher is a task of this thread, as in the bench `fan_out`. The limit of 200 ms is that
// of the bench, although a test is not optimized.
#[tokio::test]
async fn a_change_reaches_10_000_watchers_within_200_ms() {
    const WATCHERS: usize = 10_000;
    let (health, service) = HealthService::new();
    let (told, mut tells) = mpsc::unbounded_channel();
    for _ in 0..WATCHERS {
        let mut stream = Stream::open(&service, "").await;
        let told = told.clone();
        tokio::spawn(async move {
            loop {
                let seen = poll_fn(|cx| stream.poll_next(cx)).await;
                if told.send(seen).is_err() {
                    return;
                }
            }
        });
    }
    let mut all_see = async |status: u8| {
        for _ in 0..WATCHERS {
            let seen = tells.recv().await.expect("a watcher");
            assert_eq!(seen, Polled::Status(status));
        }
    };
    all_see(1).await;
    let mut times = Vec::new();
    for (set, status) in [(NotServing, 2), (Serving, 1), (NotServing, 2)] {
        let began = cpu_time();
        health.set("", set);
        all_see(status).await;
        times.push(cpu_time() - began);
    }
    // The fastest, because interrupts and cold caches count as CPU time, too.
    let fastest = times.iter().min().expect("3 changes");
    assert!(*fastest <= Duration::from_millis(200), "{times:?}");
}
