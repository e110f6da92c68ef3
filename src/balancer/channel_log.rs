//! What a channel logs, each line with its name.

use std::{fmt::Display, sync::Arc, time::Duration};

use tracing::{debug, error, field::display, info, warn};

use super::{effects::EjectionChange, outliers::Spared, task_end::RESTART};
use crate::{
    connectivity::ConnectivityState,
    error::Cause,
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

/// The log of one channel.
pub(super) struct ChannelLog {
    channel: Arc<str>,
    budget: LogBudget,
}

impl ChannelLog {
    pub(super) fn new(channel: Arc<str>) -> Self {
        Self {
            channel,
            budget: LogBudget::default(),
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
