//! Levels together with reports, ejections and gates.

use std::{
    collections::BTreeMap,
    num::NonZeroU32,
    sync::Arc,
    time::{Duration, Instant},
};

use crate::{
    attributes::{Attributes, Locality},
    balancer::{
        effects::{Effects, SubchannelId},
        levels::LevelSettings,
        machine::Balancer,
    },
    connectivity::ConnectivityState::{self, *},
    error::{Cause, CauseKind},
    health::HealthStatus::{self, *},
    routing::{BackendId, BackendStatus, Choice, Cursor, Pick, PickInfo, Picker},
    service_config::{LoadBalancingPolicy, RingHash},
    subchannel::Report,
    transport::Silence,
};

type Name = &'static str;

/// A machine with its time, and the gates of its subchannels as the task keeps them.
struct World {
    now: Instant,
    machine: Balancer<Name, u64>,
    cursor: Arc<Cursor>,
    /// Whether calls use each subchannel that runs in any state.
    open: BTreeMap<SubchannelId, bool>,
}

/// A call with random numbers that grow.
struct Call(u64);

impl PickInfo for Call {
    fn path(&self) -> &str {
        "/s/m"
    }

    fn headers(&mut self) -> &http::HeaderMap {
        unreachable!("no policy here asks for headers")
    }

    fn random(&mut self) -> u64 {
        self.0 += 1;
        self.0
    }
}

fn of_priority(priority: u32) -> Attributes {
    Attributes {
        priority,
        ..Attributes::default()
    }
}

fn in_zone(zone: &str) -> Attributes {
    Attributes {
        locality: Some(locality(zone)),
        ..Attributes::default()
    }
}

fn locality(zone: &str) -> Locality {
    Locality {
        zone: zone.to_owned(),
        ..Locality::default()
    }
}

impl World {
    fn new(settings: LevelSettings) -> Self {
        let mut machine = Balancer::new(true, true);
        machine.set_levels(settings, 7);
        Self {
            now: Instant::now(),
            machine,
            cursor: Arc::new(Cursor::new(0)),
            open: BTreeMap::new(),
        }
    }

    fn with_threshold(panic_threshold: u32) -> Self {
        Self::new(LevelSettings {
            panic_threshold,
            ..LevelSettings::default()
        })
    }

    /// A turn of the task.
    fn done(&mut self, effects: Effects<Name>) -> Effects<Name> {
        self.now += Duration::from_secs(1);
        let effects = effects.and(self.machine.apply_policy(self.now));
        for start in &effects.start {
            self.open.insert(start.id, start.in_panic);
        }
        for (id, open) in &effects.panic_gates {
            self.open.insert(*id, *open);
        }
        for id in &effects.stop {
            self.open.remove(id);
        }
        self.is_sound();
        effects
    }

    /// Checks the rules that hold at any time.
    #[track_caller]
    fn is_sound(&mut self) {
        let publication = self.machine.publication();
        let taking = publication.backends.iter().filter(|b| b.takes_calls());
        assert_eq!(taking.count(), publication.ready.len());
        for backend in publication.backends.iter() {
            let is_ready = backend.state() == Ready;
            assert!(!is_ready || backend.takes_calls(), "{backend}");
        }
        assert_eq!(publication.state == Ready, !publication.ready.is_empty());
        for backend in self.machine.backends.values() {
            let status = &backend.status;
            let panics = publication.priorities.iter();
            let mut panics = panics.filter(|priority| priority.is_in_panic());
            let in_panic = panics.any(|priority| priority.priority() == status.priority());
            let pending = backend
                .pending
                .as_ref()
                .map(|pending| pending.subchannel.id);
            for id in [Some(backend.current.id), pending].into_iter().flatten() {
                if let Some(open) = self.open.get(&id) {
                    assert_eq!(*open, in_panic, "the gate of {id:?}");
                }
            }
        }
        // Each call has a place in the picker.
        let ready = publication.ready.len();
        if let Some(picker) = self.machine.picker(self.now, &self.cursor)
            && let Pick::Send(candidates) = picker.pick(&mut Call(0))
        {
            assert_eq!(candidates.count(), ready);
        }
    }

    fn insert(&mut self, id: u64, attributes: Attributes) -> Effects<Name> {
        let effects = self.name(id, attributes);
        self.done(effects)
    }

    /// The turn goes on.
    fn name(&mut self, id: u64, attributes: Attributes) -> Effects<Name> {
        let (name, now) = (format!("10.0.0.{id}:1"), self.now);
        let (label, address) = (name.as_str().into(), name.as_str().into());
        self.machine
            .on_insert(now, BackendId(id), label, address, "e", attributes)
    }

    fn subchannel(&self, id: u64) -> SubchannelId {
        self.machine.backends[&BackendId(id)].current.id
    }

    fn report(
        &mut self,
        id: u64,
        state: ConnectivityState,
        health: HealthStatus,
        connected: bool,
    ) -> Effects<Name> {
        let cause = match state {
            TransientFailure => Some(Cause::new(CauseKind::Health, "NOT_SERVING")),
            _ => None,
        };
        let report = Report {
            state,
            health,
            cause,
            attempt: 0,
            next_attempt: None,
            connections: usize::from(connected),
            silence: None,
        };
        let (now, from) = (self.now, self.subchannel(id));
        let connection = connected.then_some(id);
        let effects = self.machine.on_report(now, from, report, connection);
        self.done(effects)
    }

    fn ready(&mut self, id: u64) {
        let _ = self.report(id, Ready, Serving, true);
    }

    fn unhealthy(&mut self, id: u64) -> Effects<Name> {
        self.report(id, TransientFailure, NotServing, true)
    }

    fn refused(&mut self, id: u64) {
        let _ = self.report(id, TransientFailure, NotChecked, false);
    }

    fn status(&self, id: u64) -> Arc<BackendStatus> {
        Arc::clone(&self.machine.backends[&BackendId(id)].status)
    }

    fn policy(&mut self, policy: &LoadBalancingPolicy) {
        let effects = self.machine.on_policy(self.now, policy.parts(), 0);
        let _ = self.done(effects);
    }

    /// How many of 100 calls, with the numbers 1 to 100, each backend has.
    fn spread(&mut self) -> BTreeMap<u64, usize> {
        let picker = self.machine.picker(self.now, &self.cursor);
        let picker = picker.expect("the channel is READY");
        let mut counts = BTreeMap::new();
        // A share is of 10,000 numbers, and a place on a ring is of all.
        let all_over = u64::MAX / 10_000 / 100 * 10_000;
        for number in 0..100 {
            let mut call = Call(number * 100 + number * all_over);
            let Pick::Send(mut candidates) = picker.pick(&mut call) else {
                panic!("no backend for a call")
            };
            let backend = candidates.next().expect("a backend");
            *counts.entry(*backend).or_insert(0) += 1;
        }
        counts
    }

    /// The load of each priority, in percent.
    fn loads(&self) -> Vec<u32> {
        let priorities = self.machine.publication().priorities;
        priorities.iter().map(|priority| priority.load()).collect()
    }
}

// N01, N02
#[test]
fn calls_go_to_the_first_priority_while_it_can_bear_them() {
    let mut world = World::new(LevelSettings::default());
    for (id, priority) in [(1, 0), (2, 0), (3, 1), (4, 1)] {
        let _ = world.insert(id, of_priority(priority));
        world.ready(id);
    }
    assert_eq!(world.spread(), BTreeMap::from([(1, 50), (2, 50)]));
    world.refused(1);
    assert_eq!(world.loads(), [70, 30]);
    assert_eq!(world.spread(), BTreeMap::from([(2, 70), (3, 15), (4, 15)]));
    world.refused(2);
    assert_eq!(world.spread(), BTreeMap::from([(3, 50), (4, 50)]));
    world.refused(3);
    world.refused(4);
    assert_eq!(world.machine.publication().state, TransientFailure);
    world.ready(1);
    assert_eq!(world.spread(), BTreeMap::from([(1, 100)]));
    world.ready(2);
    assert_eq!(world.spread(), BTreeMap::from([(1, 50), (2, 50)]));
}

// N10
#[test]
fn unhealthy_and_ejected_backends_fail_over_as_lost_ones() {
    let mut world = World::new(LevelSettings::default());
    for (id, priority) in [(1, 0), (2, 1)] {
        let _ = world.insert(id, of_priority(priority));
        world.ready(id);
    }
    let _ = world.unhealthy(1);
    assert_eq!(world.spread(), BTreeMap::from([(2, 100)]));
}

// N06
#[test]
fn a_priority_without_backends_has_no_calls() {
    let mut world = World::new(LevelSettings::default());
    let _ = world.insert(1, of_priority(3));
    world.ready(1);
    assert_eq!(world.spread(), BTreeMap::from([(1, 100)]));
    let _ = world.insert(2, of_priority(0));
    world.ready(2);
    assert_eq!(world.spread(), BTreeMap::from([(2, 100)]));
    let effects = world.machine.on_remove(world.now, BackendId(2));
    let _ = world.done(effects);
    assert_eq!(world.spread(), BTreeMap::from([(1, 100)]));
}

// N08, D420
#[test]
fn other_attributes_keep_the_connection() {
    let mut world = World::new(LevelSettings::default());
    for (id, priority) in [(1, 0), (2, 1)] {
        let _ = world.insert(id, of_priority(priority));
        world.ready(id);
    }
    let since = world.status(2).since();
    let effects = world.insert(2, of_priority(0));
    assert!(effects.start.is_empty() && effects.stop.is_empty());
    assert!(effects.changed, "it is published");
    assert_eq!(world.spread(), BTreeMap::from([(1, 50), (2, 50)]));
    assert_eq!(world.status(2).since(), since, "its state is as it was");
    let effects = world.insert(2, of_priority(0));
    assert!(!effects.changed, "the same is no news");

    let weighty = Attributes {
        weight: NonZeroU32::new(5).unwrap(),
        hash_key: Some("two".into()),
        ..of_priority(0)
    };
    let effects = world.insert(2, weighty);
    assert!(effects.start.is_empty() && effects.changed);
    assert_eq!(world.status(2).weight().get(), 5);
    assert_eq!(world.status(2).hash_key(), Some("two"));
}

// D430
#[test]
fn the_nearest_backends_have_the_calls() {
    let mut world = World::new(LevelSettings {
        locality: Some(locality("a")),
        ..LevelSettings::default()
    });
    for (id, zone) in [(1, "a"), (2, "a"), (3, "b"), (4, "b")] {
        let _ = world.insert(id, in_zone(zone));
        world.ready(id);
    }
    assert_eq!(world.spread(), BTreeMap::from([(1, 50), (2, 50)]));
    world.refused(1);
    assert_eq!(world.spread(), BTreeMap::from([(2, 70), (3, 15), (4, 15)]));
    assert_eq!(world.loads(), [100], "the priority bears all");
}

// D429
#[test]
fn a_channel_that_starts_does_not_spill_over() {
    let mut world = World::new(LevelSettings::default());
    for (id, priority) in [(1, 0), (2, 0), (3, 0), (4, 1)] {
        let _ = world.insert(id, of_priority(priority));
    }
    world.ready(4);
    assert_eq!(
        world.spread(),
        BTreeMap::from([(4, 100)]),
        "it is all there is"
    );
    world.ready(1);
    assert_eq!(world.spread(), BTreeMap::from([(1, 100)]));
    world.refused(2);
    assert_eq!(world.loads(), [70, 30], "1 of 2 that are known");
}

// N26
#[test]
fn in_panic_calls_go_to_all_that_are_connected() {
    let mut world = World::with_threshold(50);
    for id in 1..=4 {
        let _ = world.insert(id, of_priority(0));
        world.ready(id);
    }
    let _ = world.unhealthy(1);
    assert_eq!(world.spread().len(), 3, "3 of 4 are enough");
    world.refused(2);
    assert_eq!(world.spread().len(), 2, "2 of 4 are not below 50 %");
    let effects = world.unhealthy(3);
    assert_eq!(effects.panics.len(), 1, "it is logged");
    assert!(world.machine.publication().priorities[0].is_in_panic());
    let spread = world.spread();
    assert_eq!(spread.keys().copied().collect::<Vec<_>>(), [1, 3, 4]);
    assert_eq!(world.status(1).state(), TransientFailure, "shown as it is");
    assert!(world.status(1).takes_calls());
    assert!(!world.status(2).takes_calls(), "it is not connected");

    let _ = world.unhealthy(4);
    assert_eq!(world.machine.publication().state, Ready, "calls are tried");
    assert_eq!(world.spread().len(), 3);

    for id in [1, 3, 4] {
        world.ready(id);
    }
    assert!(!world.machine.publication().priorities[0].is_in_panic());
    let _ = world.unhealthy(1);
    assert_eq!(world.spread().len(), 2, "only healthy ones");
}

// N26
#[test]
fn without_a_threshold_calls_fail_where_all_are_unhealthy() {
    let mut world = World::with_threshold(0);
    for id in 1..=2 {
        let _ = world.insert(id, of_priority(0));
        let _ = world.unhealthy(id);
    }
    assert_eq!(world.machine.publication().state, TransientFailure);
    assert!(world.machine.publication().ready.is_empty());
}

// D431
#[test]
fn panic_ends_with_idle_and_begins_anew() {
    let mut world = World::with_threshold(50);
    let _ = world.insert(1, of_priority(0));
    let _ = world.unhealthy(1);
    assert!(world.status(1).takes_calls());
    let effects = world.machine.on_idle(world.now);
    let _ = world.done(effects);
    assert!(!world.status(1).takes_calls());
    assert!(world.machine.publication().priorities.is_empty());
    let effects = world.machine.on_connect(world.now);
    let _ = world.done(effects);
    assert!(!world.status(1).takes_calls(), "it is not known yet");
    let _ = world.unhealthy(1);
    assert!(world.status(1).takes_calls());
}

// D432
#[test]
fn a_subchannel_that_starts_in_panic_is_open() {
    let mut world = World::with_threshold(50);
    let _ = world.insert(1, of_priority(0));
    let _ = world.unhealthy(1);
    let now = world.now;
    let (label, address) = ("moved".into(), "10.0.0.9:1".into());
    let id = BackendId(1);
    let effects = world
        .machine
        .on_insert(now, id, label, address, "other", Attributes::default());
    let effects = world.done(effects);
    assert_eq!(effects.start.len(), 1);
    assert!(effects.start[0].in_panic);
}

// D433
#[test]
fn each_level_has_a_ring_of_its_own() {
    let mut world = World::new(LevelSettings::default());
    world.policy(&LoadBalancingPolicy::RingHash(RingHash::default()));
    for (id, priority) in [(1, 0), (2, 0), (3, 1)] {
        let _ = world.insert(id, of_priority(priority));
        world.ready(id);
    }
    assert_eq!(world.spread().keys().copied().collect::<Vec<_>>(), [1, 2]);
    world.refused(1);
    let choice = world.machine.choice(world.now, &world.cursor);
    assert!(matches!(choice, Choice::ByLevel(_)));
    assert_eq!(world.spread(), BTreeMap::from([(2, 70), (3, 30)]));
}

// D434
#[test]
fn pick_first_begins_with_the_first_level() {
    let mut world = World::new(LevelSettings::default());
    world.policy(&LoadBalancingPolicy::PickFirst {
        shuffle_address_list: true,
    });
    let mut first = Vec::new();
    for (id, priority) in [(1, 2), (2, 1), (3, 1)] {
        first = world.insert(id, of_priority(priority)).start;
    }
    let _ = first;
    let effects = world.machine.on_idle(world.now);
    let _ = world.done(effects);
    let effects = world.machine.on_connect(world.now);
    let effects = world.done(effects);
    let started: Vec<_> = effects.start.iter().map(|start| start.backend.0).collect();
    assert!(!started.is_empty() && !started.contains(&1), "{started:?}");
}

// D435
#[test]
fn a_silent_backend_counts_as_failed_and_gets_probes() {
    let mut world = World::new(LevelSettings::default());
    for (id, priority) in [(1, 0), (2, 0), (3, 1)] {
        let _ = world.insert(id, of_priority(priority));
        world.ready(id);
    }
    let (now, from) = (world.now, world.subchannel(1));
    let silence = Silence {
        since: now,
        limit: Duration::from_secs(1),
    };
    let report = Report {
        state: Ready,
        health: Serving,
        cause: None,
        attempt: 0,
        next_attempt: None,
        connections: 1,
        silence: Some(silence),
    };
    let effects = world.machine.on_report(now, from, report, Some(1));
    let _ = world.done(effects);
    assert_eq!(world.loads(), [70, 30]);
    assert_eq!(world.machine.publication().silent, [1]);
    let picker = world.machine.picker(world.now, &world.cursor);
    assert!(matches!(picker, Some(Picker::ReadyAndSilent { .. })));
}

// D431
#[test]
fn backends_that_change_places_change_their_panic_too() {
    let mut world = World::with_threshold(50);
    for (id, priority) in [(1, 0), (2, 0), (3, 1), (4, 1)] {
        let _ = world.insert(id, of_priority(priority));
        let _ = world.unhealthy(id);
    }
    world.ready(3);
    assert!(world.status(1).takes_calls(), "priority 0 is in panic");
    assert!(!world.status(4).takes_calls(), "priority 1 is not");
    // In 1 turn, after which each priority has as many as before.
    let first = world.name(1, of_priority(1));
    let both = first.and(world.name(4, of_priority(0)));
    let _ = world.done(both);
    assert!(world.status(4).takes_calls());
    assert!(!world.status(1).takes_calls());
}
