//! Calls that wait, against a balancer that publishes as fast as it can; and calls that a
//! peer ends when their time does.

use std::{collections::VecDeque, pin::pin, sync::Arc, time::Duration};

use futures_util::FutureExt;

use http::{HeaderName, Request};
use tokio::{
    sync::Barrier,
    task::JoinSet,
    time::{Instant, timeout},
};
use tonic::{Code, body::Body};
use tower_service::Service;

use super::admission::{Admission, AnyBackend, try_admit, wait};
use crate::{
    connectivity::ConnectivityState,
    error::ErrorKind,
    routing::{
        Backends, Board, ChannelStatus, Choice, Cursor, PickInfo, Picker, RetrySettings, Ring,
        RingHash, RingMember, Rotation,
    },
    transport::BackendCalls,
    transport::{
        BackendContext, CallSlot, ConnectionGroup, KeepaliveThrottle, OutgoingRequest, dial,
        tests::{Peer, dialled_endpoint, soon},
    },
};

const CALLERS: usize = 3;
const PUBLICATIONS: u64 = 1_000_000;
const BURST: u64 = 200;
const PATIENCE: Duration = Duration::from_secs(10);

/// What a channel can be seen to do that answers no call: it connects, it is
/// idle, it has only full backends (here none).
fn without_an_answer(rng: &mut fastrand::Rng, cursor: &Arc<Cursor>) -> Picker<ConnectionGroup> {
    match rng.u8(..3) {
        0 => Picker::Connecting,
        1 => Picker::Idle,
        _ => Picker::Ready {
            backends: Box::default(),
            choice: Choice::Rotation(Rotation::new(cursor.clone())),
        },
    }
}

fn request() -> OutgoingRequest {
    OutgoingRequest::new(Request::new(Body::empty()))
}

/// Only the generation is looked at.
fn status(generation: u64) -> ChannelStatus {
    ChannelStatus {
        generation,
        state: ConnectivityState::Connecting,
        cause: None,
        backends: Backends::default(),
        priorities: Arc::default(),
    }
}

/// A caller that asks again as soon as it is answered, and rests after each
/// burst. It must have been answered by then: nothing more is published before
/// all callers rest.
async fn call_and_rest(board: Arc<Board>, rest: Arc<Barrier>) {
    let mut burst = 0;
    loop {
        let mut info = request();
        let slot = match try_admit(&board, false, true, &mut info, &AnyBackend) {
            Ok(Admission::Later { had_turn, .. }) => {
                wait(&board, false, had_turn, &mut info, &AnyBackend).await
            }
            Ok(Admission::Now(slot)) => Ok(slot),
            Ok(Admission::Failing) => unreachable!("it has waited"),
            Err(error) => Err(error),
        };
        let Err(error) = slot else {
            panic!("slot, although there is no connection");
        };
        if error.kind() == ErrorKind::Closed {
            return;
        }
        assert_eq!(error.kind(), ErrorKind::Unavailable);
        let generation = board.routing().status.generation();
        if generation > burst && generation.is_multiple_of(BURST) {
            burst = generation;
            rest.wait().await;
        }
    }
}

// D331
#[test]
fn another_picker_wakes_nothing() {
    let cursor = Arc::new(Cursor::new(0));
    let picker = || Picker::Ready {
        backends: Box::default(),
        choice: Choice::Rotation(Rotation::new(Arc::clone(&cursor))),
    };
    let (retries, status) = (RetrySettings::default(), status(3));
    let board = Board::new(status, picker(), None, None, CALLERS, retries);
    let (calls, handles) = (board.routing_changed(), board.status());
    let before = Arc::clone(&board.routing());
    board.publish_picker(picker());
    let after = Arc::clone(&board.routing());
    assert!(!Arc::ptr_eq(&before, &after));
    assert!(Arc::ptr_eq(&before.status, &after.status));
    for is_woken in [calls.has_changed(), handles.has_changed()] {
        assert!(!is_woken.expect("the board is there"));
    }
}

// In any other order than subscribe, load, pick, await, or than store, ring, a
// caller is lost in one of the first few hundred bursts.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_million_publications_lose_no_caller_that_waits() {
    let board = Arc::new(Board::new(
        status(0),
        Picker::Connecting,
        None,
        None,
        CALLERS,
        RetrySettings::default(),
    ));
    let rest = Arc::new(Barrier::new(CALLERS + 1));
    let mut callers = JoinSet::new();
    for _ in 0..CALLERS {
        callers.spawn(call_and_rest(board.clone(), rest.clone()));
    }

    let mut rng = fastrand::Rng::with_seed(7);
    let cursor = Arc::new(Cursor::new(0));
    for generation in 1..=PUBLICATIONS {
        let ends_burst = generation.is_multiple_of(BURST);
        let picker = match ends_burst || rng.u8(..8) == 0 {
            true => Picker::Failing,
            false => without_an_answer(&mut rng, &cursor),
        };
        board.publish(status(generation), picker, None, None);
        if ends_burst && timeout(PATIENCE, rest.wait()).await.is_err() {
            panic!("somebody still waits after publication {generation}, which was a failure");
        }
    }
    board.publish(status(PUBLICATIONS + 1), Picker::Shutdown, None, None);
    let ended = timeout(PATIENCE, callers.join_all()).await;
    assert!(ended.is_ok(), "shutdown reaches every caller");
}

/// As a call asks.
async fn slot(board: &Board) -> CallSlot {
    slot_for(board, request()).await
}

async fn slot_for(board: &Board, mut info: OutgoingRequest) -> CallSlot {
    match try_admit(board, false, true, &mut info, &AnyBackend).expect("no failure") {
        Admission::Now(slot) => slot,
        Admission::Later { had_turn, .. } => {
            let slot = wait(board, false, had_turn, &mut info, &AnyBackend).await;
            slot.expect("no failure")
        }
        Admission::Failing => unreachable!("it has waited"),
    }
}

/// A backend that allows this many streams, and its peer.
async fn backend(board: &Board, backend: u64, streams: u32) -> (ConnectionGroup, Peer) {
    let (endpoint, mut dials) = dialled_endpoint();
    let context = BackendContext {
        channel: "test".into(),
        backend,
        queue: board.queue().clone(),
        calls: BackendCalls::default(),
        answered_by: None,
        credentials: None,
        limits: None,
        keepalive_throttle: KeepaliveThrottle::default(),
    };
    let serve = async {
        let theirs = dials.recv().await.expect("a dial");
        let mut settings = h2::server::Builder::new();
        settings.max_concurrent_streams(streams);
        settings.handshake(theirs).await.expect("a client")
    };
    let both = async { tokio::join!(dial(endpoint, context), serve) };
    let (connection, server) = soon(both).await;
    let connection = connection.expect("connects");
    connection.set_pickable(true);
    let connections = ConnectionGroup::new(connection, std::iter::empty());
    (connections, Peer::spawn(server))
}

/// Backends 0 to `count`, of which the first has the first turn, and their peers.
async fn ready(board: &Board, count: u64, streams: u32) -> (Picker<ConnectionGroup>, Vec<Peer>) {
    let (mut backends, mut peers) = (Vec::new(), Vec::new());
    for id in 0..count {
        let (connections, peer) = backend(board, id, streams).await;
        backends.push(connections);
        peers.push(peer);
    }
    let choice = Choice::Rotation(Rotation::new(Arc::new(Cursor::new(0))));
    let backends = backends.into();
    (Picker::Ready { backends, choice }, peers)
}

fn backends<'a>(calls: impl IntoIterator<Item = &'a CallSlot>) -> Vec<u64> {
    let calls = calls.into_iter();
    calls.map(|call| call.connection().backend()).collect()
}

// R33
#[tokio::test(start_paused = true)]
async fn calls_that_waited_for_backends_take_turns() {
    let board = Arc::new(Board::new(
        status(0),
        Picker::Connecting,
        None,
        None,
        8,
        RetrySettings::default(),
    ));
    let (picker, _peers) = ready(&board, 4, 100).await;
    let mut calls = JoinSet::new();
    for _ in 0..8 {
        let board = board.clone();
        calls.spawn(async move { slot(&board).await });
    }
    tokio::task::yield_now().await;

    board.publish(status(1), picker, None, None);
    let calls = soon(calls.join_all()).await;
    let mut turns = backends(&calls);
    turns.sort_unstable();
    assert_eq!(turns, [0, 0, 1, 1, 2, 2, 3, 3]);
}

// R33
/// On several threads one call may take its turn while others join the queue.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn calls_that_waited_on_several_threads_take_turns() {
    const CALLS: u64 = 32;
    const BACKENDS: u64 = 4;
    let board = Board::new(
        status(0),
        Picker::Connecting,
        None,
        None,
        CALLS as usize,
        RetrySettings::default(),
    );
    let (picker, _peers) = ready(&board, BACKENDS, 100).await;
    let (board, ready) = (Arc::new(board), picker.backends().to_vec());
    for round in 0..1_000 {
        let barrier = Arc::new(Barrier::new(CALLS as usize + 1));
        let mut calls = JoinSet::new();
        for _ in 0..CALLS {
            let (board, barrier) = (board.clone(), barrier.clone());
            calls.spawn(async move {
                let mut slot = pin!(slot(&board));
                assert!(slot.as_mut().now_or_never().is_none(), "it waits");
                barrier.wait().await;
                slot.await
            });
        }
        barrier.wait().await;
        let picker = Picker::Ready {
            backends: ready.clone().into(),
            choice: Choice::Rotation(Rotation::new(Arc::new(Cursor::new(0)))),
        };
        board.publish(status(2 * round + 1), picker, None, None);
        let calls = soon(calls.join_all()).await;
        let mut turns = [0; BACKENDS as usize];
        for backend in backends(&calls) {
            turns[backend as usize] += 1;
        }
        assert_eq!(
            turns,
            [CALLS / BACKENDS; BACKENDS as usize],
            "round {round}"
        );
        board.publish(status(2 * round + 2), Picker::Connecting, None, None);
    }
}

// R33
#[tokio::test(start_paused = true)]
async fn a_call_that_waited_for_a_stream_has_had_one_turn() {
    let board = Board::new(
        status(0),
        Picker::Connecting,
        None,
        None,
        CALLERS,
        RetrySettings::default(),
    );
    let (picker, _peers) = ready(&board, 3, 1).await;
    board.publish(status(1), picker, None, None);
    let mut calls = Vec::new();
    for _ in 0..3 {
        calls.push(soon(slot(&board)).await);
    }
    assert_eq!(backends(&calls), [0, 1, 2]);

    let (mut fourth, mut fifth) = (pin!(slot(&board)), pin!(slot(&board)));
    assert!(fourth.as_mut().now_or_never().is_none(), "all are full");
    assert!(fifth.as_mut().now_or_never().is_none(), "all are full");
    drop(calls);
    let (fourth, fifth) = soon(async { tokio::join!(fourth, fifth) }).await;
    assert_eq!(
        backends([&fourth, &fifth]),
        [0, 1],
        "the first that came free"
    );
    drop((fourth, fifth));
    assert_eq!(backends([&soon(slot(&board)).await]), [2]);
}

// R33
#[tokio::test(start_paused = true)]
async fn calls_in_the_queue_take_one_turn_each() {
    let board = Board::new(
        status(0),
        Picker::Connecting,
        None,
        None,
        6,
        RetrySettings::default(),
    );
    let (picker, _peers) = ready(&board, 3, 1).await;
    board.publish(status(1), picker, None, None);
    let mut calls = VecDeque::new();
    for _ in 0..3 {
        calls.push_back(soon(slot(&board)).await);
    }
    let mut waiting: VecDeque<_> = (0..6).map(|_| Box::pin(slot(&board))).collect();
    for call in &mut waiting {
        assert!(call.now_or_never().is_none(), "all are full");
    }
    for backend in [0, 1, 2, 0, 1, 2] {
        drop(calls.pop_front());
        let oldest = waiting.pop_front().expect("there are six");
        calls.push_back(soon(oldest).await);
        assert_eq!(backends(calls.back()), [backend]);
    }
    drop(calls);
    for backend in [0, 1, 2] {
        assert_eq!(backends([&soon(slot(&board)).await]), [backend]);
    }
}

#[tokio::test(start_paused = true)]
async fn a_policy_may_ask_for_path_and_headers_before_each_attempt() {
    let board = Board::new(
        status(0),
        Picker::Connecting,
        None,
        None,
        CALLERS,
        RetrySettings::default(),
    );
    let (picker, _peers) = ready(&board, 1, 1).await;
    board.publish(status(1), picker, None, None);
    let request = Request::post("/demo.v1.Greeter/SayHello").header("x-shard", "2");
    let request = request.body(Body::empty()).expect("a request");
    let mut request = OutgoingRequest::new(request);
    for _ in 0..2 {
        assert_eq!(PickInfo::path(&request), "/demo.v1.Greeter/SayHello");
        assert_eq!(request.headers().get("x-shard").expect("it is there"), "2");
        request.prefetch().await.expect("it has no body");
        let exchange = soon(slot(&board)).await.open(&mut request);
        drop(exchange.expect("a stream"));
    }
}

/// Both are in one box, once per call, and up to a kilobyte `malloc` is quick.
#[test]
fn a_call_on_its_way_is_less_than_a_kilobyte() {
    let board = Board::new(
        status(0),
        Picker::Connecting,
        None,
        None,
        CALLERS,
        RetrySettings::default(),
    );
    let request = http::Request::new(tonic::body::Body::empty());
    let mut call = super::Call::new(request, super::Defaults::default());
    let size = size_of::<super::Call>() + size_of_val(&call.send(&board));
    assert!(size < 900, "{size} bytes");
}

// D222
/// Its deadline is the one that the caller told it, and its clock may be the faster.
#[tokio::test(start_paused = true)]
async fn a_call_that_the_peer_cancels_at_its_deadline_is_past_it() {
    const TIME: Duration = Duration::from_secs(2);
    for (passed, code) in [(TIME / 2, Code::Cancelled), (TIME, Code::DeadlineExceeded)] {
        let (endpoint, mut dials) = dialled_endpoint();
        let mut channel = endpoint.connect_lazy();
        let request = Request::post("/demo.v1.Greeter/SayHello").header("grpc-timeout", "2S");
        let request = request.body(Body::empty()).expect("a request");
        let call = tokio::spawn(channel.call(request));
        let theirs = soon(dials.recv()).await.expect("a dial");
        let server = soon(h2::server::handshake(theirs)).await;
        let mut peer = Peer::spawn(server.expect("accepts"));
        let mut at_peer = peer.next_call().await;
        at_peer.cancel();
        tokio::time::advance(passed).await;
        let error = soon(call).await.expect("no panic").expect_err("cancelled");
        assert_eq!(error.code(), code, "after {passed:?}: {error}");
    }
}

// D285
/// The rest of the answer may take longer than the call has.
#[tokio::test(start_paused = true)]
async fn an_http_error_counts_more_than_the_deadline_behind_it() {
    let (endpoint, mut dials) = dialled_endpoint();
    for endpoint in [
        endpoint.clone(),
        endpoint.timeout(Duration::from_millis(300)),
    ] {
        let mut channel = endpoint.connect_lazy();
        let request = Request::post("/demo.v1.Greeter/SayHello").header("grpc-timeout", "300m");
        let request = request.body(Body::empty()).expect("a request");
        let call = tokio::spawn(channel.call(request));
        let theirs = soon(dials.recv()).await.expect("a dial");
        let server = soon(h2::server::handshake(theirs)).await;
        let mut peer = Peer::spawn(server.expect("accepts"));
        let mut at_peer = peer.next_call().await;
        let begun = Instant::now();
        let _stream = at_peer.answer_with(401, "text/plain");
        let error = soon(call).await.expect("no panic").expect_err("no answer");
        assert_eq!(error.code(), Code::Unauthenticated, "{error}");
        assert!(
            begun.elapsed() <= Duration::from_millis(301),
            "{:?}",
            begun.elapsed()
        );
    }
}

const KEY: HeaderName = HeaderName::from_static("x-user");

/// A ring of backends in these states. Those that are READY are `backends`.
fn ring(
    ring: &Arc<Ring>,
    states: &[RingMember],
    backends: &[ConnectionGroup],
) -> Picker<ConnectionGroup> {
    let choice = RingHash::new(Arc::clone(ring), states.into(), Some(KEY));
    Picker::Ready {
        backends: backends.into(),
        choice: Choice::RingHash(choice),
    }
}

/// A call with this key.
fn keyed(key: &str) -> OutgoingRequest {
    let request = Request::builder().header(KEY, key);
    OutgoingRequest::new(request.body(Body::empty()).expect("a request"))
}

fn board(picker: Picker<ConnectionGroup>) -> Board {
    let (status, settings) = (status(0), RetrySettings::default());
    Board::new(status, picker, None, None, CALLERS, settings)
}

// K24
#[tokio::test(start_paused = true)]
async fn a_call_that_waits_for_its_backend_takes_no_stream_of_another() {
    // With one entry each, "a_0" and "b_0", the hashes of which tell them apart.
    let of = Arc::new(Ring::new([("a", 1), ("b", 1)], 1, 2));
    let board = board(Picker::Connecting);
    let (a, _peer_a) = backend(&board, 0, 1).await;
    let (b, _peer_b) = backend(&board, 1, 1).await;
    let both = ring(
        &of,
        &[RingMember::Ready(0), RingMember::Ready(1)],
        &[a.clone(), b.clone()],
    );
    board.publish(status(1), both, None, None);
    let mut keys = (0..).map(|n| format!("user-{n}"));
    let mut key_of = async |id| loop {
        let key = keys.next().expect("endless");
        if backends([&slot_for(&board, keyed(&key)).await]) == [id] {
            return key;
        }
    };
    let (of_a, of_b) = (key_of(0).await, key_of(1).await);

    let without_a = ring(&of, &[RingMember::Connecting, RingMember::Ready(0)], &[b]);
    board.publish(status(2), without_a, None, None);
    let on_b = slot_for(&board, keyed(&of_b)).await;
    let mut queued = pin!(slot_for(&board, keyed(&of_b)));
    assert!(queued.as_mut().now_or_never().is_none(), "B is full");
    let mut waiting = pin!(slot_for(&board, keyed(&of_a)));
    assert!(waiting.as_mut().now_or_never().is_none(), "A is CONNECTING");
    drop(on_b);
    let on_b = soon(queued).await;
    assert_eq!(backends([&on_b]), [1]);
    drop(on_b);
    assert!(waiting.as_mut().now_or_never().is_none(), "B is free");

    let with_a = ring(&of, &[RingMember::Ready(0), RingMember::Failing], &[a]);
    board.publish(status(3), with_a, None, None);
    assert_eq!(backends([&soon(waiting).await]), [0]);
}

// K24
/// The ring of one publication wakes those that wait by the one before.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rings_that_change_lose_no_caller_that_waits() {
    const ROUNDS: u64 = 20_000;
    let of = Arc::new(Ring::new([("a", 1), ("b", 1), ("c", 1)], 10, 20));
    let board = Arc::new(board(Picker::Connecting));
    let (c, _peer) = backend(&board, 2, 1_000).await;
    let only_c = [
        RingMember::Connecting,
        RingMember::Connecting,
        RingMember::Ready(0),
    ];
    let barrier = Arc::new(Barrier::new(CALLERS + 1));
    let mut callers = JoinSet::new();
    for caller in 0..CALLERS {
        let (board, barrier) = (board.clone(), barrier.clone());
        callers.spawn(async move {
            for round in 0..ROUNDS {
                slot_for(&board, keyed(&format!("{caller}-{round}"))).await;
                barrier.wait().await;
            }
        });
    }
    let mut rng = fastrand::Rng::with_seed(7);
    for round in 0..ROUNDS {
        for _ in 0..rng.u8(..3) {
            let mut states = only_c;
            for state in &mut states[..2] {
                *state = [RingMember::Connecting, RingMember::Failing][rng.usize(..2)];
            }
            let backends = std::slice::from_ref(&c);
            board.publish(status(2 * round), ring(&of, &states, backends), None, None);
        }
        let states = [
            RingMember::Failing,
            RingMember::Failing,
            RingMember::Ready(0),
        ];
        let all_to_c = ring(&of, &states, std::slice::from_ref(&c));
        board.publish(status(2 * round + 1), all_to_c, None, None);
        if timeout(PATIENCE, barrier.wait()).await.is_err() {
            panic!("a caller still waits in round {round}, though C is READY");
        }
    }
    callers.join_all().await;
}
