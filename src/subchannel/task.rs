//! The task of one subchannel: it dials, runs the health RPCs and keeps the time
//! for a [`Subchannel`] machine, which decides everything.

use std::{future::pending, sync::Arc, time::Instant};

use futures_util::{FutureExt, StreamExt, future::BoxFuture};
use tokio::{
    select,
    sync::{mpsc, oneshot, watch},
    task::coop::cooperative,
    time,
};
use tracing::{debug, error, field::display, info, warn};

use super::machine::{Config, Control, Effects, Report, Subchannel};
use crate::{
    connectivity::ConnectivityState,
    error::{Cause, CauseKind},
    health::{Action, Event, Notice, Prober, Running},
    tally::{LogBudget, Loudness},
    transport::{Attached, Connection, Endpoint, Stage, dial},
};

/// The targets of what is logged here; see the crate's documentation.
const BACKEND: &str = "tonic_health_channel::backend";
const HEALTH: &str = "tonic_health_channel::health";

/// What a subchannel is made of. `I` is the name its owner gave it.
pub(crate) struct Spec<I> {
    pub(crate) id: I,
    pub(crate) label: Arc<str>,
    pub(crate) endpoint: Endpoint,
    pub(crate) config: Config,
    /// What its owner wants from moment to moment.
    pub(crate) control: watch::Receiver<Control>,
    /// What every connection to the backend has.
    pub(crate) attached: Attached,
    pub(crate) reports: mpsc::Sender<Told<I>>,
}

/// A report on its way to the balancer.
#[derive(Debug)]
pub(crate) struct Told<I> {
    pub(crate) from: I,
    pub(crate) report: Report,
    /// Comes with READY, and only then.
    pub(crate) connection: Option<Connection>,
}

/// Runs a subchannel until `stop` resolves, by a message or by its sender's end.
pub(crate) async fn run<I: Copy>(mut spec: Spec<I>, stop: oneshot::Receiver<()>) {
    let control = spec.control.borrow_and_update().clone();
    let (machine, effects) = Subchannel::start(now(), spec.config.clone(), control);
    let mut task = Task {
        spec,
        machine,
        dialling: None,
        live: None,
        rpc: None,
        told: None,
        log: LogBudget::default(),
    };
    task.apply(effects);
    task.run(stop).await;
}

struct Task<I> {
    spec: Spec<I>,
    machine: Subchannel,
    dialling: Option<BoxFuture<'static, Result<Live, Cause>>>,
    live: Option<Live>,
    rpc: Option<Running>,
    told: Option<Report>,
    log: LogBudget,
}

/// A backend's connection, and its health RPCs.
///
/// They share one connection, except where the peer allows one stream at a time,
/// or none yet: then the `Watch` would leave none for calls, and has a connection
/// to itself.
struct Live {
    calls: Connection,
    prober: Prober,
    /// Health is checked, so the prober's slot may be taken.
    checked: bool,
    /// Calls and a `Watch` are on the same connection.
    shared: bool,
    stages: [watch::Receiver<Stage>; 2],
}

enum Input {
    Dialled(Result<Live, Cause>),
    Lost(Cause),
    Control(Control),
    Health(Option<Event>),
    Deadline,
}

impl<I: Copy> Task<I> {
    async fn run(&mut self, mut stop: oneshot::Receiver<()>) {
        loop {
            if self.tell().await.is_err() {
                return;
            }
            let deadline = self.machine.deadline();
            let input = select! {
                // A connection that is lost says more than what its Watch says
                // of that, and a stop outweighs everything. A Watch that never
                // falls silent comes after all that must be heard beside it.
                biased;
                _ = &mut stop => return,
                outcome = dialled(&mut self.dialling) => Input::Dialled(outcome),
                why = lost(&mut self.live) => Input::Lost(why),
                control = changed(&mut self.spec.control) => Input::Control(control),
                event = next(&mut self.rpc) => match lost(&mut self.live).now_or_never() {
                    // Lost between the two: the Watch ended for that.
                    Some(why) => Input::Lost(why),
                    None => Input::Health(event),
                },
                () = sleep_until(deadline) => Input::Deadline,
            };
            let effects = self.take(now(), input);
            self.apply(effects);
        }
    }

    /// One input for the machine.
    fn take(&mut self, now: Instant, input: Input) -> Effects {
        match input {
            Input::Dialled(Ok(mut live)) => {
                debug!(target: BACKEND, backend = &*self.spec.label, "connected");
                // That may have changed since the dial began.
                live.check(self.machine.service().is_some());
                self.live = Some(live);
                self.machine.on_connected(now)
            }
            Input::Dialled(Err(cause)) => self.machine.on_dial_failed(now, cause),
            Input::Lost(cause) => {
                debug!(target: BACKEND, backend = &*self.spec.label, %cause, "connection lost");
                self.machine.on_disconnected(now, cause)
            }
            Input::Control(control) => {
                let effects = self.machine.on_control(now, control);
                if let Some(live) = &mut self.live {
                    live.check(self.machine.service().is_some());
                }
                effects
            }
            Input::Health(Some(Event::Response(status))) => {
                self.machine.on_health_response(now, status)
            }
            Input::Health(Some(Event::Ended(ended))) => self.machine.on_health_ended(now, ended),
            Input::Health(Some(Event::Checked(result))) => self.machine.on_checked(now, result),
            Input::Health(None) => {
                self.rpc = None;
                Effects::default()
            }
            Input::Deadline => self.machine.on_deadline(now),
        }
    }

    fn apply(&mut self, effects: Effects) {
        let Effects {
            dial,
            drop_connection,
            health:
                Action {
                    stop,
                    start,
                    notice,
                },
        } = effects;
        if stop {
            self.rpc = None;
        }
        if drop_connection {
            self.drop_connection();
        }
        if dial {
            self.dialling = Some(Box::pin(connect(
                self.spec.label.clone(),
                self.spec.endpoint.clone(),
                self.spec.attached.clone(),
                self.machine.service().is_some(),
            )));
        }
        let service = self.machine.service();
        if let (Some(rpc), Some(service), Some(live)) = (start, service, &self.live) {
            debug!(
                target: HEALTH,
                backend = &*self.spec.label,
                ?rpc,
                service = &**service,
                "health check"
            );
            self.rpc = Some(live.prober.start(rpc, service));
        }
        if let Some(notice) = notice {
            self.log(notice);
        }
    }

    /// Offers the connection to calls or takes the offer back, then tells the
    /// balancer, if there is anything new to tell.
    ///
    /// Fails when the balancer is gone.
    async fn tell(&mut self) -> Result<(), ()> {
        let report = self.machine.report();
        if self.told.as_ref() == Some(&report) {
            return Ok(());
        }
        let ready = report.state == ConnectivityState::Ready;
        if let Some(live) = &self.live {
            live.calls.offer(ready);
        }
        self.log_change(&report);
        let calls = self.live.as_ref().map(|live| &live.calls);
        let told = Told {
            from: self.spec.id,
            report: report.clone(),
            connection: calls.filter(|_| ready).cloned(),
        };
        self.told = Some(report);
        self.spec.reports.send(told).await.map_err(|_| ())
    }

    fn drop_connection(&mut self) {
        self.rpc = None;
        if let Some(live) = self.live.take() {
            live.calls.let_go();
        }
    }

    /// A change of state is for operators, any other for who looks closer; and so is
    /// one of too many.
    fn log_change(&mut self, now: &Report) {
        let backend = &*self.spec.label;
        let Report {
            state: to, health, ..
        } = now;
        let cause = now.cause.as_ref().map(display);
        let from = self.told.as_ref().map(|told| told.state);
        if from == Some(*to) {
            debug!(target: BACKEND, backend, state = %to, %health, cause, "backend");
            return;
        }
        let from = from.unwrap_or(ConnectivityState::Idle);
        match spend(&mut self.log, backend) {
            Loudness::Normal | Loudness::Last => {
                info!(target: BACKEND, backend, %from, %to, %health, cause, "backend");
            }
            Loudness::Muted => {
                debug!(target: BACKEND, backend, %from, %to, %health, cause, "backend");
            }
        }
    }

    fn log(&mut self, notice: Notice) {
        let backend = &*self.spec.label;
        if spend(&mut self.log, backend) == Loudness::Muted {
            debug!(target: HEALTH, backend, ?notice, "once more");
            return;
        }
        let service = self.machine.service().map(|service| &**service);
        match notice {
            Notice::AssumedHealthy => error!(
                target: HEALTH,
                backend,
                service,
                "the server has no health service; it counts as healthy for as long as it is \
                 connected"
            ),
            Notice::PollingCheck => warn!(
                target: HEALTH,
                backend,
                service, "the server does not implement Watch; polling Check instead"
            ),
            Notice::UnhealthyWithoutService => warn!(
                target: HEALTH,
                backend,
                service, "the server has no health service; it counts as unhealthy, as configured"
            ),
        }
    }
}

fn spend(log: &mut LogBudget, backend: &str) -> Loudness {
    let loudness = log.spend(now());
    if loudness == Loudness::Last {
        warn!(target: BACKEND, backend, "changes too often; for up to a minute at DEBUG");
    }
    loudness
}

/// A subchannel that stops lets go of its connection, and calls on it go on.
impl<I> Drop for Task<I> {
    fn drop(&mut self) {
        if let Some(live) = &self.live {
            live.calls.let_go();
        }
    }
}

impl Live {
    fn new(calls: Connection, watched: Connection, checked: bool) -> Self {
        Self {
            checked,
            shared: checked && watched == calls,
            stages: [watched.stage(), calls.stage()],
            prober: Prober::new(watched),
            calls,
        }
    }

    /// Health is checked from now on, or not any more: then calls get the slot
    /// that the `Watch` had, and a connection that it had to itself is let go.
    fn check(&mut self, checked: bool) {
        if self.checked != checked {
            *self = Self::new(self.calls.clone(), self.calls.clone(), checked);
        }
    }
}

/// Dials once, or twice where the peer allows at most one stream at a time and
/// that one is needed for the `Watch`.
async fn connect(
    label: Arc<str>,
    endpoint: Endpoint,
    attached: Attached,
    checked: bool,
) -> Result<Live, Cause> {
    let first = dial(endpoint.clone(), attached.clone()).await?;
    let narrow = matches!(*first.stage().borrow(), Stage::Open { limit: 0 | 1 });
    let calls = match checked && narrow {
        false => first.clone(),
        true => {
            warn!(
                target: HEALTH,
                backend = &*label,
                "the server allows at most one stream per connection, which the health check \
                 needs; calls get a second connection"
            );
            dial(endpoint, attached).await?
        }
    };
    Ok(Live::new(calls, first, checked))
}

async fn dialled(
    dialling: &mut Option<BoxFuture<'static, Result<Live, Cause>>>,
) -> Result<Live, Cause> {
    match dialling {
        Some(attempt) => {
            let outcome = attempt.await;
            *dialling = None;
            outcome
        }
        None => pending().await,
    }
}

/// Resolves when a connection takes no new streams any more, or no longer enough
/// for what is on it.
async fn lost(live: &mut Option<Live>) -> Cause {
    match live {
        Some(Live { shared, stages, .. }) => {
            let [a, b] = stages;
            select! {
                why = ended(a, *shared) => why,
                why = ended(b, *shared) => why,
            }
        }
        None => pending().await,
    }
}

/// A `shared` connection whose peer comes down to one stream at a time, or whose
/// health was not checked before, ends as one that drains: the `Watch` keeps that
/// stream, and calls would wait for ever.
async fn ended(stage: &mut watch::Receiver<Stage>, shared: bool) -> Cause {
    let why = |stage: &Stage| match stage {
        Stage::Open { limit: 1 } if shared => Some(Cause::new(
            CauseKind::Disconnected,
            "the server allows one stream per connection, which the health check needs",
        )),
        stage => stage.ended().cloned(),
    };
    let ended = stage.wait_for(|stage| why(stage).is_some()).await;
    let why = ended.ok().and_then(|stage| why(&stage));
    match why {
        Some(why) => why,
        // A handle is held beside this receiver, so the sender lives.
        None => pending().await,
    }
}

/// What the owner wants, once that is different. An owner that is gone wants
/// nothing new.
async fn changed(control: &mut watch::Receiver<Control>) -> Control {
    match control.changed().await {
        Ok(()) => control.borrow_and_update().clone(),
        Err(_) => pending().await,
    }
}

async fn next(rpc: &mut Option<Running>) -> Option<Event> {
    match rpc {
        // A server may send faster than this task can run out of messages.
        Some(rpc) => cooperative(rpc.next()).await,
        None => pending().await,
    }
}

async fn sleep_until(deadline: Option<Instant>) {
    match deadline {
        Some(at) => time::sleep_until(at.into()).await,
        None => pending().await,
    }
}

fn now() -> Instant {
    time::Instant::now().into_std()
}
