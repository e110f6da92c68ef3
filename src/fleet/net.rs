//! The model of all that is between clients, backends and name servers.

use std::time::{Duration, Instant};

use super::{
    backend::{Backend, MESSAGE_COST, Presence},
    event::{Answer, Fate, Link, Queue, What},
    plan::{MS, Plan},
    report::Bins,
};

/// One way, at least.
const LATENCY: Duration = Duration::from_micros(250);
/// The mean of what is added to that.
const DELAY: Duration = Duration::from_micros(50);
/// A client takes this from one dial to the next: 107 ms of CPU time for 1,000 backends in
/// `docs/benchmarks.md`.
const DIAL_COST: Duration = Duration::from_micros(100);
/// Of a dial without an answer: the default of an endpoint.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(20);
/// Until a SYN that was dropped is sent again. It doubles each time.
const SYN_TIMEOUT: Duration = Duration::from_secs(1);

/// All that is not a client.
pub(super) struct Net {
    pub(super) epoch: Instant,
    pub(super) now: Instant,
    pub(super) queue: Queue,
    pub(super) backends: Vec<Backend>,
    pub(super) answer: Answer,
    pub(super) lookups: Bins,
    pub(super) rng: fastrand::Rng,
    pub(super) calls: CallCount,
    pub(super) probe: Option<Probe>,
    /// How long calls took, while that is asked for.
    pub(super) times: Option<Vec<f32>>,
}

/// Each call that begins is one of the others in the end.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct CallCount {
    pub(super) begun: u64,
    pub(super) succeeded: u64,
    /// In TRANSIENT_FAILURE.
    pub(super) unavailable: u64,
    /// With the process of their backend.
    pub(super) broken: u64,
}

/// Whether each client knows that calls may go to a backend, or may not.
pub(super) struct Probe {
    pub(super) backend: u32,
    pub(super) is_ready: bool,
    /// Since when no new call gets there, or one may.
    pub(super) gated: Vec<Option<Instant>>,
    /// Since when the picker knows.
    pub(super) published: Vec<Option<Instant>>,
}

impl Net {
    pub(super) fn new(epoch: Instant, plan: &Plan) -> Self {
        let backends = (0..plan.backends as u32).map(|number| Backend::new(epoch, number, plan));
        Self {
            epoch,
            now: epoch,
            queue: Queue::default(),
            backends: backends.collect(),
            answer: Answer::Names((0..plan.named() as u32).collect()),
            lookups: Bins::new(epoch, plan.bin),
            rng: fastrand::Rng::with_seed(plan.seed),
            calls: CallCount::default(),
            probe: None,
            times: None,
        }
    }

    pub(super) fn backend(&mut self, number: u32) -> &mut Backend {
        &mut self.backends[number as usize]
    }

    pub(super) fn after(&mut self, wait: Duration, what: What) {
        self.queue.push(self.now + wait, what);
    }

    /// The way from one to the other.
    pub(super) fn latency(&mut self) -> Duration {
        LATENCY + self.exponential(DELAY)
    }

    /// A time that is as likely to end in each moment.
    pub(super) fn exponential(&mut self, mean: Duration) -> Duration {
        mean.mul_f64(-(1.0 - self.rng.f64()).ln())
    }

    /// A client dials, which has time for it from `free` on. When it has time for the next.
    pub(super) fn dial(&mut self, link: Link, free: Instant) -> Instant {
        let begins = self.now.max(free);
        let arrives = begins + self.latency();
        self.queue.push(arrives, What::Syn { link, dropped: 0 });
        begins + DIAL_COST
    }

    /// A SYN comes, which was dropped so many times.
    pub(super) fn arrive(&mut self, link: Link, dropped: u32) {
        let at = self.now;
        let back = self.latency();
        let handshake = self.latency() + self.latency();
        let backend = self.backend(link.backend);
        backend.attempts.count(at);
        let life = backend.life;
        let failed = What::Dialled { link, life: None };
        match backend.presence {
            Presence::Refuses => self.queue.push(at + back, failed),
            Presence::IsSilent => self.queue.push(at + CONNECT_TIMEOUT, failed),
            Presence::Accepts => match backend.accept(at) {
                Some(accepted) => {
                    let life = Some(life);
                    let dialled = What::Dialled { link, life };
                    self.queue.push(accepted + handshake + back, dialled);
                }
                None if dropped >= 4 => self.queue.push(at, failed),
                None => {
                    let wait = SYN_TIMEOUT * (1 << dropped);
                    let dropped = dropped + 1;
                    self.queue.push(at + wait, What::Syn { link, dropped });
                }
            },
        }
    }

    /// A client opens a `Watch`.
    pub(super) fn watch(&mut self, link: Link) {
        let (there, back) = (self.latency(), self.latency());
        let at = self.now + there;
        self.backend(link.backend).watches.count(at);
        self.queue.push(at + back, What::Health { link });
    }

    /// Something happens to a backend.
    pub(super) fn befall(&mut self, number: u32, fate: Fate) {
        let backend = self.backend(number);
        match fate {
            Fate::Dies => backend.presence = Presence::Refuses,
            Fate::Vanishes => backend.presence = Presence::IsSilent,
            Fate::Rises => backend.presence = Presence::Accepts,
            Fate::Serving(is_serving) => {
                backend.is_serving = is_serving;
                let mut sent = self.now;
                for link in self.backend(number).links.clone() {
                    sent += MESSAGE_COST;
                    let at = sent + self.latency();
                    self.queue.push(at, What::Health { link });
                }
                return;
            }
            Fate::EndsConnections => {}
        }
        if !matches!(fate, Fate::Rises) {
            backend.life += u32::from(!matches!(fate, Fate::EndsConnections));
            backend.connections = 0;
            for link in std::mem::take(&mut backend.links) {
                let wait = self.latency();
                self.after(wait, What::Lost { link });
            }
        }
    }

    /// A client looks its backends up.
    pub(super) fn look_up(&mut self, client: u32) {
        self.lookups.count(self.now);
        let (wait, names) = match &self.answer {
            Answer::Names(names) => (MS, Some(names.clone())),
            Answer::Fails => (MS, None),
            Answer::Late(wait, names) => (*wait, Some(names.clone())),
        };
        self.after(wait, What::Answered { client, names });
    }

    /// A time between 0 and this.
    pub(super) fn within(&mut self, most: Duration) -> Duration {
        most.mul_f64(self.rng.f64())
    }
}
