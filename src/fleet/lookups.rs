//! The lookups of a client: the machine of `discover::dns`, and a model of the pauses after errors.

use std::time::{Duration, Instant};

use super::plan::SECOND;
use crate::discover::{DnsMachine, default_pace};

pub(super) struct Lookups {
    machine: DnsMachine<u32>,
    is_looking: bool,
    /// The balancer leaves a source alone after an error: for so long, and until then.
    pause: Duration,
    paused_until: Option<Instant>,
}

impl Lookups {
    pub(super) fn new(now: Instant, seed: u64) -> Self {
        Self {
            machine: DnsMachine::new(now, default_pace(), seed),
            is_looking: false,
            pause: SECOND,
            paused_until: None,
        }
    }

    pub(super) fn on_trouble(&mut self, now: Instant) {
        self.machine.on_request(now);
    }

    /// The names to insert, and those to remove.
    pub(super) fn on_answer(&mut self, now: Instant, names: &[u32]) -> (Vec<u32>, Vec<u32>) {
        self.is_looking = false;
        self.pause = SECOND;
        let changes = self.machine.on_answer(now, names.to_vec(), None, |_| false);
        (changes.insert, changes.remove)
    }

    pub(super) fn on_failure(&mut self, now: Instant) {
        self.is_looking = false;
        self.machine.on_failure(now);
        self.paused_until = Some(now + self.pause);
        self.pause = (self.pause * 2).min(SECOND * 30);
    }

    pub(super) fn due(&self) -> Option<Instant> {
        let due = self.machine.due().filter(|_| !self.is_looking);
        due.map(|due| self.paused_until.map_or(due, |until| due.max(until)))
    }

    /// Whether a lookup begins.
    pub(super) fn begin(&mut self, now: Instant) -> bool {
        if self.due().is_none_or(|due| due > now) {
            return false;
        }
        self.machine.on_start(now);
        self.is_looking = true;
        true
    }
}
