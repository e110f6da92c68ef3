//! An ejection together with each report of a subchannel.

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, Instant},
};

use crate::{
    attributes::Attributes,
    balancer::{
        effects::{Effects, SubchannelId},
        machine::Balancer,
    },
    connectivity::ConnectivityState::{self, *},
    error::{Cause, CauseKind},
    health::HealthStatus::{self, NotChecked, NotServing, Pending, Serving},
    routing::{BackendId, BackendStatus},
    service_config::{
        FailurePercentageEjection, LoadBalancingPolicy, OutlierDetection, SuccessRateEjection,
    },
    subchannel::Report,
};

type Name = &'static str;

const INTERVAL: Duration = Duration::from_secs(10);

/// A machine with its time, and the gates of its subchannels as the task keeps them.
struct World {
    now: Instant,
    machine: Balancer<Name, Name>,
    /// Whether the gate of each subchannel that runs is closed.
    closed: BTreeMap<u64, bool>,
    next: u64,
}

/// Ejects each backend with a failure, up to half of them.
fn detection() -> OutlierDetection {
    OutlierDetection {
        interval: INTERVAL,
        max_ejection_percent: 50,
        success_rate_ejection: None,
        failure_percentage_ejection: Some(FailurePercentageEjection {
            threshold: 0,
            minimum_hosts: 1,
            request_volume: 1,
            ..FailurePercentageEjection::default()
        }),
        ..OutlierDetection::default()
    }
}

fn round_robin() -> LoadBalancingPolicy {
    LoadBalancingPolicy::RoundRobin.with_outlier_detection(detection())
}

impl World {
    /// Backends 1, 2, … at `a`, each READY.
    fn new(backends: u64) -> Self {
        let mut world = Self {
            now: Instant::now(),
            machine: Balancer::new(true, true),
            closed: BTreeMap::new(),
            next: 0,
        };
        let _ = world.policy(&round_robin());
        for id in 1..=backends {
            let subchannel = world.insert(id, "a").expect("it starts");
            world.ready(subchannel);
        }
        world
    }

    fn done(&mut self, effects: Effects<Name>) -> Effects<Name> {
        let settled = self.machine.apply_policy(self.now);
        let effects = effects.and(settled);
        for id in &effects.stop {
            self.closed.remove(&id.0);
        }
        for start in &effects.start {
            self.closed.insert(start.id.0, start.is_ejected);
        }
        for change in &effects.ejections {
            if let Some(closed) = self.closed.get_mut(&change.subchannel.0) {
                *closed = change.ejection.is_some();
            }
        }
        self.is_sound();
        effects
    }

    fn policy(&mut self, policy: &LoadBalancingPolicy) -> Effects<Name> {
        let effects = self.machine.on_policy(self.now, policy.parts(), 0);
        self.done(effects)
    }

    /// The subchannel that starts by that, if one does.
    fn insert(&mut self, id: u64, address: Name) -> Option<u64> {
        self.insert_as(id, address, address)
    }

    fn insert_as(&mut self, id: u64, address: Name, endpoint: Name) -> Option<u64> {
        let label = format!("backend {id}").into();
        let (id, attributes) = (BackendId(id), Attributes::default());
        let effects =
            self.machine
                .on_insert(self.now, id, label, address.into(), endpoint, attributes);
        let effects = self.done(effects);
        effects.start.first().map(|start| start.id.0)
    }

    fn report(
        &mut self,
        subchannel: u64,
        report: Report,
        connection: Option<Name>,
    ) -> Effects<Name> {
        let id = SubchannelId(subchannel);
        let effects = self.machine.on_report(self.now, id, report, connection);
        self.done(effects)
    }

    fn ready(&mut self, subchannel: u64) {
        let _ = self.report(subchannel, report(Ready, Serving, None), Some("c"));
    }

    fn fail(&self, id: u64) {
        self.status(id).calls.add_outcomes(0, 1);
    }

    /// The next interval is over.
    fn sweep(&mut self) -> Effects<Name> {
        self.now += INTERVAL;
        self.done(Effects::none())
    }

    fn eject(&mut self, id: u64) {
        self.fail(id);
        let _ = self.sweep();
        assert!(self.status(id).ejection().is_some(), "it is ejected");
    }

    fn status(&self, id: u64) -> Arc<BackendStatus> {
        let backends = self.machine.publication().backends;
        let found = backends.iter().find(|backend| backend.id.0 == id);
        Arc::clone(found.expect("there is one"))
    }

    #[track_caller]
    fn has_ejected(&self, expected: &[u64]) {
        let backends = self.machine.publication().backends;
        let ejected = backends
            .iter()
            .filter(|backend| backend.ejection().is_some());
        let ejected: Vec<_> = ejected.map(|backend| backend.id.0).collect();
        assert_eq!(ejected, expected);
    }

    /// Checks the rules that hold at any time.
    #[track_caller]
    fn is_sound(&self) {
        let publication = self.machine.publication();
        let ready = publication.backends.iter().filter(|b| b.state == Ready);
        assert_eq!(ready.count(), publication.ready.len());
        for backend in self.machine.backends.values() {
            let is_ejected = backend.status.ejection.is_some();
            if is_ejected {
                assert_eq!(backend.status.state, TransientFailure);
                assert!(backend.pending.is_none());
            }
            let subchannels = [
                Some(&backend.current),
                backend.pending.as_ref().map(|pending| &pending.subchannel),
            ];
            for subchannel in subchannels.into_iter().flatten() {
                if let Some(closed) = self.closed.get(&subchannel.id.0) {
                    assert_eq!(*closed, is_ejected, "the gate of {:?}", subchannel.id);
                }
            }
        }
    }
}

fn report(state: ConnectivityState, health: HealthStatus, cause: Option<Cause>) -> Report {
    Report {
        state,
        health,
        cause,
        attempt: 0,
        next_attempt: None,
        connections: 0,
    }
}

fn refused() -> Report {
    let cause = Cause::new(CauseKind::Connect, "refused");
    report(TransientFailure, NotChecked, Some(cause))
}

fn unhealthy() -> Report {
    let cause = Cause::new(CauseKind::Health, "NOT_SERVING");
    report(TransientFailure, NotServing, Some(cause))
}

// O15, O16
#[test]
fn what_is_ejected_is_failing_whatever_is_reported_and_then_as_it_is() {
    let reports = [
        (report(Ready, Serving, None), Some("c")),
        (report(Connecting, NotChecked, None), None),
        (report(Connecting, Pending, None), None),
        (unhealthy(), None),
        (refused(), None),
    ];
    for (reported, connection) in reports {
        let mut world = World::new(2);
        world.eject(2);
        let _ = world.report(1, reported.clone(), connection);
        let status = world.status(2);
        assert_eq!(status.state(), TransientFailure, "{reported:?}");
        assert_eq!(status.health(), reported.health, "{reported:?}");
        let (cause, _) = status.last_error().expect("it fails");
        assert_eq!(
            cause.to_string(),
            "ejected by outlier detection: failure percentage 100.00 % is above 0.00 % \
             (1 attempt)"
        );
        assert_eq!(
            world.machine.publication().ready,
            ["c"],
            "only the other one's"
        );

        world.now += Duration::from_secs(60);
        let _ = world.done(Effects::none());
        let status = world.status(2);
        assert_eq!(status.ejection(), None);
        assert_eq!(status.state(), reported.state, "{reported:?}");
        let ready = 1 + usize::from(reported.state == Ready);
        assert_eq!(world.machine.publication().ready.len(), ready);
        if let Some(cause) = reported.cause {
            let (shown, _) = status.last_error().expect("it fails");
            assert_eq!(*shown, cause);
        }
    }
}

#[test]
fn an_ejection_is_published_and_a_reason_to_look_for_others() {
    let mut world = World::new(2);
    world.fail(2);
    let effects = world.sweep();
    assert!(effects.changed && effects.trouble);
    let [change] = &effects.ejections[..] else {
        panic!("one ejection: {effects:?}");
    };
    assert_eq!(
        (change.subchannel, &*change.label),
        (SubchannelId(1), "backend 2")
    );
    assert!(!change.goes_on);
    let effects = world.sweep();
    assert!(!effects.changed, "nothing is new");
    world.now += Duration::from_secs(60);
    let effects = world.done(Effects::none());
    assert!(effects.changed && !effects.trouble);
    assert!(effects.ejections[0].ejection.is_none());
}

// O26
#[test]
fn all_may_be_ejected_and_the_channel_fails() {
    let mut world = World::new(2);
    let mut all = detection();
    all.max_ejection_percent = 100;
    let _ = world.policy(&LoadBalancingPolicy::RoundRobin.with_outlier_detection(all));
    world.fail(1);
    world.fail(2);
    let _ = world.sweep();
    world.has_ejected(&[1, 2]);
    assert_eq!(world.machine.publication().state, TransientFailure);
}

// O12
#[test]
fn without_an_algorithm_all_are_back_at_once_and_nothing_is_counted() {
    let mut nothing = detection();
    nothing.failure_percentage_ejection = None;
    for policy in [
        LoadBalancingPolicy::RoundRobin.with_outlier_detection(nothing.clone()),
        LoadBalancingPolicy::RoundRobin,
    ] {
        let mut world = World::new(2);
        world.eject(2);
        let effects = world.policy(&policy);
        assert!(effects.changed);
        world.has_ejected(&[]);
        assert_eq!(world.machine.deadline(), None);
        assert!(!world.status(2).calls.records_outcomes());

        // It begins anew, with what is counted from then on.
        world.fail(2);
        let _ = world.policy(&round_robin());
        assert!(world.status(2).calls.records_outcomes());
        let _ = world.sweep();
        world.has_ejected(&[]);
        world.eject(2);
        assert_eq!(world.status(2).ejection().map(|e| e.multiplier()), Some(1));
    }
}

#[test]
fn another_config_loses_nothing() {
    let mut world = World::new(4);
    world.eject(2);
    world.fail(3);
    let mut other = detection();
    other.success_rate_ejection = Some(SuccessRateEjection::default());
    other.base_ejection_time = Duration::from_secs(15);
    let effects = world.policy(&LoadBalancingPolicy::RoundRobin.with_outlier_detection(other));
    assert!(effects.changed, "it is shown when it ends");
    assert!(effects.ejections[0].goes_on);
    let ejection = world.status(2).ejection().cloned().expect("it is ejected");
    assert_eq!(ejection.until() - ejection.since(), Duration::from_secs(15));
    let _ = world.sweep();
    world.has_ejected(&[2, 3]);
}

// D358
#[test]
fn the_members_of_a_subset_are_judged_among_themselves() {
    let mut world = World::new(4);
    // All have one address, so the first ones are the members.
    let _ = world.policy(&round_robin().with_random_subsetting(2));
    for id in 1..=4 {
        world.fail(id);
    }
    let _ = world.sweep();
    // Half of 2, and not half of 4.
    world.has_ejected(&[1]);
}

// O20
#[test]
fn pick_first_ejects_none() {
    let pick_first = LoadBalancingPolicy::PickFirst {
        shuffle_address_list: false,
    };
    let pick_first = pick_first.with_outlier_detection(detection());
    let mut world = World::new(2);
    world.eject(2);
    let _ = world.policy(&pick_first);
    world.has_ejected(&[]);
    assert!(!world.status(1).calls.records_outcomes());
    for _ in 0..3 {
        world.fail(1);
        let _ = world.sweep();
        world.has_ejected(&[]);
    }
}

// D326
#[test]
fn idle_takes_back_all_that_are_ejected() {
    let mut world = World::new(2);
    world.eject(2);
    world.fail(1);
    let effects = world.machine.on_idle(world.now);
    let _ = world.done(effects);
    world.has_ejected(&[]);
    assert_eq!(world.status(2).state(), Idle);
    assert_eq!(
        world.machine.deadline(),
        None,
        "nothing is looked at in IDLE"
    );
    world.now += 10 * INTERVAL;
    let effects = world.machine.on_connect(world.now);
    let effects = world.done(effects);
    assert_eq!(effects.start.len(), 2);
    assert_eq!(world.machine.deadline(), Some(world.now + INTERVAL));
    let _ = world.sweep();
    world.has_ejected(&[]);
}

// O18
#[test]
fn a_backend_that_is_removed_and_named_again_is_fresh() {
    let mut world = World::new(2);
    world.eject(2);
    let effects = world.machine.on_remove(world.now, BackendId(2));
    let _ = world.done(effects);
    let subchannel = world.insert(3, "a").expect("it starts");
    world.ready(subchannel);
    assert_eq!(world.status(3).state(), Ready);
    world.eject(3);
    assert_eq!(world.status(3).ejection().map(|e| e.multiplier()), Some(1));
}

// O18
#[test]
fn a_backend_at_another_address_is_fresh_and_with_other_options_it_is_not() {
    let mut world = World::new(2);
    world.eject(2);
    let other_options = world
        .insert_as(2, "a", "a, other options")
        .expect("it starts");
    assert!(world.closed[&other_options], "it is still ejected");
    world.ready(other_options);
    world.has_ejected(&[2]);

    world.fail(2);
    let elsewhere = world.insert(2, "b").expect("it starts");
    assert!(!world.closed[&elsewhere]);
    world.has_ejected(&[]);
    assert_eq!(world.status(2).state(), Connecting);
    world.ready(elsewhere);
    let _ = world.sweep();
    world.has_ejected(&[]);
}

#[test]
fn an_ejection_promotes_a_replacement_that_is_on_its_way() {
    for (address, still_ejected) in [("a", &[2][..]), ("b", &[])] {
        let mut world = World::new(2);
        let next = world.insert_as(2, address, "other").expect("it starts");
        assert_eq!(
            world.status(2).state(),
            Ready,
            "calls go to the current one"
        );
        world.fail(2);
        let effects = world.sweep();
        assert_eq!(effects.stop, [SubchannelId(1)]);
        world.has_ejected(still_ejected);
        assert_eq!(world.closed[&next], !still_ejected.is_empty());
    }
}

#[test]
fn a_task_that_is_started_again_is_ejected_still() {
    let mut world = World::new(2);
    world.eject(2);
    let start = world.machine.start_again(SubchannelId(1)).expect("it runs");
    assert!(start.is_ejected);
}

#[test]
fn a_channel_that_is_closed_has_no_more_sweeps() {
    let mut world = World::new(2);
    world.eject(2);
    let effects = world.machine.on_shutdown();
    let _ = world.done(effects);
    assert_eq!(world.machine.deadline(), None);
}

/// Gates, states and connections agree after inputs in any order.
#[test]
fn a_random_walk_keeps_gates_and_states_together() {
    for seed in 0..300 {
        let mut rng = fastrand::Rng::with_seed(seed);
        let mut world = World::new(3);
        world.next = 4;
        for _ in 0..60 {
            let running: Vec<_> = world.closed.keys().copied().collect();
            let backends = world.machine.publication().backends;
            let id = rng.choice(&backends[..]).map_or(1, |backend| backend.id.0);
            match rng.u8(0..14) {
                0..=2 => {
                    world.now += INTERVAL;
                    let _ = world.done(Effects::none());
                }
                3..=4 if !backends.is_empty() => world.fail(id),
                5..=8 if !running.is_empty() => {
                    let subchannel = running[rng.usize(..running.len())];
                    let _ = match rng.u8(0..4) {
                        0 => world.report(subchannel, refused(), None),
                        1 => world.report(subchannel, unhealthy(), None),
                        2 => world.report(subchannel, report(Connecting, NotChecked, None), None),
                        _ => world.report(subchannel, report(Ready, Serving, None), Some("c")),
                    };
                }
                9 => {
                    let (address, endpoint) = [("a", "a"), ("a", "x"), ("b", "b")][rng.usize(..3)];
                    world.insert_as(id, address, endpoint);
                }
                10 => {
                    world.insert(world.next, "a");
                    world.next += 1;
                }
                11 => {
                    let effects = world.machine.on_remove(world.now, BackendId(id));
                    let _ = world.done(effects);
                }
                12 => {
                    let effects = match rng.bool() {
                        true => world.machine.on_idle(world.now),
                        false => world.machine.on_connect(world.now),
                    };
                    let _ = world.done(effects);
                }
                13 => {
                    let pick_first = LoadBalancingPolicy::PickFirst {
                        shuffle_address_list: false,
                    };
                    let policies = [
                        round_robin(),
                        LoadBalancingPolicy::RoundRobin,
                        pick_first.with_outlier_detection(detection()),
                    ];
                    let _ = world.policy(&policies[rng.usize(..3)]);
                }
                _ => {}
            }
        }
    }
}
