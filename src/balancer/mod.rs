//! Owns the subchannels and publishes whom calls may go to.
//!
//! ```text
//!   source ── insert, remove, error, end ──►┌──────────┐── start, stop ──► subchannels
//!   subchannels ── Report ─────────────────►│ Balancer │
//!   channel ── connect, shutdown ──────────►└──────────┘── Publication ──► Picker, Status
//! ```
//!
//! [`machine`], [`backend`] and [`policy`] hold the rules and do nothing by themselves;
//! [`task`] does.

mod apply_policy;
mod backend;
mod config;
mod effects;
mod idle;
mod machine;
mod policy;
mod publish_throttle;
mod source_with_retry;
mod task;
#[cfg(test)]
mod tests;

pub(crate) use task::{ConfigUpdates, Settings, new};
