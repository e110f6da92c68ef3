//! Admission: no call enters `h2` without a free stream.
//!
//! `h2` would take any number of requests, queue them out of sight on the one
//! connection they were given to, and keep them even when their callers are gone.
//! So each connection counts its own streams in [`Slots`], and a call that finds
//! every READY connection full waits in the channel's [`Queue`](super::queue::Queue), where any
//! connection can serve it, in the order of arrival.
//!
//! ```text
//!   call ──take──► Slots of the picked connection ──► stream
//!     └─ all full ──► Queue ◄── serve ── a slot freed · a limit raised ·
//!                                        a connection pickable · a newcomer
//! ```
//!
//! Whoever frees a slot, and whoever joins the queue, calls
//! [`serve`](super::queue::Queue::serve). So no call waits while a connection that is pickable
//! has a free slot, and no newcomer overtakes those who wait.

use std::sync::atomic::{AtomicBool, AtomicU8, AtomicUsize, Ordering::SeqCst};

use tokio::sync::Notify;

use super::backend_calls::Attempt;

/// The streams of one connection: how many are open, how many may be.
///
/// All accesses are sequentially consistent: a release and a newcomer look at
/// each other's counter right after writing their own, and one of them has to
/// see the other.
#[derive(Debug, Default)]
pub(super) struct Slots {
    taken: AtomicUsize,
    /// The peer's limit.
    limit: AtomicUsize,
    /// Whether calls may use the connection: it is READY, health included.
    pickable: AtomicBool,
    /// Set once, when no new stream can be opened any more.
    closed: AtomicBool,
    /// Why a connection that is pickable takes fewer calls, or none: [`HELD`], [`SILENT`] and
    /// [`PROBED`]. In one number, so that a call looks at 1 of them all.
    restraint: AtomicU8,
    /// Reservations that wait. Each is owed a slot before any call, or calls
    /// that follow one another would keep the `Watch` out for ever.
    reserving: AtomicUsize,
    /// Wakes them when a slot may be free.
    freed: Notify,
}

/// Calls wait until the peer is seen to read.
const HELD: u8 = 1;
/// The peer says nothing: 1 call at a time goes there as a probe, and the others go on.
const SILENT: u8 = 2;
/// That call is under way. It may outlast the silence, and then is the probe of the next one.
const PROBED: u8 = 4;

impl Slots {
    /// Takes a slot for a call, unless the connection is full, held, not pickable or
    /// closed to new streams. If it is silent, the call is a probe, and there is 1 at a time.
    pub(super) fn take(&self) -> Option<Attempt> {
        if !self.pickable.load(SeqCst) {
            return None;
        }
        match self.restraint.load(SeqCst) {
            0 => self.take_for_call().then_some(Attempt::NONE),
            _ => self.take_restrained(),
        }
    }

    fn take_for_call(&self) -> bool {
        self.take_leaving(self.reserving.load(SeqCst))
    }

    #[cold]
    fn take_restrained(&self) -> Option<Attempt> {
        let probe = self
            .restraint
            .fetch_update(SeqCst, SeqCst, |restraint| match restraint {
                SILENT => Some(SILENT | PROBED),
                _ => None,
            });
        match probe {
            Ok(_) if self.take_for_call() => Some(Attempt::PROBE),
            Ok(_) => {
                self.end_probe();
                None
            }
            // The silence is over, and not the probe.
            Err(PROBED) | Err(0) => self.take_for_call().then_some(Attempt::NONE),
            Err(_) => None,
        }
    }

    /// The probe is over. Whether another may follow: then the caller serves the queue.
    pub(super) fn end_probe(&self) -> bool {
        self.restraint.fetch_and(!PROBED, SeqCst) & SILENT != 0
    }

    /// Once the silence is over, the caller serves the queue.
    pub(super) fn set_silent(&self, silent: bool) {
        self.restrain(SILENT, silent);
    }

    pub(super) fn is_silent(&self) -> bool {
        self.restraint.load(SeqCst) & SILENT != 0
    }

    fn restrain(&self, why: u8, is_so: bool) {
        match is_so {
            true => self.restraint.fetch_or(why, SeqCst),
            false => self.restraint.fetch_and(!why, SeqCst),
        };
    }

    /// Takes a slot for the `Watch`, pickable or not, as soon as there is one.
    /// Only between [`start_reserving`](Self::start_reserving) and
    /// [`end_reserving`](Self::end_reserving); else nothing wakes it.
    pub(super) async fn reserve(&self) {
        loop {
            // Subscribes before it looks, so that no wake-up in between is lost.
            let freed = self.freed.notified();
            if self.take_leaving(0) {
                return;
            }
            freed.await;
        }
    }

    /// Holds back a slot from calls, for a reservation that waits.
    pub(super) fn start_reserving(&self) {
        self.reserving.fetch_add(1, SeqCst);
    }

    /// The caller then serves the queue.
    pub(super) fn end_reserving(&self) {
        self.reserving.fetch_sub(1, SeqCst);
    }

    fn take_leaving(&self, held_back: usize) -> bool {
        if self.closed.load(SeqCst) {
            return false;
        }
        let limit = self.limit.load(SeqCst).saturating_sub(held_back);
        self.taken
            .fetch_update(SeqCst, SeqCst, |taken| (taken < limit).then_some(taken + 1))
            .is_ok()
    }

    /// Whether one more stream could be opened now.
    pub(super) fn has_free(&self) -> bool {
        !self.closed.load(SeqCst) && self.taken() < self.limit.load(SeqCst)
    }

    /// Gives slots back. The caller then serves the queue.
    pub(super) fn release(&self, slots: usize) {
        self.taken.fetch_sub(slots, SeqCst);
        self.wake_reserving();
    }

    /// Says whether the limit changed.
    pub(super) fn set_limit(&self, limit: usize) -> bool {
        let changed = self.limit.swap(limit, SeqCst) != limit;
        self.wake_reserving();
        changed
    }

    fn wake_reserving(&self) {
        if self.reserving.load(SeqCst) > 0 {
            self.freed.notify_waiters();
        }
    }

    pub(super) fn set_pickable(&self, pickable: bool) {
        self.pickable.store(pickable, SeqCst);
    }

    /// Whether calls may use the connection at all.
    pub(super) fn is_open(&self) -> bool {
        self.pickable.load(SeqCst) && !self.closed.load(SeqCst) && !self.is_silent()
    }

    /// The caller then serves the queue.
    pub(super) fn set_held(&self, held: bool) {
        self.restrain(HELD, held);
    }

    pub(super) fn close_to_new_streams(&self) {
        self.closed.store(true, SeqCst);
    }

    pub(super) fn taken(&self) -> usize {
        self.taken.load(SeqCst)
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::{Attempt, Slots};

    /// A connection with `limit` streams, pickable.
    fn slots(limit: usize) -> Slots {
        let slots = Slots::default();
        slots.set_limit(limit);
        slots.set_pickable(true);
        slots
    }

    #[test]
    fn a_limit_of_one_admits_one() {
        let slots = slots(1);
        assert!(slots.take().is_some());
        assert!(slots.take().is_none());
        slots.release(1);
        assert!(slots.take().is_some());
    }

    #[test]
    fn a_limit_of_zero_admits_none_until_raised() {
        let slots = slots(0);
        assert!(slots.take().is_none());
        assert!(slots.set_limit(1));
        assert!(slots.take().is_some());
    }

    #[test]
    fn lowered_below_what_is_taken_it_admits_none_until_enough_are_released() {
        let slots = slots(3);
        assert!((0..3).all(|_| slots.take().is_some()));
        slots.set_limit(1);
        for _ in 0..2 {
            slots.release(1);
            assert!(slots.take().is_none());
        }
        slots.release(1);
        assert!(slots.take().is_some());
    }

    #[test]
    fn what_is_not_pickable_or_closed_admits_no_call() {
        let slots = slots(2);
        slots.set_pickable(false);
        assert!(slots.take().is_none());
        assert!(
            slots.reserve().now_or_never().is_some(),
            "the Watch comes before the calls"
        );
        slots.set_pickable(true);
        slots.close_to_new_streams();
        assert!(slots.take().is_none());
        assert!(slots.reserve().now_or_never().is_none());
    }

    #[test]
    fn a_reservation_that_waits_holds_back_one_slot_from_calls() {
        let slots = slots(2);
        assert!(slots.take().is_some());
        slots.start_reserving();
        assert!(slots.take().is_none());
        assert!(slots.reserve().now_or_never().is_some());
        slots.end_reserving();
        assert!(slots.take().is_none(), "both are taken");
        slots.release(1);
        assert!(slots.take().is_some());
    }

    // D373
    #[test]
    fn a_silent_connection_admits_1_probe_at_a_time() {
        let slots = slots(3);
        assert_eq!(slots.take(), Some(Attempt::NONE));
        slots.set_silent(true);
        assert_eq!(slots.take(), Some(Attempt::PROBE));
        assert_eq!(slots.take(), None, "the probe is under way");
        assert!(slots.end_probe(), "it is still silent");
        assert_eq!(slots.take(), Some(Attempt::PROBE));
        assert_eq!(slots.take(), None);

        slots.release(2);
        slots.set_silent(false);
        assert_eq!(slots.take(), Some(Attempt::NONE), "beside the probe");
        slots.set_silent(true);
        assert_eq!(slots.take(), None, "the old probe goes on");
        assert!(slots.end_probe());
        assert_eq!(slots.take(), Some(Attempt::PROBE));
        slots.set_silent(false);
        assert!(!slots.end_probe());
    }

    // D373
    #[test]
    fn a_probe_needs_a_slot_and_no_hold() {
        let slots = slots(1);
        assert!(slots.take().is_some());
        slots.set_silent(true);
        assert_eq!(slots.take(), None);
        slots.release(1);
        slots.set_held(true);
        assert_eq!(slots.take(), None);
        slots.set_held(false);
        assert_eq!(slots.take(), Some(Attempt::PROBE));
    }

    // D373
    #[test]
    fn a_silent_connection_is_not_open_and_its_watch_is() {
        let slots = slots(1);
        slots.set_silent(true);
        assert!(!slots.is_open());
        assert!(slots.reserve().now_or_never().is_some());
        slots.set_silent(false);
        assert!(slots.is_open());
    }
}
