//! Peers that send nothing, in paused time.

use std::{sync::Arc, time::Duration};

use futures_util::FutureExt;
use tokio::time::{Instant, timeout};

use super::{
    BackendContext, CallSlot, Endpoint, KeepaliveThrottle, Queue, closes, context, drains, open,
    read, soon, taken, unary,
    wire::{PING, WINDOW_UPDATE, Wire, wire_frame, wired_by},
};
use crate::transport::{Connection, SilenceRule};

const MANY: u32 = 100;
const SECOND: Duration = Duration::from_secs(1);

/// A backend whose connections are looked at for silence of 1 s.
fn looking() -> BackendContext {
    looking_for(SECOND, &Queue::new())
}

fn looking_for(limit: Duration, queue: &Arc<Queue<CallSlot>>) -> BackendContext {
    BackendContext {
        silence: Some(SilenceRule::new(limit)),
        ..context(queue)
    }
}

/// A connection, its peer, and what tells of silences.
struct Rig {
    connection: Connection,
    wire: Wire,
    rule: Arc<SilenceRule>,
}

impl Rig {
    async fn new(context: BackendContext) -> Self {
        let rule = context.silence.clone().expect("it is looked at");
        let (connection, wire) = wired_by(|endpoint| endpoint, context, MANY).await;
        Self {
            connection,
            wire,
            rule,
        }
    }

    /// After a call that has got no answer.
    async fn silent(context: BackendContext) -> Self {
        let rig = Self::new(context).await;
        let _call = open(&rig.connection, unary("")).await;
        rig.until_silent(true).await;
        rig
    }

    async fn until_silent(&self, is_silent: bool) {
        while self.connection.silence().is_some() != is_silent {
            soon(self.rule.changed()).await;
        }
    }

    /// Answers the PING that made it silent.
    async fn speak(&mut self) {
        let (ping, _) = self.wire.next_ping().await;
        self.wire.answer_ping(&ping).await;
        self.until_silent(false).await;
    }
}

#[track_caller]
fn assert_about(took: Duration, expected: Duration) {
    let late = took.checked_sub(expected);
    assert!(
        late.is_some_and(|late| late < SECOND / 10),
        "after {took:?} rather than {expected:?}"
    );
}

/// That nothing but window updates comes for so long.
async fn assert_no_ping(wire: &mut Wire, lasts: Duration) {
    let ping = timeout(lasts, wire.next_ping()).await;
    assert!(ping.is_err(), "a PING");
}

// D372
#[tokio::test(start_paused = true)]
async fn a_peer_that_answers_neither_call_nor_ping_is_silent_until_its_next_byte() {
    let mut rig = Rig::new(looking()).await;
    let connection = rig.connection.clone();
    let started = Instant::now();
    let _call = open(&connection, unary("")).await;
    let (ping, took) = rig.wire.next_ping().await;
    assert_about(took, SECOND);
    assert!(connection.silence().is_none());
    rig.until_silent(true).await;
    assert_about(started.elapsed(), 2 * SECOND);
    let silence = connection.silence().expect("it is silent");
    assert_eq!(silence.since(), Instant::now().into_std());
    assert_eq!(
        silence.to_string(),
        "the peer has sent no bytes for 1s, and no PING ACK within 1s"
    );
    assert!(
        connection.stage().borrow().ended().is_none(),
        "keepalive is what ends connections"
    );
    rig.wire.answer_ping(&ping).await;
    rig.until_silent(false).await;
    let (_, took) = rig.wire.next_ping().await;
    assert_about(took, SECOND);
}

// D372
#[tokio::test(start_paused = true)]
async fn any_frame_ends_a_silence() {
    let mut rig = Rig::silent(looking()).await;
    let update = wire_frame(WINDOW_UPDATE, 0, 0, &1_u32.to_be_bytes());
    rig.wire.write(&update).await;
    rig.until_silent(false).await;
}

// D372
#[tokio::test(start_paused = true)]
async fn a_slow_handler_is_not_silent_and_is_sent_2_pings() {
    let Rig {
        connection,
        mut wire,
        ..
    } = Rig::new(looking()).await;
    let call = open(&connection, unary("")).await;
    for _ in 0..2 {
        let (ping, took) = wire.next_ping().await;
        assert_about(took, SECOND);
        wire.answer_ping(&ping).await;
    }
    assert_no_ping(&mut wire, 299 * SECOND).await;
    assert!(connection.silence().is_none());
    wire.answer(1, b"late").await;
    let response = soon(call).await.expect("headers");
    read(&mut response.into_body()).await.expect("a body");
    assert_no_ping(&mut wire, 3_000 * SECOND).await;
}

// D374
#[tokio::test(start_paused = true)]
async fn data_of_the_peer_allows_more_pings() {
    let Rig {
        connection,
        mut wire,
        ..
    } = Rig::new(looking()).await;
    let _slow = open(&connection, unary("")).await;
    for _ in 0..20 {
        for _ in 0..2 {
            let (ping, took) = wire.next_ping().await;
            assert_about(took, SECOND);
            wire.answer_ping(&ping).await;
        }
        let quick = open(&connection, unary("")).await;
        let stream = wire.next_request().await;
        wire.answer(stream, b"done").await;
        let response = soon(quick).await.expect("headers");
        read(&mut response.into_body()).await.expect("a body");
    }
}

// D372
#[tokio::test(start_paused = true)]
async fn without_calls_there_is_no_ping() {
    let Rig {
        connection,
        mut wire,
        ..
    } = Rig::new(looking()).await;
    // As for a `Watch`, which may be quiet for hours.
    let _reserved = connection.reserve().await;
    assert_no_ping(&mut wire, 3_000 * SECOND).await;
    let _slot = connection.admit().expect("a slot without a stream");
    assert_no_ping(&mut wire, 3_000 * SECOND).await;
    let _call = open(&connection, unary("")).await;
    let (_, took) = wire.next_ping().await;
    assert_about(took, SECOND);
}

// D373
#[tokio::test(start_paused = true)]
async fn a_silent_connection_takes_1_probe_at_a_time() {
    let mut rig = Rig::silent(looking()).await;
    let connection = rig.connection.clone();
    let probe = open(&connection, unary("")).await;
    assert!(connection.admit().is_none());
    drop(probe);
    let probe = connection.admit().expect("the next probe");
    assert!(connection.admit().is_none());
    drop(probe);
    let _probe = open(&connection, unary("")).await;
    assert!(connection.admit().is_none());
    rig.speak().await;
    let slots: Vec<CallSlot> = std::iter::from_fn(|| connection.admit()).take(10).collect();
    assert_eq!(slots.len(), 10);
}

// D373
#[tokio::test(start_paused = true)]
async fn calls_that_wait_have_no_slot_but_that_of_the_probe() {
    let queue = Queue::new();
    let mut rig = Rig::silent(looking_for(SECOND, &queue)).await;
    let connection = rig.connection.clone();
    let mut tickets = [queue.join(), queue.join(), queue.join()];
    connection.serve_queue();
    let [first, second, third] = &mut tickets;
    let probe = taken(first, &connection).await;
    assert!(second.now_or_never().is_none());
    drop(probe);
    let _probe = taken(second, &connection).await;
    connection.serve_queue();
    assert!(third.now_or_never().is_none());
    rig.speak().await;
    drop(taken(third, &connection).await);
}

// D373
#[tokio::test(start_paused = true)]
async fn a_slot_for_another_balancer_waits_for_the_end_of_the_silence() {
    let mut rig = Rig::silent(looking()).await;
    let mut ticket = rig.connection.reserve_call();
    assert!((&mut ticket).now_or_never().is_none());
    rig.speak().await;
    let slot = taken(&mut ticket, &rig.connection).await;
    let slot = slot.expect("the connection is up");
    assert!(slot.is_good());
}

fn every_10_seconds(endpoint: Endpoint) -> Endpoint {
    endpoint
        .http2_keep_alive_interval(10 * SECOND)
        .keep_alive_timeout(3 * SECOND)
}

// D375
#[tokio::test(start_paused = true)]
async fn keepalive_and_silence_share_1_ping() {
    let looking = looking_for(9 * SECOND, &Queue::new());
    let (connection, mut wire) = wired_by(every_10_seconds, looking, MANY).await;
    let _call = open(&connection, unary("")).await;
    let (_, took) = wire.next_ping().await;
    assert_about(took, 9 * SECOND);
    // The interval of keepalive is over 1 s later, and its timeout 3 s after that.
    let started = Instant::now();
    let mut pings = 0;
    while let Some(frame) = wire.read_or_cut().await {
        pings += usize::from(frame.kind == PING);
    }
    assert_eq!(pings, 0);
    assert_about(started.elapsed(), 4 * SECOND);
    assert!(closes(&connection).await.contains("keepalive"));
}

// D375
#[tokio::test(start_paused = true)]
async fn the_answer_to_a_shared_ping_serves_keepalive_too() {
    let looking = looking_for(9 * SECOND, &Queue::new());
    let (connection, mut wire) = wired_by(every_10_seconds, looking, MANY).await;
    let _call = open(&connection, unary("")).await;
    let (ping, _) = wire.next_ping().await;
    tokio::time::sleep(2 * SECOND).await;
    wire.answer_ping(&ping).await;
    let (ping, took) = wire.next_ping().await;
    assert_about(took, 9 * SECOND);
    wire.answer_ping(&ping).await;
    // There was no DATA, so the next one is that of keepalive.
    let (_, took) = wire.next_ping().await;
    assert_about(took, 10 * SECOND);
    assert!(connection.stage().borrow().ended().is_none());
}

// D374
#[tokio::test(start_paused = true)]
async fn a_server_that_minds_pings_has_its_next_one_later() {
    const ENHANCE_YOUR_CALM: u32 = 11;
    let keepalive_throttle = KeepaliveThrottle::default();
    for expected in [1, 2, 4] {
        let looking = BackendContext {
            keepalive_throttle: keepalive_throttle.clone(),
            ..looking()
        };
        let (connection, mut wire) = wired_by(|endpoint| endpoint, looking, MANY).await;
        let _call = open(&connection, unary("")).await;
        let (ping, took) = wire.next_ping().await;
        assert_about(took, expected * SECOND);
        wire.answer_ping(&ping).await;
        wire.goaway(1, ENHANCE_YOUR_CALM, b"too_many_pings").await;
        drains(&connection).await;
    }
}
