//! The part of the worker that takes service configs.

use std::sync::Arc;

use super::Worker;
use crate::{
    balancer::{
        config_log::{self, News},
        health_choice::Chosen,
        policy::Policy,
    },
    error::{Cause, CauseKind},
    service_config::ServiceConfig,
    subchannel::HealthCheck,
    util::clock::now,
};

impl Worker {
    pub(super) fn take_config(
        &mut self,
        update: Option<Result<Option<ServiceConfig>, String>>,
    ) -> bool {
        match update {
            Some(Ok(config)) => self.configs.on_update(Ok(config.map(Arc::new))),
            Some(Err(error)) => {
                let text = error.trim_start_matches("service config: ");
                let cause = Cause::new(CauseKind::ServiceConfig, text);
                self.log.config_invalid(cause.text());
                self.configs.on_update(Err(cause));
            }
            None => {
                self.inputs.config_updates = None;
                self.configs.on_end();
            }
        }
        let config = self.configs.in_force();
        // First what subchannels are to be like, then those that are to start.
        let known = config.is_some();
        let adopted = self.adopt(config);
        let effects = match self.configs.rejected() {
            _ if known => self.machine.on_config(now()),
            Some(cause) => self.machine.on_config_rejected(cause.clone()),
            None => return false,
        };
        self.apply(effects) || adopted
    }

    /// Makes the config the one in force. Says whether it is another.
    pub(super) fn adopt(&mut self, config: Option<Arc<ServiceConfig>>) -> bool {
        let Some(config) = config else { return false };
        if self.config.as_ref() == Some(&config) {
            return false;
        }
        let policy = config.policy();
        let reconnects = Policy::properties(policy.parts().leaf).reconnects;
        let (chosen, _) = self.settings.health_choice.under(&config);
        let health = match chosen {
            Chosen::Off => HealthCheck::Off,
            Chosen::Disabled { .. } => HealthCheck::Disabled,
            Chosen::Of(service) => HealthCheck::Of(service.into()),
        };
        self.news = Some(match self.config {
            None => News::Begins,
            Some(_) => News::Changed,
        });
        self.control.send_modify(|control| {
            control.health = health;
            control.rests_when_lost = !reconnects;
        });
        self.config = Some(Arc::clone(&config));
        let effects = self
            .machine
            .on_policy(now(), policy.parts(), fastrand::u64(..));
        self.apply(effects);
        true
    }

    /// Logs a config that is new. Only in the worker's own task: a subscriber may panic.
    pub(super) fn tell_config(&mut self) {
        if let Some(news) = self.news.take()
            && let Some(config) = &self.config
        {
            let is_demoted = match news {
                News::Begins => false,
                News::Changed => self.log.is_spent(),
            };
            config_log::log(config, &self.settings, news, is_demoted);
        }
    }
}
