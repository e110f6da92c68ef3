//! How many calls a backend has.

use super::{
    BackendContext, Peer, Queue, alone, connected_as, context, data, frame, open, read, soon,
    streaming, unary,
};
use crate::{
    transport::{Connection, OutgoingRequest},
    util::in_flight::InFlight,
};

async fn counted() -> (InFlight, Connection, Peer) {
    let context = alone();
    let in_flight = context.in_flight.clone();
    let (connection, peer) = connected_as(context).await;
    (in_flight, connection, peer)
}

#[tokio::test(start_paused = true)]
async fn a_call_is_in_flight_from_its_slot_to_the_end_of_its_body() {
    let (in_flight, connection, mut peer) = counted().await;
    assert_eq!(in_flight.now(), 0);
    let first = open(&connection, unary("")).await;
    let mut first_at_peer = peer.next_call().await;
    assert_eq!(in_flight.now(), 1);
    let second = connection.admit().expect("a free slot");
    assert_eq!(in_flight.now(), 2);
    drop(second);
    assert_eq!(in_flight.now(), 1, "given up before it was sent");

    let mut answers = first_at_peer.answer();
    let mut body = soon(first).await.expect("headers").into_body();
    answers
        .send_data("all".into(), false)
        .expect("the stream is open");
    frame(&mut body).await.expect("a frame").expect("data");
    assert_eq!(in_flight.now(), 1, "the stream has not ended");
    answers
        .send_trailers(super::ok())
        .expect("the stream is open");
    read(&mut body).await.expect("a body");
    assert_eq!(in_flight.now(), 0, "though the body lives");
}

#[tokio::test(start_paused = true)]
async fn a_call_that_is_cancelled_or_fails_is_not_in_flight() {
    let (in_flight, connection, mut peer) = counted().await;
    let cancelled = open(&connection, unary("")).await;
    peer.next_call().await;
    drop(cancelled);
    assert_eq!(in_flight.now(), 0);

    let (frames, request) = streaming();
    let failing = open(&connection, request).await;
    let mut answers = peer.next_call().await.answer();
    let mut body = soon(failing).await.expect("headers").into_body();
    frames.send(data(b"more")).expect("a pump");
    assert_eq!(in_flight.now(), 1);
    answers.send_reset(h2::Reason::INTERNAL_ERROR);
    read(&mut body).await.expect_err("reset");
    assert_eq!(in_flight.now(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_watch_is_no_call() {
    let (in_flight, connection, mut peer) = counted().await;
    let reservation = connection.reserve().await;
    let mut watch = OutgoingRequest::new(unary("watch"));
    watch.prefetch().await.expect("a sound body");
    let watch = reservation.lend().open(&mut watch).expect("open");
    let _at_peer = peer.next_call().await;
    assert_eq!((connection.streams(), in_flight.now()), (1, 0));
    drop((watch, reservation));
    assert_eq!((connection.streams(), in_flight.now()), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn a_call_that_waited_in_the_queue_counts_where_it_was_admitted() {
    let queue = Queue::new();
    let context = context(&queue);
    let in_flight = context.in_flight.clone();
    let ticket = queue.join();
    let (connection, _peer) = connected_as(context).await;
    let admitted = soon(ticket).await;
    assert_eq!(in_flight.now(), 1);
    drop(admitted);
    assert_eq!((connection.streams(), in_flight.now()), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn the_next_connection_to_a_backend_goes_on_counting() {
    let before = alone();
    let after = BackendContext::clone(&before);
    let in_flight = before.in_flight.clone();
    let (old, _old_peer) = connected_as(before).await;
    let (new, _new_peer) = connected_as(after).await;
    let _draining = open(&old, unary("")).await;
    let _call = open(&new, unary("")).await;
    assert_eq!(in_flight.now(), 2);
}
