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

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};

use tokio::sync::Notify;

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
    /// Whether calls wait until the peer is seen to read.
    held: AtomicBool,
    /// Reservations that wait. Each is owed a slot before any call, or calls
    /// that follow one another would keep the `Watch` out for ever.
    reserving: AtomicUsize,
    /// Wakes them when a slot may be free.
    freed: Notify,
}

impl Slots {
    /// Takes a slot for a call, unless the connection is full, held, not pickable or
    /// closed to new streams.
    pub(super) fn take(&self) -> bool {
        self.pickable.load(SeqCst)
            && !self.held.load(SeqCst)
            && self.take_leaving(self.reserving.load(SeqCst))
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
        self.pickable.load(SeqCst) && !self.closed.load(SeqCst)
    }

    /// The caller then serves the queue.
    pub(super) fn set_held(&self, held: bool) {
        self.held.store(held, SeqCst);
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

    use super::Slots;

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
        assert!(slots.take());
        assert!(!slots.take());
        slots.release(1);
        assert!(slots.take());
    }

    #[test]
    fn a_limit_of_zero_admits_none_until_raised() {
        let slots = slots(0);
        assert!(!slots.take());
        assert!(slots.set_limit(1));
        assert!(slots.take());
    }

    #[test]
    fn lowered_below_what_is_taken_it_admits_none_until_enough_are_released() {
        let slots = slots(3);
        assert!((0..3).all(|_| slots.take()));
        slots.set_limit(1);
        for _ in 0..2 {
            slots.release(1);
            assert!(!slots.take());
        }
        slots.release(1);
        assert!(slots.take());
    }

    #[test]
    fn what_is_not_pickable_or_closed_admits_no_call() {
        let slots = slots(2);
        slots.set_pickable(false);
        assert!(!slots.take());
        assert!(
            slots.reserve().now_or_never().is_some(),
            "the Watch comes before the calls"
        );
        slots.set_pickable(true);
        slots.close_to_new_streams();
        assert!(!slots.take());
        assert!(slots.reserve().now_or_never().is_none());
    }

    #[test]
    fn a_reservation_that_waits_holds_back_one_slot_from_calls() {
        let slots = slots(2);
        assert!(slots.take());
        slots.start_reserving();
        assert!(!slots.take());
        assert!(slots.reserve().now_or_never().is_some());
        slots.end_reserving();
        assert!(!slots.take(), "both are taken");
        slots.release(1);
        assert!(slots.take());
    }
}
