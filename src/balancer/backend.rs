//! One backend in the balancer: the subchannel it shows, and perhaps the one
//! that is to replace it.

use std::{collections::BTreeMap, mem, sync::Arc, time::Instant};

use super::{
    effects::{Effects, Start, SubchannelId},
    policy::BackendView,
};
use crate::{
    connectivity::ConnectivityState::{Connecting, Idle, Ready, TransientFailure},
    error::Cause,
    health::HealthStatus,
    routing::{BackendId, BackendStatus},
    subchannel::Report,
    transport::BackendCalls,
};

#[derive(Debug)]
pub(super) struct Backend<E, C> {
    pub(super) current: Subchannel<E>,
    /// The replacement on its way; only while `current` is READY.
    pub(super) pending: Option<Pending<E>>,
    /// What is shown: the last report of `current`.
    pub(super) status: Arc<BackendStatus>,
    /// That report named a cause, which then is the status's last error.
    failing: bool,
    /// There is one exactly while the status is READY.
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
pub(super) struct Pending<E> {
    pub(super) subchannel: Subchannel<E>,
    /// Its last one, to be shown from the moment it is current.
    report: Report,
}

/// The subchannels that were started and not stopped, and whose they are.
#[derive(Debug, Default)]
pub(super) struct RunningSubchannels {
    pub(super) owners: BTreeMap<SubchannelId, BackendId>,
    created: u64,
}

/// What became of a backend by an input.
pub(super) struct Shown {
    changed: bool,
    /// See [`Effects::trouble`].
    trouble: bool,
    /// The subchannel it has no use for any more.
    outgoing: Option<SubchannelId>,
}

impl<E: PartialEq, C: PartialEq> Backend<E, C> {
    pub(super) fn new(
        now: Instant,
        id: BackendId,
        label: Arc<str>,
        current: Subchannel<E>,
        report: Report,
        calls: BackendCalls,
    ) -> Self {
        let status = BackendStatus {
            id,
            label,
            address: Arc::clone(&current.address),
            state: report.state,
            health: report.health,
            since: now,
            last_error: None,
            attempt: report.attempt,
            next_attempt: report.next_attempt,
            connections: report.connections,
            calls,
        };
        Self {
            current,
            pending: None,
            status: Arc::new(status),
            failing: false,
            connection: None,
        }
    }

    /// The view that a policy gets.
    pub(super) fn view(&self) -> BackendView {
        BackendView {
            id: self.status.id,
            state: self.status.state,
            is_ipv6: self.status.address.starts_with('['),
        }
    }

    /// The endpoint that its source named last.
    pub(super) fn wanted(&self) -> &E {
        let pending = self.pending.as_ref().map(|pending| &pending.subchannel);
        &pending.unwrap_or(&self.current).endpoint
    }

    /// Puts another subchannel beside the current one if that is READY, and in
    /// its place if it is not.
    pub(super) fn replace(
        &mut self,
        now: Instant,
        subchannel: Subchannel<E>,
        report: Report,
    ) -> Shown {
        if self.status.state == Ready {
            let superseded = self.pending.replace(Pending { subchannel, report });
            return Shown {
                changed: false,
                trouble: false,
                outgoing: superseded.map(|pending| pending.subchannel.id),
            };
        }
        let old = mem::replace(&mut self.current, subchannel);
        Shown {
            changed: self.show(now, &report, None),
            trouble: false,
            outgoing: Some(old.id),
        }
    }

    /// Shows the report of the current subchannel, keeps that of a pending one,
    /// and promotes the pending one as soon as that is due.
    pub(super) fn on_report(
        &mut self,
        now: Instant,
        from: SubchannelId,
        report: Report,
        mut connection: Option<C>,
    ) -> Shown {
        let before = Arc::clone(&self.status);
        let mut changed = false;
        if let Some(pending) = self.pending.as_mut().filter(|p| p.subchannel.id == from) {
            pending.report = report;
        } else {
            changed = self.show(now, &report, connection.take());
        }
        let promoted = self.pending.take_if(|pending| {
            let settled = matches!(pending.report.state, Ready | TransientFailure);
            settled || self.status.state != Ready
        });
        let outgoing = promoted.map(|Pending { subchannel, report }| {
            let old = mem::replace(&mut self.current, subchannel);
            // Another server, perhaps.
            self.status.calls.on_ready();
            changed |= self.show(now, &report, connection);
            old.id
        });
        Shown {
            changed,
            trouble: is_trouble(&before, &self.status),
            outgoing,
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
        let is_held_back = self.status.state == Connecting;
        self.current.not_before = self.status.next_attempt.filter(|_| is_held_back);
        ids.into_iter()
            .flatten()
            .filter_map(|id| running.stop(id))
            .collect()
    }

    /// Makes the report the backend's status. Whether anything is different now.
    pub(super) fn show(&mut self, now: Instant, report: &Report, connection: Option<C>) -> bool {
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
            last_error: self.last_error(now, report),
            attempt: report.attempt,
            next_attempt: report.next_attempt,
            connections: report.connections,
            calls: old.calls.clone(),
        };
        self.failing = report.cause.is_some();

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
        self.show(now, &initial_report(runs), None)
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

    pub(super) fn start<E: Clone>(
        &mut self,
        backend: &BackendStatus,
        subchannel: &Subchannel<E>,
    ) -> Start<E> {
        self.owners.insert(subchannel.id, backend.id);
        Start {
            id: subchannel.id,
            backend: backend.id,
            label: Arc::clone(&backend.label),
            endpoint: subchannel.endpoint.clone(),
            calls: backend.calls.clone(),
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
