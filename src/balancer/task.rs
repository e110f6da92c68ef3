//! The one worker of a channel: it drives a [`Balancer`] machine, starts and
//! stops the subchannels it asks for, and publishes what it says.

use std::{collections::HashMap, sync::Arc, time::Duration};

use futures_util::{FutureExt, StreamExt};
use tokio::{
    select,
    sync::{mpsc, oneshot},
    task,
    time::{self, Instant},
};
use tracing::{debug, info, warn};

use super::machine::{Balancer, Effects, Start, SubchannelId};
use crate::{
    backoff::BackoffConfig,
    board::Board,
    connectivity::ConnectivityState,
    discover::{Named, Source},
    health::HealthOptions,
    picker::Cursor,
    snapshot::BackendId,
    subchannel::{self, Config, Spec, Told},
    transport::{Connection, Endpoint},
};

/// Changes and reports taken in before the next publication. Ten thousand
/// backends that come up together are then published a few times, not ten
/// thousand.
const BATCH: usize = 256;

/// How long a source that failed is left alone: at first, and at most.
const SOURCE_RETRY: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(30));

/// What a channel is made of, besides its source.
pub(crate) struct Settings {
    pub(crate) backoff: BackoffConfig,
    /// Health checking, with the service to ask about; off if `None`.
    pub(crate) health: Option<(Arc<HealthOptions>, Arc<str>)>,
    /// False for a channel that waits in IDLE for its first call.
    pub(crate) eager: bool,
    pub(crate) max_waiting_calls: usize,
}

/// The worker, and the board it publishes on. `stop` ends the channel when its
/// sender is dropped.
pub(crate) fn new(
    source: Source,
    settings: Settings,
    stop: oneshot::Receiver<()>,
) -> (Arc<Board>, impl Future<Output = ()> + Send) {
    let machine = Balancer::new(settings.eager);
    let cursor = Arc::new(Cursor::new(fastrand::usize(..)));
    let (status, picker) = machine.publication().split(0, &cursor);
    let board = Arc::new(Board::new(status, picker, settings.max_waiting_calls));
    let (reports_in, reports) = mpsc::channel(BATCH);
    let worker = Worker {
        machine,
        cursor,
        board: board.clone(),
        generation: 0,
        settings,
        subchannels: HashMap::new(),
        reports,
        reports_in,
        source: Polled::new(source),
    };
    (board, worker.run(stop))
}

struct Worker {
    machine: Balancer<Endpoint, Connection>,
    cursor: Arc<Cursor>,
    board: Arc<Board>,
    generation: u64,
    settings: Settings,
    /// Dropping a sender stops its subchannel.
    subchannels: HashMap<SubchannelId, oneshot::Sender<()>>,
    reports: mpsc::Receiver<Told<SubchannelId>>,
    /// A copy for each subchannel; ours keeps `reports` open.
    reports_in: mpsc::Sender<Told<SubchannelId>>,
    source: Polled,
}

impl Worker {
    async fn run(mut self, mut stop: oneshot::Receiver<()>) {
        let mut told = Vec::new();
        loop {
            // In no order: a flood of one kind must not starve the others.
            let changed = select! {
                _ = &mut stop => break,
                _ = self.reports.recv_many(&mut told, BATCH) => {
                    self.gather(&mut told).await;
                    self.take_reports(&mut told)
                }
                named = self.source.next() => self.take_names(named),
                () = self.board.woken() => self.connect(),
            };
            if changed {
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
    async fn gather(&mut self, told: &mut Vec<Told<SubchannelId>>) {
        task::yield_now().await;
        while told.len() < BATCH
            && let Ok(another) = self.reports.try_recv()
        {
            told.push(another);
        }
    }

    fn take_reports(&mut self, told: &mut Vec<Told<SubchannelId>>) -> bool {
        let now = now();
        let mut changed = false;
        for Told {
            from,
            report,
            connection,
        } in told.drain(..)
        {
            let effects = self.machine.on_report(now, from, report, connection);
            changed |= self.apply(effects);
        }
        changed
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
            FromSource::Named(Named::Insert {
                id,
                label,
                endpoint,
            }) => {
                let address = endpoint.address().into();
                self.machine
                    .on_insert(now(), BackendId(id), label, address, *endpoint)
            }
            FromSource::Named(Named::Remove { id }) => self.machine.on_remove(BackendId(id)),
            FromSource::Failed { text, retry } => {
                warn!(error = %text, ?retry, "the source of backends failed; asking again");
                self.machine.on_discovery_error(text)
            }
            FromSource::Ended => self.machine.on_discovery_end(),
        };
        self.apply(effects)
    }

    fn connect(&mut self) -> bool {
        let effects = self.machine.on_connect(now());
        self.apply(effects)
    }

    /// Says whether there is something to publish.
    fn apply(&mut self, effects: Effects<Endpoint>) -> bool {
        for id in effects.stop {
            self.subchannels.remove(&id);
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
        }: Start<Endpoint>,
    ) {
        debug!(backend = &*label, id = backend.0, uri = %endpoint.uri(), "subchannel starts");
        let (stop, stopped) = oneshot::channel();
        let (health, service) = match &self.settings.health {
            Some((options, service)) => (Some(options.clone()), service.clone()),
            None => (None, "".into()),
        };
        let executor = endpoint.get_executor().clone();
        let spec = Spec {
            id,
            label,
            endpoint,
            config: Config {
                backoff: self.settings.backoff.clone(),
                health,
                seed: fastrand::u64(..),
            },
            service,
            queue: self.board.queue().clone(),
            reports: self.reports_in.clone(),
        };
        self.subchannels.insert(id, stop);
        executor.spawn(subchannel::run(spec, stopped));
    }

    fn publish(&mut self) {
        self.generation += 1;
        let publication = self.machine.publication();
        let (status, picker) = publication.split(self.generation, &self.cursor);
        let before = self.board.routing().status.state();
        if before != status.state() {
            info!(from = %before, to = %status.state(), backends = status.backends().len(), "channel");
        }
        self.board.publish(status, picker);
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

/// A source that is left alone for a while after an error, and for ever after
/// its end.
struct Polled {
    source: Option<Source>,
    retry: Duration,
    rests_until: Option<Instant>,
}

enum FromSource {
    Named(Named),
    Failed { text: String, retry: Duration },
    Ended,
}

impl Polled {
    fn new(source: Source) -> Self {
        Self {
            source: Some(source),
            retry: SOURCE_RETRY.0,
            rests_until: None,
        }
    }

    /// What the source says next.
    ///
    /// # Cancel safety
    ///
    /// Nothing is lost.
    async fn next(&mut self) -> FromSource {
        if let Some(until) = self.rests_until {
            time::sleep_until(until).await;
            self.rests_until = None;
        }
        let Some(source) = &mut self.source else {
            return std::future::pending().await;
        };
        match source.next().await {
            Some(Ok(named)) => {
                self.retry = SOURCE_RETRY.0;
                FromSource::Named(named)
            }
            Some(Err(error)) => {
                let retry = self.retry;
                self.rests_until = Some(Instant::now() + retry);
                self.retry = (retry * 2).min(SOURCE_RETRY.1);
                let text = format!("{error} (asked again in {retry:?})");
                FromSource::Failed { text, retry }
            }
            None => {
                self.source = None;
                FromSource::Ended
            }
        }
    }
}

fn now() -> std::time::Instant {
    Instant::now().into_std()
}
