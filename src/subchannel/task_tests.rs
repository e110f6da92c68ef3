//! A subchannel that runs, over in-memory IO and paused time.

use std::{num::NonZeroUsize, sync::Arc, time::Duration};

use bytes::Bytes;
use h2::{Reason, SendStream, server};
use prost::Message;
use tokio::{
    io::DuplexStream,
    sync::{mpsc, oneshot, watch},
    time::Instant,
};

use super::{CallGate, Config, Control, HealthCheck, ReportMessage, Spec, run};
use crate::{
    health::HealthOptions,
    pb::{HealthCheckRequest, HealthCheckResponse},
    transport::{
        BackendCalls, BackendContext, CallSlot, Connection, ConnectionGroup, KeepaliveThrottle,
        Queue,
        tests::{Call, Peer, dialled_endpoint, soon},
    },
    util::backoff::BackoffConfig,
};

const SERVING: i32 = 1;
const NOT_SERVING: i32 = 2;

/// A subchannel, and what it dials.
struct Rig {
    control: watch::Sender<Control>,
    gate: Arc<CallGate>,
    queue: Arc<Queue<CallSlot>>,
    sent: mpsc::Receiver<ReportMessage<()>>,
    dials: mpsc::UnboundedReceiver<DuplexStream>,
    /// The peer's limit of streams.
    limit: u32,
    _stop: oneshot::Sender<()>,
}

impl Rig {
    fn start(health: HealthCheck, limit: u32) -> Self {
        Self::with(1, health, limit)
    }

    fn with(connections: usize, health: HealthCheck, limit: u32) -> Self {
        let connections = NonZeroUsize::new(connections).expect("at least one");
        let (endpoint, dials) = dialled_endpoint();
        let (reports, sent) = mpsc::channel(8);
        let (stop, stopped) = oneshot::channel();
        let control = watch::Sender::new(Control {
            health,
            backoff_resets: 0,
            hurries: 0,
            rests_when_lost: false,
        });
        let gate = CallGate::new(false, false);
        let queue = Queue::new();
        let spec = Spec {
            id: (),
            label: "backend".into(),
            endpoint,
            not_before: None,
            config: Config {
                backoff: BackoffConfig::default(),
                health: Arc::new(HealthOptions::default()),
                connections,
                seed: 1,
            },
            control: control.subscribe(),
            gate: Arc::clone(&gate),
            context: BackendContext {
                channel: "test".into(),
                backend: 0,
                queue: Arc::clone(&queue),
                calls: BackendCalls::default(),
                answered_by: None,
                credentials: None,
                limits: None,
                keepalive_throttle: KeepaliveThrottle::default(),
            },
            reports,
        };
        tokio::spawn(run(spec, stopped));
        Self {
            control,
            gate,
            queue,
            sent,
            dials,
            limit,
            _stop: stop,
        }
    }

    fn check(&self, health: HealthCheck) {
        self.control.send_modify(|control| control.health = health);
    }

    async fn dialled(&mut self) -> DuplexStream {
        soon(self.dials.recv()).await.expect("a dial")
    }

    /// Takes the next dial.
    async fn accept(&mut self) -> Peer {
        let io = self.dialled().await;
        self.answer(io).await
    }

    async fn answer(&self, io: DuplexStream) -> Peer {
        let mut settings = server::Builder::new();
        settings.max_concurrent_streams(self.limit);
        Peer::spawn(soon(settings.handshake(io)).await.expect("a client"))
    }

    /// The next report has to say READY, with so many connections for calls.
    async fn has(&mut self, connections: usize) -> ConnectionGroup {
        let message = soon(self.sent.recv()).await.expect("a report");
        assert_eq!(message.report.connections, connections);
        message.connections.expect("with READY")
    }

    /// The next report has to say this.
    #[track_caller]
    fn tells(&mut self, expected: &str) -> impl Future<Output = Option<Connection>> {
        let message = soon(self.sent.recv());
        async move {
            let ReportMessage {
                report,
                connections,
                ..
            } = message.await.expect("a report");
            assert_eq!(format!("{} {}", report.state, report.health), expected);
            connections.map(|connections| connections.first().clone())
        }
    }
}

fn of(service: &str) -> HealthCheck {
    HealthCheck::Of(service.into())
}

/// The peer's side of a `Watch`.
struct Watched {
    call: Call,
    answers: SendStream<Bytes>,
}

impl Watched {
    /// The next call is a `Watch` of `service`.
    async fn accept(peer: &mut Peer, service: &str) -> Self {
        let mut call = peer.next_call().await;
        assert_eq!(call.head.uri.path(), "/grpc.health.v1.Health/Watch");
        let message = call.chunk().await.expect("a message").expect("in full");
        let request = HealthCheckRequest::decode(&message[5..]).expect("a request");
        assert_eq!(request.service, service);
        let answers = call.answer();
        Self { call, answers }
    }

    fn say(&mut self, status: i32) {
        let message = HealthCheckResponse { status }.encode_to_vec();
        let length = u8::try_from(message.len()).expect("a short message");
        let framed = [&[0, 0, 0, 0, length][..], &message].concat();
        self.answers
            .send_data(framed.into(), false)
            .expect("an open stream");
    }

    async fn until_cancelled(mut self) {
        assert_eq!(self.call.reset().await, Reason::CANCEL);
    }
}

// J07
#[tokio::test(start_paused = true)]
async fn health_that_is_switched_on_is_asked_on_the_connection_in_use() {
    let mut rig = Rig::start(HealthCheck::Off, 100);
    rig.tells("CONNECTING not checked").await;
    let mut peer = rig.accept().await;
    let connection = rig.tells("READY not checked").await.expect("with READY");

    rig.check(of("A"));
    rig.tells("READY pending").await;
    let mut watch = Watched::accept(&mut peer, "A").await;
    assert!(connection.admit().is_some(), "calls go on meanwhile");
    watch.say(NOT_SERVING);
    rig.tells("TRANSIENT_FAILURE NOT_SERVING").await;
    assert!(connection.admit().is_none());
}

// J08
#[tokio::test(start_paused = true)]
async fn health_that_is_switched_off_leaves_its_stream_to_calls() {
    let mut rig = Rig::start(of("A"), 2);
    rig.tells("CONNECTING not checked").await;
    let mut peer = rig.accept().await;
    rig.tells("CONNECTING pending").await;
    let mut watch = Watched::accept(&mut peer, "A").await;
    watch.say(NOT_SERVING);
    rig.tells("TRANSIENT_FAILURE NOT_SERVING").await;

    rig.check(HealthCheck::Disabled);
    let connection = rig.tells("READY disabled").await.expect("with READY");
    watch.until_cancelled().await;
    let calls = [connection.admit(), connection.admit()];
    assert!(calls.iter().all(Option::is_some), "both streams are theirs");
}

// J11
#[tokio::test(start_paused = true)]
async fn another_service_is_asked_about_on_the_stream_of_the_old_one() {
    let mut rig = Rig::start(of("A"), 2);
    rig.tells("CONNECTING not checked").await;
    let mut peer = rig.accept().await;
    rig.tells("CONNECTING pending").await;
    let mut old = Watched::accept(&mut peer, "A").await;
    old.say(SERVING);
    let connection = rig.tells("READY SERVING").await.expect("with READY");

    rig.check(of("B"));
    rig.tells("READY pending").await;
    old.until_cancelled().await;
    let mut new = Watched::accept(&mut peer, "B").await;
    assert_eq!(connection.streams(), 1, "that of the Watch");
    new.say(SERVING);
    rig.tells("READY SERVING").await;
}

#[tokio::test(start_paused = true)]
async fn health_has_a_connection_to_itself_for_as_long_as_it_needs_one() {
    let mut rig = Rig::start(HealthCheck::Off, 1);
    rig.tells("CONNECTING not checked").await;
    let alone = rig.accept().await;
    rig.tells("READY not checked").await;

    rig.check(of("A"));
    rig.tells("READY pending").await;
    rig.tells("CONNECTING not checked").await;
    // Held back, and dialling again.
    rig.tells("CONNECTING not checked").await;
    alone.ended().await;
    let mut watched = rig.accept().await;
    let _used = rig.accept().await;
    rig.tells("CONNECTING pending").await;
    let mut watch = Watched::accept(&mut watched, "A").await;
    watch.say(SERVING);
    let connection = rig.tells("READY SERVING").await.expect("with READY");
    assert!(connection.admit().is_some());

    rig.check(HealthCheck::Off);
    let same = rig.tells("READY not checked").await.expect("with READY");
    assert!(connection == same);
    watched.ended().await;
    assert!(connection.admit().is_some());
}

#[tokio::test(start_paused = true)]
async fn health_that_is_switched_on_during_a_dial_gets_its_connection_too() {
    let mut rig = Rig::start(HealthCheck::Disabled, 1);
    rig.tells("CONNECTING disabled").await;
    let dialled = rig.dialled().await;
    rig.check(of("A"));
    rig.tells("CONNECTING not checked").await;
    let alone = rig.answer(dialled).await;
    rig.tells("CONNECTING pending").await;
    alone.ended().await;
    let mut watched = rig.accept().await;
    let _used = rig.accept().await;
    Watched::accept(&mut watched, "A").await;
}

/// A backend of two connections whose health is watched on the first.
async fn watched_by_the_first(limit: u32) -> (Rig, [Peer; 2], Watched, ConnectionGroup) {
    let mut rig = Rig::with(2, of("A"), limit);
    rig.tells("CONNECTING not checked").await;
    let mut first = rig.accept().await;
    rig.tells("CONNECTING pending").await;
    let mut watch = Watched::accept(&mut first, "A").await;
    watch.say(SERVING);
    rig.has(1).await;
    let second = rig.accept().await;
    let connections = rig.has(2).await;
    (rig, [first, second], watch, connections)
}

// D166, D167
#[tokio::test(start_paused = true)]
async fn more_connections_are_dialled_one_by_one_and_with_backoff() {
    let start = Instant::now();
    let mut rig = Rig::with(3, HealthCheck::Off, 100);
    rig.tells("CONNECTING not checked").await;
    let _first = rig.accept().await;
    rig.has(1).await;
    assert_eq!(start.elapsed(), Duration::ZERO);
    let _second = rig.accept().await;
    rig.has(2).await;
    assert_eq!(start.elapsed(), Duration::from_millis(100));
    drop(rig.dialled().await);
    assert_eq!(start.elapsed(), Duration::from_millis(200));
    // gRPC's backoff: a second, a fifth more or less.
    let _third = rig.accept().await;
    let waited = start.elapsed() - Duration::from_millis(200);
    let [least, most] = [800, 1_200].map(Duration::from_millis);
    assert!((least..=most).contains(&waited), "{waited:?}");
    let connections = rig.has(3).await;
    let calls = connections.as_slice().iter().map(Connection::admit);
    assert!(calls.into_iter().all(|call| call.is_some()));
}

// D168
#[tokio::test(start_paused = true)]
async fn health_is_watched_where_there_is_a_stream_for_it() {
    let (mut rig, [first, mut second], _watch, connections) = watched_by_the_first(2).await;
    let extra = connections.as_slice()[1].clone();
    let _call = extra.admit().expect("one of two");
    drop(first);
    assert!(rig.has(1).await.first() == &extra);
    let mut watch = Watched::accept(&mut second, "A").await;
    assert!(extra.admit().is_none(), "the other is the Watch's");
    watch.say(NOT_SERVING);
    rig.tells("TRANSIENT_FAILURE NOT_SERVING").await;
}

// D168
#[tokio::test(start_paused = true)]
async fn a_connection_whose_streams_are_all_taken_does_not_replace_the_first() {
    let (mut rig, [first, _second], _watch, connections) = watched_by_the_first(2).await;
    let extra = connections.as_slice()[1].clone();
    let mut calls = [extra.admit(), extra.admit()];
    assert!(calls.iter().all(Option::is_some));
    drop(first);
    rig.tells("CONNECTING not checked").await;
    calls[0] = None;
    assert!(extra.admit().is_none(), "it is let go, and its calls go on");
    // Held back, as the second was dialled a moment ago, and dialling again.
    rig.tells("CONNECTING not checked").await;
    let mut first = rig.accept().await;
    rig.tells("CONNECTING pending").await;
    Watched::accept(&mut first, "A").await;
}

// D170
#[tokio::test(start_paused = true)]
async fn a_limit_of_one_on_the_others_leaves_them_to_calls() {
    let (mut rig, [first, second], _watch, _connections) = watched_by_the_first(2).await;
    drop(second);
    rig.has(1).await;
    rig.limit = 1;
    let _narrow = rig.accept().await;
    let connections = rig.has(2).await;
    assert!(connections.as_slice()[1].admit().is_some());
    drop(first);
    rig.tells("CONNECTING not checked").await;
}

#[tokio::test(start_paused = true)]
async fn an_owner_that_is_gone_changes_nothing() {
    let mut rig = Rig::start(HealthCheck::Off, 100);
    let other = rig.control.borrow().clone();
    rig.control = watch::Sender::new(other);
    rig.tells("CONNECTING not checked").await;
    let _peer = rig.accept().await;
    rig.tells("READY not checked").await;
}

// O15, O28
#[tokio::test(start_paused = true)]
async fn no_connection_of_an_ejected_backend_takes_a_call() {
    let (mut rig, [first, mut second], _watch, connections) = watched_by_the_first(100).await;
    let [a, b] = connections.as_slice() else {
        panic!("two connections");
    };
    let call = a.admit().expect("a free stream");
    rig.gate.set_ejected(true);
    assert!(a.admit().is_none() && b.admit().is_none());
    let waiting = rig.queue.join();
    let waiting_too = rig.queue.join();
    drop(call);
    assert!(
        !rig.queue.is_empty(),
        "the slot that is free now goes to no call"
    );

    // Its health has news, the first connection is lost, and it connects once more.
    drop(first);
    let mut watch = Watched::accept(&mut second, "A").await;
    rig.has(1).await;
    watch.say(NOT_SERVING);
    rig.tells("TRANSIENT_FAILURE NOT_SERVING").await;
    watch.say(SERVING);
    rig.has(1).await;
    let _third = rig.accept().await;
    let connections = rig.has(2).await;
    let calls = connections.as_slice().iter().map(Connection::admit);
    assert!(calls.into_iter().all(|call| call.is_none()));
    assert!(!rig.queue.is_empty());

    rig.gate.set_ejected(false);
    let _calls = (soon(waiting).await, soon(waiting_too).await);
}

#[tokio::test(start_paused = true)]
async fn an_ejection_that_ends_opens_only_what_is_ready() {
    let mut rig = Rig::start(of("A"), 100);
    rig.tells("CONNECTING not checked").await;
    rig.gate.set_ejected(true);
    let mut peer = rig.accept().await;
    rig.tells("CONNECTING pending").await;
    let mut watch = Watched::accept(&mut peer, "A").await;
    watch.say(SERVING);
    let connection = rig.tells("READY SERVING").await.expect("with READY");
    watch.say(NOT_SERVING);
    rig.tells("TRANSIENT_FAILURE NOT_SERVING").await;
    rig.gate.set_ejected(false);
    assert!(connection.admit().is_none(), "it is unhealthy");
    watch.say(SERVING);
    rig.tells("READY SERVING").await;
    assert!(connection.admit().is_some());
}

#[tokio::test(start_paused = true)]
async fn the_gate_of_an_ejected_backend_keeps_no_connection() {
    let mut rig = Rig::start(HealthCheck::Off, 100);
    rig.tells("CONNECTING not checked").await;
    let peer = rig.accept().await;
    drop(rig.tells("READY not checked").await);
    rig.gate.set_ejected(true);
    let Rig { gate, _stop, .. } = rig;
    drop(_stop);
    peer.ended().await;
    gate.set_ejected(false);
}

// T14
#[tokio::test(start_paused = true)]
async fn a_backoff_that_is_reset_is_not_waited_out() {
    let mut rig = Rig::start(HealthCheck::Off, 100);
    rig.tells("CONNECTING not checked").await;
    drop(rig.dialled().await);
    rig.tells("TRANSIENT_FAILURE not checked").await;

    let start = Instant::now();
    rig.control
        .send_modify(|control| control.backoff_resets += 1);
    rig.accept().await;
    assert_eq!(start.elapsed(), Duration::ZERO);
}
