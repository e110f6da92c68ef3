//! Where calls wait for a slot, in the order of arrival.

use std::{
    collections::BTreeMap,
    fmt,
    future::Future,
    pin::Pin,
    sync::{
        Arc, Mutex, MutexGuard,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    task::{Context, Poll, ready},
};

use tokio::sync::oneshot;

use crate::util::lock::lock;

/// Calls of one channel that found every connection full, first come first
/// served. What they wait for is a `T`: a slot, with its connection.
pub(crate) struct Queue<T> {
    waiters: Mutex<Waiters<T>>,
    /// The number of `waiters`, readable without the lock.
    waiting: AtomicUsize,
}

struct Waiters<T> {
    next_number: u64,
    by_number: BTreeMap<u64, oneshot::Sender<T>>,
}

/// A number in a [`Queue`]: resolves to what was waited for. Dropping it leaves
/// the queue, and passes on what had been handed over unseen.
pub(crate) struct Ticket<T: 'static> {
    queue: Arc<Queue<T>>,
    number: u64,
    handed_over: oneshot::Receiver<T>,
}

impl<T> Queue<T> {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self {
            waiters: Mutex::new(Waiters {
                next_number: 0,
                by_number: BTreeMap::new(),
            }),
            waiting: AtomicUsize::new(0),
        })
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.waiting.load(SeqCst) == 0
    }

    /// Takes the last ticket. The caller then serves the queue from every
    /// connection it could have used itself.
    pub(crate) fn join(self: &Arc<Self>) -> Ticket<T> {
        let (hand_over, handed_over) = oneshot::channel();
        let mut waiters = self.lock();
        let number = waiters.next_number;
        waiters.next_number += 1;
        waiters.by_number.insert(number, hand_over);
        self.waiting.fetch_add(1, SeqCst);
        drop(waiters);
        Ticket {
            queue: self.clone(),
            number,
            handed_over,
        }
    }

    /// Hands over what `take` yields, oldest ticket first, until nobody waits or
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
        let (_, oldest) = waiters.by_number.pop_first()?;
        self.waiting.fetch_sub(1, SeqCst);
        Some(oldest)
    }

    fn lock(&self) -> MutexGuard<'_, Waiters<T>> {
        lock(&self.waiters)
    }
}

impl<T> fmt::Debug for Queue<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Queue")
            .field("waiting", &self.waiting)
            .finish()
    }
}

impl<T> Future for Ticket<T> {
    type Output = T;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<T> {
        let handed_over = ready!(Pin::new(&mut self.handed_over).poll(cx));
        Poll::Ready(handed_over.expect("a sender is removed only to be used"))
    }
}

impl<T> Drop for Ticket<T> {
    fn drop(&mut self) {
        let mut waiters = self.queue.lock();
        if waiters.by_number.remove(&self.number).is_some() {
            self.queue.waiting.fetch_sub(1, SeqCst);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use futures_util::FutureExt;

    use super::Queue;

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
        assert_eq!(queue.lock().by_number.len(), 20_000);
        drop(tickets);
        assert!(queue.is_empty());
        assert!(queue.lock().by_number.is_empty());
        assert_eq!(Arc::strong_count(&queue), 1);
    }
}
