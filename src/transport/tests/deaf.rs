//! Peers that stop reading.

use std::time::Duration;

use tokio::{
    io::{AsyncReadExt, duplex},
    task::yield_now,
    time::{Instant, advance, sleep},
};

use super::{
    Connection, closes, context, data, endpoint_over, open, slots_taken, soon, streaming, taken,
    unary,
    wire::{
        ACK, HEADERS, RST_STREAM, SETTINGS, Wire, shake_hands, wire_frame, wired, wired_by,
        wired_through, wired_to,
    },
};
use crate::transport::Queue;

const MESSAGE: usize = 16 << 10;

/// Until the last byte of the peer's is the end of an answer.
async fn answered(connection: &Connection, wire: &mut Wire) {
    let call = open(connection, unary("")).await;
    let stream = wire.next_request().await;
    wire.answer(stream, b"").await;
    soon(call).await.map(drop).expect("headers");
}

// D265
#[tokio::test(start_paused = true)]
async fn after_16_cancelled_calls_a_silent_peer_gets_none_until_it_says_something() {
    let (connection, mut wire) = wired(100).await;
    answered(&connection, &mut wire).await;
    for cancelled in 1..=16 {
        assert!(connection.admit().is_some(), "{cancelled}");
        drop(open(&connection, unary("")).await);
        slots_taken(&connection, 0).await;
    }
    assert!(connection.admit().is_none());
    // It is asked, by SETTINGS that change nothing.
    let question = wire.read_until(SETTINGS).await;
    assert_eq!(question.flags & ACK, 0);
}

// D265
#[tokio::test(start_paused = true)]
async fn a_call_that_waits_for_a_silent_peer_goes_when_it_says_something() {
    let queue = Queue::new();
    let (connection, mut wire) = wired_to(&queue, 100).await;
    answered(&connection, &mut wire).await;
    for _ in 0..16 {
        drop(open(&connection, unary("")).await);
    }
    assert!(connection.admit().is_none());
    let mut ticket = queue.join();
    connection.serve_queue();
    wire.read_until(SETTINGS).await;
    wire.write(&wire_frame(SETTINGS, ACK, 0, &[])).await;
    drop(taken(&mut ticket, &connection).await);
    assert!(connection.admit().is_some());
}

// D265
#[tokio::test(start_paused = true)]
async fn streams_are_reset_16_at_a_time() {
    let (connection, mut wire) = wired(100).await;
    answered(&connection, &mut wire).await;
    let mut calls = Vec::new();
    for _ in 0..40 {
        calls.push(open(&connection, unary("")).await);
    }
    drop(calls);
    assert_eq!(connection.calls_in_flight(), 0);
    for left in [24, 8, 0] {
        slots_taken(&connection, left).await;
        assert_eq!(connection.admit().is_some(), left == 0);
        if left > 0 {
            wire.read_until(SETTINGS).await;
            wire.write(&wire_frame(SETTINGS, ACK, 0, &[])).await;
        }
    }
}

// D266
#[tokio::test(start_paused = true)]
async fn a_mebibyte_of_requests_waits_for_a_peer_that_takes_nothing_and_no_more() {
    let (connection, mut wire) = wired_through(4 << 10, u32::MAX).await;
    let mut calls = Vec::new();
    while connection.admit().is_some() {
        calls.push(open(&connection, unary(vec![0; MESSAGE])).await);
        assert!(
            calls.len() <= 64,
            "{} calls are more than 1 MiB",
            calls.len()
        );
        yield_now().await;
    }
    assert!(
        calls.len() >= 62,
        "{} calls are less than 1 MiB",
        calls.len()
    );
    // Once it takes what waits, calls go on.
    for _ in 0..calls.len() {
        wire.next_request().await;
    }
    slots_taken(&connection, calls.len()).await;
    while connection.admit().is_none() {
        wire.read().await.expect("an open connection");
    }
}

// D266
#[tokio::test(start_paused = true)]
async fn large_requests_that_wait_hold_back_no_other_call() {
    let (connection, _wire) = wired_through(4 << 10, u32::MAX).await;
    let mut calls = Vec::new();
    for _ in 0..15 {
        calls.push(open(&connection, unary(vec![0; 10 << 20])).await);
        yield_now().await;
        assert!(connection.admit().is_some());
    }
}

// D266
#[tokio::test(start_paused = true)]
async fn requests_that_wait_for_their_windows_hold_back_no_other_call() {
    let (connection, mut wire) = wired(u32::MAX).await;
    let mut calls = Vec::new();
    for _ in 0..100 {
        calls.push(open(&connection, unary(vec![0; 1 << 20])).await);
        wire.next_request().await;
    }
    slots_taken(&connection, 100).await;
    assert!(connection.admit().is_some());
}

// D267
#[tokio::test(start_paused = true)]
async fn a_connection_ends_when_nothing_could_be_written_for_20_s() {
    let (connection, _wire) = wired_through(4 << 10, 100).await;
    let call = open(&connection, unary(vec![0; MESSAGE])).await;
    let began = Instant::now();
    let why = "write timeout: the peer has read nothing for 20s";
    assert!(closes(&connection).await.ends_with(why));
    assert_eq!(began.elapsed().as_secs(), 20);
    let failed = soon(call)
        .await
        .map(drop)
        .expect_err("the connection is gone");
    assert!(
        failed.error.message().contains(why),
        "{}",
        failed.error.message()
    );
}

// D267
#[tokio::test(start_paused = true)]
async fn a_peer_that_takes_a_little_now_and_then_is_not_given_up() {
    let (ours, theirs) = duplex(4 << 10);
    let endpoint = endpoint_over(ours).write_timeout(Some(Duration::from_secs(1)));
    let (connection, mut wire) = shake_hands(endpoint, theirs, context(&Queue::new()), 100).await;
    let call = open(&connection, unary(vec![0; 60 << 10])).await;
    for _ in 0..10 {
        advance(Duration::from_millis(900)).await;
        let mut some = [0; 4 << 10];
        soon(wire.0.read_exact(&mut some)).await.expect("more");
    }
    drop(call);
}

// D267
#[tokio::test(start_paused = true)]
async fn without_a_write_timeout_a_peer_may_take_its_time() {
    let context = context(&Queue::new());
    let (connection, mut wire) =
        wired_by(|endpoint| endpoint.write_timeout(None), context, 100).await;
    let (frames, request) = streaming();
    let _call = open(&connection, request).await;
    for _ in 0..64 {
        frames.send(data(&[0; MESSAGE])).expect("a reader");
    }
    sleep(Duration::from_secs(3_600)).await;
    wire.read_until(HEADERS).await;
    assert!(connection.admit().is_some());
}

// D268
#[tokio::test(start_paused = true)]
async fn a_peer_that_wakes_up_does_not_find_what_was_cancelled_meanwhile() {
    for (cancelled, is_too_many) in [(16, false), (17, true)] {
        let (connection, mut wire) = wired_through(4 << 10, 100).await;
        let mut calls = Vec::new();
        for _ in 0..20 {
            calls.push(open(&connection, unary(vec![0; MESSAGE])).await);
            yield_now().await;
        }
        // Of the first the peer knows.
        calls.drain(1..=cancelled);
        let mut resets = 0;
        while resets < cancelled
            && let Some(frame) = wire.read_or_cut().await
        {
            resets += usize::from(frame.kind == RST_STREAM);
        }
        match is_too_many {
            false => assert_eq!(resets, cancelled),
            true => {
                assert_eq!(resets, 0);
                let why = closes(&connection).await;
                let because = "17 calls were cancelled while the peer read nothing";
                assert!(why.contains(because), "{why}");
            }
        }
    }
}
