//! Numbers that a test can await.

use std::panic::Location;

use tokio::sync::watch;

use crate::wait::PATIENCE;

/// A number that a test can read and await. It is a total, such as the calls that have come, or a
/// gauge, such as the calls that are open.
///
/// A clone is the same number. [`Backend`](crate::Backend) has several. A service of the test
/// can count with one of its own.
///
/// ```
/// use tonic_health_channel_testing::Counter;
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() {
/// let orders = Counter::new("orders");
/// let service = orders.clone(); // moved into the service under test
/// tokio::spawn(async move { service.add() });
/// orders.until_at_least(1).await;
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct Counter {
    /// The plural noun for the message of a failed wait.
    what: &'static str,
    value: watch::Sender<usize>,
}

impl Counter {
    /// Begins with 0. `what` is the plural noun in the message of a wait that fails, such as
    /// `"calls"`.
    #[must_use]
    pub fn new(what: &'static str) -> Self {
        Self {
            what,
            value: watch::Sender::new(0),
        }
    }

    /// Counts one up.
    pub fn add(&self) {
        self.value.send_modify(|value| *value += 1);
    }

    /// Sets the number to 0.
    pub fn reset(&self) {
        self.value.send_replace(0);
    }

    /// Counts one up, and down again when the guard is dropped.
    #[must_use = "dropping the guard counts down again"]
    pub fn enter(&self) -> Entered {
        self.add();
        Entered(self.clone())
    }

    /// The number now.
    #[must_use]
    pub fn get(&self) -> usize {
        *self.value.borrow()
    }

    /// Waits until the number is at least `n`. It suits totals: a late wait may find more.
    ///
    /// # Panics
    ///
    /// The future panics if this takes more than 10 s of tokio's time, with the number that
    /// there is and the line of the caller.
    ///
    /// # Cancel safety
    ///
    /// Nothing is lost.
    #[track_caller]
    pub fn until_at_least(&self, n: usize) -> impl Future<Output = ()> + Send + use<> {
        self.until("at least", n, move |value| value >= n)
    }

    /// Waits until the number is `n`. It suits gauges, which also fall.
    ///
    /// # Panics
    ///
    /// As [`until_at_least`](Self::until_at_least).
    ///
    /// # Cancel safety
    ///
    /// Nothing is lost.
    #[track_caller]
    pub fn until_exactly(&self, n: usize) -> impl Future<Output = ()> + Send + use<> {
        self.until("exactly", n, move |value| value == n)
    }

    #[track_caller]
    fn until<R>(
        &self,
        how: &'static str,
        n: usize,
        reached: R,
    ) -> impl Future<Output = ()> + Send + use<R>
    where
        R: Fn(usize) -> bool + Send + Sync,
    {
        let caller = Location::caller();
        let counter = self.clone();
        async move {
            let mut value = counter.value.subscribe();
            let wait = value.wait_for(|value| reached(*value));
            match tokio::time::timeout(PATIENCE, wait).await {
                Ok(Ok(_)) => {}
                Ok(Err(_)) => unreachable!("the counter keeps its own sender alive"),
                Err(_) => panic!(
                    "waited {PATIENCE:?} for {how} {n} {}, but there were {} (at {caller})",
                    counter.what,
                    counter.get()
                ),
            }
        }
    }
}

/// Keeps a [`Counter`] up while it lives. Made by [`Counter::enter`].
#[derive(Debug)]
pub struct Entered(Counter);

impl Drop for Entered {
    fn drop(&mut self) {
        // After a reset the gauge stays at 0.
        self.0
            .value
            .send_modify(|value| *value = value.saturating_sub(1));
    }
}
