//! One client: the machines of a channel, and a model of its tasks.

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    num::NonZeroUsize,
    sync::Arc,
    time::Instant,
};

use super::{
    event::{Link, What},
    lookups::Lookups,
    net::Net,
    plan::Plan,
};
use crate::{
    attributes::Attributes,
    balancer::{Balancer, Effects, PublishThrottle, Start, StartOrder, SubchannelId},
    connectivity::ConnectivityState::{self, Ready},
    error::{Cause, CauseKind},
    health::{HealthOptions, Rpc},
    routing::{BackendId, Cursor, Picker},
    service_config::ServiceConfig,
    subchannel::{self, Config, Control, HealthCheck, Report, Subchannel},
    transport::BackendCalls,
};

/// The most names that a turn of the worker takes in.
const BATCH: usize = 256;

/// On the wire, as in `grpc.health.v1`.
const SERVING: i32 = 1;
const NOT_SERVING: i32 = 2;

/// The same in all clients.
pub(super) struct Common {
    pub(super) config: ServiceConfig,
    pub(super) control: Control,
    pub(super) health: Arc<HealthOptions>,
    pub(super) plan: Plan,
    refused: Cause,
    lost: Cause,
}

/// A connection, as the balancer and calls know it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Target {
    pub(super) backend: u32,
    dial: u32,
}

pub(super) struct Client {
    number: u32,
    common: Arc<Common>,
    pub(super) machine: Balancer<u32, Target>,
    throttle: PublishThrottle,
    cursor: Arc<Cursor>,
    pub(super) picker: Picker<Target>,
    pub(super) published: ConnectivityState,
    generation: u64,
    subchannels: HashMap<SubchannelId, Running>,
    starts: StartOrder<u32>,
    /// The gate of each backend that has one, by its number.
    pub(super) gates: HashMap<u32, Gate>,
    /// The backends that are named.
    named: BTreeMap<u32, BackendId>,
    ids: u64,
    lookups: Option<Lookups>,
    pub(super) waiting: VecDeque<Instant>,
    pub(super) rng: fastrand::Rng,
    /// It has no time to dial before then.
    busy_until: Instant,
    due: Option<Instant>,
}

/// Whether calls may go to a backend now.
pub(super) struct Gate {
    pub(super) is_open: bool,
    pub(super) calls: BackendCalls,
}

struct Running {
    machine: Subchannel,
    backend: u32,
    dial: u32,
    /// The life of the backend that it is connected to.
    connected: Option<u32>,
    watches: bool,
    sent: Option<Report>,
    due: Option<Instant>,
}

impl Common {
    pub(super) fn new(plan: &Plan) -> Self {
        Self {
            config: plan.service_config(),
            control: Control {
                health: match plan.checks_health && !plan.config.contains("pick_first") {
                    true => HealthCheck::Of("".into()),
                    false => HealthCheck::Off,
                },
                backoff_resets: 0,
                hurries: 0,
                rests_when_lost: plan.config.contains("pick_first"),
            },
            health: Arc::new(HealthOptions::default()),
            plan: plan.clone(),
            refused: Cause::new(CauseKind::Connect, "connection refused"),
            lost: Cause::new(CauseKind::Disconnected, "connection reset"),
        }
    }
}

impl Client {
    pub(super) fn new(now: Instant, number: u32, common: Arc<Common>, seed: u64) -> Self {
        let mut rng = fastrand::Rng::with_seed(seed);
        let mut machine = Balancer::new(true, true);
        let policy = common.config.policy();
        let effects = machine.on_policy(now, policy.parts(), rng.u64(..));
        debug_assert!(effects.start.is_empty(), "no backend is named");
        let cursor = Arc::new(Cursor::new(rng.usize(..)));
        Self {
            number,
            machine,
            throttle: PublishThrottle::new(now),
            cursor,
            picker: Picker::Connecting,
            published: ConnectivityState::Connecting,
            generation: 0,
            subchannels: HashMap::new(),
            starts: StartOrder::new(rng.u64(..)),
            gates: HashMap::new(),
            named: BTreeMap::new(),
            ids: 0,
            lookups: (common.plan.looks_up).then(|| Lookups::new(now, rng.u64(..))),
            waiting: VecDeque::new(),
            rng,
            busy_until: now,
            due: None,
            common,
        }
    }

    /// It is up. Where it does not look backends up it is given these.
    pub(super) fn begin(&mut self, net: &mut Net, names: &[u32]) {
        match self.lookups {
            Some(_) => self.turn(net, false),
            None => self.take_names(net, names, &[]),
        }
    }

    /// The source names these from now on, and no others.
    pub(super) fn on_pushed(&mut self, net: &mut Net, names: &[u32]) {
        let is_new = |name: &&u32| !self.named.contains_key(name);
        let insert: Vec<_> = names.iter().filter(is_new).copied().collect();
        let is_gone = |name: &&u32| !names.contains(name);
        let remove: Vec<_> = self.named.keys().filter(is_gone).copied().collect();
        self.take_names(net, &insert, &remove);
    }

    /// The answer to its lookup.
    pub(super) fn on_answered(&mut self, net: &mut Net, names: Option<&[u32]>) {
        let Some(lookups) = &mut self.lookups else {
            return;
        };
        match names.map(|names| lookups.on_answer(net.now, names)) {
            Some((insert, remove)) => {
                self.take_names(net, &insert, &remove);
                // The next lookup, also where nothing changes.
                self.schedule(net);
            }
            None => {
                lookups.on_failure(net.now);
                let effects = self.machine.on_discovery_error("the name server failed");
                let changed = self.apply(net, effects);
                self.turn(net, changed);
            }
        }
    }

    /// Takes names in, in turns of the worker.
    fn take_names(&mut self, net: &mut Net, insert: &[u32], remove: &[u32]) {
        for batch in insert.chunks(BATCH) {
            let mut changed = false;
            for backend in batch {
                let id = BackendId(self.ids);
                self.ids += 1;
                // A name that is told anew is the same backend.
                let id = *self.named.entry(*backend).or_insert(id);
                let address = Arc::clone(&net.backend(*backend).address);
                let (label, plain) = (Arc::clone(&address), Attributes::default());
                let effects = self
                    .machine
                    .on_insert(net.now, id, label, address, *backend, plain);
                changed |= self.apply(net, effects);
            }
            self.turn(net, changed);
        }
        for batch in remove.chunks(BATCH) {
            let mut changed = false;
            for backend in batch {
                if let Some(id) = self.named.remove(backend) {
                    let effects = self.machine.on_remove(net.now, id);
                    changed |= self.apply(net, effects);
                }
            }
            self.turn(net, changed);
        }
    }

    pub(super) fn on_dialled(&mut self, net: &mut Net, link: Link, life: Option<u32>) {
        let now = net.now;
        let Some(running) = self.current(&link) else {
            return;
        };
        let backend = net.backend(link.backend);
        let life = life.filter(|life| *life == backend.life);
        let effects = match life {
            Some(life) => {
                backend.links.push(link);
                backend.connections += 1;
                running.connected = Some(life);
                running.machine.on_connected(now)
            }
            None => {
                let cause = self.common.refused.clone();
                let running = self.current(&link).expect("it was there");
                running.machine.on_dial_failed(now, cause)
            }
        };
        self.follow(net, link.subchannel, effects);
    }

    pub(super) fn on_lost(&mut self, net: &mut Net, link: Link) {
        let cause = self.common.lost.clone();
        let Some(running) = self.current(&link) else {
            return;
        };
        running.connected = None;
        let effects = running.machine.on_disconnected(net.now, cause);
        self.follow(net, link.subchannel, effects);
    }

    pub(super) fn on_health(&mut self, net: &mut Net, link: Link) {
        let status = match net.backend(link.backend).is_serving {
            true => SERVING,
            false => NOT_SERVING,
        };
        let Some(running) = self.current(&link) else {
            return;
        };
        if running.connected.is_none() || !running.watches {
            return;
        }
        let effects = running.machine.on_health_response(net.now, status);
        self.follow(net, link.subchannel, effects);
    }

    pub(super) fn on_subchannel_due(&mut self, net: &mut Net, id: SubchannelId) {
        let Some(running) = self.subchannels.get_mut(&id) else {
            return;
        };
        running.due = None;
        let effects = running.machine.on_deadline(net.now);
        self.follow(net, id, effects);
    }

    /// One of its own deadlines.
    pub(super) fn on_due(&mut self, net: &mut Net) {
        self.due = None;
        if let Some(lookups) = &mut self.lookups
            && lookups.begin(net.now)
        {
            net.look_up(self.number);
        }
        self.turn(net, false);
    }

    /// The subchannel of a connection or a dial that it still has.
    fn current(&mut self, link: &Link) -> Option<&mut Running> {
        let running = self.subchannels.get_mut(&link.subchannel);
        running.filter(|running| running.dial == link.dial)
    }

    /// Does what a subchannel wants, and hears its report.
    fn follow(&mut self, net: &mut Net, id: SubchannelId, effects: subchannel::Effects) {
        self.act(net, id, effects);
        self.report(net, id);
    }

    /// Does what a subchannel wants.
    fn act(&mut self, net: &mut Net, id: SubchannelId, effects: subchannel::Effects) {
        let Some(running) = self.subchannels.get_mut(&id) else {
            return;
        };
        let (client, backend) = (self.number, running.backend);
        let link = |dial| Link {
            client,
            subchannel: id,
            backend,
            dial,
        };
        running.watches &= !(effects.health.stop || effects.drop_connections);
        if effects.health.start == Some(Rpc::Watch) {
            running.watches = true;
            net.watch(link(running.dial));
        }
        if effects.drop_connections {
            running.close(net);
        }
        if effects.dial {
            running.dial += 1;
            self.busy_until = net.dial(link(running.dial), self.busy_until);
        }
        let deadline = running.machine.deadline();
        if let Some(at) = deadline
            && running.due.is_none_or(|due| at < due)
        {
            running.due = Some(at);
            let (client, subchannel) = (self.number, id);
            let due = What::SubchannelDue { client, subchannel };
            net.queue.push(at.max(net.now), due);
        }
    }

    /// Gives the report of a subchannel to the balancer, if it is another.
    fn report(&mut self, net: &mut Net, id: SubchannelId) {
        let Some(running) = self.subchannels.get_mut(&id) else {
            return;
        };
        let report = running.machine.report();
        if running.sent.as_ref() == Some(&report) {
            return;
        }
        let is_ready = report.state == Ready;
        let target = Target {
            backend: running.backend,
            dial: running.dial,
        };
        running.sent = Some(report.clone());
        self.set_gate(net, target.backend, is_ready);
        let target = is_ready.then_some(target);
        let effects = self.machine.on_report(net.now, id, report, target);
        if self.apply(net, effects) {
            let is_another = self.machine.state() != self.published;
            self.throttle.on_news(net.now, is_another);
        }
        self.turn(net, false);
    }

    fn set_gate(&mut self, net: &mut Net, backend: u32, is_open: bool) {
        if let Some(gate) = self.gates.get_mut(&backend) {
            gate.is_open = is_open;
        }
        if let Some(probe) = &mut net.probe
            && (probe.backend, probe.is_ready) == (backend, is_open)
        {
            probe.gated[self.number as usize].get_or_insert(net.now);
        }
    }

    /// The end of a turn of the worker.
    fn turn(&mut self, net: &mut Net, changed: bool) {
        let effects = self.machine.apply_policy(net.now);
        let chooses_anew = effects.chooses_anew;
        let changed = self.apply(net, effects) || changed;
        for start in self.starts.take() {
            self.start(net, start);
        }
        if changed || self.throttle.is_due(net.now) {
            self.publish(net);
        } else if chooses_anew
            && self.throttle.due().is_none()
            && let Some(picker) = self.machine.picker(net.now, &self.cursor)
        {
            self.take_picker(net, picker);
        }
        self.schedule(net);
    }

    fn publish(&mut self, net: &mut Net) {
        self.generation += 1;
        let choice = self.machine.choice(net.now, &self.cursor);
        let (status, picker) = self.machine.publication().split(self.generation, choice);
        self.throttle.on_published(net.now, status.backends().len());
        self.published = status.state();
        if let Some(probe) = &mut net.probe {
            let mut ready = picker.backends().iter();
            if ready.any(|target| target.backend == probe.backend) == probe.is_ready {
                probe.published[self.number as usize].get_or_insert(net.now);
            }
        }
        self.take_picker(net, picker);
    }

    /// Does what the balancer wants. Whether there is something to publish.
    fn apply(&mut self, net: &mut Net, effects: Effects<u32>) -> bool {
        if effects.trouble
            && let Some(lookups) = &mut self.lookups
        {
            lookups.on_trouble(net.now);
        }
        for id in effects.stop {
            self.starts.remove(id);
            if let Some(mut stopped) = self.subchannels.remove(&id) {
                self.set_gate(net, stopped.backend, false);
                stopped.close(net);
            }
        }
        match self.common.plan.starts_in_order {
            true => effects
                .start
                .into_iter()
                .for_each(|start| self.start(net, start)),
            false => self.starts.add(effects.start),
        }
        effects.changed
    }

    fn start(&mut self, net: &mut Net, start: Start<u32>) {
        let gate = Gate {
            is_open: false,
            calls: start.calls,
        };
        self.gates.insert(start.endpoint, gate);
        let config = Config {
            backoff: self.common.plan.backoff.clone(),
            health: Arc::clone(&self.common.health),
            connections: NonZeroUsize::MIN,
            seed: self.rng.u64(..),
        };
        let control = self.common.control.clone();
        let (machine, effects) = Subchannel::start(net.now, start.not_before, config, control);
        let running = Running {
            machine,
            backend: start.endpoint,
            dial: 0,
            connected: None,
            watches: false,
            sent: None,
            due: None,
        };
        self.subchannels.insert(start.id, running);
        self.act(net, start.id, effects);
    }

    fn schedule(&mut self, net: &mut Net) {
        let lookup = self.lookups.as_ref().and_then(Lookups::due);
        let dues = [self.machine.deadline(), self.throttle.due(), lookup];
        let due = dues.into_iter().flatten().min();
        if let Some(at) = due
            && self.due.is_none_or(|due| at < due)
        {
            self.due = Some(at);
            let client = self.number;
            net.queue.push(at.max(net.now), What::ClientDue { client });
        }
    }

    pub(super) fn plan(&self) -> &Plan {
        &self.common.plan
    }

    pub(super) fn number(&self) -> u32 {
        self.number
    }

    /// How many backends it sends calls to.
    pub(super) fn ready(&self) -> usize {
        self.picker.backends().len()
    }

    /// Whether it is idle for want of calls, as `pick_first` is when its backend is lost.
    pub(super) fn wake(&mut self, net: &mut Net) {
        let effects = self.machine.on_connect(net.now);
        let changed = self.apply(net, effects);
        self.turn(net, changed);
    }
}

impl Running {
    /// Ends its connection, if it has one.
    fn close(&mut self, net: &mut Net) {
        if let Some(life) = self.connected.take() {
            let backend = net.backend(self.backend);
            if backend.life == life {
                backend.connections = backend.connections.saturating_sub(1);
            }
        }
    }
}
