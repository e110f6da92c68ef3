//! Who may open a stream, on a connection that is real.

use std::{future::poll_fn, pin::pin, time::Duration};

use futures_util::FutureExt;
use h2::server;

use super::{
    Connection, Queue, Stage, assert_usable, connected_to, open, read, slots_taken, soon, taken,
    unary,
    wire::{
        ACK, HEADERS, MAX_CONCURRENT_STREAMS, RST_STREAM, SETTINGS, wire_frame, wired, wired_to,
    },
};
use crate::transport::OutgoingRequest;

/// A peer that allows `limit` streams.
fn limited(limit: u32) -> server::Builder {
    let mut settings = server::Builder::new();
    settings.max_concurrent_streams(limit);
    settings
}

async fn limit_becomes(connection: &Connection, limit: usize) {
    let mut stage = connection.stage();
    let there = soon(stage.wait_for(|stage| *stage == Stage::Open { limit })).await;
    assert!(there.is_ok());
}

#[tokio::test(start_paused = true)]
async fn at_a_limit_of_one_the_second_call_waits_for_the_first() {
    let queue = Queue::new();
    let (connection, mut wire) = wired_to(&queue, 1).await;
    let first = open(&connection, unary("")).await;
    assert!(connection.admit().is_none());

    let mut ticket = queue.join();
    connection.serve_queue();
    assert!((&mut ticket).now_or_never().is_none());

    let stream = wire.next_request().await;
    wire.answer(stream, b"done").await;
    let mut body = soon(first).await.expect("headers").into_body();
    let admitted = taken(&mut ticket, &connection).await;
    read(&mut body)
        .await
        .expect("a body, read after its stream has ended");

    assert!(*admitted.connection() == connection);
    assert!(connection.admit().is_none(), "the ticket has the only slot");
    let mut second = OutgoingRequest::new(unary(""));
    second.prefetch().await.expect("a sound body");
    let second = admitted.open(&mut second).expect("an open stream");
    let stream = wire.next_request().await;
    wire.answer(stream, b"done").await;
    soon(second).await.map(drop).expect("headers");
    assert_eq!(connection.streams(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_cancelled_calls_slot_goes_to_the_one_that_waits() {
    let queue = Queue::new();
    let (connection, _wire) = wired_to(&queue, 1).await;
    let first = open(&connection, unary("")).await;
    let mut ticket = queue.join();
    connection.serve_queue();
    drop(first);
    assert!(connection.admit().is_none(), "the peer does not know yet");
    drop(taken(&mut ticket, &connection).await);
    assert_eq!(connection.streams(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_limit_of_zero_admits_nobody_until_it_is_raised() {
    let queue = Queue::new();
    let (connection, mut wire) = wired_to(&queue, 0).await;
    assert!(connection.admit().is_none());
    let mut ticket = queue.join();
    connection.serve_queue();
    assert!((&mut ticket).now_or_never().is_none());

    wire.settings(&[(MAX_CONCURRENT_STREAMS, 1)]).await;
    let admitted = taken(&mut ticket, &connection).await;
    assert!(connection.admit().is_none(), "one is one");
    drop(admitted);
    assert!(connection.admit().is_some());
}

#[tokio::test(start_paused = true)]
async fn a_limit_lowered_below_what_runs_admits_nobody_until_enough_have_ended() {
    let (connection, mut wire) = wired(3).await;
    let mut running = Vec::new();
    for _ in 0..3 {
        running.push(open(&connection, unary("")).await);
        wire.next_request().await;
    }
    wire.settings(&[(MAX_CONCURRENT_STREAMS, 1)]).await;
    limit_becomes(&connection, 1).await;
    for left in [2, 1, 0] {
        assert!(connection.admit().is_none());
        running.pop();
        slots_taken(&connection, left).await;
    }
    assert!(connection.admit().is_some());
}

#[tokio::test(start_paused = true)]
async fn a_connection_that_is_not_pickable_admits_no_call() {
    let queue = Queue::new();
    let (connection, _wire) = wired_to(&queue, 100).await;
    connection.set_pickable(false);
    assert!(connection.admit().is_none());
    let mut ticket = pin!(queue.join());
    connection.serve_queue();
    assert!(ticket.as_mut().now_or_never().is_none());
    connection.set_pickable(true);
    soon(ticket).await;
}

#[tokio::test(start_paused = true)]
async fn twenty_thousand_tickets_left_on_a_full_connection_leave_nothing() {
    let queue = Queue::new();
    let (connection, _wire) = wired_to(&queue, 1).await;
    let running = connection.admit().expect("a slot");
    let places: Vec<_> = (0..20_000)
        .map(|_| {
            let ticket = queue.join();
            connection.serve_queue();
            ticket
        })
        .collect();
    // The slot goes to the first ticket, from there to the next, and so on.
    drop(running);
    assert_eq!(connection.streams(), 1);
    drop(places);
    assert!(queue.is_empty());
    assert_eq!(connection.streams(), 0);
    assert!(connection.admit().is_some());
}

#[tokio::test(start_paused = true)]
async fn twenty_thousand_cancelled_calls_leave_nothing() {
    let (connection, mut peer) = connected_to(&limited(1_000)).await;
    for _ in 0..20 {
        let mut calls = Vec::new();
        let mut at_peer = Vec::new();
        for _ in 0..1_000 {
            calls.push(open(&connection, unary("")).await);
            at_peer.push(peer.next_call().await);
        }
        assert!(connection.admit().is_none());
        drop(calls);
        slots_taken(&connection, 0).await;
        at_peer.last_mut().expect("a call").reset().await;
    }
    assert_usable(&connection, &mut peer).await;
}

/// `h2` would keep a call that never got a stream; here there is none to keep.
#[tokio::test(start_paused = true)]
async fn a_peer_never_sees_more_streams_than_it_allows() {
    let queue = Queue::new();
    let (connection, mut wire) = wired_to(&queue, 2).await;
    let mut running = std::collections::HashSet::new();
    for _ in 0..1_000 {
        let mut ticket = queue.join();
        connection.serve_queue();
        let admitted = taken(&mut ticket, &connection).await;
        let mut request = OutgoingRequest::new(unary(""));
        request.prefetch().await.expect("a sound body");
        drop(admitted.open(&mut request));
        loop {
            let frame = wire.read().await.expect("an open connection");
            match frame.kind {
                HEADERS => assert!(running.insert(frame.stream)),
                RST_STREAM => assert!(running.remove(&frame.stream)),
                _ => {}
            }
            assert!(running.len() <= 2, "{running:?}");
            if frame.kind == RST_STREAM {
                break;
            }
        }
        if connection.admit().is_none() {
            // It is asked whether it reads.
            wire.read_until(SETTINGS).await;
            wire.write(&wire_frame(SETTINGS, ACK, 0, &[])).await;
        }
    }
    let last = open(&connection, unary("")).await;
    let stream = wire.next_request().await;
    assert_eq!(stream, 2_001);
    wire.answer(stream, b"").await;
    soon(last).await.map(drop).expect("headers");
}

#[tokio::test(start_paused = true)]
async fn two_connections_serve_one_queue() {
    let queue = Queue::new();
    let (first, _first_wire) = wired_to(&queue, 1).await;
    let (second, _second_wire) = wired_to(&queue, 1).await;
    let busy = [first.admit(), second.admit()];
    let ticket = queue.join();
    first.serve_queue();
    second.serve_queue();
    let [_first_goes_on, second_ends] = busy;
    drop(second_ends);
    assert!(*soon(ticket).await.connection() == second);
}

#[tokio::test(start_paused = true)]
async fn connections_dialled_alike_are_not_equal() {
    let (one, _one_wire) = wired(1).await;
    let (other, _other_wire) = wired(1).await;
    assert!(one == one.clone());
    assert!(one != other);
}

/// A slot freed, a newcomer and a reservation look at each other's counters from
/// different threads; a wake-up lost between them would leave someone waiting.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn nobody_is_forgotten_when_threads_race_for_the_slots() {
    const ROUNDS: usize = 5_000;
    let queue = Queue::new();
    let (connection, _wire) = wired_to(&queue, 2).await;
    let racers: Vec<_> = (0..8)
        .map(|racer| {
            let (queue, connection) = (queue.clone(), connection.clone());
            tokio::spawn(async move {
                for round in 0..ROUNDS {
                    if racer == 0 {
                        drop(connection.reserve().await);
                        continue;
                    }
                    let mut ticket = match connection.admit() {
                        Some(_admitted) => continue,
                        None => queue.join(),
                    };
                    connection.serve_queue();
                    // Every so often one gives up, served or not.
                    if (round + racer) % 7 != 0 {
                        let serve = || connection.serve_queue();
                        poll_fn(|cx| ticket.poll_and_serve(cx, serve)).await;
                    }
                }
            })
        })
        .collect();
    let race = futures_util::future::join_all(racers);
    let finished = tokio::time::timeout(Duration::from_secs(60), race).await;
    for racer in finished.expect("nobody waits for ever") {
        racer.expect("no panic");
    }
    assert_eq!(connection.streams(), 0);
    assert!(queue.is_empty());
}
