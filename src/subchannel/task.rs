//! The task of one subchannel: it dials, runs the health RPCs and keeps the time
//! for a [`Subchannel`] machine, which decides everything.

use std::{future::pending, sync::Arc, time::Instant};

use futures_util::{FutureExt, StreamExt, future::BoxFuture};
use tokio::{
    select,
    sync::{mpsc, oneshot, watch},
    task::coop::cooperative,
};
use tracing::{debug, error, field::display, info, warn};

use super::{
    active_connections::{ActiveConnections, ConnectionEvent, dialled},
    call_gate::CallGate,
    machine::{Config, Control, Effects, Report, Subchannel},
};
use crate::{
    connectivity::ConnectivityState,
    error::Cause,
    health::{Action, Event, Notice, RunningRpc},
    transport::{BackendContext, ConnectionGroup, Endpoint},
    util::{
        clock::{now, or_pending},
        log_budget::{LogBudget, LogDecision},
        real_time::RealTime,
    },
};

/// The targets of what is logged here; see the crate's documentation.
const BACKEND: &str = "tonic_health_channel::backend";
const HEALTH: &str = "tonic_health_channel::health";

/// What a subchannel is made of. `I` is the name its owner gave it.
pub(crate) struct Spec<I> {
    pub(crate) id: I,
    pub(crate) label: Arc<str>,
    pub(crate) endpoint: Endpoint,
    /// The first dial waits until then.
    pub(crate) not_before: Option<Instant>,
    pub(crate) config: Config,
    /// What its owner wants from moment to moment.
    pub(crate) control: watch::Receiver<Control>,
    /// By which its owner keeps calls from the connections.
    pub(crate) gate: Arc<CallGate>,
    /// What every connection to the backend has.
    pub(crate) context: BackendContext,
    pub(crate) reports: mpsc::Sender<ReportMessage<I>>,
}

/// A report on its way to the balancer.
#[derive(Debug)]
pub(crate) struct ReportMessage<I> {
    pub(crate) from: I,
    pub(crate) report: Report,
    /// While it is connected, and so always with READY.
    pub(crate) connections: Option<ConnectionGroup>,
}

/// Runs a subchannel until `stop` resolves, by a message or by its sender's end.
pub(crate) async fn run<I: Copy>(mut spec: Spec<I>, stop: oneshot::Receiver<()>) {
    let control = spec.control.borrow_and_update().clone();
    let (machine, effects) =
        Subchannel::start(now(), spec.not_before, spec.config.clone(), control);
    let mut task = Task {
        spec,
        machine,
        dialling: None,
        connections: None,
        rpc: None,
        real_time: RealTime::default(),
        sent: None,
        log: LogBudget::default(),
    };
    task.apply(effects);
    task.run(stop).await;
}

struct Task<I> {
    spec: Spec<I>,
    machine: Subchannel,
    dialling: Option<BoxFuture<'static, Result<ActiveConnections, Cause>>>,
    connections: Option<ActiveConnections>,
    rpc: Option<RunningRpc>,
    /// Of the machine's deadline.
    real_time: RealTime,
    sent: Option<Report>,
    log: LogBudget,
}

enum Input {
    Dialled(Result<ActiveConnections, Cause>),
    Connection(ConnectionEvent),
    Control(Control),
    Health(Option<Event>),
    Deadline,
}

impl<I: Copy> Task<I> {
    async fn run(&mut self, mut stop: oneshot::Receiver<()>) {
        loop {
            if self.send_report().await.is_err() {
                return;
            }
            let deadline = self.machine.deadline();
            let guards_io = self.machine.awaits_answer() && self.spec.endpoint.uses_sockets();
            let connections = self.connections.as_mut();
            // A server may send faster than this task can run out of messages.
            let rpc = self.rpc.as_mut().map(|rpc| cooperative(rpc.next()));
            let input = select! {
                // A connection that is lost says more than what its Watch says
                // of that, and a stop outweighs everything. A Watch that never
                // falls silent comes after all that must be heard beside it.
                biased;
                _ = &mut stop => return,
                outcome = dialled(&mut self.dialling) => Input::Dialled(outcome),
                event = or_pending(connections.map(ActiveConnections::next)) => {
                    Input::Connection(event)
                }
                control = changed(&mut self.spec.control) => Input::Control(control),
                event = or_pending(rpc) => {
                    let lost = self.connections.as_mut().map(ActiveConnections::lost);
                    match or_pending(lost).now_or_never() {
                        // Lost between the two: the Watch ended for that.
                        Some(why) => Input::Connection(ConnectionEvent::Lost(why)),
                        None => Input::Health(event),
                    }
                }
                () = self.real_time.sleep_until(deadline, guards_io) => Input::Deadline,
            };
            let effects = self.take(now(), input);
            self.apply(effects);
        }
    }

    /// One input for the machine.
    fn take(&mut self, now: Instant, input: Input) -> Effects {
        match input {
            Input::Dialled(Ok(mut connections)) => {
                let (channel, backend) = names(&self.spec);
                debug!(target: BACKEND, channel, backend, "connected");
                // That may have changed since the dial began.
                connections.check(self.machine.service().is_some());
                self.connections = Some(connections);
                self.machine.on_connected(now)
            }
            Input::Dialled(Err(cause)) => self.machine.on_dial_failed(now, cause),
            Input::Connection(event) => self.take_event(now, event),
            Input::Control(control) => {
                let effects = self.machine.on_control(now, control);
                if let Some(connections) = &mut self.connections {
                    connections.check(self.machine.service().is_some());
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

    fn take_event(&mut self, now: Instant, event: ConnectionEvent) -> Effects {
        let (channel, backend) = names(&self.spec);
        let Some(connections) = &mut self.connections else {
            return Effects::default();
        };
        match event {
            ConnectionEvent::Lost(cause) => {
                debug!(target: BACKEND, channel, backend, %cause, "connection lost");
                match connections.replace_first() {
                    true => return self.machine.on_replaced(now),
                    false => return self.machine.on_disconnected(now, cause),
                }
            }
            ConnectionEvent::Dialled(Ok(connection)) => {
                debug!(target: BACKEND, channel, backend, "extra connection is ready");
                connections.add(connection);
                self.machine.on_extra_joined();
            }
            ConnectionEvent::Dialled(Err(cause)) => {
                debug!(target: BACKEND, channel, backend, %cause, "extra connection failed");
                self.machine.on_extra_failed();
            }
            ConnectionEvent::ExtraLost(at, cause) => {
                debug!(target: BACKEND, channel, backend, %cause, "extra connection lost");
                connections.remove(at);
                self.machine.on_extra_lost();
            }
        }
        Effects::default()
    }

    fn apply(&mut self, effects: Effects) {
        let Effects {
            dial,
            dial_extra,
            drop_connections,
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
        if drop_connections {
            self.drop_connections();
        }
        if dial {
            self.dialling = Some(Box::pin(ActiveConnections::connect(
                self.spec.label.clone(),
                self.spec.endpoint.clone(),
                self.spec.context.clone(),
                self.machine.service().is_some(),
            )));
        }
        if let (true, Some(connections)) = (dial_extra, &mut self.connections) {
            connections.dial(self.spec.endpoint.clone(), self.spec.context.clone());
        }
        let service = self.machine.service();
        if let (Some(rpc), Some(service), Some(connections)) = (start, service, &self.connections) {
            let (channel, backend) = names(&self.spec);
            debug!(
                target: HEALTH,
                channel,
                backend,
                ?rpc,
                service = &**service,
                "health check"
            );
            self.rpc = Some(connections.health_rpc().start(rpc, service));
        }
        if let Some(notice) = notice {
            self.log(notice);
        }
    }

    /// Makes the connections pickable or not, then tells the
    /// balancer, if there is anything new to tell.
    ///
    /// Fails when the balancer is gone.
    async fn send_report(&mut self) -> Result<(), ()> {
        let report = self.machine.report();
        if self.sent.as_ref() == Some(&report) {
            return Ok(());
        }
        let ready = report.state == ConnectivityState::Ready;
        if let Some(connections) = &self.connections {
            self.spec.gate.set_ready(connections.calls(), ready);
        }
        self.log_change(&report);
        let connections = self.connections.as_ref();
        let message = ReportMessage {
            from: self.spec.id,
            report: report.clone(),
            connections: connections.map(ActiveConnections::calls),
        };
        self.sent = Some(report);
        self.spec.reports.send(message).await.map_err(|_| ())
    }

    fn drop_connections(&mut self) {
        self.rpc = None;
        self.spec.gate.clear();
        if let Some(connections) = self.connections.take() {
            connections.stop_new_calls();
        }
    }

    /// A change of state is for operators, any other for who looks closer; and so is
    /// one of too many.
    fn log_change(&mut self, now: &Report) {
        let (channel, backend) = names(&self.spec);
        let Report {
            state: to, health, ..
        } = now;
        let cause = now.cause.as_ref().map(display);
        let from = self.sent.as_ref().map(|sent| sent.state);
        if from == Some(*to) {
            let connections = now.connections;
            debug!(target: BACKEND, channel, backend, state = %to, %health, cause, connections, "backend");
            return;
        }
        let from = from.unwrap_or(ConnectivityState::Idle);
        match spend(&mut self.log, channel, backend) {
            LogDecision::Emit | LogDecision::EmitLast => {
                info!(target: BACKEND, channel, backend, %from, %to, %health, cause, "backend");
            }
            LogDecision::Demote => {
                debug!(target: BACKEND, channel, backend, %from, %to, %health, cause, "backend");
            }
        }
    }

    fn log(&mut self, notice: Notice) {
        let (channel, backend) = names(&self.spec);
        if spend(&mut self.log, channel, backend) == LogDecision::Demote {
            debug!(target: HEALTH, channel, backend, ?notice, "repeated health notice");
            return;
        }
        let service = self.machine.service().map(|service| &**service);
        match notice {
            Notice::AssumedHealthy => error!(
                target: HEALTH,
                channel,
                backend,
                service,
                "the server has no health service; it counts as healthy while it is connected"
            ),
            Notice::PollingCheck => warn!(
                target: HEALTH,
                channel,
                backend,
                service, "the server does not implement Watch; polling Check instead"
            ),
            Notice::UnhealthyWithoutService => warn!(
                target: HEALTH,
                channel,
                backend,
                service, "the server has no health service; it counts as unhealthy, as configured"
            ),
        }
    }
}

/// What the log calls the channel and the backend.
fn names<I>(spec: &Spec<I>) -> (&str, &str) {
    (&spec.context.channel, &spec.label)
}

fn spend(log: &mut LogBudget, channel: &str, backend: &str) -> LogDecision {
    let decision = log.spend(now());
    if decision == LogDecision::EmitLast {
        warn!(
            target: BACKEND,
            channel,
            backend,
            "the backend changes state too often; its changes are logged at DEBUG for up to 60 s"
        );
    }
    decision
}

/// A subchannel that stops lets go of its connections, and calls on them go on.
impl<I> Drop for Task<I> {
    fn drop(&mut self) {
        self.spec.gate.clear();
        if let Some(connections) = &self.connections {
            connections.stop_new_calls();
        }
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
