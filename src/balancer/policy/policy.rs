//! The policies that there are: all that tells one from another is here, and in the parser of
//! the service config.

use std::{sync::Arc, time::Instant};

use super::{
    control::{BackendView, ControlHalf, Decision, Properties},
    least_request::LeastRequest,
    pick_first::PickFirst,
    ring_hash::RingHash,
    round_robin::RoundRobin,
    weighted_round_robin::WeightedRoundRobin,
};
use crate::{
    connectivity::ConnectivityState,
    routing::{BackendId, BackendStatus, Choice, Cursor},
    service_config::LeafPolicy,
    transport::LoadRules,
};

/// The policy in force.
#[derive(Debug)]
pub(in crate::balancer) enum Policy {
    RoundRobin(RoundRobin),
    PickFirst(PickFirst),
    LeastRequest(LeastRequest),
    WeightedRoundRobin(WeightedRoundRobin),
    RingHash(RingHash),
}

/// The same of whichever policy it is.
macro_rules! of_each {
    ($policy:expr, $each:ident => $what:expr) => {
        match $policy {
            Policy::RoundRobin($each) => $what,
            Policy::PickFirst($each) => $what,
            Policy::LeastRequest($each) => $what,
            Policy::WeightedRoundRobin($each) => $what,
            Policy::RingHash($each) => $what,
        }
    };
}

impl Policy {
    /// Until a service config names one.
    pub(in crate::balancer) fn new() -> Self {
        Self::RoundRobin(RoundRobin)
    }

    /// The properties of a policy that a service config names.
    pub(in crate::balancer) fn properties(config: LeafPolicy<'_>) -> Properties {
        match config {
            LeafPolicy::RoundRobin => RoundRobin::PROPERTIES,
            LeafPolicy::RingHash(_) => RingHash::PROPERTIES,
            LeafPolicy::PickFirst { .. } => PickFirst::PROPERTIES,
            LeafPolicy::LeastRequest(_) => LeastRequest::PROPERTIES,
            LeafPolicy::WeightedRoundRobin(_) => WeightedRoundRobin::PROPERTIES,
        }
    }

    /// The service config names this policy, perhaps once more. It begins with what is
    /// `running`. `seed` is for what it leaves to chance.
    pub(in crate::balancer) fn configure(
        &mut self,
        now: Instant,
        config: LeafPolicy<'_>,
        seed: u64,
        running: impl Iterator<Item = BackendId>,
    ) {
        match (&mut *self, config) {
            (_, LeafPolicy::RoundRobin) => *self = Self::RoundRobin(RoundRobin),
            (_, LeafPolicy::LeastRequest(config)) => {
                *self = Self::LeastRequest(LeastRequest::new(config));
            }
            (_, LeafPolicy::WeightedRoundRobin(config)) => {
                *self = Self::WeightedRoundRobin(WeightedRoundRobin::new(config));
            }
            (
                Self::PickFirst(pick_first),
                LeafPolicy::PickFirst {
                    shuffle_address_list: shuffle,
                },
            ) => pick_first.shuffle(shuffle.then_some(seed)),
            (
                _,
                LeafPolicy::PickFirst {
                    shuffle_address_list: shuffle,
                },
            ) => {
                let shuffle = shuffle.then_some(seed);
                let running = running.collect();
                *self = Self::PickFirst(PickFirst::take_over(now, shuffle, running));
            }
            (Self::RingHash(ring_hash), LeafPolicy::RingHash(config)) => {
                ring_hash.configure(config)
            }
            (_, LeafPolicy::RingHash(config)) => *self = Self::RingHash(RingHash::new(config)),
        }
    }

    /// See [`ControlHalf::begin`].
    pub(in crate::balancer) fn begin(&mut self, now: Instant) {
        of_each!(self, policy => policy.begin(now));
    }

    /// See [`ControlHalf::decide`].
    pub(in crate::balancer) fn decide(
        &mut self,
        now: Instant,
        backends: impl ExactSizeIterator<Item = BackendView>,
    ) -> Decision {
        of_each!(self, policy => policy.decide(now, backends))
    }

    /// See [`ControlHalf::deadline`].
    pub(in crate::balancer) fn deadline(&self, backends: usize) -> Option<Instant> {
        of_each!(self, policy => policy.deadline(backends))
    }

    /// See [`ControlHalf::aggregate`].
    pub(in crate::balancer) fn aggregate(
        &self,
        states: impl ExactSizeIterator<Item = ConnectivityState>,
    ) -> ConnectivityState {
        of_each!(self, policy => policy.aggregate(states))
    }

    /// See [`ControlHalf::load_rules`].
    pub(in crate::balancer) fn load_rules(&self) -> Option<&Arc<LoadRules>> {
        of_each!(self, policy => policy.load_rules())
    }

    /// See [`ControlHalf::choice`].
    pub(in crate::balancer) fn choice<'a>(
        &mut self,
        now: Instant,
        level: usize,
        cursor: &Arc<Cursor>,
        members: impl Iterator<Item = &'a BackendStatus> + Clone,
    ) -> Choice {
        of_each!(self, policy => policy.choice(now, level, cursor, members))
    }
}
