//! How long something is out: by a clock for each reason, which is read while it runs.

use std::{
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use super::meter::Observed;
use crate::util::{clock::now, lock::lock};

/// Adds up the time of outages with one reason. Those that last count until now.
#[derive(Default)]
pub(super) struct OutageClock(Mutex<State>);

#[derive(Default)]
struct State {
    ended: Duration,
    /// When those that last have begun.
    begun: Vec<Instant>,
}

impl OutageClock {
    pub(super) fn new() -> Arc<Self> {
        Arc::default()
    }

    pub(super) fn begin(&self, at: Instant) {
        lock(&self.0).begun.push(at);
    }

    /// The outage that has begun then is over.
    pub(super) fn end(&self, begun: Instant, at: Instant) {
        let mut state = lock(&self.0);
        if let Some(place) = state.begun.iter().position(|other| *other == begun) {
            state.begun.swap_remove(place);
            state.ended += at.saturating_duration_since(begun);
        }
    }

    fn at(&self, at: Instant) -> Duration {
        let state = lock(&self.0);
        let lasting = state.begun.iter();
        let lasting = lasting.map(|begun| at.saturating_duration_since(*begun));
        state.ended + lasting.sum::<Duration>()
    }
}

impl Observed for OutageClock {
    fn value(&self) -> f64 {
        self.at(now()).as_secs_f64()
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::OutageClock;

    // M25
    #[test]
    fn outages_that_last_count_until_now() {
        let (clock, start) = (OutageClock::new(), Instant::now());
        let second = |n| start + Duration::from_secs(n);
        clock.begin(second(0));
        clock.begin(second(10));
        assert_eq!(clock.at(second(60)), Duration::from_secs(60 + 50));
        clock.end(second(0), second(60));
        assert_eq!(clock.at(second(70)), Duration::from_secs(60 + 60));
        clock.end(second(0), second(80));
        assert_eq!(clock.at(second(70)), Duration::from_secs(120), "it is over");
        clock.end(second(10), second(70));
        assert_eq!(clock.at(second(1_000)), Duration::from_secs(120));
    }
}
