//! What users see of a priority.

use std::fmt;

/// The backends of 1 priority at one moment, and the share of calls that goes to them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PriorityStatus {
    pub(crate) priority: u32,
    pub(crate) healthy: usize,
    pub(crate) total: usize,
    pub(crate) load: u32,
    pub(crate) in_panic: bool,
}

impl PriorityStatus {
    /// Its number; 0 is the first that has calls.
    pub fn priority(&self) -> u32 {
        self.priority
    }

    /// How many of its backends are READY.
    pub fn healthy(&self) -> usize {
        self.healthy
    }

    /// How many backends it has, without those that the channel does not use.
    pub fn total(&self) -> usize {
        self.total
    }

    /// The part of all calls that it has, in percent.
    pub fn load(&self) -> u32 {
        self.load
    }

    /// Whether calls go to all of its backends that are connected, for too few are healthy: see
    /// [`panic_threshold`](crate::ChannelBuilder::panic_threshold).
    pub fn is_in_panic(&self) -> bool {
        self.in_panic
    }
}

/// `priority 0: 3 of 10 backends healthy, 42 % of the calls`, and in panic says so.
impl fmt::Display for PriorityStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            priority,
            healthy,
            total,
            load,
            in_panic,
        } = self;
        let panic = if *in_panic { ", in panic" } else { "" };
        write!(
            f,
            "priority {priority}: {healthy} of {total} backends healthy, {load} % of the calls{panic}"
        )
    }
}
