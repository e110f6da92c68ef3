//! One clock for all processes of a bench.

use rustix::time::{ClockId, clock_gettime};

/// Nanoseconds since the machine started, not counting suspension. Linux's
/// `CLOCK_MONOTONIC` is one clock for the whole machine, so what one process
/// reads can be subtracted from what another does; `std::time::Instant` reads
/// the same clock and does not let the number out.
pub(crate) fn now() -> u64 {
    let time = clock_gettime(ClockId::Monotonic);
    let seconds = u64::try_from(time.tv_sec).expect("it starts at zero and only grows");
    let nanos = u64::try_from(time.tv_nsec).expect("a part of a second is not negative");
    seconds * 1_000_000_000 + nanos
}
