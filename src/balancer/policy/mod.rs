//! The load balancing policies, as far as the balancer goes by them: which subchannels run.
//!
//! ```text
//!   balancer ── backends ──►┌────────┐── which run, when to look again ──► balancer
//!                           │ Policy │── the channel's state
//!                           └────────┘── Choice ──► Picker ──► calls
//! ```
//!
//! A policy has 2 halves. The [control half](control) is a struct here, which owns what the
//! policy remembers. The pick half is a variant of [`Choice`](crate::routing::Choice), which is
//! published, and which calls read without a lock. [`pick_first`] runs one backend, and the
//! others run every backend. [`round_robin`] and [`pick_first`] choose by rotation.
//!
//! No other file of the balancer tells one policy from another.

mod control;
mod least_request;
mod pick_first;
mod policy;
mod ring_hash;
mod round_robin;
mod weighted_round_robin;

pub(super) use control::{BackendView, Decision, Run, WeightUpdate};
pub(super) use policy::Policy;
