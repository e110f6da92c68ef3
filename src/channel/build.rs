//! From a builder to its channel.

use std::{sync::Arc, time::Duration};

use tokio::{runtime::Handle, sync::mpsc};

use super::{
    Channel,
    builder::{Backends, ChannelBuilder},
    runtime::runtime_in_context,
};
use crate::{
    balancer::{self, HealthChoice, Settings},
    call::CallRecorder,
    error::Error,
    metrics::{CallMeters, Recorder},
};

/// How long [`ChannelBuilder::connect`] waits.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(20);

impl ChannelBuilder {
    /// Makes the channel and starts to connect.
    ///
    /// The channel belongs to the runtime in which this is called, and ends with it. Its
    /// calls may be polled anywhere.
    ///
    /// # Panics
    ///
    /// If called outside a tokio runtime, or in one without timers or IO: `enable_all` on
    /// the runtime's `Builder` enables both.
    #[track_caller]
    pub fn build(self) -> Channel {
        let plaintext = self.allow_plaintext_credentials;
        let updates_disabled = self.config_updates_disabled;
        let target = self.canonical_target();
        let metrics = self.metrics;
        let recorder = metrics.map(|metrics| Recorder::new(metrics, target.as_str()));
        let meters = recorder.as_ref().map(CallMeters::new);
        let call_recorder = CallRecorder::new(meters, self.call_tracer, target);
        let Backends {
            changes,
            source,
            trouble,
            config_updates,
            timeout,
        } = self.backends;
        let config_updates = self.config_updates.or(config_updates);
        let config_updates = config_updates.filter(|_| !updates_disabled);
        let name = self.name.or(self.default_name);
        let settings = Settings {
            backoff: self.backoff,
            health_choice: HealthChoice {
                service: self.health_service,
                // A later config may name a service.
                has_options: self.health.is_some() && config_updates.is_none(),
                is_disabled: self.health_disabled,
            },
            name: name.unwrap_or_else(|| source.to_owned()).into(),
            source,
            first_backends_timeout: self.first_backends_timeout,
            template_timeout: timeout,
            health: Arc::new(self.health.unwrap_or_default()),
            default_config: self.service_config.map(Arc::new),
            config_updates,
            trouble: self.trouble.or(trouble),
            eager: self.eager,
            connections: self.connections,
            idle_timeout: self.idle_timeout,
            max_waiting_calls: self.max_waiting_calls,
            tell_backend: self.tell_backend,
            recorder,
            count_calls: self.count_calls,
            retries: self.retries,
            levels: self.levels,
            silence: self.silence,
            credentials: self.credentials.map(|credentials| match plaintext {
                true => credentials.over_plaintext(),
                false => credentials,
            }),
        };
        let (commands_in, commands) = mpsc::unbounded_channel();
        // A given executor may have a runtime of its own: its worker will tell.
        let is_given = self.executor.is_given();
        let runtime = match is_given {
            true => Handle::try_current().ok(),
            false => Some(runtime_in_context(self.needs_io)),
        };
        let (board, worker) = balancer::new(changes, settings, commands);
        match runtime {
            Some(runtime) => {
                if !is_given {
                    board.set_runtime(runtime.clone());
                }
                self.executor.bind(runtime).spawn(worker);
            }
            None => self.executor.spawn(worker),
        }
        Channel::new_on(board, commands_in, self.defaults, call_recorder)
    }
}

impl ChannelBuilder {
    /// [Builds](Self::build) the channel, and returns it once it is READY. That takes 20 s at
    /// most, gRPC's least connect timeout; for another bound build it, and
    /// [`wait_until_ready_within`](Channel::wait_until_ready_within) that.
    ///
    /// ```no_run
    /// use tonic_health_channel::Channel;
    ///
    /// # async fn example() -> Result<(), tonic_health_channel::Error> {
    /// let channel = Channel::target("dns:///shop.example:50051")?.connect().await?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// Those of a call that waits for a backend with this deadline:
    /// [`ErrorKind::DeadlineExceeded`](crate::ErrorKind::DeadlineExceeded), which names up to
    /// 3 backends and their reasons. The channel ends with it.
    ///
    /// # Panics
    ///
    /// As [`build`](Self::build).
    ///
    /// # Cancel safety
    ///
    /// Dropping the future ends the channel.
    pub async fn connect(self) -> Result<Channel, Error> {
        let channel = self.build();
        channel.wait_until_ready_within(CONNECT_TIMEOUT).await?;
        Ok(channel)
    }
}

impl std::fmt::Debug for ChannelBuilder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ChannelBuilder")
            .field("service_config", &self.service_config)
            .field("health", &self.health)
            .finish_non_exhaustive()
    }
}
