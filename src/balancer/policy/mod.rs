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
//! published, and which calls read without a lock. [`round_robin`] runs every backend,
//! [`pick_first`] one; both choose by rotation. [`ring_hash`] runs every backend, and chooses by a ring.
//!
//! No other file of the balancer tells one policy from another.

mod control;
mod pick_first;
mod policy;
mod ring_hash;
mod round_robin;

pub(super) use control::{BackendView, Decision, Run};
pub(super) use policy::Policy;
