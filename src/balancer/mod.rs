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

mod apply_levels;
mod apply_policy;
mod backend;
mod channel_log;
mod config;
mod config_log;
mod config_updates;
mod effects;
mod ejections;
mod health_choice;
mod idle;
mod in_turn;
mod inputs;
mod levels;
mod machine;
mod observed;
mod outliers;
mod policy;
mod publish_throttle;
mod running_subchannel;
mod settings;
#[cfg(test)]
mod silence_tests;
mod source_with_retry;
mod start_order;
mod subset;
mod task;
mod task_end;
#[cfg(test)]
mod tests;

pub(crate) use config_updates::ConfigUpdates;
#[cfg(test)]
pub(crate) use effects::{Effects, Start, SubchannelId};
pub(crate) use health_choice::HealthChoice;
pub(crate) use levels::LevelSettings;
pub(crate) use settings::Settings;
pub(crate) use task::new;
#[cfg(test)]
pub(crate) use {machine::Balancer, publish_throttle::PublishThrottle, start_order::StartOrder};
