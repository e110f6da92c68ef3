//! The calls of a client: they pick, wait and end.

use std::time::Instant;

use http::{HeaderMap, HeaderValue};

use super::{
    client::{Client, Target},
    event::{Sent, What},
    net::Net,
};
use crate::routing::{Pick, PickInfo, Picker};

/// Streams of one connection.
const MAX_STREAMS: usize = 100;

/// A call, as a policy may ask it.
struct Asked<'a> {
    rng: &'a mut fastrand::Rng,
    headers: HeaderMap,
}

impl PickInfo for Asked<'_> {
    fn path(&self) -> &str {
        "/fleet/call"
    }

    fn headers(&mut self) -> &HeaderMap {
        &self.headers
    }

    fn random(&mut self) -> u64 {
        self.rng.u64(..)
    }
}

/// The state of a call after its pick.
enum Outcome {
    Started,
    Waits,
    /// Each stream is taken.
    Queues,
    WakesChannel,
    Failed,
}

impl Client {
    /// The next call, and one more after it.
    pub(super) fn on_call(&mut self, net: &mut Net) {
        let rate = self.plan().calls_per_second;
        if rate > 0.0 {
            let wait = net.exponential(std::time::Duration::from_secs_f64(1.0 / rate));
            let client = self.number();
            net.after(wait, What::Calls { client });
        }
        self.call(net);
    }

    /// A call.
    pub(super) fn call(&mut self, net: &mut Net) {
        net.calls.begun += 1;
        self.admit(net, net.now);
    }

    fn admit(&mut self, net: &mut Net, began: Instant) -> bool {
        let outcome = self.pick(net, began);
        match outcome {
            Outcome::Started => {}
            Outcome::Waits | Outcome::Queues => self.waiting.push_back(began),
            Outcome::Failed if self.plan().wait_for_ready => self.waiting.push_back(began),
            Outcome::Failed => net.calls.unavailable += 1,
            Outcome::WakesChannel => {
                self.waiting.push_back(began);
                self.wake(net);
            }
        }
        !matches!(outcome, Outcome::Queues)
    }

    fn pick(&mut self, net: &mut Net, began: Instant) -> Outcome {
        let mut headers = HeaderMap::new();
        if self.plan().config.contains("ring_hash") {
            let key = self.rng.u64(..self.plan().keys);
            headers.insert("x-key", HeaderValue::from(key));
        }
        let mut asked = Asked {
            rng: &mut self.rng,
            headers,
        };
        let candidates = match self.picker.pick(&mut asked) {
            Pick::Send(candidates) => candidates,
            Pick::Wait => return Outcome::Waits,
            Pick::Connect => return Outcome::WakesChannel,
            Pick::Fail | Pick::Closed => return Outcome::Failed,
            Pick::Probe(_) => unreachable!("no client looks for silence"),
        };
        for target in candidates {
            if let Some(gate) = self.gates.get(&target.backend)
                && gate.is_open
                && gate.calls.in_flight() < MAX_STREAMS
            {
                send(
                    net,
                    self.number(),
                    target.backend,
                    &gate.calls,
                    began,
                    self.plan(),
                );
                return Outcome::Started;
            }
        }
        Outcome::Queues
    }

    /// A response comes.
    pub(super) fn on_done(&mut self, net: &mut Net, sent: Sent) {
        sent.calls.leave(1);
        let backend = &net.backends[sent.backend as usize];
        match backend.life == sent.life {
            true => {
                net.calls.succeeded += 1;
                if let Some((rate, utilization)) = backend.load()
                    && self.plan().config.contains("weighted")
                {
                    sent.calls.report_load(net.now, rate, utilization);
                }
                if let Some(times) = &mut net.times {
                    times.push((net.now - sent.began).as_secs_f32());
                }
            }
            false => net.calls.broken += 1,
        }
        if let Some(gate) = self.gates.get(&sent.backend)
            && gate.is_open
            && !self.waiting.is_empty()
            && let Some(began) = self.waiting.pop_front()
        {
            send(
                net,
                self.number(),
                sent.backend,
                &gate.calls,
                began,
                self.plan(),
            );
        }
    }

    /// Calls go by this picker from now on.
    pub(super) fn take_picker(&mut self, net: &mut Net, picker: Picker<Target>) {
        let old = std::mem::replace(&mut self.picker, picker);
        let is_ready = matches!(self.picker, Picker::Ready { .. });
        if !is_ready && !old.could_answer_differently(&self.picker) {
            return;
        }
        let mut waiting = std::mem::take(&mut self.waiting);
        while let Some(began) = waiting.pop_front() {
            if !self.admit(net, began) {
                break;
            }
        }
        self.waiting.extend(waiting);
    }
}

/// A call on its way to a backend, and back.
fn send(
    net: &mut Net,
    client: u32,
    number: u32,
    calls: &crate::transport::BackendCalls,
    began: Instant,
    plan: &super::plan::Plan,
) {
    calls.enter();
    let (there, back) = (net.latency(), net.latency());
    let work = net.exponential(plan.service_time);
    let (epoch, at) = (net.epoch, net.now + there);
    let backend = net.backend(number);
    let life = backend.life;
    let done = backend.process(epoch, at, work);
    let sent = Sent {
        began,
        backend: number,
        life,
        calls: calls.clone(),
    };
    net.queue.push(done + back, What::Done { client, sent });
}
