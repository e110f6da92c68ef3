//! PINGs to a silent peer, in paused time.

use std::time::Duration;

use tokio::time::{Instant, timeout};

use super::{
    BackendContext, Endpoint, KeepaliveThrottle, alone, closes, open, read, soon, unary,
    wire::{WINDOW_UPDATE, Wire, wire_frame, wired, wired_by},
};
use crate::{error::Cause, transport::Connection};

const MANY: u32 = 100;

fn seconds(n: u64) -> Duration {
    Duration::from_secs(n)
}

/// PINGs after a minute, and ten seconds to answer.
fn every_minute(endpoint: Endpoint) -> Endpoint {
    endpoint
        .http2_keep_alive_interval(seconds(60))
        .keep_alive_timeout(seconds(10))
}

async fn wired_with(options: fn(Endpoint) -> Endpoint) -> (Connection, Wire) {
    wired_by(options, alone(), MANY).await
}

/// That no PING comes for most of an hour, after which reading gives up.
async fn assert_no_ping(wire: &mut Wire) {
    let ping = timeout(seconds(3500), wire.next_ping()).await;
    assert!(ping.is_err(), "none was asked for");
}

fn assert_about(took: Duration, expected: Duration) {
    let late = took.checked_sub(expected);
    assert!(
        late.is_some_and(|late| late < seconds(1)),
        "after {took:?} rather than {expected:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn nobody_is_sent_pings_by_default() {
    let (connection, mut wire) = wired(MANY).await;
    let _call = open(&connection, unary("")).await;
    assert_no_ping(&mut wire).await;
}

#[tokio::test(start_paused = true)]
async fn a_silent_peer_with_a_stream_is_sent_one_ping_at_a_time() {
    let (connection, mut wire) = wired_with(every_minute).await;
    let _call = open(&connection, unary("")).await;
    for _ in 0..3 {
        let (ping, took) = wire.next_ping().await;
        assert_about(took, seconds(60));
        wire.answer_ping(&ping).await;
    }
    assert!(connection.stage().borrow().ended().is_none());
}

// M16
#[tokio::test(start_paused = true)]
async fn a_ping_without_an_answer_closes_the_connection_and_says_so() {
    let (connection, mut wire) = wired_with(every_minute).await;
    let call = open(&connection, unary("")).await;
    wire.next_ping().await;
    let started = Instant::now();
    let why = closes(&connection).await;
    assert_about(started.elapsed(), seconds(10));
    let stage = connection.stage();
    let error = stage.borrow().ended().map(Cause::disconnect_error);
    assert_eq!(error, Some("connection timed out"));
    assert_eq!(
        why,
        "disconnected: keepalive ping failed to receive ACK within timeout: the peer sent no bytes \
         within 10s"
    );
    let failed = soon(call).await.err().expect("the connection is gone");
    assert!(
        failed.error.message().contains("keepalive ping failed"),
        "{:?}",
        failed.error
    );
    assert!(!failed.unprocessed, "the peer may have acted on it");
}

#[tokio::test(start_paused = true)]
async fn what_the_peer_sends_is_a_sign_of_life() {
    let (connection, mut wire) = wired_with(every_minute).await;
    let call = open(&connection, unary("")).await;
    let stream = wire.next_request().await;
    let quiet = timeout(seconds(50), wire.next_ping()).await;
    assert!(quiet.is_err());
    wire.headers(stream).await;
    let (_, took) = wire.next_ping().await;
    assert_about(took, seconds(60));
    // No answer to the PING, but other frames: the peer lives.
    for _ in 0..5 {
        let quiet = timeout(seconds(9), wire.read()).await;
        assert!(quiet.is_err(), "one PING at a time");
        let more = wire_frame(WINDOW_UPDATE, 0, 0, &1_u32.to_be_bytes());
        wire.write(&more).await;
    }
    assert!(connection.stage().borrow().ended().is_none());
    drop(call);
    assert!(closes(&connection).await.contains("keepalive"));
}

#[tokio::test(start_paused = true)]
async fn a_connection_without_streams_is_left_in_peace() {
    let (connection, mut wire) = wired_with(every_minute).await;
    assert_no_ping(&mut wire).await;

    let call = open(&connection, unary("")).await;
    let (ping, took) = wire.next_ping().await;
    assert_about(took, Duration::ZERO);
    wire.answer_ping(&ping).await;
    wire.answer(1, b"").await;
    let response = soon(call).await.expect("headers");
    read(&mut response.into_body()).await.expect("a body");
    assert_no_ping(&mut wire).await;
}

#[tokio::test(start_paused = true)]
async fn unless_pings_are_asked_for_while_it_is_idle() {
    let (_connection, mut wire) =
        wired_with(|endpoint| every_minute(endpoint).keep_alive_while_idle(true)).await;
    let (_, took) = wire.next_ping().await;
    assert_about(took, seconds(60));
}

#[tokio::test(start_paused = true)]
async fn less_than_ten_seconds_are_ten() {
    let (connection, mut wire) =
        wired_with(|endpoint| endpoint.http2_keep_alive_interval(seconds(1))).await;
    let _call = open(&connection, unary("")).await;
    let (_, took) = wire.next_ping().await;
    assert_about(took, seconds(10));
}

// D174
#[tokio::test(start_paused = true)]
async fn a_server_that_minds_on_all_its_connections_is_sent_half_as_many() {
    const ENHANCE_YOUR_CALM: u32 = 11;
    let context = alone();
    let mut made = Vec::new();
    for _ in 0..3 {
        let (connection, wire) = wired_by(every_minute, context.clone(), MANY).await;
        let call = open(&connection, unary("")).await;
        made.push((connection, wire, call));
    }
    for (connection, wire, _call) in &mut made {
        wire.goaway(1, ENHANCE_YOUR_CALM, b"too_many_pings").await;
        super::drains(connection).await;
    }
    let (connection, mut wire) = wired_by(every_minute, context, MANY).await;
    let _call = open(&connection, unary("")).await;
    let (_, took) = wire.next_ping().await;
    assert_about(took, seconds(120));
}

#[tokio::test(start_paused = true)]
async fn a_server_that_minds_is_sent_half_as_many_on_its_next_connection() {
    const ENHANCE_YOUR_CALM: u32 = 11;
    let keepalive_throttle = KeepaliveThrottle::default();
    let context = || BackendContext {
        channel: "test".into(),
        keepalive_throttle: keepalive_throttle.clone(),
        ..alone()
    };
    for (expected, debug) in [
        (60, &b"too_many_pings"[..]),
        (120, b"something else"),
        (120, b"too_many_pings"),
        (240, b""),
    ] {
        let (connection, mut wire) = wired_by(every_minute, context(), MANY).await;
        let _call = open(&connection, unary("")).await;
        let (ping, took) = wire.next_ping().await;
        assert_about(took, seconds(expected));
        wire.answer_ping(&ping).await;
        wire.goaway(1, ENHANCE_YOUR_CALM, debug).await;
        super::drains(&connection).await;
    }
}
