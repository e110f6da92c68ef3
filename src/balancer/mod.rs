//! Owns the subchannels and publishes whom calls may go to.
//!
//! ```text
//!   source ── insert, remove, error, end ──►┌──────────┐── start, stop ──► subchannels
//!   subchannels ── Report ─────────────────►│ Balancer │
//!   channel ── connect, shutdown ──────────►└──────────┘── Publication ──► Picker, Status
//! ```
//!
//! [`machine`] holds the rules and does nothing by itself.

mod machine;
#[cfg(test)]
mod tests;

pub(crate) use machine::{Balancer, Effects, Publication, Start, SubchannelId};
