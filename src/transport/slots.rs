//! Admission: no call enters `h2` without a free stream.
//!
//! `h2` would take any number of requests, queue them out of sight on the one
//! connection they were given to, and keep them even when their callers are gone.
//! So each connection counts its own streams in [`Slots`], and a call that finds
//! every READY connection full waits in the channel's [`Queue`], where any
//! connection can serve it, in the order of arrival.
//!
//! ```text
//!   call ──take──► Slots of the picked connection ──► stream
//!     └─ all full ──► Queue ◄── serve ── a slot freed · a limit raised ·
//!                                        a connection offered · a newcomer
//! ```
//!
//! Whoever frees a slot, and whoever joins the queue, calls
//! [`serve`](Queue::serve). So no call waits while a connection that is offered
//! has a free slot, and no newcomer overtakes those who wait.

use std::{
    collections::BTreeMap,
    fmt,
    future::Future,
    pin::Pin,
    sync::{
        Arc, Mutex, MutexGuard,
        atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst},
    },
    task::{Context, Poll, ready},
};

use tokio::sync::{Notify, oneshot};

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
    offered: AtomicBool,
    /// Set once, when no new stream can be opened any more.
    retired: AtomicBool,
    /// Reservations that wait. Each is owed a slot before any call, or calls
    /// that follow one another would keep the `Watch` out for ever.
    reserving: AtomicUsize,
    /// Rings for them when a slot may be free.
    freed: Notify,
}

impl Slots {
    /// Takes a slot for a call, unless the connection is full, not offered or
    /// retired.
    pub(super) fn take(&self) -> bool {
        self.offered.load(SeqCst) && self.take_leaving(self.reserving.load(SeqCst))
    }

    /// Takes a slot for the `Watch`, offered or not, as soon as there is one.
    /// Only between [`start_reserving`](Self::start_reserving) and
    /// [`end_reserving`](Self::end_reserving); else no bell rings.
    pub(super) async fn reserve(&self) {
        loop {
            // Listens before it looks, so that no bell rings in between unheard.
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
        if self.retired.load(SeqCst) {
            return false;
        }
        let limit = self.limit.load(SeqCst).saturating_sub(held_back);
        self.taken
            .fetch_update(SeqCst, SeqCst, |taken| (taken < limit).then_some(taken + 1))
            .is_ok()
    }

    /// Whether one more stream could be opened now.
    pub(super) fn has_free(&self) -> bool {
        !self.retired.load(SeqCst) && self.taken() < self.limit.load(SeqCst)
    }

    /// Gives a slot back. The caller then serves the queue.
    pub(super) fn release(&self) {
        self.taken.fetch_sub(1, SeqCst);
        self.ring();
    }

    /// Says whether the limit changed.
    pub(super) fn set_limit(&self, limit: usize) -> bool {
        let changed = self.limit.swap(limit, SeqCst) != limit;
        self.ring();
        changed
    }

    fn ring(&self) {
        if self.reserving.load(SeqCst) > 0 {
            self.freed.notify_waiters();
        }
    }

    pub(super) fn offer(&self, offered: bool) {
        self.offered.store(offered, SeqCst);
    }

    /// Whether calls may use the connection at all.
    pub(super) fn is_open(&self) -> bool {
        self.offered.load(SeqCst) && !self.retired.load(SeqCst)
    }

    pub(super) fn retire(&self) {
        self.retired.store(true, SeqCst);
    }

    pub(super) fn taken(&self) -> usize {
        self.taken.load(SeqCst)
    }
}

/// Calls of one channel that found every connection full, first come first
/// served. What they wait for is a `T`: a slot, with its connection.
pub(crate) struct Queue<T = super::Admitted> {
    waiters: Mutex<Waiters<T>>,
    /// The number of `waiters`, readable without the lock.
    waiting: AtomicUsize,
}

struct Waiters<T> {
    next_ticket: u64,
    by_ticket: BTreeMap<u64, oneshot::Sender<T>>,
}

/// A place in a [`Queue`]: resolves to what was waited for. Dropping it leaves
/// the queue, and passes on what had been handed over unseen.
pub(crate) struct Place<T: 'static = super::Admitted> {
    queue: Arc<Queue<T>>,
    ticket: u64,
    handed_over: oneshot::Receiver<T>,
}

impl<T> Queue<T> {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self {
            waiters: Mutex::new(Waiters {
                next_ticket: 0,
                by_ticket: BTreeMap::new(),
            }),
            waiting: AtomicUsize::new(0),
        })
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.waiting.load(SeqCst) == 0
    }

    /// Takes the last place. The caller then serves the queue from every
    /// connection it could have used itself.
    pub(crate) fn join(self: &Arc<Self>) -> Place<T> {
        let (hand_over, handed_over) = oneshot::channel();
        let mut waiters = self.lock();
        let ticket = waiters.next_ticket;
        waiters.next_ticket += 1;
        waiters.by_ticket.insert(ticket, hand_over);
        self.waiting.fetch_add(1, SeqCst);
        drop(waiters);
        Place {
            queue: self.clone(),
            ticket,
            handed_over,
        }
    }

    /// Hands over what `take` yields, oldest place first, until nobody waits or
    /// there is no more.
    pub(super) fn serve(&self, mut take: impl FnMut() -> Option<T>) {
        while !self.is_empty() {
            let Some(token) = take() else { return };
            // A token that finds no taker is dropped here, outside the lock,
            // for its drop may serve the queue again.
            let Some(oldest) = self.pop() else { return };
            let _ = oldest.send(token);
        }
    }

    fn pop(&self) -> Option<oneshot::Sender<T>> {
        let mut waiters = self.lock();
        let (_, oldest) = waiters.by_ticket.pop_first()?;
        self.waiting.fetch_sub(1, SeqCst);
        Some(oldest)
    }

    fn lock(&self) -> MutexGuard<'_, Waiters<T>> {
        self.waiters
            .lock()
            .expect("nothing panics while it is held")
    }
}

impl<T> fmt::Debug for Queue<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Queue")
            .field("waiting", &self.waiting)
            .finish()
    }
}

impl<T> Future for Place<T> {
    type Output = T;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<T> {
        let handed_over = ready!(Pin::new(&mut self.handed_over).poll(cx));
        Poll::Ready(handed_over.expect("a sender is removed only to be used"))
    }
}

impl<T> Drop for Place<T> {
    fn drop(&mut self) {
        let mut waiters = self.queue.lock();
        if waiters.by_ticket.remove(&self.ticket).is_some() {
            self.queue.waiting.fetch_sub(1, SeqCst);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use futures_util::FutureExt;

    use super::{Queue, Slots};

    /// A connection with `limit` streams, offered.
    fn slots(limit: usize) -> Slots {
        let slots = Slots::default();
        slots.set_limit(limit);
        slots.offer(true);
        slots
    }

    #[test]
    fn a_limit_of_one_admits_one() {
        let slots = slots(1);
        assert!(slots.take());
        assert!(!slots.take());
        slots.release();
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
            slots.release();
            assert!(!slots.take());
        }
        slots.release();
        assert!(slots.take());
    }

    #[test]
    fn what_is_not_offered_or_retired_admits_no_call() {
        let slots = slots(2);
        slots.offer(false);
        assert!(!slots.take());
        assert!(
            slots.reserve().now_or_never().is_some(),
            "the Watch comes before the calls"
        );
        slots.offer(true);
        slots.retire();
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
        slots.release();
        assert!(slots.take());
    }

    #[test]
    fn places_are_served_in_order_of_arrival() {
        let queue = Queue::new();
        let (first, second) = (queue.join(), queue.join());
        let mut tokens = vec!["token"];
        queue.serve(|| tokens.pop());
        assert_eq!(first.now_or_never(), Some("token"));
        assert_eq!(second.now_or_never(), None);
        assert!(queue.is_empty(), "both have left");
    }

    #[test]
    fn a_place_left_after_hand_over_drops_the_token() {
        let queue = Queue::new();
        let place = queue.join();
        let token = Arc::new(());
        let mut tokens = vec![token.clone()];
        queue.serve(|| tokens.pop());
        assert_eq!(Arc::strong_count(&token), 2);
        drop(place);
        assert_eq!(Arc::strong_count(&token), 1, "its drop frees the slot");
    }

    #[test]
    fn twenty_thousand_places_left_leave_nothing_held() {
        let queue = Queue::<()>::new();
        let places: Vec<_> = (0..20_000).map(|_| queue.join()).collect();
        assert_eq!(queue.lock().by_ticket.len(), 20_000);
        drop(places);
        assert!(queue.is_empty());
        assert!(queue.lock().by_ticket.is_empty());
        assert_eq!(Arc::strong_count(&queue), 1);
    }
}
