//! Our side of one backend: its connection, its backoff and its health.
//!
//! A subchannel is connected for as long as it exists, as `round_robin` wants
//! it: it dials at once, again after every failure, and again at once when a
//! connection is lost. What it tells the balancer is always the whole state, a
//! [`Report`], never a change.

mod active_connections;
mod call_gate;
mod extra_connections;
mod input;
mod machine;
mod metered;
mod task;
#[cfg(test)]
mod task_tests;
#[cfg(test)]
mod tests;

pub(crate) use call_gate::CallGate;
pub(crate) use machine::{Config, Control, HealthCheck, Report};
#[cfg(test)]
pub(crate) use machine::{Effects, Subchannel};
pub(crate) use task::{ReportMessage, Spec, run};
