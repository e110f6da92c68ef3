//! The bounds of an endpoint on its calls, in paused time.

use std::{sync::Arc, time::Duration};

use futures_util::FutureExt;
use tokio::time::Instant;

use super::{
    BackendContext, CallSlot, Connection, Endpoint, Queue, context, soon, taken,
    wire::{Wire, wired_by},
};
use crate::transport::CallLimits;

/// A backend of its own, with the bounds of an endpoint.
fn bounded(queue: &Arc<Queue<CallSlot>>, options: fn(Endpoint) -> Endpoint) -> BackendContext {
    let endpoint = options(Endpoint::from_static("http://backend.test"));
    BackendContext {
        channel: "test".into(),
        limits: CallLimits::of(&endpoint),
        ..context(queue)
    }
}

async fn connected(context: &BackendContext) -> (Connection, Wire) {
    wired_by(|endpoint| endpoint, context.clone(), 100).await
}

#[tokio::test(start_paused = true)]
async fn calls_beyond_the_concurrency_limit_wait_for_one_to_end() {
    let queue = Queue::new();
    let backend = bounded(&queue, |endpoint| endpoint.concurrency_limit(2));
    let (connection, _wire) = connected(&backend).await;
    let (first, second) = (connection.admit(), connection.admit());
    assert!(first.is_some() && second.is_some());
    assert!(connection.admit().is_none());

    let mut ticket = queue.join();
    connection.serve_queue();
    assert!((&mut ticket).now_or_never().is_none());
    drop(first);
    let third = soon(ticket).await;
    assert!(connection.admit().is_none());
    drop((second, third));
    assert!(connection.admit().is_some());
}

#[tokio::test(start_paused = true)]
async fn what_is_reserved_is_no_call() {
    let backend = bounded(&Queue::new(), |endpoint| endpoint.concurrency_limit(1));
    let (connection, _wire) = connected(&backend).await;
    let _watch = soon(connection.reserve()).await;
    assert!(connection.admit().is_some());
}

#[tokio::test(start_paused = true)]
async fn a_backend_has_its_bound_over_all_its_connections() {
    let queue = Queue::new();
    let backend = bounded(&queue, |endpoint| endpoint.concurrency_limit(1));
    let (before, _wire) = connected(&backend).await;
    let call = before.admit().expect("the first");
    before.stop_new_calls();
    let (now, _wire) = connected(&backend).await;
    assert!(now.admit().is_none(), "one is still going on");

    let mut ticket = queue.join();
    now.serve_queue();
    assert!((&mut ticket).now_or_never().is_none());
    drop(call);
    assert!(soon(ticket).await.connection() == &now);
}

// D171
#[tokio::test(start_paused = true)]
async fn room_under_the_bound_is_for_whichever_connection_has_a_stream() {
    let queue = Queue::new();
    let backend = bounded(&queue, |endpoint| endpoint.concurrency_limit(2));
    let (wide, _wire) = connected(&backend).await;
    let (narrow, _wire) = wired_by(|endpoint| endpoint, backend.clone(), 1).await;
    let _goes_on = narrow.admit().expect("its only stream");
    let ends = wide.admit().expect("one of many");

    let mut ticket = queue.join();
    for connection in [&wide, &narrow] {
        connection.serve_queue();
    }
    assert!((&mut ticket).now_or_never().is_none());
    drop(ends);
    assert!(soon(ticket).await.connection() == &wide);
}

#[tokio::test(start_paused = true)]
async fn calls_beyond_the_rate_wait_for_the_next_period() {
    let queue = Queue::new();
    let backend = bounded(&queue, |endpoint| {
        endpoint.rate_limit(2, Duration::from_secs(60))
    });
    let (connection, _wire) = connected(&backend).await;
    let start = Instant::now();
    for _ in 0..2 {
        assert!(connection.admit().is_some(), "and ends at once");
    }
    assert!(connection.admit().is_none());

    let waiting: Vec<_> = (0..5).map(|_| queue.join()).collect();
    connection.serve_queue();
    let mut minutes = Vec::new();
    for mut ticket in waiting {
        drop(taken(&mut ticket, &connection).await);
        minutes.push(start.elapsed().as_secs() / 60);
    }
    assert_eq!(minutes, [1, 1, 2, 2, 3]);
}

#[tokio::test(start_paused = true)]
async fn a_period_begins_with_its_first_call() {
    let backend = bounded(&Queue::new(), |endpoint| {
        endpoint.rate_limit(1, Duration::from_secs(60))
    });
    let (connection, _wire) = connected(&backend).await;
    tokio::time::advance(Duration::from_secs(90)).await;
    assert!(connection.admit().is_some());
    tokio::time::advance(Duration::from_secs(59)).await;
    assert!(connection.admit().is_none());
    tokio::time::advance(Duration::from_secs(1)).await;
    assert!(connection.admit().is_some());
}

#[test]
#[should_panic(expected = "must be at least 1 call")]
fn a_rate_of_nothing_is_refused() {
    let _ = Endpoint::from_static("http://backend.test").rate_limit(0, Duration::from_secs(1));
}
