//! Which subchannels run: what the policy in force decides, applied.
//!
//! It is asked once per turn of the task, when the turn's changes are all known, and where the
//! channel begins to run subchannels. If it runs every backend, one that is named in between
//! runs at once.
//!
//! With a subset the policy sees its members alone. A backend that is named then runs after the
//! subset has been drawn anew, and the others are IDLE.
//!
//! Policies share the subchannels, so one that takes over begins with the connections
//! that the other had: no call fails for the change, and none waits.

use std::time::Instant;

use super::{
    backend::Backend,
    effects::Effects,
    machine::{Balancer, ChannelPhase},
    outliers::Outliers,
    policy::{BackendView, Decision, Run},
    subset::Subset,
};
use crate::{connectivity::ConnectivityState, routing::BackendId, service_config::PolicyParts};

impl<E: Clone + PartialEq, C: Clone + PartialEq> Balancer<E, C> {
    /// The service config names this policy. `seed` is for what it leaves to chance.
    pub(crate) fn on_policy(
        &mut self,
        now: Instant,
        policy: PolicyParts<'_>,
        seed: u64,
    ) -> Effects<E> {
        if self.phase == ChannelPhase::Closed {
            return Effects::none();
        }
        let before = self.state();
        let all = self.backends.values();
        let running = all.filter(|backend| self.running.has(backend));
        let running = running.map(|backend| backend.status.id);
        self.policy.configure(now, policy.leaf, seed, running);
        for backend in self.backends.values() {
            let rules = self.policy.load_rules().cloned();
            backend.status.calls.set_load_rules(rules);
        }
        match (&mut self.subset, policy.subset_size) {
            (Some(subset), Some(size)) => subset.resize(size),
            (subset, size) => *subset = size.map(|size| Subset::new(size, seed)),
        }
        self.runs_all = false;
        let mut effects = self.run_by_policy(now);
        effects = effects.and(self.configure_outliers(now, policy, seed));
        effects.changed |= self.state() != before;
        effects
    }

    /// To be called when several inputs have been taken in, before what they led to is
    /// published, and at the [`deadline`](Self::deadline).
    pub(crate) fn apply_policy(&mut self, now: Instant) -> Effects<E> {
        let grace_over = self.emptied_until.take_if(|until| *until <= now).is_some();
        let is_overdue = self.silent_until.take_if(|until| *until <= now).is_some();
        self.is_overdue |= is_overdue;
        let mut effects = self.sweep_outliers(now);
        effects = effects.and(self.run_by_policy(now));
        effects = effects.and(self.share_among_levels(now));
        effects.changed |= grace_over || is_overdue;
        effects
    }

    /// Asks the policy, and starts and stops subchannels as it says.
    pub(super) fn run_by_policy(&mut self, now: Instant) -> Effects<E> {
        if !self.runs() {
            return Effects::none();
        }
        let decision = self.decide(now);
        let mut effects = Effects::changed(decision.changed);
        effects.chooses_anew = decision.chooses_anew;
        let only = match decision.run {
            Run::GoIdle => return self.on_idle(now),
            Run::All if self.runs_all => return effects,
            Run::All => None,
            Run::Only(ids) => Some(ids),
        };
        let subset = self.subset.as_ref();
        self.runs_all = only.is_none() && subset.is_none();
        for (id, backend) in &mut self.backends {
            let runs = subset.is_none_or(|subset| subset.has(*id))
                && only.as_ref().is_none_or(|only| only.contains(id));
            match (runs, self.running.has(backend)) {
                (true, false) => {
                    let start = self.running.start(backend, &backend.current);
                    effects.start.push(start);
                    if let Some(outliers) = &mut self.outliers {
                        outliers.begin(*id, backend.outcomes());
                    }
                }
                (false, true) => {
                    effects.stop.extend(backend.go_idle(&mut self.running));
                    if let Some(outliers) = &mut self.outliers {
                        outliers.forget(*id);
                    }
                }
                (true, true) | (false, false) => continue,
            }
            effects.changed |= backend.reset_status(now, runs);
        }
        effects
    }

    /// Asks the policy about the backends that it may use.
    fn decide(&mut self, now: Instant) -> Decision {
        let all = self.backends.values();
        let level = |backend: &Backend<E, C>| self.levels.of(&backend.status.attributes);
        let Some(subset) = &mut self.subset else {
            let views = all.map(|backend| backend.view(level(backend)));
            return self.policy.decide(now, views);
        };
        let leveled = all
            .clone()
            .map(|backend| (level(backend), &*backend.status));
        subset.update(leveled);
        let members = all.map(|backend| backend.view(level(backend)));
        let members = members.filter(|view| subset.has(view.id));
        let members: Vec<BackendView> = members.collect();
        self.policy.decide(now, members.into_iter())
    }

    /// When [`apply_policy`](Self::apply_policy) has something to do, if nothing happens before.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        let policy = match self.runs() {
            true => {
                let all = self.backends.len();
                let subset = self.subset.as_ref();
                let members = subset.map_or(all, |subset| subset.count(all));
                self.policy.deadline(members)
            }
            false => None,
        };
        let sweep = self.outliers.as_ref().filter(|_| self.runs());
        let sweep = sweep.and_then(Outliers::deadline);
        let waits = [policy, sweep, self.silent_until, self.emptied_until];
        waits.into_iter().flatten().min()
    }

    /// Whether a subchannel of this backend runs at once.
    pub(super) fn starts(&self, id: BackendId) -> bool {
        let has = |backend| self.running.has(backend);
        self.runs() && (self.runs_all || self.backends.get(&id).is_some_and(has))
    }

    /// What the states of the backends that the policy may use amount to.
    pub(super) fn aggregate(&self) -> ConnectivityState {
        if self.subset.is_none() {
            let all = self.backends.values();
            return self.policy.aggregate(all.map(Self::state_for_calls));
        }
        let states: Vec<_> = self.members().map(Self::state_for_calls).collect();
        self.policy.aggregate(states.into_iter())
    }
}
