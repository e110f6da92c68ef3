//! The one worker of a channel: it drives a [`Balancer`] machine, starts and
//! stops the subchannels it asks for, and publishes what it says.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
    thread,
};

use futures_util::FutureExt;
use tokio::{
    runtime::Handle,
    sync::{mpsc, oneshot, watch},
    task, time,
};

use super::{
    channel_log::ChannelLog,
    config::Configs,
    config_log::News,
    effects::{Effects, Start, SubchannelId},
    idle::Idleness,
    in_turn::InTurn,
    inputs::{BATCH, Due, Input, Inputs},
    machine::Balancer,
    publish_throttle::PublishThrottle,
    running_subchannel::RunningSubchannel,
    settings::Settings,
    source_with_retry::{FromSource, SourceWithRetry},
    start_order::StartOrder,
    task_end::{RESTART, Restarts, TaskEnd, TellEnd},
};
use crate::{
    connectivity::ConnectivityState,
    discover::{BackendChange, BackendChanges},
    error::{Cause, CauseKind},
    metrics::BackendMeter,
    routing::{BackendId, Board, Command, Cursor, End},
    service_config::ServiceConfig,
    subchannel::{self, Config, Control, HealthCheck, ReportMessage, Spec},
    transport::{
        AnsweredBy, BackendCalls, BackendContext, CallLimits, ConnectionGroup, Endpoint,
        KeepaliveThrottle, SilenceRule,
    },
    util::{
        clock::now,
        contained::{contained, contained_future},
    },
};

/// The source is not asked while as many stopped subchannels have not ended: it could stop
/// them faster than they end.
const MAX_STOPPING: usize = BATCH;

/// The worker, and the board it publishes on. The channel ends when the senders
/// of `commands` are dropped.
pub(crate) fn new(
    source: BackendChanges,
    mut settings: Settings,
    commands: mpsc::UnboundedReceiver<Command>,
) -> (Arc<Board>, impl Future<Output = ()> + Send) {
    let config_updates = settings.config_updates.take();
    let configs = Configs::new(settings.default_config.take(), config_updates.is_some());
    let config = configs.in_force();
    let mut machine = Balancer::new(settings.eager, config.is_some());
    machine.expect_backends_within(now(), settings.first_backends_timeout);
    machine.count_calls(settings.count_calls);
    machine.set_levels(settings.levels.clone(), fastrand::u64(..));
    let log = ChannelLog::new(&settings);
    let cursor = Arc::new(Cursor::new(fastrand::usize(..)));
    let (status, picker) = machine
        .publication()
        .split(0, machine.choice(now(), &cursor));
    let board = Arc::new(Board::new(
        status,
        picker,
        config.clone(),
        settings.template_timeout,
        settings.max_waiting_calls,
        settings.retries,
    ));
    let (reports_in, reports) = mpsc::channel(BATCH);
    let (ends_in, ends) = mpsc::unbounded_channel();
    let mut worker = Worker {
        machine,
        configs,
        config: None,
        news: None,
        cursor,
        board: board.clone(),
        generation: 0,
        publish_throttle: PublishThrottle::new(now()),
        idleness: None,
        calls: HashMap::new(),
        settings,
        control: watch::Sender::new(Control {
            health: HealthCheck::Off,
            backoff_resets: 0,
            hurries: 0,
            rests_when_lost: false,
        }),
        subchannels: HashMap::new(),
        starts: StartOrder::new(fastrand::u64(..)),
        ends_in,
        stopping: 0,
        restarts: Restarts::default(),
        inputs: Inputs {
            commands,
            reports,
            ends,
            source: SourceWithRetry::new(source),
            config_updates,
            in_turn: InTurn::default(),
        },
        reports_in,
        log,
    };
    worker.adopt(config);
    if worker.settings.eager {
        worker.expect_calls();
    }
    (board, worker.run())
}

mod service_config;

struct Worker {
    machine: Balancer<Endpoint, ConnectionGroup>,
    configs: Configs<Arc<ServiceConfig>>,
    /// The one in force.
    config: Option<Arc<ServiceConfig>>,
    /// It is new, and not logged yet.
    news: Option<News>,
    cursor: Arc<Cursor>,
    board: Arc<Board>,
    generation: u64,
    publish_throttle: PublishThrottle,
    /// While the channel is not IDLE, and could be.
    idleness: Option<Idleness>,
    /// The calls of every backend that may have some, also of those removed.
    calls: HashMap<BackendId, BackendCalls>,
    settings: Settings,
    /// What all subchannels go by.
    control: watch::Sender<Control>,
    subchannels: HashMap<SubchannelId, RunningSubchannel>,
    /// The subchannels that start when the turn ends.
    starts: StartOrder<Endpoint>,
    /// A copy for each task of theirs; ours keeps the receiver open.
    ends_in: mpsc::UnboundedSender<TaskEnd>,
    /// How many were stopped and have not ended.
    stopping: usize,
    restarts: Restarts,
    inputs: Inputs,
    /// A copy for each subchannel; ours keeps the receiver open.
    reports_in: mpsc::Sender<ReportMessage<SubchannelId>>,
    log: ChannelLog,
}

impl Worker {
    /// A panic, be it of ours or of the application's log, is not the end of the channel.
    async fn run(mut self) {
        // A given executor has shown by now where it runs.
        if let Ok(runtime) = Handle::try_current() {
            self.board.set_runtime(runtime);
        }
        while let Err(text) = contained_future(self.turns()).await {
            self.log.worker_panicked(&text);
            time::sleep(RESTART).await;
            if let Err(text) = contained(|| self.recover()) {
                self.log.cannot_recover(&text);
            }
        }
        let effects = self.machine.on_shutdown();
        self.apply(effects);
        self.publish();
    }

    /// Starts and stops what a panic may have kept from being started and stopped, and
    /// publishes what it kept from being published.
    fn recover(&mut self) {
        let wanted: HashSet<_> = self.machine.running().collect();
        drop(self.starts.take());
        let left: Vec<_> = self.subchannels.keys().copied().collect();
        for id in left.into_iter().filter(|id| !wanted.contains(id)) {
            self.stop(id);
        }
        for id in wanted {
            let running = self.subchannels.get(&id);
            if running.is_none_or(|running| running.is_dead)
                && let Some(start) = self.machine.start_again(id)
            {
                self.start(start);
            }
        }
        self.publish();
    }

    /// Until the channel is closed.
    async fn turns(&mut self) {
        let mut messages = Vec::new();
        self.board.standstill().on_start();
        loop {
            self.tell_config();
            let may_name = self.stopping < MAX_STOPPING;
            let due = Due {
                idle_check: self.idleness.as_ref().map(Idleness::next_check),
                policy: self.machine.deadline(),
                restart: self.restarts.next(),
                publication: self.publish_throttle.due(),
            };
            let input = self.inputs.next(&self.board, &mut messages, may_name, due);
            let changed = match input.await {
                Input::Command(Some(Command::Connect)) | Input::Woken => self.connect(),
                Input::Command(Some(Command::EnterIdle)) => self.go_idle(),
                Input::Command(Some(Command::ResetConnectBackoff)) => {
                    self.control
                        .send_modify(|control| control.backoff_resets += 1);
                    false
                }
                Input::Command(Some(Command::Close)) => break,
                Input::Command(None) => {
                    self.board.set_end(End::Dropped);
                    break;
                }
                Input::Reports => {
                    self.inputs.drain_pending_reports(&mut messages).await;
                    self.take_reports(&mut messages);
                    false
                }
                Input::End(end) => self.take_end(end),
                Input::Named(named) => {
                    let changed = self.take_name(named);
                    let changed = self.take_ready_names() || changed;
                    task::yield_now().await;
                    changed
                }
                Input::Config(update) => {
                    let changed = self.take_config(update);
                    task::yield_now().await;
                    changed
                }
                Input::Called { hurry } => {
                    self.control
                        .send_modify(|control| control.hurries += u64::from(hurry));
                    false
                }
                Input::IdleCheckDue => self.check_idle(),
                // No set is empty while the source has one ready that is not.
                Input::PolicyDue => self.take_ready_names(),
                Input::RestartDue => self.restart(),
                Input::PublicationDue => false,
            };
            let effects = self.machine.apply_policy(now());
            let chooses_anew = effects.chooses_anew;
            let changed = self.apply(effects) || changed;
            self.start_all();
            if changed || self.publish_throttle.is_due(now()) {
                self.publish();
            } else if chooses_anew {
                self.publish_picker();
            }
        }
    }

    fn take_reports(&mut self, messages: &mut Vec<ReportMessage<SubchannelId>>) {
        let now = now();
        let mut changed = false;
        for ReportMessage {
            from,
            report,
            connections,
        } in messages.drain(..)
        {
            if let Some(running) = self.subchannels.get_mut(&from) {
                // Its last words come after news of its end.
                if running.is_dead {
                    continue;
                }
                running.connections.clone_from(&connections);
            }
            let effects = self.machine.on_report(now, from, report, connections);
            self.log.reported(&self.machine, from);
            changed |= self.apply(effects);
        }
        if changed {
            let published = self.board.routing().status.state();
            self.publish_throttle
                .on_news(now, self.machine.state() != published);
        }
    }

    /// The task of a subchannel has ended. One that was not stopped is started again.
    fn take_end(&mut self, end: TaskEnd) -> bool {
        let Some(running) = self.subchannels.get_mut(&end.id) else {
            self.stopping = self.stopping.saturating_sub(1);
            return false;
        };
        running.is_dead = true;
        running.connections = None;
        let now = now();
        let next = self.restarts.add(now, end.id);
        let (id, report) = (end.id, end.report(next));
        self.log.task_died(report.cause.as_ref());
        let effects = self.machine.on_report(now, id, report, None);
        self.apply(effects)
    }

    /// Starts what has died, where that is due and it is still to run.
    fn restart(&mut self) -> bool {
        while let Some(id) = self.restarts.due(now()) {
            if self
                .subchannels
                .get(&id)
                .is_some_and(|running| running.is_dead)
                && let Some(start) = self.machine.start_again(id)
            {
                self.start(start);
            }
        }
        false
    }

    /// Takes what the source has ready to say, up to a bound.
    fn take_ready_names(&mut self) -> bool {
        let mut changed = false;
        for _ in 1..BATCH {
            if self.stopping >= MAX_STOPPING {
                break;
            }
            match self.inputs.source.next().now_or_never() {
                Some(named) => changed |= self.take_name(named),
                None => break,
            }
        }
        changed
    }

    fn take_name(&mut self, named: FromSource) -> bool {
        self.log.source_said(&named);
        let effects = match named {
            FromSource::Changed(BackendChange::Insert {
                id,
                label,
                endpoint,
                attributes,
            }) => {
                let (id, address) = (BackendId(id), endpoint.address().into());
                self.machine
                    .on_insert(now(), id, label, address, *endpoint, attributes)
            }
            FromSource::Changed(BackendChange::Remove { id }) => {
                self.machine.on_remove(now(), BackendId(id))
            }
            FromSource::Failed { text, retry } => {
                let error = Cause::new(CauseKind::NameResolver, &*text);
                self.log.source_failed(error.text(), retry);
                self.machine.on_discovery_error(text)
            }
            FromSource::Ended => self.machine.on_discovery_end(),
            FromSource::Panicked(text) => {
                self.log.source_panicked(&text);
                let effects = self.machine.on_discovery_error(text);
                let changed = self.apply(effects);
                let effects = self.machine.on_discovery_end();
                return self.apply(effects) || changed;
            }
        };
        self.apply(effects)
    }

    fn connect(&mut self) -> bool {
        let effects = self.machine.on_connect(now());
        if effects.changed {
            self.expect_calls();
        }
        self.apply(effects)
    }

    /// The idle timeout counts from now.
    fn expect_calls(&mut self) {
        let timeout = self.settings.idle_timeout;
        self.idleness = timeout.map(|timeout| Idleness::new(now(), timeout));
    }

    /// Looks whether there are calls, and lets go of the connections if there have
    /// been none for the idle timeout.
    fn check_idle(&mut self) -> bool {
        self.calls.retain(|_, calls| !calls.is_last());
        let in_flight = self.calls.values().any(|calls| calls.in_flight() > 0);
        let busy = self.board.take_activity() || in_flight;
        let idleness = self.idleness.as_mut();
        idleness.is_some_and(|idleness| idleness.check_activity(now(), busy)) && self.go_idle()
    }

    fn go_idle(&mut self) -> bool {
        self.idleness = None;
        let effects = self.machine.on_idle(now());
        self.apply(effects)
    }

    /// Says whether there is something to publish.
    fn apply(&mut self, effects: Effects<Endpoint>) -> bool {
        if let (true, Some(refresh)) = (effects.trouble, &self.settings.trouble) {
            refresh.request();
        }
        for id in effects.stop {
            // Its task lets go of them too, but later: a stream that is freed meanwhile
            // would go to a call that waits, after all was told otherwise.
            self.stop(id);
        }
        self.starts.add(effects.start);
        if !(effects.ejections.is_empty() && effects.panic_gates.is_empty()) {
            // Each has its gate before that is changed.
            self.start_all();
        }
        for change in effects.ejections {
            if let Some(running) = self.subchannels.get(&change.subchannel) {
                running.gate.set_ejected(change.ejection.is_some());
            }
            self.log.ejection(&change);
        }
        for (id, in_panic) in effects.panic_gates {
            if let Some(running) = self.subchannels.get(&id) {
                running.gate.set_in_panic(in_panic);
            }
        }
        for priority in effects.panics {
            self.log.panic(&priority);
        }
        for (label, spared) in effects.spared {
            self.log.spared(&label, &spared);
        }
        effects.changed
    }

    fn start_all(&mut self) {
        for start in self.starts.take() {
            self.start(start);
        }
    }

    fn stop(&mut self, id: SubchannelId) {
        self.starts.remove(id);
        let Some(stopped) = self.subchannels.remove(&id) else {
            return;
        };
        if !stopped.is_dead {
            self.stopping += 1;
        }
        if let Some(connections) = stopped.connections {
            connections.stop_new_calls();
        }
    }

    fn start(
        &mut self,
        Start {
            id,
            backend,
            label,
            endpoint,
            calls,
            is_ejected,
            in_panic,
            not_before,
        }: Start<Endpoint>,
    ) {
        self.log.starts(&label, endpoint.uri());
        let (stop, stopped) = oneshot::channel();
        let executor = endpoint.get_executor().bind(Handle::current());
        let tell = self.settings.tell_backend;
        let answered_by = tell.then(|| AnsweredBy::new(label.clone(), endpoint.address().into()));
        if self.settings.idle_timeout.is_some() {
            self.calls.insert(backend, calls.clone());
        }
        let limits = CallLimits::of(&endpoint);
        let backoff = endpoint.get_connect_backoff();
        let backoff = backoff.unwrap_or(&self.settings.backoff).clone();
        let connections = endpoint.connections().unwrap_or(self.settings.connections);
        let running = RunningSubchannel::new(stop, is_ejected, in_panic);
        let meter = BackendMeter::new(self.settings.recorder.as_ref(), &label);
        let spec = Spec {
            id,
            label,
            endpoint,
            not_before,
            config: Config {
                backoff,
                health: self.settings.health.clone(),
                connections,
                seed: fastrand::u64(..),
            },
            control: self.control.subscribe(),
            gate: Arc::clone(&running.gate),
            context: BackendContext {
                channel: self.settings.name.clone(),
                backend: backend.0,
                queue: self.board.queue().clone(),
                calls,
                answered_by,
                credentials: self.settings.credentials.clone(),
                limits,
                keepalive_throttle: KeepaliveThrottle::default(),
                silence: self.settings.silence.map(SilenceRule::new),
                meter,
            },
            reports: self.reports_in.clone(),
        };
        self.subchannels.insert(id, running);
        let task = TellEnd::new(id, self.ends_in.clone()).of(subchannel::run(spec, stopped));
        // An executor that panics has dropped the task, which tells that by itself.
        if let Err(panic) = contained(|| executor.spawn(task)) {
            self.log.executor_panicked(&panic);
        }
    }

    fn publish(&mut self) {
        self.generation += 1;
        let choice = self.machine.choice(now(), &self.cursor);
        let publication = self.machine.publication();
        let (status, picker) = publication.split(self.generation, choice);
        self.log.publishes(&mut self.machine, status.state());
        self.publish_throttle
            .on_published(now(), status.backends().len());
        let before = self.board.routing().status.state();
        if before != status.state() {
            self.log.changed(before, &status, self.board.end());
        }
        let wait_timeout = self.settings.wait_timeout(self.machine.endpoints());
        self.board
            .publish(status, picker, self.config.clone(), wait_timeout);
    }

    /// Another picker over what is published. Where that is behind, the next status has it.
    fn publish_picker(&mut self) {
        if self.publish_throttle.due().is_none()
            && let Some(picker) = self.machine.picker(now(), &self.cursor)
        {
            self.board.publish_picker(picker);
            self.log.chooses_anew(&mut self.machine);
        }
    }
}

/// A runtime or an executor that drops the worker closes the channel too: calls
/// that wait are told, instead of waiting for nobody.
impl Drop for Worker {
    fn drop(&mut self) {
        if self.board.routing().status.state() != ConnectivityState::Shutdown {
            if !thread::panicking() {
                self.board.set_end(End::RuntimeEnded);
            }
            let effects = self.machine.on_shutdown();
            self.apply(effects);
            self.publish();
        }
    }
}
