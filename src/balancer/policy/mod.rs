//! The load balancing policies, as far as they differ: which subchannels run.
//!
//! [`in_force`] is what the balancer asks; [`round_robin`] runs them all, [`pick_first`] one.

mod in_force;
mod pick_first;
mod round_robin;

pub(super) use in_force::Policy;
