//! The policy in force.

use super::pick_first::PickFirst;

#[derive(Debug)]
pub(in crate::balancer) enum Policy {
    RoundRobin,
    PickFirst(PickFirst),
}
