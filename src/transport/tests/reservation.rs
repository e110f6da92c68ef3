//! The slot that the `Watch` keeps.

use std::{future::poll_fn, pin::pin};

use futures_util::FutureExt;

use super::{
    CallSlot, Connection, Queue, Ticket, open, read, slots_taken, soon, taken, unary,
    wire::{MAX_CONCURRENT_STREAMS, wired, wired_to},
};
use crate::transport::{OutgoingRequest, Reserved};

#[tokio::test(start_paused = true)]
async fn a_reservation_waits_for_a_limit_above_zero() {
    let (connection, mut wire) = wired(0).await;
    connection.set_pickable(false);
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
        let mut watch = OutgoingRequest::new(unary("watch"));
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
    let mut ticket = pin!(queue.join());
    connection.serve_queue();
    let mut reserving = pin!(connection.reserve());
    assert!(reserving.as_mut().now_or_never().is_none());
    drop(running);
    let reservation = soon(reserving).await;
    assert!(ticket.as_mut().now_or_never().is_none());
    assert!(connection.admit().is_none());
    drop(reservation);
    soon(ticket).await;
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
        slots_taken(&connection, 0).await;
        assert!(connection.admit().is_none(), "it is owed the slot");
    }
    assert!(connection.admit().is_some());

    let ticket = queue.join();
    let running = connection.admit().expect("a slot");
    {
        let mut reserving = pin!(connection.reserve());
        assert!(reserving.as_mut().now_or_never().is_none());
        drop(running);
    }
    soon(ticket).await;
}

/// The slot that a call of this connection waits for.
async fn reserved(ticket: &mut Ticket<Reserved>, connection: &Connection) -> CallSlot {
    let slot = soon(poll_fn(|cx| connection.poll_reserved(ticket, cx))).await;
    slot.expect("a slot")
}

// D26
#[tokio::test(start_paused = true)]
async fn who_waits_for_this_connection_comes_before_calls_that_may_use_any() {
    let queue = Queue::new();
    let (connection, _wire) = wired_to(&queue, 1).await;
    let running = open(&connection, unary("")).await;
    let mut call = queue.join();
    connection.serve_queue();
    let mut first = connection.reserve_call();
    let mut second = connection.reserve_call();
    drop(running);
    let slot = reserved(&mut first, &connection).await;
    assert!((&mut second).now_or_never().is_none());
    assert!((&mut call).now_or_never().is_none());
    drop(slot);
    drop(reserved(&mut second, &connection).await);
    drop(taken(&mut call, &connection).await);
    assert_eq!(connection.streams(), 0);
}

// D26
#[tokio::test(start_paused = true)]
async fn who_waits_for_a_connection_that_goes_hears_why() {
    let (connection, _wire) = wired(1).await;
    let kept = soon(connection.reserve_call()).await.expect("a slot");
    assert!(kept.is_good());
    let waiting = [connection.reserve_call(), connection.reserve_call()];
    connection.set_pickable(false);
    assert!(!kept.is_good(), "calls may not use it now");
    connection.stop_new_calls();
    for ticket in waiting.into_iter().chain([connection.reserve_call()]) {
        let Err(why) = soon(ticket).await else {
            panic!("it takes no new streams");
        };
        assert_eq!(why.text(), "the subchannel was stopped");
    }
}

// D27
#[tokio::test(start_paused = true)]
async fn a_slot_kept_for_a_call_is_no_call_until_there_is_one() {
    let (connection, _wire) = wired(2).await;
    let kept = soon(connection.reserve_call()).await.expect("a slot");
    assert_eq!((connection.streams(), connection.calls_in_flight()), (1, 0));
    let call = kept.into_call();
    assert_eq!((connection.streams(), connection.calls_in_flight()), (1, 1));
    drop(call);
    assert_eq!((connection.streams(), connection.calls_in_flight()), (0, 0));
}
