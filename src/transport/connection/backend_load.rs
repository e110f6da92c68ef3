//! The load that a backend reports, while a policy goes by it.

use std::{
    mem,
    sync::{Arc, Mutex, MutexGuard},
    time::Instant,
};

use http::HeaderMap;

use super::{
    load_report::{self, Unreadable},
    load_weight::{LoadRules, LoadWeight, NoWeight, WeightPeriods},
};
use crate::util::lock::lock;

/// Reports come in the tasks of calls, and the balancer reads them. Behind a lock, so that a
/// weight is never seen with the time of another one. `None` without rules: then no report is
/// looked at, and no call takes the lock.
#[derive(Debug, Default)]
pub(super) struct BackendLoad(Mutex<Option<Box<State>>>);

#[derive(Debug)]
struct State {
    rules: Arc<LoadRules>,
    weight: LoadWeight,
    /// A report that could not be read has been told.
    has_told: bool,
}

impl BackendLoad {
    /// Without rules, what is known is forgotten.
    pub(super) fn set_rules(&self, rules: Option<Arc<LoadRules>>) {
        let mut state = self.lock();
        match (&mut *state, rules) {
            (Some(state), Some(rules)) => state.rules = rules,
            (None, Some(rules)) => {
                *state = Some(Box::new(State {
                    rules,
                    weight: LoadWeight::default(),
                    has_told: false,
                }));
            }
            (_, None) => *state = None,
        }
    }

    /// Takes the report in the last frame of a response, if there is one.
    ///
    /// # Errors
    ///
    /// It cannot be read, for the first time.
    pub(super) fn record(&self, now: Instant, last: &HeaderMap) -> Result<(), Unreadable> {
        let rules = self.lock().as_ref().map(|state| Arc::clone(&state.rules));
        let Some(rules) = rules else { return Ok(()) };
        // A peer says how long this takes, so it is not done behind the lock.
        let report = load_report::of_last(last);
        let weight = report.map(|report| report.and_then(|report| rules.weigh(&report)));
        let mut state = self.lock();
        let Some(state) = &mut *state else {
            return Ok(());
        };
        match weight {
            Ok(Some(weight)) => state.weight.on_report(now, weight),
            Ok(None) => {}
            Err(why) => {
                if !mem::replace(&mut state.has_told, true) {
                    return Err(why);
                }
            }
        }
        Ok(())
    }

    /// The backend was not READY, and is now.
    pub(super) fn on_ready(&self) {
        if let Some(state) = &mut *self.lock() {
            state.weight.on_ready();
        }
    }

    /// The weight that calls go by now.
    pub(super) fn weight_at(&self, now: Instant, periods: WeightPeriods) -> Result<f64, NoWeight> {
        let mut state = self.lock();
        let state = state.as_mut().ok_or(NoWeight::NotYetUsable)?;
        state.weight.at(now, periods)
    }

    fn lock(&self) -> MutexGuard<'_, Option<Box<State>>> {
        lock(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use http::HeaderValue;

    use super::*;

    const AT_ONCE: WeightPeriods = WeightPeriods {
        blackout: Duration::ZERO,
        expiration: Duration::from_secs(60),
    };

    fn rules() -> Option<Arc<LoadRules>> {
        Some(Arc::new(LoadRules::new(1.0, [].into_iter())))
    }

    fn trailers(value: &'static str) -> HeaderMap {
        HeaderMap::from_iter([(
            load_report::LOAD.parse().expect("a name"),
            HeaderValue::from_static(value),
        )])
    }

    /// 10 requests per second, and half of the CPU in use.
    fn report() -> HeaderMap {
        trailers("CQAAAAAAAOA/MQAAAAAAACRA")
    }

    // W26
    #[test]
    fn a_report_that_cannot_be_read_changes_nothing_and_is_told_once() {
        let now = Instant::now();
        let load = BackendLoad::default();
        load.set_rules(rules());
        assert_eq!(load.record(now, &report()), Ok(()));
        assert_eq!(load.weight_at(now, AT_ONCE), Ok(20.0));
        let garbage = load.record(now, &trailers("!"));
        assert_eq!(garbage, Err(Unreadable::NotBase64));
        assert_eq!(load.record(now, &trailers("!")), Ok(()), "it was told");
        assert_eq!(load.record(now, &HeaderMap::new()), Ok(()));
        assert_eq!(load.weight_at(now, AT_ONCE), Ok(20.0));
    }

    #[test]
    fn without_rules_nothing_is_known() {
        let now = Instant::now();
        let load = BackendLoad::default();
        assert_eq!(load.record(now, &trailers("!")), Ok(()), "it is not read");
        assert_eq!(load.record(now, &report()), Ok(()));
        assert_eq!(load.weight_at(now, AT_ONCE), Err(NoWeight::NotYetUsable));
        load.set_rules(rules());
        load.record(now, &report()).expect("a report");
        load.set_rules(rules());
        assert_eq!(
            load.weight_at(now, AT_ONCE),
            Ok(20.0),
            "other rules keep it"
        );
        load.set_rules(None);
        load.set_rules(rules());
        assert_eq!(load.weight_at(now, AT_ONCE), Err(NoWeight::NotYetUsable));
    }
}
