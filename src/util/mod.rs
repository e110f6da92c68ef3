//! What several modules use and none of them owns.

pub(crate) mod at_least;
pub(crate) mod backoff;
pub(crate) mod blocking;
pub(crate) mod clock;
pub(crate) mod contained;
pub(crate) mod instant;
pub(crate) mod lock;
pub(crate) mod log_budget;
pub(crate) mod real_time;
pub(crate) mod window_counter;
pub(crate) mod zone;
