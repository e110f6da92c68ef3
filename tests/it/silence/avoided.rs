//! Peers that stop, and a channel that looks for them (`ChannelBuilder::silence`).

use std::time::Duration;

use futures_util::{FutureExt, StreamExt};
use testing::{
    Backend, Chat, Flow, Logs, Pending, Valve, balanced, balanced_at, call, hello, outcome,
    refusal, request_within, spread, start, start_patient, until, until_backends, until_that,
    within,
};
use tonic::Code;
use tonic_health_channel::{
    Channel,
    ConnectivityState::{Connecting, Idle, Ready, TransientFailure},
    channel::Change,
    status::CauseKind,
};
use tracing::Level;

/// Far above the round trip, also on a machine that is busy with other tests.
const SILENCE: Duration = Duration::from_millis(300);

/// Backends behind valves, and a READY channel over them that looks for silence.
struct Rig {
    backends: Vec<Backend>,
    valves: Vec<Valve>,
    channel: Channel,
}

impl Rig {
    async fn new<const N: usize>(names: [&'static str; N]) -> Self {
        Self::with_policy(names, "round_robin").await
    }

    async fn with_policy<const N: usize>(names: [&'static str; N], policy: &str) -> Self {
        let backends: Vec<_> = Backend::builder().start_each(names).await.into();
        let valves: Vec<_> = backends.iter().map(|b| Valve::before(b.addr())).collect();
        let config = format!(r#"{{"loadBalancingConfig": [{{"{policy}": {{}}}}]}}"#);
        let channel = balanced_at(valves.iter().map(Valve::uri), None)
            .service_config(config.parse().expect("valid"))
            .silence(SILENCE)
            .count_calls(true)
            .build();
        until(&channel, Ready).await;
        Self {
            backends,
            valves,
            channel,
        }
    }

    fn all(&self) -> Vec<&Backend> {
        self.backends.iter().collect()
    }

    /// Stops the first one with a call on it, which is still in flight then, and awaits that the
    /// channel knows.
    async fn stop_first(&self) -> Pending {
        let held = loop {
            let held = start(&self.channel, "hold");
            let all: usize = self.backends.iter().map(Backend::hits).sum();
            let first = self.backends[0].hits();
            within("the call", async {
                while self.backends.iter().map(Backend::hits).sum::<usize>() == all {
                    tokio::task::yield_now().await;
                }
            })
            .await;
            if self.backends[0].hits() > first {
                break held;
            }
            self.backends.iter().for_each(Backend::release);
            outcome(held).await.expect("it is released");
        };
        self.valves[0].set(Flow::Stands);
        self.until_silent(0, true).await;
        held
    }

    async fn until_silent(&self, n: usize, is_silent: bool) {
        until_that(&self.channel, "a silence to begin or end", |status| {
            status.backends()[n].silence().is_some() == is_silent
        })
        .await;
    }
}

// D372, D378
#[tokio::test]
async fn calls_avoid_a_backend_that_stops_until_it_goes_on() {
    let logs = Logs::capture();
    let rig = Rig::new(["a", "b"]).await;
    until_backends(&rig.channel, &[Ready, Ready]).await;
    let held = rig.stop_first().await;
    let status = rig.channel.backends()[0].clone();
    assert_eq!(status.state(), TransientFailure);
    assert_eq!(status.connections(), 1, "it is kept");
    let silence = status.silence().expect("it is silent").clone();
    assert!(silence.since() <= status.since());
    let (cause, _) = status.last_error().expect("a reason");
    assert_eq!(cause.kind(), CauseKind::Silent);
    let why = "the peer has sent no bytes for 300ms, and no PING ACK within 300ms";
    assert_eq!((cause.text(), silence.to_string()), (why, why.to_owned()));
    assert_eq!(rig.channel.state(), Ready);

    // 1 of them is the probe, and has no end yet.
    let calls: Vec<_> = (0..60).map(|_| start(&rig.channel, "you")).collect();
    let mut probes = Vec::new();
    for call in calls {
        match tokio::time::timeout(SILENCE * 10, call).await {
            Ok(reply) => assert_eq!(reply.expect("no panic").expect("an answer").backend, "b"),
            Err(_) => probes.push(()),
        }
        if probes.len() == 1 {
            break;
        }
    }
    assert_eq!(rig.channel.backends()[0].calls_in_flight(), 2);

    rig.valves[0].set(Flow::Passes);
    rig.until_silent(0, false).await;
    until_backends(&rig.channel, &[Ready, Ready]).await;
    rig.backends[0].release();
    let reply = outcome(held).await.expect("its stream goes on");
    assert_eq!(reply.backend, "a");
    assert_eq!(rig.valves[0].connections(), 1);
    let all = rig.all();
    let spread = spread(&rig.channel, 20, &all).await;
    assert!(spread[0] >= 10, "as before, and the probe: {spread:?}");
    let warned = logs.at(Level::WARN, "tonic_health_channel::backend");
    let is_silent = |line: &&String| line.contains("the backend is silent");
    assert_eq!(warned.iter().filter(is_silent).count(), 1, "{warned:?}");
    assert!(warned.iter().any(|line| line.contains(why)), "{warned:?}");
    let told = logs.at(Level::INFO, "tonic_health_channel::backend");
    let is_over = |line: &&String| line.contains("the backend is no longer silent");
    assert_eq!(told.iter().filter(is_over).count(), 1, "{told:?}");
}

// D376
#[tokio::test]
async fn where_all_are_silent_calls_fail_but_for_1_probe() {
    let rig = Rig::new(["a"]).await;
    let held = rig.stop_first().await;
    until(&rig.channel, TransientFailure).await;
    let probe = start(&rig.channel, "you");
    until_that(&rig.channel, "the probe", |status| {
        status.backends()[0].calls_in_flight() == 2
    })
    .now_or_never();
    within("the probe", async {
        while rig.channel.backends()[0].calls_in_flight() < 2 {
            tokio::task::yield_now().await;
        }
    })
    .await;
    let text = refusal(&rig.channel).await;
    let why = "silent: the peer has sent no bytes for 300ms, and no PING ACK within 300ms";
    assert!(text.starts_with("no healthy backend: "), "{text}");
    assert!(text.contains(why), "{text}");
    let patient = start_patient(&rig.channel, "you");
    rig.valves[0].set(Flow::Passes);
    for call in [probe, patient] {
        outcome(call).await.expect("an answer");
    }
    rig.backends[0].release();
    outcome(held).await.expect("an answer");
    hello(&rig.channel).await.expect("all is well");
}

// D372
#[tokio::test]
async fn a_probe_whose_deadline_is_over_lets_another_go() {
    let rig = Rig::new(["a"]).await;
    let _held = rig.stop_first().await;
    for _ in 0..3 {
        let status = call(&rig.channel, request_within("you", SILENCE)).await;
        let status = status.expect_err("no answer comes");
        assert_eq!(status.code(), Code::DeadlineExceeded, "{status}");
    }
}

// D372
#[tokio::test]
async fn a_slow_handler_is_not_avoided() {
    let backend = Backend::start().await;
    let channel = balanced(&[&backend], None).silence(SILENCE / 10).build();
    until(&channel, Ready).await;
    let mut statuses = channel.watch_status();
    let held = start(&channel, "hold");
    backend.until_held(1).await;
    let not_ready = statuses.wait_for(|status| status.state() != Ready);
    let waited = tokio::time::timeout(SILENCE * 2, not_ready).await;
    assert!(waited.is_err(), "its server answers PINGs");
    backend.release();
    outcome(held).await.expect("an answer");
}

// D375
#[tokio::test(start_paused = true)]
async fn a_paused_clock_makes_no_peer_silent() {
    let backend = Backend::start().await;
    let channel = balanced(&[&backend], None).silence(SILENCE).build();
    until(&channel, Ready).await;
    for _ in 0..20 {
        let held = start(&channel, "hold");
        backend.until_held(1).await;
        tokio::time::advance(SILENCE).await;
        tokio::task::yield_now().await;
        tokio::time::advance(SILENCE * 4).await;
        assert_eq!(channel.backends()[0].silence(), None);
        backend.release();
        outcome(held).await.expect("an answer");
    }
}

// D373
#[tokio::test]
async fn other_balancers_see_no_silent_backend() {
    let rig = Rig::new(["a", "b"]).await;
    until_backends(&rig.channel, &[Ready, Ready]).await;
    let mut ready = rig.channel.ready_backends();
    let mut ids = Vec::new();
    for _ in 0..2 {
        match within("an Insert", ready.next()).await {
            Some(Ok(Change::Insert(id, _))) => ids.push(id),
            other => panic!("{other:?}"),
        }
    }
    let _held = rig.stop_first().await;
    match within("a Remove", ready.next()).await {
        Some(Ok(Change::Remove(id))) => assert_eq!(id, rig.channel.backends()[0].id()),
        other => panic!("{other:?}"),
    }
    rig.valves[0].set(Flow::Passes);
    match within("an Insert", ready.next()).await {
        Some(Ok(Change::Insert(id, _))) => assert_eq!(id, rig.channel.backends()[0].id()),
        other => panic!("{other:?}"),
    }
}

// D378
#[tokio::test]
async fn pick_first_goes_on_to_the_next_address() {
    let rig = Rig::with_policy(["a", "b"], "pick_first").await;
    assert_eq!(hello(&rig.channel).await.expect("an answer").backend, "a");
    let held = start(&rig.channel, "hold");
    rig.backends[0].until_held(1).await;
    rig.valves[0].set(Flow::Stands);
    until(&rig.channel, Idle).await;
    let reply = hello(&rig.channel).await.expect("an answer");
    assert_eq!(reply.backend, "b");
    rig.valves[0].set(Flow::Passes);
    rig.backends[0].release();
    outcome(held).await.expect("its stream goes on");
}

/// With each policy calls go to the others but for a probe, and later to all.
async fn check_policy(policy: &str) {
    let rig = Rig::with_policy(["a", "b", "c"], policy).await;
    until_backends(&rig.channel, &[Ready; 3]).await;
    let held = rig.stop_first().await;
    let others = [&rig.backends[1], &rig.backends[2]];
    let mut probe = None;
    let mut answered = 0;
    while answered < 60 {
        let call = start(&rig.channel, "you");
        match tokio::time::timeout(SILENCE * 3, call).await {
            Ok(reply) => {
                reply.expect("no panic").expect("an answer");
                answered += 1;
            }
            Err(_) => assert!(probe.replace(()).is_none(), "1 probe"),
        }
    }
    assert!(probe.is_some(), "1 of 60 calls, or more, is one");
    assert!(others.iter().all(|other| other.hits() > 5));
    rig.valves[0].set(Flow::Passes);
    until_backends(&rig.channel, &[Ready; 3]).await;
    rig.backends[0].release();
    outcome(held).await.expect("its stream goes on");
    let before = rig.backends[0].hits();
    for _ in 0..60 {
        hello(&rig.channel).await.expect("an answer");
    }
    assert!(rig.backends[0].hits() > before + 5);
}

// D376
#[tokio::test]
async fn round_robin_sends_a_silent_backend_1_probe() {
    check_policy("round_robin").await;
}

// D376
#[tokio::test]
async fn least_request_sends_a_silent_backend_1_probe_though_it_has_the_most_calls() {
    check_policy("least_request_experimental").await;
}

// D376
#[tokio::test]
async fn weighted_round_robin_sends_a_silent_backend_1_probe() {
    check_policy("weighted_round_robin").await;
}

// D377
#[tokio::test]
async fn ring_hash_sends_a_silent_backend_1_probe() {
    check_policy("ring_hash_experimental").await;
}

/// Its stream is of the old connection.
#[tokio::test]
async fn a_silent_backend_that_is_lost_is_dialled_again_and_is_not_silent() {
    let rig = Rig::new(["a", "b"]).await;
    until_backends(&rig.channel, &[Ready, Ready]).await;
    let mut chats = [
        Chat::start(&rig.channel).await,
        Chat::start(&rig.channel).await,
    ];
    let held = rig.stop_first().await;
    rig.backends[0].cut_connections();
    rig.valves[0].set(Flow::Passes);
    until_that(&rig.channel, "the new connection", |status| {
        let first = &status.backends()[0];
        first.state() == Ready && first.silence().is_none()
    })
    .await;
    let status = outcome(held).await.expect_err("its connection is gone");
    assert_eq!(status.code(), Code::Unavailable);
    let mut lost = 0;
    for chat in &mut chats {
        lost += usize::from(chat.greet("you").await.is_err());
    }
    assert_eq!(lost, 1);
    assert_ne!(rig.channel.state(), Connecting);
}
