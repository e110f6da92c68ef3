//! Outlier detection on the backends of a channel: when it runs, and what it changes.
//!
//! It stands beside the policy. Ejection comes to a policy as health does (gRFC A61), so it works
//! with each policy that counts health as part of a backend's state. `pick_first` is told of
//! neither, so with it there is no outlier detection (gRFC A50).
//!
//! It begins anew whenever a backend begins to run: in other clients it ends with a policy, and
//! the policy with IDLE.

use std::time::Instant;

use super::{
    backend::Shown,
    effects::{Effects, EjectionChange},
    machine::Balancer,
    outliers::{Outliers, Sweep},
    policy::Policy,
};
use crate::{
    routing::BackendId,
    service_config::{OutlierDetection, PolicyParts},
};

impl<E: Clone + PartialEq, C: Clone + PartialEq> Balancer<E, C> {
    /// The service config has this to say of it. `seed` is for what it leaves to chance.
    pub(super) fn configure_outliers(
        &mut self,
        now: Instant,
        policy: PolicyParts<'_>,
        seed: u64,
    ) -> Effects<E> {
        let has_effect = Policy::properties(policy.leaf).checks_health;
        let config = policy.outlier_detection.filter(|config| {
            let has_algorithm = config.success_rate_ejection.is_some()
                || config.failure_percentage_ejection.is_some();
            has_effect && has_algorithm
        });
        let effects = match (config, &mut self.outliers) {
            (None, _) => return self.end_outlier_detection(now),
            (Some(config), Some(outliers)) => {
                let sweep = outliers.on_config(config.clone());
                self.take_sweep(now, sweep)
            }
            (Some(config), None) => {
                self.begin_outlier_detection(now, config.clone(), seed);
                Effects::none()
            }
        };
        self.record();
        effects
    }

    fn begin_outlier_detection(&mut self, now: Instant, config: OutlierDetection, seed: u64) {
        let running = self.backends.iter();
        let running = running.filter(|(_, backend)| self.running.has(backend));
        let counts = running.map(|(id, backend)| (*id, backend.outcomes()));
        self.outliers = Some(Outliers::new(now, config, seed, counts));
    }

    /// All that are ejected are taken back.
    fn end_outlier_detection(&mut self, now: Instant) -> Effects<E> {
        self.outliers = None;
        self.record();
        let backends = self.backends.values();
        let ejected = backends.filter(|backend| backend.status.ejection.is_some());
        let back = ejected.map(|backend| (backend.status.id, None));
        let sweep = Sweep {
            changed: back.collect(),
            spared: Vec::new(),
        };
        self.take_sweep(now, sweep)
    }

    /// To be called before the policy is asked, and at the [`deadline`](Self::deadline).
    pub(super) fn sweep_outliers(&mut self, now: Instant) -> Effects<E> {
        if !self.runs() {
            return Effects::none();
        }
        let Some(outliers) = &mut self.outliers else {
            return Effects::none();
        };
        let running = self.backends.iter();
        let running = running.filter(|(_, backend)| self.running.has(backend));
        let counts = running.map(|(id, backend)| (*id, backend.outcomes()));
        let sweep = outliers.sweep(now, counts);
        self.take_sweep(now, sweep)
    }

    fn take_sweep(&mut self, now: Instant, sweep: Sweep) -> Effects<E> {
        let mut effects = Effects::none();
        for (id, ejection) in sweep.changed {
            let Some(backend) = self.backends.get_mut(&id) else {
                continue;
            };
            let goes_on = backend.status.ejection.is_some();
            let shown = backend.set_ejection(now, ejection);
            effects.ejections.push(EjectionChange {
                subchannel: backend.current.id,
                label: backend.status.label.clone(),
                goes_on,
                ejection: backend.status.ejection.clone(),
            });
            self.take_shown(id, shown, &mut effects);
        }
        for spared in sweep.spared {
            if let Some(backend) = self.backends.get(&spared.id) {
                effects.spared.push((backend.status.label.clone(), spared));
            }
        }
        effects
    }

    /// Takes over the result of an input for this backend.
    pub(super) fn take_shown(&mut self, id: BackendId, shown: Shown, effects: &mut Effects<E>) {
        if shown.moved
            && let Some(outliers) = &mut self.outliers
            && let Some(backend) = self.backends.get(&id)
            && self.running.has(backend)
        {
            outliers.begin(id, backend.outcomes());
        }
        self.running.add_effects(shown, effects);
    }
}

#[cfg(test)]
mod tests;
