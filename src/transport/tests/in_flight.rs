//! How many calls a backend has, and which of them count.

use super::{
    BackendContext, Peer, Queue, alone, connected_as, context, data, frame, open, read, soon,
    streaming, unary,
};
use crate::transport::{BackendCalls, CallLimits, Connection, Endpoint, OutgoingRequest, Recorded};

async fn counted() -> (BackendCalls, Connection, Peer) {
    let calls = BackendCalls::new(Recorded::COUNTS);
    let context = BackendContext {
        calls: calls.clone(),
        ..alone()
    };
    let (connection, peer) = connected_as(context).await;
    (calls, connection, peer)
}

/// How many attempts were counted.
fn started(calls: &BackendCalls) -> u64 {
    calls.counts().expect("they are counted").started
}

#[tokio::test(start_paused = true)]
async fn a_call_is_in_flight_from_its_slot_to_the_end_of_its_body() {
    let (calls, connection, mut peer) = counted().await;
    assert_eq!(calls.in_flight(), 0);
    let first = open(&connection, unary("")).await;
    let mut first_at_peer = peer.next_call().await;
    assert_eq!(calls.in_flight(), 1);
    let second = connection.admit().expect("a free slot");
    assert_eq!(calls.in_flight(), 2);
    drop(second);
    assert_eq!(calls.in_flight(), 1, "given up before it was sent");
    assert_eq!(started(&calls), 1, "only what was sent");

    let mut answers = first_at_peer.answer();
    let mut body = soon(first).await.expect("headers").into_body();
    answers
        .send_data("all".into(), false)
        .expect("the stream is open");
    frame(&mut body).await.expect("a frame").expect("data");
    assert_eq!(calls.in_flight(), 1, "the stream has not ended");
    answers
        .send_trailers(super::ok())
        .expect("the stream is open");
    read(&mut body).await.expect("a body");
    assert_eq!(calls.in_flight(), 0, "though the body lives");
}

/// The driver has seen the end of the stream, and has not acted on it yet. Then another thread
/// takes the answer, and lets go of the connection.
#[tokio::test(start_paused = true)]
async fn the_last_call_of_a_connection_that_is_let_go_of_is_not_in_flight() {
    let (calls, connection, mut peer) = counted().await;
    let last = open(&connection, unary("")).await;
    peer.next_call().await;
    assert_eq!(calls.in_flight(), 1);
    assert!(connection.lock_streams().on_reset(1), "the stream is open");
    drop(connection);
    drop(last);
    assert_eq!(calls.in_flight(), 0);
}

/// The same, for the place that it has among the calls that an endpoint allows.
#[tokio::test(start_paused = true)]
async fn the_last_call_of_a_connection_leaves_its_place_to_the_next_connection() {
    let endpoint = Endpoint::from_static("http://a").concurrency_limit(1);
    let context = BackendContext {
        limits: CallLimits::of(&endpoint),
        ..alone()
    };
    let (connection, mut peer) = connected_as(context.clone()).await;
    let (next, _its_peer) = connected_as(context).await;
    let last = open(&connection, unary("")).await;
    peer.next_call().await;
    assert!(next.admit().is_none(), "1 call at a time");
    assert!(connection.lock_streams().on_reset(1), "the stream is open");
    drop(connection);
    drop(last);
    assert!(next.admit().is_some());
}

#[tokio::test(start_paused = true)]
async fn a_call_that_is_cancelled_or_fails_is_not_in_flight() {
    let (calls, connection, mut peer) = counted().await;
    let cancelled = open(&connection, unary("")).await;
    peer.next_call().await;
    drop(cancelled);
    assert_eq!(calls.in_flight(), 0);

    let (frames, request) = streaming();
    let failing = open(&connection, request).await;
    let mut answers = peer.next_call().await.answer();
    let mut body = soon(failing).await.expect("headers").into_body();
    frames.send(data(b"more")).expect("a pump");
    assert_eq!(calls.in_flight(), 1);
    answers.send_reset(h2::Reason::INTERNAL_ERROR);
    read(&mut body).await.expect_err("reset");
    assert_eq!(calls.in_flight(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_watch_is_no_call() {
    let (calls, connection, mut peer) = counted().await;
    let reservation = connection.reserve().await;
    let mut watch = OutgoingRequest::new(unary("watch"));
    watch.prefetch().await.expect("a sound body");
    let watch = reservation.lend().open(&mut watch).expect("open");
    let _at_peer = peer.next_call().await;
    assert_eq!((connection.streams(), calls.in_flight()), (1, 0));
    drop((watch, reservation));
    assert_eq!((connection.streams(), calls.in_flight()), (0, 0));
    assert_eq!(started(&calls), 0);
}

#[tokio::test(start_paused = true)]
async fn a_call_that_waited_in_the_queue_counts_where_it_was_admitted() {
    let queue = Queue::new();
    let context = context(&queue);
    let calls = context.calls.clone();
    let ticket = queue.join();
    let (connection, _peer) = connected_as(context).await;
    let admitted = soon(ticket).await;
    assert_eq!(calls.in_flight(), 1);
    drop(admitted);
    assert_eq!((connection.streams(), calls.in_flight()), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn the_next_connection_to_a_backend_goes_on_counting() {
    let before = alone();
    let after = BackendContext::clone(&before);
    let calls = before.calls.clone();
    let (old, _old_peer) = connected_as(before).await;
    let (new, _new_peer) = connected_as(after).await;
    let _draining = open(&old, unary("")).await;
    let _call = open(&new, unary("")).await;
    assert_eq!(calls.in_flight(), 2);
}
