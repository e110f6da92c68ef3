//! Which subchannels run, by the policy in force.
//!
//! `round_robin` runs them all, from the moment a backend is named. `pick_first` is
//! asked once per turn of the task, when the turn's changes are all known.
//!
//! Policies share the subchannels, so one that takes over begins with the connections
//! that the other had: no call fails for the change, and none waits.

use std::time::Instant;

use super::{
    effects::Effects,
    machine::{Balancer, ChannelPhase},
    policy::{BackendView, Decision, PickFirst, Policy},
};
use crate::{
    connectivity::ConnectivityState, routing::BackendId, service_config::LoadBalancingPolicy,
};

impl<E: Clone + PartialEq, C: Clone + PartialEq> Balancer<E, C> {
    /// The service config names this policy. `seed` is for what it leaves to chance.
    pub(crate) fn on_policy(
        &mut self,
        now: Instant,
        policy: LoadBalancingPolicy,
        seed: u64,
    ) -> Effects<E> {
        if self.phase == ChannelPhase::Closed {
            return Effects::none();
        }
        let before = self.state();
        let mut effects = match policy {
            LoadBalancingPolicy::RoundRobin => {
                self.policy = Policy::RoundRobin;
                self.start_all(now)
            }
            LoadBalancingPolicy::PickFirst {
                shuffle_address_list: shuffle,
            } => {
                self.pick_first(now, shuffle.then_some(seed));
                self.apply_policy(now)
            }
        };
        effects.changed |= self.state() != before;
        effects
    }

    fn pick_first(&mut self, now: Instant, shuffle: Option<u64>) {
        match &mut self.policy {
            Policy::PickFirst(pick_first) => pick_first.shuffle(shuffle),
            Policy::RoundRobin => {
                let all = self.backends.values();
                let running = all.filter(|backend| self.running.has(backend));
                let running = running.map(|backend| backend.status.id).collect();
                let pick_first = PickFirst::take_over(now, shuffle, running);
                self.policy = Policy::PickFirst(pick_first);
            }
        }
    }

    /// To be called when several inputs have been taken in, before what they led to is
    /// published, and at the [`deadline`](Self::deadline).
    pub(crate) fn apply_policy(&mut self, now: Instant) -> Effects<E> {
        let grace_over = self.emptied_until.take_if(|until| *until <= now).is_some();
        let is_overdue = self.silent_until.take_if(|until| *until <= now).is_some();
        self.is_overdue |= is_overdue;
        let mut effects = self.run_by_policy(now);
        effects.changed |= grace_over || is_overdue;
        effects
    }

    fn run_by_policy(&mut self, now: Instant) -> Effects<E> {
        if !self.runs() {
            return Effects::none();
        }
        let Policy::PickFirst(pick_first) = &mut self.policy else {
            return Effects::none();
        };
        let was_failing = pick_first.is_failing();
        let seen = self.backends.values().map(|backend| BackendView {
            id: backend.status.id,
            state: backend.status.state,
            is_ipv6: backend.status.address.starts_with('['),
        });
        let run = match pick_first.decide(now, &seen.collect::<Vec<_>>()) {
            Decision::Run(run) => run,
            Decision::GoIdle => return self.on_idle(now),
        };
        let mut effects = Effects::changed(pick_first.is_failing() != was_failing);
        for (id, backend) in &mut self.backends {
            match (run.contains(id), self.running.has(backend)) {
                (true, false) => {
                    let start = self.running.start(&backend.status, &backend.current);
                    effects.start.push(start);
                }
                (false, true) => effects.stop.extend(backend.go_idle(&mut self.running)),
                (true, true) | (false, false) => continue,
            }
            effects.changed |= backend.reset_status(now, run.contains(id));
        }
        effects
    }

    /// When [`apply_policy`](Self::apply_policy) has something to do, if nothing happens before.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        let policy = match &self.policy {
            Policy::PickFirst(pick_first) if self.runs() => {
                pick_first.deadline(self.backends.len())
            }
            Policy::PickFirst(_) | Policy::RoundRobin => None,
        };
        let waits = [policy, self.silent_until, self.emptied_until];
        waits.into_iter().flatten().min()
    }

    /// Whether a subchannel of this backend runs at once.
    pub(super) fn starts(&self, id: BackendId) -> bool {
        let has = |backend| self.running.has(backend);
        self.runs()
            && match self.policy {
                Policy::RoundRobin => true,
                Policy::PickFirst(_) => self.backends.get(&id).is_some_and(has),
            }
    }

    /// What the states of the backends amount to. They are taken as reported: that
    /// TRANSIENT_FAILURE lasts until READY (gRFC A62) and that health is part of the
    /// state (gRFC A61) is the doing of each subchannel.
    pub(super) fn aggregate(&self) -> ConnectivityState {
        let states = self.backends.values().map(|backend| backend.status.state);
        match (&self.policy, ConnectivityState::aggregate(states)) {
            (Policy::RoundRobin, all) => all,
            (Policy::PickFirst(_), ConnectivityState::Ready) => ConnectivityState::Ready,
            (Policy::PickFirst(pick_first), _) => {
                match pick_first.is_failing() || self.backends.is_empty() {
                    true => ConnectivityState::TransientFailure,
                    // The next one is attempted, or will be in a moment.
                    false => ConnectivityState::Connecting,
                }
            }
        }
    }
}
