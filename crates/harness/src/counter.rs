//! Numbers that a test can await.
//!
//! A `Counter` is a total or a gauge in a watch channel. Whoever observes it is
//! woken when it changes, so no test has to poll or sleep. Clones share the number.

use std::panic::Location;

use tokio::sync::watch;

use super::PATIENCE;

#[derive(Clone, Debug)]
pub struct Counter {
    /// What is counted, in the plural, for the sentence of a failed wait.
    what: &'static str,
    value: watch::Sender<usize>,
}

impl Counter {
    pub fn new(what: &'static str) -> Self {
        Self {
            what,
            value: watch::Sender::new(0),
        }
    }

    pub fn add(&self) {
        self.value.send_modify(|value| *value += 1);
    }

    pub fn reset(&self) {
        self.value.send_replace(0);
    }

    /// Counts one up for as long as the guard lives.
    #[must_use = "dropping the guard counts down again"]
    pub fn enter(&self) -> Entered {
        self.add();
        Entered(self.clone())
    }

    pub fn get(&self) -> usize {
        *self.value.borrow()
    }

    /// Keeps the larger of the present number and `value`.
    pub fn raise_to(&self, value: usize) {
        self.value.send_if_modified(|peak| {
            let higher = value > *peak;
            *peak = value.max(*peak);
            higher
        });
    }

    /// For totals: a late observer may find more than it waited for.
    #[track_caller]
    pub fn until_at_least(&self, n: usize) -> impl Future<Output = ()> + Send + use<> {
        self.until("at least", n, move |value| value >= n)
    }

    /// For gauges: also waits for the number to come down.
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

/// One thing that is going on; see [`Counter::enter`].
#[derive(Debug)]
pub struct Entered(Counter);

impl Drop for Entered {
    fn drop(&mut self) {
        // A reset may have come in between; the gauge then stays at zero.
        self.0
            .value
            .send_modify(|value| *value = value.saturating_sub(1));
    }
}
