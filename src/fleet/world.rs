//! A fleet and its time.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use super::{
    client::{Client, Common, Target},
    event::{Answer, Fate, What},
    net::{CallCount, Net, Probe},
    plan::{Plan, ROUND_ROBIN, subset},
    report::Sorted,
};
use crate::{
    attributes::Attributes, balancer::Balancer, routing::BackendId, service_config::ServiceConfig,
};

pub(super) struct World {
    pub(super) net: Net,
    pub(super) clients: Vec<Client>,
    plan: Plan,
    /// The names that each client is given, where they are not all.
    given: Vec<Arc<[u32]>>,
    all: Arc<[u32]>,
}

impl World {
    /// Clients that start as the plan says.
    pub(super) fn new(plan: &Plan) -> Self {
        let epoch = Instant::now();
        let mut net = Net::new(epoch, plan);
        let mut given = Vec::new();
        if let Some(size) = plan.drawn {
            let seeds: Vec<_> = (0..plan.clients).map(|_| net.rng.u64(..)).collect();
            given = seeds.iter().map(|seed| draw(&net, size, *seed)).collect();
        }
        let common = Arc::new(Common::new(plan));
        let numbers = 0..plan.clients as u32;
        let client = |number| {
            let seed = net.rng.u64(..);
            Client::new(epoch, number, Arc::clone(&common), seed)
        };
        let clients = numbers.clone().map(client).collect();
        for client in numbers {
            let wait = net.within(plan.start_within);
            net.after(wait, What::Begins { client });
        }
        Self {
            net,
            clients,
            plan: plan.clone(),
            given,
            all: (0..plan.named() as u32).collect(),
        }
    }

    /// Lets this time pass.
    pub(super) fn pass(&mut self, time: Duration) {
        let until = self.net.now + time;
        while let Some((at, what)) = self.net.queue.pop(until) {
            self.net.now = at;
            self.take(what);
        }
        self.net.now = until;
    }

    fn take(&mut self, what: What) {
        let net = &mut self.net;
        let clients = &mut self.clients;
        match what {
            What::Begins { client } => {
                let names = self.given.get(client as usize).unwrap_or(&self.all);
                for _ in 0..self.plan.first_calls {
                    clients[client as usize].call(net);
                }
                clients[client as usize].begin(net, names);
                if self.plan.calls_per_second > 0.0 {
                    let mean = Duration::from_secs_f64(1.0 / self.plan.calls_per_second);
                    let wait = net.exponential(mean);
                    net.after(wait, What::Calls { client });
                }
            }
            What::Syn { link, dropped } => net.arrive(link, dropped),
            What::Dialled { link, life } => {
                clients[link.client as usize].on_dialled(net, link, life)
            }
            What::Lost { link } => clients[link.client as usize].on_lost(net, link),
            What::Health { link } => clients[link.client as usize].on_health(net, link),
            What::SubchannelDue { client, subchannel } => {
                clients[client as usize].on_subchannel_due(net, subchannel);
            }
            What::ClientDue { client } => clients[client as usize].on_due(net),
            What::Answered { client, names } => {
                clients[client as usize].on_answered(net, names.as_deref())
            }
            What::Pushed { client, names } => clients[client as usize].on_pushed(net, &names),
            What::Calls { client } => clients[client as usize].on_call(net),
            What::Done { client, sent } => clients[client as usize].on_done(net, sent),
            What::Fate { backend, fate } => net.befall(backend, fate),
            What::Naming(answer) => net.answer = answer,
        }
    }

    /// This happens to these backends after `wait`.
    pub(super) fn befall(
        &mut self,
        wait: Duration,
        backends: impl IntoIterator<Item = usize>,
        fate: Fate,
    ) {
        for backend in backends {
            let backend = backend as u32;
            self.net.after(wait, What::Fate { backend, fate });
        }
    }

    /// The name server answers so after `wait`.
    pub(super) fn answer(&mut self, wait: Duration, answer: Answer) {
        self.net.after(wait, What::Naming(answer));
    }

    /// A control plane tells each client of these names, within a time.
    pub(super) fn push(&mut self, names: impl IntoIterator<Item = u32>, within: Duration) {
        let names: Arc<[u32]> = names.into_iter().collect();
        for client in 0..self.clients.len() as u32 {
            let wait = self.net.within(within);
            let names = Arc::clone(&names);
            self.net.after(wait, What::Pushed { client, names });
        }
    }

    /// From now on it is noted when each client knows whether a backend takes calls.
    pub(super) fn probe(&mut self, backend: usize, is_ready: bool) {
        let none = vec![None; self.clients.len()];
        self.net.probe = Some(Probe {
            backend: backend as u32,
            is_ready,
            gated: none.clone(),
            published: none,
        });
    }

    /// The time from then until each client kept calls from the backend, or let them go there,
    /// and until its picker knew.
    pub(super) fn known(&mut self, from: Instant) -> [Sorted; 2] {
        let probe = self.net.probe.take().expect("a probe");
        [probe.gated, probe.published].map(|times| {
            let known = times.into_iter().flatten();
            Sorted::of_times(known.map(|at| at.saturating_duration_since(from)))
        })
    }

    /// How many connections each backend has.
    pub(super) fn connections(&self) -> Sorted {
        let backends = self.net.backends.iter();
        Sorted::new(backends.map(|backend| f64::from(backend.connections)))
    }

    /// How many backends each client sends calls to.
    pub(super) fn ready(&self) -> Sorted {
        Sorted::new(self.clients.iter().map(|client| client.ready() as f64))
    }

    /// How many calls each backend has got between these moments.
    pub(super) fn called(&self, from: Instant, to: Instant) -> Sorted {
        let backends = self.net.backends.iter();
        Sorted::new(backends.map(|backend| backend.calls.between(from, to) as f64))
    }

    /// All calls that have begun are done, wait, or are on their way: none is lost.
    pub(super) fn assert_that_no_call_is_lost(&self) {
        let CallCount {
            begun,
            succeeded,
            unavailable,
            broken,
        } = self.net.calls;
        let waiting: usize = self.clients.iter().map(|client| client.waiting.len()).sum();
        let gates = self.clients.iter().flat_map(|client| client.gates.values());
        let in_flight: usize = gates.map(|gate| gate.calls.in_flight()).sum();
        let ended = succeeded + unavailable + broken;
        assert_eq!(
            begun,
            ended + (waiting + in_flight) as u64,
            "calls are lost"
        );
    }

    pub(super) fn plan(&self) -> &Plan {
        &self.plan
    }

    pub(super) fn now(&self) -> Instant {
        self.net.now
    }
}

/// The members of a subset of this size, as a balancer draws them.
pub(super) fn draw(net: &Net, size: u32, seed: u64) -> Arc<[u32]> {
    let config = subset(size, ROUND_ROBIN);
    let config: ServiceConfig = config.parse().expect("a valid service config");
    let mut machine = Balancer::<u32, Target>::new(true, true);
    let _ = machine.on_policy(net.now, config.policy().parts(), seed);
    for (number, backend) in net.backends.iter().enumerate() {
        let id = BackendId(number as u64);
        let [label, address] = [(); 2].map(|()| Arc::clone(&backend.address));
        let plain = Attributes::default();
        let _ = machine.on_insert(net.now, id, label, address, number as u32, plain);
    }
    let drawn = machine.apply_policy(net.now).start.into_iter();
    drawn.map(|start| start.endpoint).collect()
}
