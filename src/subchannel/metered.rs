//! The metrics of a subchannel's health RPCs: what starts them, and what ends them.

use std::time::Instant;

use super::{active_connections::ConnectionEvent, input::Input, machine::Effects};
use crate::{
    health::{Event, HealthStatus, Rpc},
    metrics::BackendMeter,
};

/// The health RPC that runs, as far as it is recorded.
pub(super) struct HealthRecord {
    meter: BackendMeter,
    running: Option<Rpc>,
    /// Since when the connection is up, until the first answer on it.
    silent_since: Option<Instant>,
    /// The end of the RPC, if the machine ends it because of the last input.
    end: Option<&'static str>,
}

impl HealthRecord {
    pub(super) fn new(meter: &BackendMeter) -> Self {
        Self {
            meter: meter.clone(),
            running: None,
            silent_since: None,
            end: None,
        }
    }

    /// Before the machine takes it.
    pub(super) fn on_input(&mut self, input: &Input) {
        self.end = None;
        match input {
            Input::Dialled(Ok(_)) => self.silent_since = self.meter.clock(),
            Input::Connection(ConnectionEvent::Lost(_)) => {
                self.fail("disconnected");
                // If another connection takes its place.
                self.silent_since = self.meter.clock();
            }
            Input::Health(Some(Event::Response(status))) => {
                self.on_answer(*status);
                self.end = Some("flood");
            }
            Input::Health(Some(Event::Checked(Ok(status)))) => {
                self.on_answer(*status);
                self.running = None;
            }
            Input::Health(Some(Event::Ended(ended) | Event::Checked(Err(ended)))) => {
                self.fail(ended.reason);
            }
            Input::Deadline => self.end = Some("timeout"),
            Input::Dialled(Err(_))
            | Input::Connection(_)
            | Input::Control(_)
            | Input::Health(None) => {}
        }
    }

    /// After that.
    pub(super) fn on_effects(&mut self, effects: &Effects) {
        if effects.health.stop {
            match self.end.take() {
                Some(reason) => self.fail(reason),
                // The channel does not want it any more.
                None => self.running = None,
            }
        }
        if effects.drop_connections {
            self.running = None;
        }
        if let Some(rpc) = effects.health.start {
            self.running = Some(rpc);
            self.meter.on_health_rpc(name(rpc));
        }
    }

    fn on_answer(&mut self, status: i32) {
        if let Some(since) = self.silent_since.take()
            && let Some(now) = self.meter.clock()
        {
            let health = HealthStatus::from_number(status).label();
            let after = now.saturating_duration_since(since);
            self.meter.on_first_answer(health, after);
        }
    }

    fn fail(&mut self, reason: &'static str) {
        if let Some(rpc) = self.running.take() {
            self.meter.on_health_rpc_failed(name(rpc), reason);
        }
    }
}

fn name(rpc: Rpc) -> &'static str {
    match rpc {
        Rpc::Watch => "watch",
        Rpc::Check => "check",
    }
}
