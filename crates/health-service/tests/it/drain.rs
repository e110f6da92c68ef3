//! How a server stops: in memory with paused time, and over real sockets.

use std::{pin::pin, time::Duration};

use futures_util::{FutureExt, future::join, poll};
use grpc_health_service::{DrainOptions, Drained, HealthService, ServingStatus::Serving};
use testing::{NOT_SERVING, SERVICE_UNKNOWN, SERVING, health::health_client::HealthClient, within};
use tokio::{sync::oneshot, time::Instant};
use tonic::Code;

use super::{
    in_memory::{Polled, Stream},
    server::{check, connect, endpoint, open_watch, serve_until},
};

const UNAVAILABLE: &str = "14";

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

#[tokio::test(start_paused = true)]
async fn a_drain_waits_for_a_watcher_that_reads_slowly() {
    let (health, service) = HealthService::new();
    let mut quick = Stream::open(&service, "").await;
    let mut slow = Stream::open(&service, "").await;
    for stream in [&mut quick, &mut slow] {
        assert_eq!(stream.poll(), Polled::Status(1));
        assert_eq!(stream.poll(), Polled::Pending);
    }
    let began = Instant::now();
    let mut drain = pin!(health.drain(DrainOptions::default()));
    assert!(poll!(&mut drain).is_pending());
    assert_eq!(quick.poll(), Polled::Status(2));
    assert_eq!(quick.poll(), Polled::Pending);
    assert!(
        poll!(&mut drain).is_pending(),
        "the slow one has read nothing"
    );

    tokio::time::advance(seconds(4)).await;
    assert!(poll!(&mut drain).is_pending());
    assert_eq!(slow.poll(), Polled::Status(2));
    assert_eq!(drain.await.untold, 0);
    assert_eq!(began.elapsed(), seconds(4));
    for mut stream in [quick, slow] {
        assert_eq!(stream.poll(), Polled::End(UNAVAILABLE.to_owned()));
    }
}

#[tokio::test(start_paused = true)]
async fn a_drain_waits_for_a_watcher_that_never_reads_only_so_long() {
    let (health, service) = HealthService::new();
    let mut silent = Stream::open(&service, "").await;
    let began = Instant::now();
    let drained = health.drain(DrainOptions::default()).await;
    assert_eq!(drained.untold, 1);
    assert_eq!(began.elapsed(), seconds(5));
    // When it reads at last, it learns why.
    assert_eq!(silent.poll(), Polled::Status(2));
    assert_eq!(silent.poll(), Polled::End(UNAVAILABLE.to_owned()));
}

#[tokio::test(start_paused = true)]
async fn a_drain_without_watchers_only_lingers() {
    let (health, service) = HealthService::new();
    let began = Instant::now();
    let drained = health.drain(DrainOptions::default()).await;
    assert_eq!((drained.untold, began.elapsed()), (0, Duration::ZERO));

    let (health, other) = HealthService::new();
    let options = DrainOptions::default().linger(seconds(10));
    let mut drain = pin!(health.drain(options));
    assert!(poll!(&mut drain).is_pending());
    let mut late = Stream::open(&other, "").await;
    assert_eq!(late.poll(), Polled::Status(2), "it still takes a Watch");
    assert_eq!(late.poll(), Polled::Pending);
    drain.await;
    assert_eq!(began.elapsed(), seconds(10));
    assert_eq!(late.poll(), Polled::End(UNAVAILABLE.to_owned()));

    let mut after = Stream::open(&service, "").await;
    assert_eq!(after.poll(), Polled::Status(2));
    assert_eq!(after.poll(), Polled::End(UNAVAILABLE.to_owned()));
}

#[tokio::test(start_paused = true)]
async fn a_watcher_that_leaves_is_not_waited_for() {
    let (health, service) = HealthService::new();
    let silent = Stream::open(&service, "").await;
    let mut drain = pin!(health.drain(DrainOptions::default()));
    assert!(poll!(&mut drain).is_pending());
    drop(silent);
    assert_eq!(drain.now_or_never().map(|it: Drained| it.untold), Some(0));
}

#[tokio::test(start_paused = true)]
async fn the_cut_off_comes_after_the_time_for_calls() {
    let (health, _service) = HealthService::new();
    let (signal, signalled) = oneshot::channel();
    let signalled = signalled.map(|_: Result<(), _>| ());
    let drain = health.drain_on(signalled, DrainOptions::default().linger(seconds(3)));
    let mut cut_off = pin!(drain.cut_off());
    assert!(poll!(&mut cut_off).is_pending());
    tokio::time::advance(seconds(100)).await;
    assert!(poll!(&mut cut_off).is_pending(), "nothing was signalled");

    let began = Instant::now();
    signal.send(()).expect("the drain waits");
    join(drain, cut_off).await;
    assert_eq!(began.elapsed(), seconds(23));

    let cut_off = health.drain_on(async {}, DrainOptions::default()).cut_off();
    let dropped = tokio::time::timeout(seconds(1_000), cut_off).await;
    assert!(
        dropped.is_err(),
        "a drain that was dropped cuts nothing off"
    );
}

#[tokio::test]
async fn an_open_watch_does_not_hold_up_the_graceful_stop() {
    let (health, service) = HealthService::new();
    health.set("a", Serving);
    let (signal, signalled) = oneshot::channel();
    let drain = health.drain_on(signalled.map(|_| ()), DrainOptions::default());
    let cut_off = drain.cut_off();
    let (address, served) = serve_until(service, drain).await;
    let client = connect(address).await;
    let mut server = open_watch(&client, "").await;
    let mut known = open_watch(&client, "a").await;
    let mut unknown = open_watch(&client, "b").await;
    server.expect(SERVING).await;
    known.expect(SERVING).await;
    unknown.expect(SERVICE_UNKNOWN).await;

    signal.send(()).expect("the drain waits");
    server.expect(NOT_SERVING).await;
    known.expect(NOT_SERVING).await;
    for mut watch in [server, known, unknown] {
        watch.expect_end(Code::Unavailable).await;
    }
    let served = within("the server to stop", served).await;
    served.expect("no panic").expect("no error");
    assert!(cut_off.now_or_never().is_none(), "it needs no hard end");
    assert_eq!(health.watchers(), 0);
}

#[tokio::test]
async fn a_client_that_reads_slowly_gets_not_serving_before_the_end() {
    let (health, service) = HealthService::new();
    let (signal, signalled) = oneshot::channel();
    let drain = health.drain_on(signalled.map(|_| ()), DrainOptions::default());
    let (address, served) = serve_until(service, drain).await;
    // The window has room for one message, so the second waits until the first was read.
    let endpoint = endpoint(address).initial_stream_window_size(7);
    let client = HealthClient::new(endpoint.connect().await.expect("a connection"));
    let mut watch = open_watch(&client, "").await;
    assert_eq!(check(&client, "").await.expect("known"), SERVING);
    signal.send(()).expect("the drain waits");
    watch.expect(SERVING).await;
    watch.expect(NOT_SERVING).await;
    watch.expect_end(Code::Unavailable).await;
    let served = within("the server to stop", served).await;
    served.expect("no panic").expect("no error");
}

#[tokio::test]
async fn a_client_that_never_reads_is_cut_off() {
    let (health, service) = HealthService::new();
    let options = DrainOptions::default()
        .watchers_timeout(Duration::from_millis(50))
        .calls_timeout(Duration::from_millis(50));
    let (signal, signalled) = oneshot::channel();
    let drain = health.drain_on(signalled.map(|_| ()), options);
    let cut_off = drain.cut_off();
    let (address, mut served) = serve_until(service, drain).await;
    // Without a window the server cannot send a byte of a message.
    let endpoint = endpoint(address).initial_stream_window_size(0);
    let client = HealthClient::new(endpoint.connect().await.expect("a connection"));
    let _watch = open_watch(&client, "").await;
    signal.send(()).expect("the drain waits");
    let ended = async {
        tokio::select! {
            _ = &mut served => panic!("the server stops by itself"),
            () = cut_off => {}
        }
    };
    within("the cut-off", ended).await;
    assert_eq!(health.watchers(), 1, "its stream cannot end");
    served.abort();
}
