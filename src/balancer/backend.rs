//! One backend in the balancer: the subchannel it shows, and perhaps the one
//! that is to replace it.

use std::{collections::BTreeMap, mem, sync::Arc, time::Instant};

use super::{
    effects::{Effects, Start, SubchannelId},
    levels::Level,
    policy::BackendView,
};
use crate::{
    attributes::Attributes,
    connectivity::ConnectivityState::{Connecting, Idle, Ready, TransientFailure},
    error::{Cause, CauseKind},
    health::HealthStatus,
    routing::{BackendId, BackendStatus, Ejection},
    subchannel::Report,
    transport::{BackendCalls, Outcomes},
};

#[derive(Debug)]
pub(super) struct Backend<E, C> {
    pub(super) current: Subchannel<E>,
    /// The replacement on its way; only while `current` is READY.
    pub(super) pending: Option<Pending<E, C>>,
    /// It shows the [effective](Backend::effective) report.
    pub(super) status: Arc<BackendStatus>,
    /// That report named a cause, which then is the status's last error.
    failing: bool,
    /// There is one exactly while it takes calls: it is READY, or in panic.
    pub(super) connection: Option<C>,
    /// The last report of `current`.
    reported: Reported<C>,
    ejection: Option<Arc<Ejection>>,
    /// Its priority is in panic: it takes calls while it is connected, whatever its state is.
    in_panic: bool,
    /// It has been neither READY nor failed since it runs.
    pub(super) is_new: bool,
}

/// The words of a source about a backend that do not make its connection.
#[derive(Debug)]
pub(super) struct Named {
    pub(super) id: BackendId,
    pub(super) label: Arc<str>,
    pub(super) attributes: Attributes,
}

/// A report, and what came with it if it is connected.
#[derive(Debug)]
pub(super) struct Reported<C> {
    pub(super) report: Report,
    pub(super) connection: Option<C>,
}

#[derive(Debug)]
pub(super) struct Subchannel<E> {
    pub(super) id: SubchannelId,
    address: Arc<str>,
    pub(super) endpoint: E,
    /// When it may dial at the earliest: dials of one backend keep their distance.
    not_before: Option<Instant>,
}

#[derive(Debug)]
pub(super) struct Pending<E, C> {
    pub(super) subchannel: Subchannel<E>,
    /// Its last one, to be shown from the moment it is current.
    reported: Reported<C>,
}

/// The subchannels that were started and not stopped, and whose they are.
#[derive(Debug, Default)]
pub(super) struct RunningSubchannels {
    pub(super) owners: BTreeMap<SubchannelId, BackendId>,
    created: u64,
}

/// What became of a backend by an input.
#[must_use]
#[derive(Default)]
pub(super) struct Shown {
    changed: bool,
    /// See [`Effects::trouble`].
    trouble: bool,
    /// The subchannel it has no use for any more.
    outgoing: Option<SubchannelId>,
    /// It is at another address, and what was known of the one before does not matter.
    pub(super) moved: bool,
}

impl<E: PartialEq, C: Clone + PartialEq> Backend<E, C> {
    pub(super) fn new(
        now: Instant,
        named: Named,
        current: Subchannel<E>,
        report: Report,
        calls: BackendCalls,
    ) -> Self {
        let status = BackendStatus {
            id: named.id,
            label: named.label,
            address: Arc::clone(&current.address),
            state: report.state,
            health: report.health,
            since: now,
            last_error: None,
            attempt: report.attempt,
            next_attempt: report.next_attempt,
            connections: report.connections,
            calls,
            ejection: None,
            takes_calls: false,
            attributes: Arc::new(named.attributes),
        };
        Self {
            current,
            pending: None,
            status: Arc::new(status),
            failing: false,
            connection: None,
            reported: Reported::without_connection(report),
            ejection: None,
            in_panic: false,
            is_new: true,
        }
    }

    /// Its source gives it these now. Whether they are others.
    pub(super) fn set_attributes(&mut self, attributes: &Attributes) -> bool {
        if *self.status.attributes == *attributes {
            return false;
        }
        self.status = Arc::new(BackendStatus {
            attributes: Arc::new(attributes.clone()),
            ..(*self.status).clone()
        });
        true
    }

    /// The view that a policy gets.
    pub(super) fn view(&self, level: Level) -> BackendView {
        BackendView {
            id: self.status.id,
            state: self.status.state,
            level,
            is_ipv6: self.status.address.starts_with('['),
        }
    }

    /// The endpoint that its source named last.
    pub(super) fn wanted(&self) -> &E {
        &self.newest().endpoint
    }

    /// What is counted of its calls.
    pub(super) fn outcomes(&self) -> Outcomes {
        self.status.calls.outcomes()
    }

    /// The subchannel that its source wants.
    pub(super) fn newest(&self) -> &Subchannel<E> {
        let pending = self.pending.as_ref().map(|pending| &pending.subchannel);
        pending.unwrap_or(&self.current)
    }

    /// Puts another subchannel beside the current one if that is READY, and in
    /// its place if it is not.
    pub(super) fn replace(
        &mut self,
        now: Instant,
        subchannel: Subchannel<E>,
        report: Report,
    ) -> Shown {
        let pending = Pending {
            subchannel,
            reported: Reported::without_connection(report),
        };
        let superseded = self.pending.replace(pending);
        let mut shown = self.promote(now);
        if let Some(superseded) = superseded {
            debug_assert!(shown.outgoing.is_none(), "there was one, so it is READY");
            shown.outgoing = Some(superseded.subchannel.id);
        }
        shown
    }

    /// Shows the report of the current subchannel, keeps that of a pending one,
    /// and promotes the pending one as soon as that is due.
    pub(super) fn on_report(
        &mut self,
        now: Instant,
        from: SubchannelId,
        reported: Reported<C>,
    ) -> Shown {
        let before = Arc::clone(&self.status);
        let mut changed = false;
        match self.pending.as_mut().filter(|p| p.subchannel.id == from) {
            Some(pending) => pending.reported = reported,
            None => changed = self.show(now, reported),
        }
        let shown = self.promote(now);
        Shown {
            changed: changed || shown.changed,
            trouble: is_trouble(&before, &self.status),
            ..shown
        }
    }

    /// Ejects it, or takes it back.
    pub(super) fn set_ejection(&mut self, now: Instant, ejection: Option<Arc<Ejection>>) -> Shown {
        let before = Arc::clone(&self.status);
        self.ejection = ejection;
        let changed = self.update_status(now);
        let shown = self.promote(now);
        Shown {
            changed: changed || shown.changed,
            trouble: is_trouble(&before, &self.status),
            ..shown
        }
    }

    /// Its priority is in panic from now on, or it is no longer. Whether that is another.
    pub(super) fn set_in_panic(&mut self, now: Instant, in_panic: bool) -> bool {
        let is_other = self.in_panic != in_panic;
        self.in_panic = in_panic;
        if is_other {
            self.update_status(now);
        }
        is_other
    }

    /// Makes the pending subchannel the current one, if that is due.
    fn promote(&mut self, now: Instant) -> Shown {
        let promoted = self.pending.take_if(|pending| {
            let settled = matches!(pending.reported.report.state, Ready | TransientFailure);
            settled || self.status.state != Ready
        });
        let Some(promoted) = promoted else {
            return Shown::default();
        };
        let old = mem::replace(&mut self.current, promoted.subchannel);
        // Another server, perhaps.
        self.status.calls.on_ready();
        let moved = old.address != self.current.address;
        if moved {
            self.ejection = None;
        }
        Shown {
            changed: self.show(now, promoted.reported),
            trouble: false,
            outgoing: Some(old.id),
            moved,
        }
    }

    /// Lets go of its subchannels; what the source named last is for the next
    /// time. The ones to be stopped.
    pub(super) fn go_idle(&mut self, running: &mut RunningSubchannels) -> Vec<SubchannelId> {
        let pending = self.pending.take().map(|pending| pending.subchannel);
        let ids = [Some(self.current.id), pending.as_ref().map(|p| p.id)];
        if let Some(pending) = pending {
            self.current = pending;
        }
        self.current.id = running.next_id();
        // A server that hung up right after it accepted is held off a little, whichever
        // subchannel dials it next.
        let reported = &self.reported.report;
        let is_held_back = reported.state == Connecting;
        self.current.not_before = reported.next_attempt.filter(|_| is_held_back);
        // As in a policy that ends with IDLE.
        self.ejection = None;
        self.in_panic = false;
        self.is_new = true;
        ids.into_iter()
            .flatten()
            .filter_map(|id| running.stop(id))
            .collect()
    }

    /// Takes over what the current subchannel reports. Whether anything is shown differently.
    fn show(&mut self, now: Instant, reported: Reported<C>) -> bool {
        self.reported = reported;
        self.update_status(now)
    }

    /// The report of the subchannel, health included, or TRANSIENT_FAILURE while the backend is
    /// ejected (gRFC A50, A61); and the connection, if calls go there. Health, ejection and panic
    /// come together here and nowhere else. The table of all combinations is in
    /// `docs/architecture.md`.
    fn effective(&self) -> (Report, Option<C>) {
        let Reported { report, connection } = &self.reported;
        let report = match &self.ejection {
            None => report.clone(),
            Some(ejection) => Report {
                state: TransientFailure,
                cause: Some(Cause::new(CauseKind::Ejected, ejection.to_string())),
                ..report.clone()
            },
        };
        let takes_calls = report.state == Ready || self.in_panic;
        (report, connection.clone().filter(|_| takes_calls))
    }

    /// Whether anything is different now.
    fn update_status(&mut self, now: Instant) -> bool {
        let (report, connection) = self.effective();
        let old = &self.status;
        if report.state == Ready && old.state != Ready {
            old.calls.on_ready();
        }
        let goes_on = (old.state, old.health) == (report.state, report.health);
        let status = BackendStatus {
            id: old.id,
            label: Arc::clone(&old.label),
            address: Arc::clone(&self.current.address),
            state: report.state,
            health: report.health,
            since: if goes_on { old.since } else { now },
            last_error: self.last_error(now, &report),
            attempt: report.attempt,
            next_attempt: report.next_attempt,
            connections: report.connections,
            calls: old.calls.clone(),
            ejection: self.ejection.clone(),
            takes_calls: connection.is_some(),
            attributes: Arc::clone(&old.attributes),
        };
        self.failing = report.cause.is_some();
        self.is_new &= matches!(report.state, Connecting | Idle);

        // Equal statuses stay one `Arc`, although another connection is a change.
        let mut changed = self.connection != connection;
        self.connection = connection;
        if status != **old {
            self.status = Arc::new(status);
            changed = true;
        }
        changed
    }

    /// Shows it as it is before its first report.
    pub(super) fn reset_status(&mut self, now: Instant, runs: bool) -> bool {
        self.show(now, Reported::without_connection(initial_report(runs)))
    }

    /// A failure is noticed once: it is not a new one each time it is reported.
    fn last_error(&self, now: Instant, report: &Report) -> Option<(Cause, Instant)> {
        let last = self.status.last_error.clone();
        let ongoing = last
            .as_ref()
            .filter(|_| self.failing)
            .map(|(cause, _)| cause);
        match &report.cause {
            Some(cause) if ongoing != Some(cause) => Some((cause.clone(), now)),
            Some(_) | None => last,
        }
    }
}

impl<C> Reported<C> {
    fn without_connection(report: Report) -> Self {
        Self {
            report,
            connection: None,
        }
    }
}

/// What is shown of a subchannel before its first report.
pub(super) fn initial_report(runs: bool) -> Report {
    Report {
        state: if runs { Connecting } else { Idle },
        health: HealthStatus::NotChecked,
        cause: None,
        attempt: 0,
        next_attempt: None,
        connections: 0,
    }
}

/// Whether a backend, as it was and as it is, is a reason to look for others.
fn is_trouble(before: &BackendStatus, now: &BackendStatus) -> bool {
    let left = before.state == Ready && now.state != Ready;
    let failed = now.state == TransientFailure
        && (before.state != TransientFailure || before.attempt < now.attempt);
    left || failed
}

impl RunningSubchannels {
    pub(super) fn create<E>(&mut self, address: Arc<str>, endpoint: E) -> Subchannel<E> {
        Subchannel {
            id: self.next_id(),
            address,
            endpoint,
            not_before: None,
        }
    }

    fn next_id(&mut self) -> SubchannelId {
        let id = SubchannelId(self.created);
        self.created += 1;
        id
    }

    pub(super) fn start<E: Clone, C>(
        &mut self,
        backend: &Backend<E, C>,
        subchannel: &Subchannel<E>,
    ) -> Start<E> {
        let in_panic = backend.in_panic;
        let backend = &backend.status;
        self.owners.insert(subchannel.id, backend.id);
        Start {
            id: subchannel.id,
            backend: backend.id,
            label: Arc::clone(&backend.label),
            endpoint: subchannel.endpoint.clone(),
            calls: backend.calls.clone(),
            is_ejected: backend.ejection.is_some(),
            in_panic,
            not_before: subchannel.not_before,
        }
    }

    /// Whether the backend's subchannel was started, and not stopped.
    pub(super) fn has<E, C>(&self, backend: &Backend<E, C>) -> bool {
        self.owners.contains_key(&backend.current.id)
    }

    /// The id if it is to be stopped: in IDLE, nothing was started.
    pub(super) fn stop(&mut self, id: SubchannelId) -> Option<SubchannelId> {
        self.owners.remove(&id).map(|_| id)
    }

    pub(super) fn add_effects<E>(&mut self, shown: Shown, effects: &mut Effects<E>) {
        effects.changed |= shown.changed;
        effects.trouble |= shown.trouble;
        effects
            .stop
            .extend(shown.outgoing.and_then(|id| self.stop(id)));
    }
}
