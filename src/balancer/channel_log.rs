//! What a channel logs, each line with its name.

use std::{fmt::Display, sync::Arc, time::Duration};

use tracing::{debug, error, field::display, info, warn};

use super::{
    effects::{EjectionChange, SubchannelId},
    machine::Balancer,
    outliers::Spared,
    policy::WeightUpdate,
    settings::Settings,
    source_with_retry::FromSource,
    task_end::RESTART,
};
use crate::{
    connectivity::ConnectivityState,
    error::Cause,
    metrics::{EventMeter, HealthMeter},
    routing::{ChannelStatus, PriorityStatus},
    util::{
        clock::now,
        contained::contained,
        log_budget::{LogBudget, LogDecision},
    },
};

/// The targets of what is logged here; see the crate's documentation.
const BACKEND: &str = "tonic_health_channel::backend";
const CHANNEL: &str = "tonic_health_channel::channel";
const DISCOVER: &str = "tonic_health_channel::discover";
const SERVICE_CONFIG: &str = "tonic_health_channel::service_config";

/// The log of one channel, and the metrics of the same events.
pub(super) struct ChannelLog {
    channel: Arc<str>,
    budget: LogBudget,
    events: EventMeter,
    health: Option<HealthMeter>,
}

impl ChannelLog {
    pub(super) fn new(settings: &Settings) -> Self {
        let recorder = settings.recorder.as_ref();
        let mut health = recorder.map(HealthMeter::new);
        if let (true, Some(health)) = (settings.eager, &mut health) {
            health.on_channel(now(), ConnectivityState::Connecting);
        }
        Self {
            channel: Arc::clone(&settings.name),
            budget: LogBudget::default(),
            events: EventMeter::new(recorder),
            health,
        }
    }

    /// A subchannel has reported, and the machine knows.
    pub(super) fn reported<E, C>(&mut self, machine: &Balancer<E, C>, from: SubchannelId) {
        if let Some(health) = &mut self.health {
            machine.record_reported(now(), from, health);
        }
    }

    /// All that the machine knows is about to be published, with this state.
    pub(super) fn publishes<E, C>(
        &mut self,
        machine: &mut Balancer<E, C>,
        state: ConnectivityState,
    ) {
        self.chooses_anew(machine);
        if let Some(health) = &mut self.health {
            let now = now();
            machine.record_all(now, health);
            health.on_channel(now, state);
        }
    }

    /// The policy has made a choice, perhaps by weights.
    pub(super) fn chooses_anew<E, C>(&self, machine: &mut Balancer<E, C>) {
        if let Some(WeightUpdate {
            weights,
            not_yet_usable,
            stale,
        }) = machine.take_weights()
        {
            self.events.on_weights(&weights, not_yet_usable, stale);
        }
    }

    pub(super) fn source_said(&self, said: &FromSource) {
        match said {
            FromSource::Changed(_) => self.events.on_source(false),
            FromSource::Failed { .. } | FromSource::Panicked(_) => self.events.on_source(true),
            FromSource::Ended => {}
        }
    }

    /// Of `None` the source of configs has ended.
    pub(super) fn config_came<T, E>(&self, update: Option<&Result<T, E>>) {
        if let Some(update) = update {
            self.events.on_config(update.is_ok());
        }
    }

    /// Whether one line more of those that may come often would be one too many.
    pub(super) fn is_spent(&mut self) -> bool {
        matches!(self.budget.spend(now()), LogDecision::Demote)
    }

    /// The state is another. To have lost all backends is for operators. `end` is how a channel
    /// that is SHUTDOWN came to that.
    pub(super) fn changed(&mut self, from: ConnectivityState, status: &ChannelStatus, end: &str) {
        let is_spent = self.is_spent();
        let channel = &*self.channel;
        let (to, backends) = (status.state(), status.backends().len());
        let cause = status.cause().map(ToString::to_string);
        let cause = match to {
            ConnectivityState::Shutdown => Some(end.to_owned()),
            _ => cause,
        };
        match to {
            _ if is_spent => {
                debug!(target: CHANNEL, channel, %from, %to, backends, cause, "channel");
            }
            ConnectivityState::TransientFailure => {
                warn!(target: CHANNEL, channel, %from, %to, backends, cause, "channel");
            }
            _ => info!(target: CHANNEL, channel, %from, %to, backends, cause, "channel"),
        }
    }

    pub(super) fn starts(&self, backend: &str, uri: &impl Display) {
        debug!(target: BACKEND, channel = &*self.channel, backend, %uri, "the subchannel starts");
    }

    /// An ejection is for operators: the backend says that it is well, and its callers do not.
    pub(super) fn ejection(&mut self, change: &EjectionChange) {
        let is_spent = self.is_spent();
        let (channel, backend) = (&*self.channel, &*change.label);
        let Some(ejection) = &change.ejection else {
            match is_spent {
                true => {
                    debug!(target: BACKEND, channel, backend, "the backend is not ejected any more")
                }
                false => {
                    info!(target: BACKEND, channel, backend, "the backend is not ejected any more")
                }
            }
            return;
        };
        if !change.goes_on {
            self.events.on_outlier(ejection.method().label(), None);
        }
        let reason = display(ejection);
        let lasts = ejection.until().saturating_duration_since(ejection.since());
        let multiplier = ejection.multiplier();
        match is_spent || change.goes_on {
            true => {
                debug!(target: BACKEND, channel, backend, reason, ?lasts, multiplier, "the backend is ejected")
            }
            false => {
                warn!(target: BACKEND, channel, backend, reason, ?lasts, multiplier, "the backend is ejected")
            }
        }
    }

    /// In panic calls go to backends that are known to be unwell.
    pub(super) fn panic(&mut self, status: &PriorityStatus) {
        let is_spent = self.is_spent();
        let (channel, priority) = (&*self.channel, status.priority());
        let (healthy, total) = (status.healthy(), status.total());
        match (is_spent, status.is_in_panic()) {
            (true, in_panic) => {
                debug!(target: CHANNEL, channel, priority, healthy, total, in_panic, "panic of a priority")
            }
            (false, true) => {
                warn!(target: CHANNEL, channel, priority, healthy, total, "the priority is in panic: calls go to all of its backends")
            }
            (false, false) => {
                info!(target: CHANNEL, channel, priority, healthy, total, "the priority is not in panic any more")
            }
        }
    }

    /// A config that never enforces is tried out by these.
    pub(super) fn spared(&self, backend: &str, spared: &Spared) {
        let channel = &*self.channel;
        let (reason, why) = (display(spared.outlier), spared.why);
        let method = spared.outlier.method.label();
        self.events.on_outlier(method, Some(&why.to_string()));
        debug!(target: BACKEND, channel, backend, reason, %why, "the backend is an outlier and not ejected");
    }

    pub(super) fn task_died(&self, cause: Option<&Cause>) {
        let (channel, cause) = (&*self.channel, cause.map(display));
        error!(
            target: BACKEND,
            channel,
            cause,
            again_in = ?RESTART,
            "the task of a backend ended unexpectedly"
        );
    }

    pub(super) fn executor_panicked(&self, panic: &str) {
        let channel = &*self.channel;
        error!(target: BACKEND, channel, panic, "the executor of the backend panicked");
    }

    /// Calls go by what was published last. The panic may be the subscriber's.
    pub(super) fn worker_panicked(&self, panic: &str) {
        let channel = &*self.channel;
        let _ = contained(|| error!(target: CHANNEL, channel, panic, "the balancer task panicked"));
    }

    pub(super) fn cannot_recover(&self, panic: &str) {
        let channel = &*self.channel;
        let _ = contained(
            || error!(target: CHANNEL, channel, panic, "the balancer cannot recover yet"),
        );
    }

    pub(super) fn source_failed(&self, error: &str, retry: Duration) {
        let channel = &*self.channel;
        warn!(target: DISCOVER, channel, error, ?retry, "the source of backends failed");
    }

    pub(super) fn source_panicked(&self, error: &str) {
        let channel = &*self.channel;
        let text = "the source of backends panicked; its backends stay";
        error!(target: DISCOVER, channel, error, "{text}");
    }

    pub(super) fn config_invalid(&mut self, error: &str) {
        let is_spent = self.is_spent();
        let channel = &*self.channel;
        match is_spent {
            true => debug!(target: SERVICE_CONFIG, channel, error, "the service config is invalid"),
            false => warn!(target: SERVICE_CONFIG, channel, error, "the service config is invalid"),
        }
    }
}
