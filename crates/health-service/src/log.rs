//! The lines about statuses and checks, with the target `grpc_health_service`.
//!
//! Each handle and each check has a budget of its own. A check that flips often does not hide
//! the lines of another.

use std::sync::{Mutex, PoisonError};

use tokio::time::Instant;
use tracing::{debug, info, warn};

use crate::{
    log_budget::{LogBudget, LogDecision},
    status::ServingStatus,
};

/// Whether a line keeps its own level. `source` is what it is about, for the line that says
/// so of the next ones.
fn is_loud(budget: &mut LogBudget, source: &str) -> bool {
    let decision = budget.spend(Instant::now().into_std());
    if decision == LogDecision::EmitLast {
        warn!(
            source,
            "too many changes; they are logged at DEBUG for up to 60 s"
        );
    }
    decision != LogDecision::Demote
}

/// The lines about statuses that an application sets.
#[derive(Debug, Default)]
pub(crate) struct StatusLog(Mutex<LogBudget>);

impl StatusLog {
    pub(crate) fn one(
        &self,
        service: &str,
        from: Option<ServingStatus>,
        to: Option<ServingStatus>,
    ) {
        let (from, to) = (name(from), name(to));
        match self.is_loud() {
            true => info!(service, from, to, "status"),
            false => debug!(service, from, to, "status"),
        }
    }

    /// Several services that changed by one call.
    pub(crate) fn several(&self, services: usize, to: ServingStatus, by: &str) {
        let to = to.name();
        match self.is_loud() {
            true => info!(services, to, by, "statuses"),
            false => debug!(services, to, by, "statuses"),
        }
    }

    fn is_loud(&self) -> bool {
        // A budget does not panic between 2 states.
        let mut budget = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        is_loud(&mut budget, "statuses")
    }
}

fn name(status: Option<ServingStatus>) -> &'static str {
    status.map_or("SERVICE_UNKNOWN", ServingStatus::name)
}

/// The lines of one check. A result has a line if the one before it was different, or if it
/// changes the status.
#[derive(Debug)]
pub(crate) struct CheckLog {
    service: String,
    budget: LogBudget,
    fails: bool,
}

impl CheckLog {
    pub(crate) fn new(service: String) -> Self {
        Self {
            service,
            budget: LogBudget::default(),
            fails: false,
        }
    }

    /// A result, which is an error or a success, and the status before and after it.
    pub(crate) fn on_result(
        &mut self,
        result: &Result<(), String>,
        before: ServingStatus,
        after: ServingStatus,
    ) {
        let fails = result.is_err();
        let is_new = self.fails != fails || before != after;
        self.fails = fails;
        if !is_new {
            return;
        }
        let (service, status) = (self.service.as_str(), after.name());
        match (is_loud(&mut self.budget, service), result) {
            (true, Ok(())) => info!(service, status, "the check succeeds"),
            (true, Err(error)) => warn!(service, status, error = error.as_str(), "the check fails"),
            (false, Ok(())) => debug!(service, status, "the check succeeds"),
            (false, Err(error)) => {
                debug!(service, status, error = error.as_str(), "the check fails")
            }
        }
    }
}
