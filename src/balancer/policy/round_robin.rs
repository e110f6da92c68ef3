//! The rules of `round_robin`: every backend is connected to, from the moment it is named.

use std::time::Instant;

use super::control::{BackendView, ControlHalf, Decision, Run};

#[derive(Debug)]
pub(in crate::balancer) struct RoundRobin;

impl ControlHalf for RoundRobin {
    fn decide(
        &mut self,
        _now: Instant,
        _backends: impl ExactSizeIterator<Item = BackendView>,
    ) -> Decision {
        Decision {
            run: Run::All,
            changed: false,
        }
    }
}
