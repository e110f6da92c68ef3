//! The load balancing policies, as far as they differ: which subchannels run.
//!
//! [`round_robin`] runs them all, [`pick_first`] one.

mod pick_first;
mod policy;
mod round_robin;

pub(super) use pick_first::{BackendView, Decision, PickFirst};
pub(super) use policy::Policy;
