//! The model of a backend.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use super::{event::Link, plan::Plan, report::Bins};

/// 4 cores for a TLS handshake that takes 500 µs of one.
pub(super) const ACCEPT_COST: Duration = Duration::from_micros(125);
/// A core for a message to a watcher.
pub(super) const MESSAGE_COST: Duration = Duration::from_micros(5);
/// The connections that wait to be accepted. The kernel drops the SYN of any other.
pub(super) const BACKLOG: u32 = 4096;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Presence {
    Accepts,
    Refuses,
    IsSilent,
}

pub(super) struct Backend {
    pub(super) address: Arc<str>,
    pub(super) presence: Presence,
    pub(super) is_serving: bool,
    /// Counts its processes.
    pub(super) life: u32,
    pub(super) links: Vec<Link>,
    pub(super) connections: u32,
    accepts_next: Instant,
    /// The longest time that a connection waited to be accepted.
    pub(super) longest_accept: Duration,
    /// Connections whose SYN was dropped.
    pub(super) overflows: u64,
    pub(super) attempts: Bins,
    pub(super) watches: Bins,
    pub(super) calls: Bins,
    /// By how much its calls take longer.
    slowness: f64,
    /// When each of its workers is free.
    workers: Vec<Instant>,
    load: Load,
}

/// The load that a backend reports: the calls and the work of the last whole second.
#[derive(Default)]
struct Load {
    second: u64,
    calls: u64,
    busy: Duration,
    reported: Option<(f64, f64)>,
}

impl Backend {
    pub(super) fn new(now: Instant, number: u32, plan: &Plan) -> Self {
        let [_, a, b, c] = number.to_be_bytes();
        let (slow, slowness) = plan.slow;
        let bins = || Bins::new(now, plan.bin);
        Self {
            address: format!("10.{a}.{b}.{c}:50051").into(),
            presence: Presence::Accepts,
            is_serving: true,
            life: 0,
            links: Vec::new(),
            connections: 0,
            accepts_next: now,
            longest_accept: Duration::ZERO,
            overflows: 0,
            attempts: bins(),
            watches: bins(),
            calls: bins(),
            slowness: match (number as usize) < slow {
                true => slowness,
                false => 1.0,
            },
            workers: vec![now; plan.workers],
            load: Load::default(),
        }
    }

    /// A SYN comes. When its connection is accepted, if there is room.
    pub(super) fn accept(&mut self, now: Instant) -> Option<Instant> {
        let waits = self.accepts_next.saturating_duration_since(now);
        if waits >= ACCEPT_COST * BACKLOG {
            self.overflows += 1;
            return None;
        }
        self.longest_accept = self.longest_accept.max(waits);
        self.accepts_next = self.accepts_next.max(now) + ACCEPT_COST;
        Some(self.accepts_next)
    }

    /// A call comes that takes `work` of a backend that is not slow. When it is done.
    pub(super) fn process(&mut self, epoch: Instant, now: Instant, work: Duration) -> Instant {
        self.calls.count(now);
        let work = work.mul_f64(self.slowness);
        self.load.add(epoch, now, work, self.workers.len());
        // With this many, none waits, and a search would cost more than the call.
        if self.workers.len() >= 1_000 {
            return now + work;
        }
        let free = self.workers.iter_mut().min().expect("at least 1 worker");
        *free = (*free).max(now) + work;
        *free
    }

    /// Calls per second, and the part of its workers that they use, if that is known.
    pub(super) fn load(&self) -> Option<(f64, f64)> {
        self.load.reported
    }
}

impl Load {
    fn add(&mut self, epoch: Instant, now: Instant, work: Duration, workers: usize) {
        let second = (now - epoch).as_secs();
        if second > self.second {
            let seconds = (second - self.second) as f64;
            let rate = self.calls as f64 / seconds;
            let busy = self.busy.as_secs_f64() / seconds / workers as f64;
            self.reported = Some((rate, busy));
            (self.second, self.calls, self.busy) = (second, 0, Duration::ZERO);
        }
        self.calls += 1;
        self.busy += work;
    }
}
