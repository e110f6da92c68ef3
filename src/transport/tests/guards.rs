//! Traffic that is legal, and that `h2`'s own guards end connections over; and what
//! has to be left of the guards.

use tokio::task::yield_now;

use super::{
    closes, open, read, slots_taken, soon, unary,
    wire::{self, ACK, DATA, PRIORITY, SETTINGS, wire_frame, wired},
};

/// A reader that takes its time over a stream of small messages. The peer may
/// send as many as the window holds, one to a frame; `h2` by default allows
/// for 2.5 MiB of overhead in all, about 11,000 such frames.
#[tokio::test(start_paused = true)]
async fn a_slow_reader_of_small_messages_keeps_its_connection() {
    check_slow_reader(50_000, &[b'm'; 20]).await;
}

/// As many as the window holds of the smallest messages there are.
#[tokio::test(start_paused = true)]
async fn a_slow_reader_of_empty_messages_keeps_its_connection() {
    check_slow_reader(419_000, &[0; 5]).await;
}

async fn check_slow_reader(messages: usize, message: &[u8]) {
    let (connection, mut wire) = wired(100).await;
    let slow = open(&connection, unary("")).await;
    assert_eq!(wire.next_request().await, 1);
    wire.headers(1).await;
    let mut body = soon(slow).await.expect("headers").into_body();
    let frame = wire_frame(DATA, 0, 1, message);
    for _ in 0..messages / 1_000 {
        wire.write(&frame.repeat(1_000)).await;
    }
    wire.write(&wire::trailers(1)).await;

    // An answer behind all of that on the same wire: everything is here.
    let next = open(&connection, unary("")).await;
    assert_eq!(wire.next_request().await, 3);
    wire.answer(3, b"").await;
    soon(next).await.map(drop).expect("the connection is up");

    let (whole, trailers) = read(&mut body).await.expect("every message");
    assert_eq!(whole.len(), message.len() * messages);
    assert_eq!(trailers, Some(super::ok()));
}

/// Calls given up together, as at a common deadline, while their answers are
/// under way. `h2` by default remembers 50 of them, takes the answers to the
/// others for errors of the peer, and at 1,024 errors ends the connection.
#[tokio::test(start_paused = true)]
async fn fifteen_hundred_calls_cancelled_at_once_keep_the_connection() {
    check_cancelled_at_once(1_500).await;
}

#[tokio::test(start_paused = true)]
async fn more_calls_than_it_remembers_cancelled_at_once_keep_the_connection() {
    check_cancelled_at_once(12_000).await;
}

async fn check_cancelled_at_once(calls: usize) {
    let (connection, mut wire) = wired(100_000).await;
    let mut running = Vec::new();
    let mut streams = Vec::new();
    for _ in 0..calls {
        running.push(open(&connection, unary("")).await);
        streams.push(wire.next_request().await);
    }
    drop(running);
    // A peer that reads nothing meanwhile cannot know.
    for stream in streams {
        wire.answer(stream, b"too late").await;
    }
    slots_taken(&connection, 0).await;
    while connection.admit().is_none() {
        // It is asked whether it reads.
        wire.read_until(SETTINGS).await;
        wire.write(&wire_frame(SETTINGS, ACK, 0, &[])).await;
        yield_now().await;
    }
    let next = open(&connection, unary("")).await;
    let stream = wire.next_request().await;
    wire.answer(stream, b"in time").await;
    let mut body = soon(next).await.expect("the connection is up").into_body();
    assert_eq!(read(&mut body).await.expect("a body").0, "in time");
    assert_eq!(connection.streams(), 0);
}

/// `h2` charges such frames to its budget and never credits them, so that with
/// any bound the connection ends one day, whatever runs on it then.
#[tokio::test(start_paused = true)]
async fn late_frames_of_cancelled_streams_do_not_add_up() {
    let (connection, mut wire) = wired(100).await;
    for _ in 0..100 {
        let cancelled = open(&connection, unary("")).await;
        let stream = wire.next_request().await;
        drop(cancelled);
        let message = wire_frame(DATA, 0, stream, &[b'm'; 20]);
        wire.headers(stream).await;
        wire.write(&message.repeat(5_000)).await;
    }
    let next = open(&connection, unary("")).await;
    let stream = wire.next_request().await;
    wire.answer(stream, b"in time").await;
    soon(next).await.map(drop).expect("the connection is up");
}

/// Streams that were never opened, each of them an error and something to be told
/// to a peer that does not read.
#[tokio::test(start_paused = true)]
async fn a_peer_that_makes_up_streams_and_does_not_read_loses_the_connection() {
    let (connection, mut wire) = wired(100).await;
    let made_up = |number: u32| {
        let stream = 2 * (number + 1);
        let on_itself = [&stream.to_be_bytes()[..], &[0]].concat();
        wire_frame(PRIORITY, 0, stream, &on_itself)
    };
    for thousand in 0..51 {
        let numbers = 1_000 * thousand..1_000 * (thousand + 1);
        wire.write(&numbers.flat_map(made_up).collect::<Vec<_>>())
            .await;
    }
    let why = closes(&connection).await;
    assert!(why.contains("excessive load"), "{why}");
}
