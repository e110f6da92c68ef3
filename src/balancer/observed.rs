//! The backends of the balancer, as metrics see them.

use std::{sync::Arc, time::Instant};

use super::{effects::SubchannelId, machine::Balancer, policy::WeightUpdate};
use crate::{
    connectivity::ConnectivityState,
    error::{Cause, CauseKind},
    metrics::{BackendView, HealthMeter},
    routing::{BackendId, BackendStatus},
};

impl<E, C> Balancer<E, C> {
    /// Records the backend whose subchannel has reported.
    pub(super) fn record_reported(
        &self,
        now: Instant,
        from: SubchannelId,
        meter: &mut HealthMeter,
    ) {
        let id = self.running.owners.get(&from);
        let backend = id.and_then(|id| self.backends.get(id));
        if let Some(backend) = backend {
            record(now, &backend.status, meter);
        }
    }

    /// The weights of the last choice, if its policy goes by weights. Once.
    pub(super) fn take_weights(&mut self) -> Option<WeightUpdate> {
        self.policy.take_weights()
    }

    /// Records all backends, and forgets those that are gone.
    pub(super) fn record_all(&self, now: Instant, meter: &mut HealthMeter) {
        for backend in self.backends.values() {
            record(now, &backend.status, meter);
        }
        meter.retain(now, |id| self.backends.contains_key(&BackendId(id)));
    }
}

fn record(now: Instant, status: &Arc<BackendStatus>, meter: &mut HealthMeter) {
    let cause = status.last_error.as_ref().map(|(cause, _)| cause);
    let view = BackendView {
        state: status.state,
        health: status.health.label(),
        cause: match status.state {
            ConnectivityState::Ready => "",
            _ => cause.map_or("connect", label),
        },
    };
    meter.on_backend(now, status.id.0, &status.label, view);
}

/// The part of the way to a backend that keeps it from being READY.
fn label(cause: &Cause) -> &'static str {
    match cause.kind() {
        CauseKind::Disconnected => "disconnected",
        CauseKind::Health => "health",
        CauseKind::Ejected => "ejected",
        CauseKind::Silent => "silent",
        CauseKind::Connect
        | CauseKind::NameResolver
        | CauseKind::NoBackends
        | CauseKind::ServiceConfig
        | CauseKind::Shutdown => "connect",
    }
}
