//! What a channel is told when it is built.

use std::{num::NonZeroUsize, sync::Arc, time::Duration};

use super::{config_updates::ConfigUpdates, health_choice::HealthChoice, levels::LevelSettings};
use crate::{
    discover::RefreshHandle,
    health::HealthOptions,
    routing::RetrySettings,
    service_config::ServiceConfig,
    transport::{CallCredentials, Endpoint},
    util::backoff::BackoffConfig,
};

/// What a channel is made of, besides its source.
pub(crate) struct Settings {
    pub(crate) backoff: BackoffConfig,
    pub(crate) health: Arc<HealthOptions>,
    /// Whose health is checked, where the service config says nothing.
    pub(crate) health_choice: HealthChoice,
    /// What the log calls the channel.
    pub(crate) name: Arc<str>,
    /// The type of what names the backends, for the log.
    pub(crate) source: &'static str,
    /// How long the source may name nothing until calls fail; for ever if `None`.
    pub(crate) first_backends_timeout: Option<Duration>,
    /// The timeout of the backends to come, where that is known before they are.
    pub(crate) template_timeout: Option<Duration>,
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
    /// Backends count how calls end.
    pub(crate) count_calls: bool,
    pub(crate) retries: RetrySettings,
    /// Where this channel is, and how calls are shared among priorities.
    pub(crate) levels: LevelSettings,
    /// Responses name their backend.
    pub(crate) tell_backend: bool,
}

impl Settings {
    /// How long a call may wait for one of these backends: as long as the longest timeout of an
    /// endpoint, if all have one.
    pub(super) fn wait_timeout<'a>(
        &self,
        endpoints: impl Iterator<Item = &'a Endpoint>,
    ) -> Option<Duration> {
        let timeouts = endpoints.map(Endpoint::call_timeout);
        let longest = timeouts.reduce(|longest, timeout| Some(longest?.max(timeout?)));
        longest.unwrap_or(self.template_timeout)
    }
}
