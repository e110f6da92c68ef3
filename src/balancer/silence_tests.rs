//! A silence together with each report of a subchannel.

use std::time::{Duration, Instant};

use super::{
    backend::{Backend, Named, Reported, RunningSubchannels, initial_report},
    effects::{Effects, SubchannelId},
    machine::{Balancer, Publication},
};
use crate::{
    attributes::Attributes,
    connectivity::ConnectivityState::{self, *},
    error::{Cause, CauseKind},
    health::HealthStatus::{NotChecked, NotServing},
    routing::{BackendId, BackendStatus, DetectionMethod, Ejection, Outlier},
    service_config::LoadBalancingPolicy,
    subchannel::Report,
    transport::{BackendCalls, Silence},
};

type Name = &'static str;

struct World {
    now: Instant,
    machine: Balancer<Name, Name>,
}

fn silence(since: Instant) -> Silence {
    let limit = Duration::from_secs(1);
    Silence { since, limit }
}

fn report(state: ConnectivityState) -> Report {
    Report {
        state,
        health: NotChecked,
        cause: None,
        attempt: 0,
        next_attempt: None,
        connections: 1,
        silence: None,
    }
}

impl World {
    /// Backends 0, 1, … with connections `a`, `b`, …, each READY.
    fn new(policy: LoadBalancingPolicy, backends: usize) -> Self {
        let now = Instant::now();
        let mut machine = Balancer::new(true, true);
        let _ = machine.on_policy(now, policy.parts(), 0);
        let mut world = Self { now, machine };
        for (id, name) in (0..).zip(&NAMES[..backends]) {
            let (label, address) = ((*name).into(), (*name).into());
            let machine = &mut world.machine;
            let _ = machine.on_insert(
                now,
                BackendId(id),
                label,
                address,
                "e",
                Attributes::default(),
            );
            let _ = machine.apply_policy(now);
        }
        for id in 0..backends as u64 {
            let _ = world.hear(id, report(Ready));
        }
        world
    }

    /// The subchannels have the numbers of their backends.
    fn hear(&mut self, id: u64, report: Report) -> Effects<Name> {
        self.now += Duration::from_secs(1);
        let connection = (report.state == Ready).then_some(NAMES[id as usize]);
        let effects = self
            .machine
            .on_report(self.now, SubchannelId(id), report, connection);
        effects.and(self.machine.apply_policy(self.now))
    }

    fn fall_silent(&mut self, id: u64) -> Effects<Name> {
        let silence = Some(silence(self.now));
        let report = report(Ready);
        self.hear(id, Report { silence, ..report })
    }

    fn publication(&self) -> Publication<Name> {
        self.machine.publication()
    }

    fn status(&self, id: usize) -> BackendStatus {
        (*self.publication().backends[id]).clone()
    }
}

const NAMES: [Name; 3] = ["a", "b", "c"];
const ROUND_ROBIN: LoadBalancingPolicy = LoadBalancingPolicy::RoundRobin;

// D378
#[test]
fn a_silent_backend_fails_and_keeps_its_connection_for_probes() {
    let mut world = World::new(ROUND_ROBIN, 3);
    let effects = world.fall_silent(1);
    assert!(effects.changed && effects.trouble, "its source is asked");
    assert!(effects.stop.is_empty());
    let publication = world.publication();
    assert_eq!(publication.state, Ready);
    assert_eq!(
        (publication.ready, publication.silent),
        (vec!["a", "c"], vec!["b"])
    );
    let status = world.status(1);
    assert_eq!(status.state(), TransientFailure);
    assert_eq!(status.since(), world.now);
    assert!(status.silence().is_some());
    let (cause, at) = status.last_error().expect("a reason");
    assert_eq!((cause.kind(), at), (CauseKind::Silent, world.now));
    assert_eq!(
        cause.to_string(),
        "silent: the peer has sent no bytes for 1s, and no PING ACK within 1s"
    );

    let effects = world.hear(1, report(Ready));
    assert!(effects.changed && !effects.trouble);
    let publication = world.publication();
    assert_eq!(publication.ready, NAMES);
    assert!(publication.silent.is_empty());
    let status = world.status(1);
    assert_eq!((status.state(), status.silence()), (Ready, None));
}

// D378
#[test]
fn where_all_are_silent_the_channel_fails() {
    let mut world = World::new(ROUND_ROBIN, 2);
    for id in 0..2 {
        let _ = world.fall_silent(id);
    }
    let publication = world.publication();
    assert_eq!(publication.state, TransientFailure);
    assert!(publication.ready.is_empty());
    assert_eq!(publication.silent, ["a", "b"]);
}

// D378
#[test]
fn what_is_lost_or_unhealthy_is_not_silent() {
    for (state, health) in [
        (Connecting, NotChecked),
        (TransientFailure, NotServing),
        (TransientFailure, NotChecked),
    ] {
        let mut world = World::new(ROUND_ROBIN, 2);
        let _ = world.fall_silent(0);
        let cause = Cause::new(CauseKind::Health, "NOT_SERVING");
        let _ = world.hear(
            0,
            Report {
                health,
                cause: Some(cause.clone()),
                ..report(state)
            },
        );
        let status = world.status(0);
        assert_eq!((status.state(), status.silence()), (state, None));
        let told = status.last_error().map(|(cause, _)| cause.clone());
        assert_eq!(told, Some(cause));
        assert!(world.publication().silent.is_empty());
    }
}

// D378
#[test]
fn pick_first_looks_for_another_backend() {
    let policy = LoadBalancingPolicy::PickFirst {
        shuffle_address_list: false,
    };
    let mut world = World::new(policy, 1);
    assert_eq!(world.publication().state, Ready);
    let effects = world.fall_silent(0);
    assert_eq!(effects.stop, [SubchannelId(0)], "it begins a new pass");
    assert_eq!(world.publication().state, Idle);
}

// D378
#[test]
fn a_replacement_does_not_wait_for_the_end_of_a_silence() {
    let mut world = World::new(ROUND_ROBIN, 1);
    let now = world.now;
    let effects = world.machine.on_insert(
        now,
        BackendId(0),
        "a".into(),
        "a".into(),
        "other",
        Attributes::default(),
    );
    assert!(effects.stop.is_empty(), "it is READY");
    let effects = world.fall_silent(0);
    assert_eq!(effects.stop, [SubchannelId(0)]);
}

// D378
#[test]
fn an_ejection_keeps_probes_away_too() {
    let now = Instant::now();
    let id = BackendId(0);
    let mut running = RunningSubchannels::default();
    let subchannel = running.create("a".into(), "e");
    let from = subchannel.id;
    let calls = BackendCalls::default();
    let mut backend = Backend::new(
        now,
        Named {
            id,
            label: "a".into(),
            attributes: Attributes::default(),
        },
        subchannel,
        initial_report(true),
        calls,
    );
    let silence = Some(silence(now));
    let reported = Reported {
        report: Report {
            silence,
            ..report(Ready)
        },
        connection: Some("connection"),
    };
    let _ = backend.on_report(now, from, reported);
    assert_eq!(backend.probed(), Some(&"connection"));

    let ejection = Ejection {
        since: now,
        until: now,
        multiplier: 1,
        outlier: Outlier {
            method: DetectionMethod::SuccessRate,
            percentage: 50.0,
            bound: 75.0,
            volume: 100,
        },
    };
    let _ = backend.set_ejection(now, Some(ejection.into()));
    assert_eq!((backend.probed(), backend.connection), (None, None));
    let (cause, _) = backend.status.last_error().expect("a reason");
    assert_eq!(cause.kind(), CauseKind::Ejected);
    assert!(backend.status.silence().is_some(), "it is told as well");

    let _ = backend.set_ejection(now, None);
    assert_eq!(backend.probed(), Some(&"connection"));
    let (cause, _) = backend.status.last_error().expect("a reason");
    assert_eq!(cause.kind(), CauseKind::Silent);
}
