//! Client-side health checking (gRFC A17).
//!
//! A connection that is up says nothing about the program behind it. So every
//! connection of a channel that checks health carries one stream of
//! `grpc.health.v1.Health/Watch`, on which the backend says how it is, at once
//! and then whenever that changes. Health is a second signal beside the
//! connection (gRFC A61): it decides whether a backend gets calls, never whether
//! it stays connected.
//!
//! ```text
//! connection  IDLE ─ CONNECTING ─ READY ──────────────────────── IDLE …
//! Watch                            └ start … SERVING … NOT_SERVING … cancelled
//! backend     IDLE ─ CONNECTING ───────────┴ READY ──┴ TRANSIENT_FAILURE …
//! ```
//!
//! [`HealthOptions`] says what a program may change about that, with the other rules of this
//! module. [`HealthStatus`] tells the result.
//!
//! In the code, `machine` holds the rules and does nothing, with `verdict` for what is known
//! and `flood` for what is too much; `watch` is the RPC.

mod action;
mod flood;
mod machine;
pub(crate) mod options;
mod status;
#[cfg(test)]
mod tests;
mod verdict;
mod watch;

pub(crate) use action::{Action, Notice, Rpc};
#[cfg(test)]
pub(crate) use machine::EndKind;
pub(crate) use machine::{Ended, Watch, effective};
pub(crate) use options::HealthOptions;
pub use options::{OnNotFound, OnUnimplemented};
pub use status::HealthStatus;
pub(crate) use watch::{Event, HealthRpc, RunningRpc};
