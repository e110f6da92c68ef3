//! The rules of `round_robin`: every backend is connected to, from the moment it is named.

use std::time::Instant;

use super::Policy;
use crate::balancer::{effects::Effects, machine::Balancer};

impl<E: Clone + PartialEq, C: Clone + PartialEq> Balancer<E, C> {
    /// Starts what is to run now, if anything is, and does not run yet.
    pub(in crate::balancer) fn start_all(&mut self, now: Instant) -> Effects<E> {
        let mut effects = Effects::none();
        if !self.runs() || matches!(self.policy, Policy::PickFirst(_)) {
            return effects;
        }
        for backend in self.backends.values_mut() {
            if !self.running.has(backend) {
                let start = self.running.start(&backend.status, &backend.current);
                effects.start.push(start);
                effects.changed |= backend.reset_status(now, true);
            }
        }
        effects
    }
}
