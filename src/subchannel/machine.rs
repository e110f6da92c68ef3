//! The rules of one subchannel, without any IO.

use std::time::Instant;

use crate::{connectivity::ConnectivityState, error::Cause, health::HealthStatus};

/// What a subchannel tells the balancer: always the whole state, never a change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Report {
    pub(crate) state: ConnectivityState,
    pub(crate) health: HealthStatus,
    /// Why, in TRANSIENT_FAILURE; also the failure being recovered from.
    pub(crate) cause: Option<Cause>,
    /// Failures in a row, of the connection or else of the health check.
    pub(crate) attempt: u32,
    pub(crate) next_attempt: Option<Instant>,
}
