//! What the log says of a service config that has come into force.

use tracing::{debug, info, warn};

use super::{health_choice::Chosen, settings::Settings};
use crate::service_config::ServiceConfig;

/// The targets of what is logged here; see the crate's documentation.
const CHANNEL: &str = "tonic_health_channel::channel";
const SERVICE_CONFIG: &str = "tonic_health_channel::service_config";

/// What is logged of a config's hints: it may come from a name server.
const MAX_HINTS: usize = 10;

/// What it is to its channel.
#[derive(Clone, Copy)]
pub(super) enum News {
    /// The first.
    Begins,
    Changed,
}

/// Says what is in force, and what of it has no effect. One that comes too often `is_demoted`.
pub(super) fn log(config: &ServiceConfig, settings: &Settings, news: News, is_demoted: bool) {
    let policy = config.policy();
    let (chosen, warning) = settings.health_choice.under(config);
    let service = match chosen {
        Chosen::Of(service) => Some(service),
        Chosen::Off | Chosen::Disabled { .. } => None,
    };
    let channel = &*settings.name;
    let source = settings.source;
    match news {
        News::Begins => {
            info!(target: CHANNEL, channel, source, %policy, health = service, "the channel starts")
        }
        News::Changed if is_demoted => {
            debug!(target: SERVICE_CONFIG, channel, %policy, service, "the service config changed");
        }
        News::Changed => {
            info!(target: SERVICE_CONFIG, channel, %policy, service, "the service config changed");
        }
    }
    if let Chosen::Disabled { service, why } = chosen {
        warn!(
            target: SERVICE_CONFIG,
            channel,
            service,
            "the service config asks for health checks, but {why}"
        );
    }
    for hint in warning.iter().chain(config.hints().iter().take(MAX_HINTS)) {
        warn!(target: SERVICE_CONFIG, channel, "{hint}");
    }
    let fields = config.fields_without_effect();
    if !fields.is_empty() {
        let text = "these fields of the service config have no effect yet";
        warn!(target: SERVICE_CONFIG, channel, ?fields, "{text}");
    }
}
