//! The one worker of a channel: it drives a [`Balancer`] machine, starts and
//! stops the subchannels it asks for, and publishes what it says.

use std::{collections::HashMap, num::NonZeroUsize, pin::Pin, sync::Arc, time::Duration};

use futures_util::{FutureExt, Stream, StreamExt};
use tokio::{
    select,
    sync::{mpsc, oneshot, watch},
    task,
};
use tower::BoxError;
use tracing::{debug, field::display, info, warn};

use super::{
    config::Configs,
    effects::{Effects, Start, SubchannelId},
    idle::Idleness,
    machine::Balancer,
    publish_throttle::PublishThrottle,
    source_with_retry::{FromSource, SourceWithRetry},
};
use crate::{
    connectivity::ConnectivityState,
    discover::{BackendChange, BackendChanges, RefreshHandle},
    error::{Cause, CauseKind},
    health::HealthOptions,
    routing::{BackendId, Board, Command, Cursor},
    service_config::{LoadBalancingPolicy, ServiceConfig},
    subchannel::{self, Config, Control, HealthCheck, ReportMessage, Spec},
    transport::{
        AnsweredBy, BackendContext, CallCredentials, CallLimits, ConnectionGroup, Endpoint,
        KeepaliveThrottle,
    },
    util::{
        backoff::BackoffConfig,
        clock::{now, sleep_until},
        in_flight::InFlight,
        log_budget::{LogBudget, LogDecision},
    },
};

/// The targets of what is logged here; see the crate's documentation.
const BACKEND: &str = "tonic_health_channel::backend";
const CHANNEL: &str = "tonic_health_channel::channel";
const DISCOVER: &str = "tonic_health_channel::discover";
const SERVICE_CONFIG: &str = "tonic_health_channel::service_config";

/// Changes and reports taken in before the next publication. Ten thousand
/// backends that come up together are then published a few times, not ten
/// thousand.
const BATCH: usize = 256;

/// What a channel is made of, besides its source.
pub(crate) struct Settings {
    pub(crate) backoff: BackoffConfig,
    pub(crate) health: Arc<HealthOptions>,
    /// Health is not checked, whatever the service config says.
    pub(crate) health_disabled: bool,
    /// The application's own service config.
    pub(crate) default_config: Option<Arc<ServiceConfig>>,
    pub(crate) config_updates: Option<ConfigUpdates>,
    /// Rung when there may be better backends to know of.
    pub(crate) trouble: Option<RefreshHandle>,
    /// False for a channel that waits in IDLE for its first call.
    pub(crate) eager: bool,
    /// How long without a call until the channel is IDLE; never if `None`.
    pub(crate) idle_timeout: Option<Duration>,
    pub(crate) max_waiting_calls: usize,
    /// How many connections a backend has for its calls, unless its endpoint says.
    pub(crate) connections: NonZeroUsize,
    /// What every call and every health check has to bring.
    pub(crate) credentials: Option<CallCredentials>,
    /// Responses name their backend.
    pub(crate) tell_backend: bool,
}

/// A source of service configs; `None` says that it has none for this channel.
pub(crate) type ConfigUpdates =
    Pin<Box<dyn Stream<Item = Result<Option<ServiceConfig>, BoxError>> + Send>>;

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
    let machine = Balancer::new(settings.eager, config.is_some());
    let cursor = Arc::new(Cursor::new(fastrand::usize(..)));
    let (status, picker) = machine.publication().split(0, &cursor);
    let board = Arc::new(Board::new(
        status,
        picker,
        config.clone(),
        settings.max_waiting_calls,
    ));
    let (reports_in, reports) = mpsc::channel(BATCH);
    let mut worker = Worker {
        machine,
        configs,
        config: None,
        cursor,
        board: board.clone(),
        generation: 0,
        publish_throttle: PublishThrottle::new(now()),
        idleness: None,
        in_flight: HashMap::new(),
        settings,
        control: watch::Sender::new(Control {
            health: HealthCheck::Off,
            backoff_resets: 0,
            hurries: 0,
            rests_when_lost: false,
        }),
        subchannels: HashMap::new(),
        commands,
        config_updates,
        reports,
        reports_in,
        source: SourceWithRetry::new(source),
        log: LogBudget::default(),
    };
    worker.adopt(config);
    if worker.settings.eager {
        worker.expect_calls();
    }
    (board, worker.run())
}

struct Worker {
    machine: Balancer<Endpoint, ConnectionGroup>,
    configs: Configs<Arc<ServiceConfig>>,
    /// The one in force.
    config: Option<Arc<ServiceConfig>>,
    cursor: Arc<Cursor>,
    board: Arc<Board>,
    generation: u64,
    publish_throttle: PublishThrottle,
    /// While the channel is not IDLE, and could be.
    idleness: Option<Idleness>,
    /// The calls of every backend that may have some, also of those removed.
    in_flight: HashMap<BackendId, InFlight>,
    settings: Settings,
    /// What all subchannels go by.
    control: watch::Sender<Control>,
    subchannels: HashMap<SubchannelId, RunningSubchannel>,
    commands: mpsc::UnboundedReceiver<Command>,
    config_updates: Option<ConfigUpdates>,
    reports: mpsc::Receiver<ReportMessage<SubchannelId>>,
    /// A copy for each subchannel; ours keeps `reports` open.
    reports_in: mpsc::Sender<ReportMessage<SubchannelId>>,
    source: SourceWithRetry,
    log: LogBudget,
}

/// A subchannel that runs.
struct RunningSubchannel {
    /// Dropping it stops the subchannel.
    _stop: oneshot::Sender<()>,
    /// Where calls are sent, while it is READY.
    connections: Option<ConnectionGroup>,
}

impl Worker {
    async fn run(mut self) {
        let mut messages = Vec::new();
        self.board.standstill().on_start();
        loop {
            // In no order: a flood of one kind must not starve the others.
            let changed = select! {
                command = self.commands.recv() => match command {
                    Some(Command::Connect) => self.connect(),
                    Some(Command::EnterIdle) => self.go_idle(),
                    Some(Command::ResetConnectBackoff) => {
                        self.control.send_modify(|control| control.backoff_resets += 1);
                        false
                    }
                    Some(Command::Close) | None => break,
                },
                _ = self.reports.recv_many(&mut messages, BATCH) => {
                    self.drain_pending_reports(&mut messages).await;
                    self.take_reports(&mut messages);
                    false
                }
                named = self.source.next() => self.take_names(named),
                update = next(&mut self.config_updates) => self.take_config(update),
                () = self.board.woken() => self.connect(),
                hurry = self.board.standstill().called() => {
                    self.control.send_modify(|control| control.hurries += u64::from(hurry));
                    false
                }
                () = sleep_until(self.idleness.as_ref().map(Idleness::next_check)) => self.check_idle(),
                () = sleep_until(self.machine.deadline()) => false,
                () = sleep_until(self.publish_throttle.due()) => false,
            };
            let effects = self.machine.apply_policy(now());
            if self.apply(effects) || changed || self.publish_throttle.is_due(now()) {
                self.publish();
            }
        }
        let effects = self.machine.on_shutdown();
        self.apply(effects);
        self.publish();
    }

    /// Takes along the reports that are on their way: backends come up in crowds,
    /// and each publication costs as much as there are backends. Nothing waits
    /// for it, as a subchannel takes its connection out of use by itself.
    async fn drain_pending_reports(&mut self, messages: &mut Vec<ReportMessage<SubchannelId>>) {
        task::yield_now().await;
        while messages.len() < BATCH
            && let Ok(another) = self.reports.try_recv()
        {
            messages.push(another);
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
                running.connections.clone_from(&connections);
            }
            let effects = self.machine.on_report(now, from, report, connections);
            changed |= self.apply(effects);
        }
        if changed {
            let published = self.board.routing().status.state();
            self.publish_throttle
                .on_news(now, self.machine.state() != published);
        }
    }

    /// Takes what the source says, and all else that it has ready to say.
    fn take_names(&mut self, first: FromSource) -> bool {
        let mut changed = self.take_name(first);
        for _ in 1..BATCH {
            match self.source.next().now_or_never() {
                Some(named) => changed |= self.take_name(named),
                None => break,
            }
        }
        changed
    }

    fn take_name(&mut self, named: FromSource) -> bool {
        let effects = match named {
            FromSource::Changed(BackendChange::Insert {
                id,
                label,
                endpoint,
            }) => {
                let address = endpoint.address().into();
                self.machine
                    .on_insert(now(), BackendId(id), label, address, *endpoint)
            }
            FromSource::Changed(BackendChange::Remove { id }) => {
                self.machine.on_remove(BackendId(id))
            }
            FromSource::Failed { text, retry } => {
                let error = Cause::new(CauseKind::NameResolver, &*text);
                warn!(target: DISCOVER, error = error.text(), ?retry, "failed");
                self.machine.on_discovery_error(text)
            }
            FromSource::Ended => self.machine.on_discovery_end(),
        };
        self.apply(effects)
    }

    fn take_config(&mut self, update: Option<Result<Option<ServiceConfig>, BoxError>>) -> bool {
        match update {
            Some(Ok(config)) => self.configs.on_update(Ok(config.map(Arc::new))),
            Some(Err(error)) => {
                let error = error.to_string();
                let text = error.trim_start_matches("service config: ");
                let cause = Cause::new(CauseKind::ServiceConfig, text);
                warn!(target: SERVICE_CONFIG, error = cause.text(), "invalid");
                self.configs.on_update(Err(cause));
            }
            None => {
                self.config_updates = None;
                self.configs.on_end();
            }
        }
        let config = self.configs.in_force();
        // First what subchannels are to be like, then those that are to start.
        let known = config.is_some();
        let adopted = self.adopt(config);
        let effects = match self.configs.rejected() {
            _ if known => self.machine.on_config(now()),
            Some(cause) => self.machine.on_config_rejected(cause.clone()),
            None => return false,
        };
        self.apply(effects) || adopted
    }

    /// Makes the config the one in force. Says whether it is another.
    fn adopt(&mut self, config: Option<Arc<ServiceConfig>>) -> bool {
        let Some(config) = config else { return false };
        if self.config.as_ref() == Some(&config) {
            return false;
        }
        let policy = config.policy();
        let picks_first = matches!(policy, LoadBalancingPolicy::PickFirst { .. });
        let health = match config.health_check_service() {
            None => HealthCheck::Off,
            Some(service) if self.settings.health_disabled || picks_first => {
                let why = match picks_first {
                    true => "pick_first does without",
                    false => "are disabled for this channel",
                };
                warn!(target: SERVICE_CONFIG, service, "asks for health checks, which {why}");
                HealthCheck::Disabled
            }
            Some(service) => HealthCheck::Of(service.into()),
        };
        if self.config.is_some() {
            let service = config.health_check_service();
            info!(target: SERVICE_CONFIG, ?policy, service, "changed");
        }
        let fields = config.fields_without_effect();
        if !fields.is_empty() {
            let text = "these fields have no effect yet";
            warn!(target: SERVICE_CONFIG, ?fields, "{text}");
        }
        self.control.send_modify(|control| {
            control.health = health;
            control.rests_when_lost = picks_first;
        });
        self.config = Some(config);
        let effects = self.machine.on_policy(now(), policy, fastrand::u64(..));
        self.apply(effects);
        true
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
        self.in_flight.retain(|_, calls| !calls.is_last());
        let in_flight = self.in_flight.values().any(|calls| calls.now() > 0);
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
            let stopped = self.subchannels.remove(&id);
            if let Some(connections) = stopped.and_then(|running| running.connections) {
                connections.stop_new_calls();
            }
        }
        for start in effects.start {
            self.start(start);
        }
        effects.changed
    }

    fn start(
        &mut self,
        Start {
            id,
            backend,
            label,
            endpoint,
            in_flight,
            not_before,
        }: Start<Endpoint>,
    ) {
        debug!(target: BACKEND, backend = &*label, uri = %endpoint.uri(), "starts");
        let (stop, stopped) = oneshot::channel();
        let executor = endpoint.get_executor().clone();
        let tell = self.settings.tell_backend;
        let answered_by = tell.then(|| AnsweredBy::new(label.clone(), endpoint.address().into()));
        if self.settings.idle_timeout.is_some() {
            self.in_flight.insert(backend, in_flight.clone());
        }
        let limits = CallLimits::of(&endpoint);
        let connections = endpoint.connections().unwrap_or(self.settings.connections);
        let spec = Spec {
            id,
            label,
            endpoint,
            not_before,
            config: Config {
                backoff: self.settings.backoff.clone(),
                health: self.settings.health.clone(),
                connections,
                seed: fastrand::u64(..),
            },
            control: self.control.subscribe(),
            context: BackendContext {
                backend: backend.0,
                queue: self.board.queue().clone(),
                in_flight,
                answered_by,
                credentials: self.settings.credentials.clone(),
                limits,
                keepalive_throttle: KeepaliveThrottle::default(),
            },
            reports: self.reports_in.clone(),
        };
        let running = RunningSubchannel {
            _stop: stop,
            connections: None,
        };
        self.subchannels.insert(id, running);
        executor.spawn(subchannel::run(spec, stopped));
    }

    fn publish(&mut self) {
        self.generation += 1;
        let publication = self.machine.publication();
        let (status, picker) = publication.split(self.generation, &self.cursor);
        self.publish_throttle
            .on_published(now(), status.backends().len());
        let before = self.board.routing().status.state();
        if before != status.state() {
            let (to, backends) = (status.state(), status.backends().len());
            let cause = status.cause().map(display);
            match self.log.spend(now()) {
                LogDecision::Demote => {
                    debug!(target: CHANNEL, from = %before, %to, backends, cause, "channel");
                }
                LogDecision::EmitLast | LogDecision::Emit => {
                    info!(target: CHANNEL, from = %before, %to, backends, cause, "channel");
                }
            }
        }
        self.board.publish(status, picker, self.config.clone());
    }
}

/// A runtime or an executor that drops the worker closes the channel too: calls
/// that wait are told, instead of waiting for nobody.
impl Drop for Worker {
    fn drop(&mut self) {
        if self.board.routing().status.state() != ConnectivityState::Shutdown {
            let effects = self.machine.on_shutdown();
            self.apply(effects);
            self.publish();
        }
    }
}

async fn next(
    updates: &mut Option<ConfigUpdates>,
) -> Option<Result<Option<ServiceConfig>, BoxError>> {
    match updates {
        Some(updates) => updates.next().await,
        None => std::future::pending().await,
    }
}
