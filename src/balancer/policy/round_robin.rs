//! The rules of `round_robin`: every backend is connected to, from the moment it is named.

use super::control::ControlHalf;

#[derive(Debug)]
pub(in crate::balancer) struct RoundRobin;

impl ControlHalf for RoundRobin {}
