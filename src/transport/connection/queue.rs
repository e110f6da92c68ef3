//! Where calls wait for a slot, in the order of arrival.
//!
//! ```text
//!              served                      polled
//!   Waiting ───────────► Offered { token } ───────► (gone, with the token)
//!      ▲                    │
//!      │ polled             │ taken back
//!      └──── PassedOver ◄───┘
//! ```
//!
//! A token that is offered wakes its ticket. A program may never poll that ticket again, so a
//! token that is not taken soon is taken back, and goes to the next ticket. The ticket that
//! was passed over keeps its number: when it is polled, it waits before all that came later.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt, mem,
    sync::{
        Arc, Mutex, MutexGuard,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    task::{Context, Poll, Waker},
};

use crate::util::lock::lock;

/// Calls of one channel that found every connection full, first come first
/// served. What they wait for is a `T`: a slot, with its connection.
pub(crate) struct Queue<T> {
    tickets: Mutex<Tickets<T>>,
    /// How many tickets are waiting, readable without the lock.
    waiting: AtomicUsize,
    /// How many have a token that they have not taken, likewise.
    offered: AtomicUsize,
}

/// All tickets by number, each in one of these.
struct Tickets<T> {
    next_number: u64,
    waiting: BTreeMap<u64, Option<Waker>>,
    offered: BTreeMap<u64, Offer<T>>,
    /// How many offers there have been.
    offers: u64,
    /// Not polled since a token was taken back.
    passed_over: BTreeSet<u64>,
}

struct Offer<T> {
    /// Which offer it is: they are counted.
    count: u64,
    token: T,
}

/// A number in a [`Queue`], to be polled for what is waited for. Dropping it leaves
/// the queue, and passes on what had been handed over unseen.
pub(crate) struct Ticket<T: 'static> {
    queue: Arc<Queue<T>>,
    number: u64,
}

impl<T> Queue<T> {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self {
            tickets: Mutex::new(Tickets {
                next_number: 0,
                waiting: BTreeMap::new(),
                offered: BTreeMap::new(),
                offers: 0,
                passed_over: BTreeSet::new(),
            }),
            waiting: AtomicUsize::new(0),
            offered: AtomicUsize::new(0),
        })
    }

    /// Whether no ticket waits. One that was passed over does not, until it is polled.
    pub(crate) fn is_empty(&self) -> bool {
        self.waiting.load(SeqCst) == 0
    }

    /// Whether a token has been offered that is not taken.
    pub(super) fn has_offers(&self) -> bool {
        self.offered.load(SeqCst) > 0
    }

    /// How many offers there have been.
    pub(super) fn offers(&self) -> u64 {
        self.lock().offers
    }

    /// Takes the last ticket. The caller then serves the queue from every
    /// connection it could have used itself.
    pub(crate) fn join(self: &Arc<Self>) -> Ticket<T> {
        let mut tickets = self.lock();
        let number = tickets.next_number;
        tickets.next_number += 1;
        tickets.waiting.insert(number, None);
        self.waiting.fetch_add(1, SeqCst);
        drop(tickets);
        Ticket {
            queue: self.clone(),
            number,
        }
    }

    /// Offers what `take` yields, oldest ticket first, until none waits or there is no
    /// more. Whether anything was offered.
    pub(super) fn serve(&self, mut take: impl FnMut() -> Option<T>) -> bool {
        let mut has_offered = false;
        while !self.is_empty() {
            let Some(token) = take() else { break };
            // A token that finds no taker is dropped outside the lock, for its drop may
            // serve the queue again.
            let Err(_token) = self.offer(token) else {
                has_offered = true;
                continue;
            };
            break;
        }
        has_offered
    }

    fn offer(&self, token: T) -> Result<(), T> {
        let mut tickets = self.lock();
        let Some((number, waker)) = tickets.waiting.pop_first() else {
            return Err(token);
        };
        self.waiting.fetch_sub(1, SeqCst);
        let count = tickets.offers;
        tickets.offers += 1;
        tickets.offered.insert(number, Offer { count, token });
        self.offered.fetch_add(1, SeqCst);
        drop(tickets);
        if let Some(waker) = waker {
            waker.wake();
        }
        Ok(())
    }

    /// Takes back those of the first `offers` tokens that are not taken and answer to
    /// `which`. To be dropped by the caller, or offered to others.
    pub(super) fn take_back(&self, offers: u64, which: impl Fn(&T) -> bool) -> Vec<T> {
        if !self.has_offers() {
            return Vec::new();
        }
        let mut tickets = self.lock();
        let offered = mem::take(&mut tickets.offered);
        let (back, kept): (BTreeMap<_, _>, _) = offered
            .into_iter()
            .partition(|(_, offer)| offer.count < offers && which(&offer.token));
        tickets.offered = kept;
        tickets.passed_over.extend(back.keys());
        self.offered.fetch_sub(back.len(), SeqCst);
        back.into_values().map(|offer| offer.token).collect()
    }

    fn lock(&self) -> MutexGuard<'_, Tickets<T>> {
        lock(&self.tickets)
    }
}

impl<T> Ticket<T> {
    /// Polls for what is waited for. Calls `serve` when the ticket was passed over: it waits
    /// again from now on, and the queue is to be served as after [`Queue::join`].
    pub(crate) fn poll_and_serve(
        &mut self,
        cx: &mut Context<'_>,
        mut serve: impl FnMut(),
    ) -> Poll<T> {
        loop {
            let mut tickets = self.queue.lock();
            if let Some(offer) = tickets.offered.remove(&self.number) {
                self.queue.offered.fetch_sub(1, SeqCst);
                return Poll::Ready(offer.token);
            }
            let waker = Some(cx.waker().clone());
            tickets.waiting.insert(self.number, waker);
            if !tickets.passed_over.remove(&self.number) {
                return Poll::Pending;
            }
            self.queue.waiting.fetch_add(1, SeqCst);
            drop(tickets);
            serve();
        }
    }
}

impl<T> fmt::Debug for Queue<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Queue")
            .field("waiting", &self.waiting)
            .field("offered", &self.offered)
            .finish()
    }
}

impl<T> Drop for Ticket<T> {
    fn drop(&mut self) {
        let mut tickets = self.queue.lock();
        if tickets.waiting.remove(&self.number).is_some() {
            self.queue.waiting.fetch_sub(1, SeqCst);
        }
        tickets.passed_over.remove(&self.number);
        let offered = tickets.offered.remove(&self.number);
        if offered.is_some() {
            self.queue.offered.fetch_sub(1, SeqCst);
        }
        // Its drop may serve the queue, which takes the lock.
        drop(tickets);
        drop(offered);
    }
}

#[cfg(test)]
mod tests {
    use std::{
        future::Future,
        pin::Pin,
        sync::Arc,
        task::{Context, Poll, Waker},
    };

    use futures_util::FutureExt;

    use super::{Queue, Ticket};

    /// For tests that poll their ticket whenever it is woken.
    impl<T> Future for Ticket<T> {
        type Output = T;

        fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<T> {
            self.poll_and_serve(cx, || {})
        }
    }

    #[test]
    fn tickets_are_served_in_order_of_arrival() {
        let queue = Queue::new();
        let (first, second) = (queue.join(), queue.join());
        let mut tokens = vec!["token"];
        queue.serve(|| tokens.pop());
        assert_eq!(first.now_or_never(), Some("token"));
        assert_eq!(second.now_or_never(), None);
        assert!(queue.is_empty(), "both have left");
    }

    #[test]
    fn a_ticket_left_after_hand_over_drops_the_token() {
        let queue = Queue::new();
        let ticket = queue.join();
        let token = Arc::new(());
        let mut tokens = vec![token.clone()];
        queue.serve(|| tokens.pop());
        assert_eq!(Arc::strong_count(&token), 2);
        drop(ticket);
        assert_eq!(Arc::strong_count(&token), 1, "its drop frees the slot");
    }

    #[test]
    fn twenty_thousand_tickets_left_leave_nothing_held() {
        let queue = Queue::<()>::new();
        let tickets: Vec<_> = (0..20_000).map(|_| queue.join()).collect();
        assert_eq!(queue.lock().waiting.len(), 20_000);
        drop(tickets);
        assert!(queue.is_empty());
        assert!(queue.lock().waiting.is_empty());
        assert_eq!(Arc::strong_count(&queue), 1);
    }

    /// The tokens that were taken back go to those that wait.
    fn pass_on(queue: &Queue<&'static str>) {
        let mut back = queue.take_back(u64::MAX, |_| true);
        queue.serve(|| back.pop());
    }

    #[test]
    fn a_token_that_is_not_taken_goes_to_the_next_ticket() {
        let queue = Queue::new();
        let (first, second) = (queue.join(), queue.join());
        let mut tokens = vec!["token"];
        queue.serve(|| tokens.pop());
        assert!(queue.has_offers());
        pass_on(&queue);
        assert_eq!(first.now_or_never(), None);
        assert_eq!(second.now_or_never(), Some("token"));
        assert!(!queue.has_offers());
    }

    #[test]
    fn a_ticket_that_was_passed_over_keeps_its_number() {
        let queue = Queue::new();
        let (mut first, second, third) = (queue.join(), queue.join(), queue.join());
        let mut cx = Context::from_waker(Waker::noop());
        let mut tokens = vec!["one"];
        queue.serve(|| tokens.pop());
        pass_on(&queue);
        assert_eq!(second.now_or_never(), Some("one"));
        let mut served = 0;
        for _ in 0..2 {
            let polled = first.poll_and_serve(&mut cx, || served += 1);
            assert!(polled.is_pending());
        }
        assert_eq!(served, 1, "it was passed over once");
        let mut tokens = vec!["two"];
        queue.serve(|| tokens.pop());
        assert_eq!(third.now_or_never(), None);
        assert_eq!(first.now_or_never(), Some("two"));
    }

    #[test]
    fn a_token_that_was_offered_later_stays_offered() {
        let queue = Queue::new();
        let (first, second) = (queue.join(), queue.join());
        let mut tokens = vec!["two", "one"];
        queue.serve(|| tokens.pop());
        assert_eq!(queue.take_back(1, |_| true), ["one"]);
        assert_eq!(first.now_or_never(), None);
        assert_eq!(second.now_or_never(), Some("two"));
    }

    #[test]
    fn where_all_were_passed_over_no_ticket_waits() {
        let queue = Queue::new();
        let tickets = [queue.join(), queue.join()];
        let mut tokens = vec!["token"];
        queue.serve(|| tokens.pop());
        for _ in &tickets {
            let mut back = queue.take_back(u64::MAX, |_| true);
            assert!(!back.is_empty());
            queue.serve(|| back.pop());
        }
        assert_eq!(queue.take_back(u64::MAX, |_| true).len(), 0);
        assert!(queue.is_empty(), "a newcomer may go first");
        drop(tickets);
        assert!(queue.lock().passed_over.is_empty());
    }
}
