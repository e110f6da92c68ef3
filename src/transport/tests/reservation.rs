//! The slot that the `Watch` keeps.

use std::pin::pin;

use futures_util::FutureExt;

use super::{
    Queue, open, read, soon, unary,
    wire::{MAX_CONCURRENT_STREAMS, wired, wired_to},
};
use crate::transport::Outgoing;

#[tokio::test(start_paused = true)]
async fn a_reservation_waits_for_a_limit_above_zero() {
    let (connection, mut wire) = wired(0).await;
    connection.offer(false);
    let mut reserving = pin!(connection.reserve());
    assert!(reserving.as_mut().now_or_never().is_none());
    wire.settings(&[(MAX_CONCURRENT_STREAMS, 1)]).await;
    let _reservation = soon(reserving).await;
    assert_eq!(connection.streams(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_reservation_keeps_its_slot_from_one_stream_to_the_next() {
    let (connection, mut wire) = wired(2).await;
    let reservation = connection.reserve().await;
    for _ in 0..2 {
        let mut watch = Outgoing::new(unary("watch"));
        watch.prefetch().await.expect("a sound body");
        let watch = reservation.lend().open(&mut watch).expect("open");
        let stream = wire.next_request().await;
        wire.answer(stream, b"SERVING").await;
        let mut body = soon(watch).await.expect("headers").into_body();
        read(&mut body).await.expect("a body");
        assert_eq!(connection.streams(), 1);
    }
    let call = connection.admit().expect("the other slot");
    assert!(connection.admit().is_none());
    drop((call, reservation));
    assert_eq!(connection.streams(), 0);
}

/// Health checking may begin on a connection that calls fill already, and go on
/// filling.
#[tokio::test(start_paused = true)]
async fn a_reservation_gets_the_next_free_slot_before_any_call() {
    let queue = Queue::new();
    let (connection, _wire) = wired_to(&queue, 1).await;
    let running = open(&connection, unary("")).await;
    let mut place = pin!(queue.join());
    connection.serve_queue();
    let mut reserving = pin!(connection.reserve());
    assert!(reserving.as_mut().now_or_never().is_none());
    drop(running);
    let reservation = soon(reserving).await;
    assert!(place.as_mut().now_or_never().is_none());
    assert!(connection.admit().is_none());
    drop(reservation);
    soon(place).await;
}

#[tokio::test(start_paused = true)]
async fn a_reservation_given_up_holds_back_nothing() {
    let queue = Queue::new();
    let (connection, _wire) = wired_to(&queue, 1).await;
    let running = open(&connection, unary("")).await;
    {
        let mut reserving = pin!(connection.reserve());
        assert!(reserving.as_mut().now_or_never().is_none());
        drop(running);
        assert!(connection.admit().is_none(), "it is owed the slot");
    }
    assert!(connection.admit().is_some());

    let place = queue.join();
    let running = connection.admit().expect("a slot");
    {
        let mut reserving = pin!(connection.reserve());
        assert!(reserving.as_mut().now_or_never().is_none());
        drop(running);
    }
    soon(place).await;
}
