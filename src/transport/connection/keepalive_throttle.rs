//! How much less often a backend is sent PINGs than its endpoint says (gRFC A8).

use std::{
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering::Relaxed},
    },
    time::Duration,
};

/// Doubled so often, any interval that was asked for is longer than anyone waits.
const MAX_DOUBLINGS: u32 = 16;

/// How often a backend has said that PINGs come too often. Each time doubles the
/// interval for its next connections; all of them share this. ConnectionGroup that were
/// made with one interval say it once, all together.
#[derive(Clone, Debug, Default)]
pub(crate) struct KeepaliveThrottle(Arc<AtomicU32>);

impl KeepaliveThrottle {
    /// How often it was doubled so far.
    pub(in crate::transport) fn doublings(&self) -> u32 {
        self.0.load(Relaxed)
    }

    /// Doubles the interval once more, unless another connection has done so for the
    /// same reason. Whether that is new, and changes anything.
    pub(in crate::transport) fn double(&self, doublings: u32) -> bool {
        let more = doublings + 1;
        let doubled = self.0.compare_exchange(doublings, more, Relaxed, Relaxed);
        doubled.is_ok() && more <= MAX_DOUBLINGS
    }

    /// The interval doubled as often as a backend said so.
    pub(in crate::transport) fn lengthen(interval: Duration, doublings: u32) -> Duration {
        interval.saturating_mul(1 << doublings.min(MAX_DOUBLINGS))
    }
}
