//! The metrics of a channel's backends: how they are, since when, and for how long they are out.

use std::{collections::HashMap, sync::Arc, time::Instant};

use super::{
    instruments as all, names,
    outages::OutageClock,
    recorder::{Observation, Recorder},
};
use crate::connectivity::ConnectivityState;

/// The record of a channel and its backends.
pub(crate) struct HealthMeter {
    recorder: Arc<Recorder>,
    tells_backends: bool,
    backends: HashMap<u64, Known>,
    /// By backend, if these are told apart, and by cause.
    outages: HashMap<(Arc<str>, &'static str), Clock>,
    /// The state in which the channel is not READY, and since when.
    not_ready: Option<(ConnectivityState, Instant)>,
    channel: HashMap<&'static str, Clock>,
}

/// A backend, as far as it matters to metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct BackendView {
    pub(crate) state: ConnectivityState,
    pub(crate) health: &'static str,
    /// `connect`, `disconnected`, `health`, `ejected` or `silent`, if it is out.
    pub(crate) cause: &'static str,
}

struct Known {
    label: Arc<str>,
    view: BackendView,
    /// Since when it is to be READY, until it was for the first time.
    wanted_since: Option<Instant>,
    outage: Option<Outage>,
}

struct Outage {
    since: Instant,
    cause: &'static str,
}

struct Clock {
    outages: Arc<OutageClock>,
    _observed: Observation,
}

impl HealthMeter {
    pub(crate) fn new(recorder: &Arc<Recorder>) -> Self {
        Self {
            tells_backends: recorder.has_label(names::BACKEND),
            recorder: Arc::clone(recorder),
            backends: HashMap::new(),
            outages: HashMap::new(),
            not_ready: None,
            channel: HashMap::new(),
        }
    }

    /// The backend is so now. It may be new.
    pub(crate) fn on_backend(
        &mut self,
        now: Instant,
        id: u64,
        label: &Arc<str>,
        view: BackendView,
    ) {
        let Some(known) = self.backends.get(&id) else {
            self.count(label, view, 1);
            let is_idle = view.state == ConnectivityState::Idle;
            let known = Known {
                label: Arc::clone(label),
                view,
                wanted_since: (!is_idle).then_some(now),
                outage: None,
            };
            self.backends.insert(id, known);
            return self.follow_state(now, id);
        };
        let before = known.view;
        if (before.state, before.health) == (view.state, view.health) {
            return;
        }
        self.count(label, before, -1);
        self.count(label, view, 1);
        if before.state != view.state {
            let labels = [
                (names::FROM, before.state.label()),
                (names::TO, view.state.label()),
                (names::BACKEND, label),
            ];
            self.recorder.add(&all::BACKEND_TRANSITIONS, &labels);
        }
        if before.health != view.health {
            let labels = [
                (names::FROM, before.health),
                (names::TO, view.health),
                (names::BACKEND, label),
            ];
            self.recorder.add(&all::HEALTH_TRANSITIONS, &labels);
        }
        if let Some(known) = self.backends.get_mut(&id) {
            known.view = view;
            if before.state == ConnectivityState::Idle {
                known.wanted_since = Some(now);
            }
        }
        if before.state != view.state {
            let was_ready = before.state == ConnectivityState::Ready;
            if was_ready && view.state != ConnectivityState::Idle {
                self.begin_outage(now, id);
            }
            self.follow_state(now, id);
        }
    }

    /// The backends but for these are gone.
    pub(crate) fn retain(&mut self, now: Instant, is_there: impl Fn(u64) -> bool) {
        let gone = self.backends.keys().filter(|id| !is_there(**id));
        for id in gone.copied().collect::<Vec<_>>() {
            self.end_outage(now, id, "removed");
            if let Some(Known { label, view, .. }) = self.backends.remove(&id) {
                self.count(&label, view, -1);
                let has_label = |known: &Known| known.label == label;
                if self.tells_backends && !self.backends.values().any(has_label) {
                    self.outages.retain(|(backend, _), _| *backend != label);
                }
            }
        }
    }

    /// The channel is in this state now.
    pub(crate) fn on_channel(&mut self, now: Instant, state: ConnectivityState) {
        if self.not_ready.is_some_and(|(before, _)| before == state) {
            return;
        }
        if let Some((before, since)) = self.not_ready.take() {
            self.channel_clock(before).end(since, now);
        }
        let is_out = match state {
            ConnectivityState::Connecting | ConnectivityState::TransientFailure => true,
            ConnectivityState::Ready | ConnectivityState::Idle | ConnectivityState::Shutdown => {
                false
            }
        };
        if is_out {
            self.not_ready = Some((state, now));
            self.channel_clock(state).begin(now);
        }
    }

    fn follow_state(&mut self, now: Instant, id: u64) {
        let Some(known) = self.backends.get_mut(&id) else {
            return;
        };
        match known.view.state {
            ConnectivityState::Ready => {
                if let Some(since) = known.wanted_since.take() {
                    let waited = now.saturating_duration_since(since).as_secs_f64();
                    let labels = [(names::BACKEND, &*known.label)];
                    self.recorder.record(&all::TIME_TO_READY, &labels, waited);
                }
                self.end_outage(now, id, "ready");
            }
            // Nothing wants it.
            ConnectivityState::Idle | ConnectivityState::Shutdown => {
                known.wanted_since = None;
                self.end_outage(now, id, "idle");
            }
            // It has failed before it was READY.
            ConnectivityState::TransientFailure => self.begin_outage(now, id),
            ConnectivityState::Connecting => {}
        }
    }

    fn begin_outage(&mut self, now: Instant, id: u64) {
        let Some(known) = self.backends.get_mut(&id) else {
            return;
        };
        if known.outage.is_none() {
            let cause = known.view.cause;
            known.outage = Some(Outage { since: now, cause });
            let label = Arc::clone(&known.label);
            self.backend_clock(&label, cause).begin(now);
        }
    }

    fn end_outage(&mut self, now: Instant, id: u64, ended: &'static str) {
        let Some(known) = self.backends.get_mut(&id) else {
            return;
        };
        let Some(Outage { since, cause }) = known.outage.take() else {
            return;
        };
        let label = Arc::clone(&known.label);
        self.backend_clock(&label, cause).end(since, now);
        let lasted = now.saturating_duration_since(since).as_secs_f64();
        let labels = [
            (names::CAUSE, cause),
            (names::ENDED, ended),
            (names::BACKEND, &*label),
        ];
        self.recorder.record(&all::OUTAGE_DURATION, &labels, lasted);
    }

    fn count(&self, label: &str, view: BackendView, by: i64) {
        let labels = [
            (names::STATE, view.state.label()),
            (names::HEALTH, view.health),
            (names::BACKEND, label),
        ];
        self.recorder.shift(&all::BACKENDS, &labels, by);
    }

    fn backend_clock(&mut self, label: &Arc<str>, cause: &'static str) -> &OutageClock {
        let backend = match self.tells_backends {
            true => Arc::clone(label),
            false => "".into(),
        };
        let recorder = &self.recorder;
        let clock = self.outages.entry((backend, cause));
        let clock = clock.or_insert_with_key(|(backend, cause)| {
            let labels = [(names::CAUSE, *cause), (names::BACKEND, &**backend)];
            Clock::new(|outages| recorder.observe(&all::BACKEND_NOT_READY, &labels, outages))
        });
        &clock.outages
    }

    fn channel_clock(&mut self, state: ConnectivityState) -> &OutageClock {
        let recorder = &self.recorder;
        let clock = self.channel.entry(state.label()).or_insert_with(|| {
            let labels = [(names::STATE, state.label())];
            Clock::new(|outages| recorder.observe(&all::CHANNEL_NOT_READY, &labels, outages))
        });
        &clock.outages
    }
}

impl Clock {
    fn new(observe: impl FnOnce(Arc<OutageClock>) -> Observation) -> Self {
        let outages = OutageClock::new();
        let observed = observe(Arc::clone(&outages));
        Self {
            outages,
            _observed: observed,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{sync::Arc, time::Instant};

    use super::{BackendView, HealthMeter, Recorder};
    use crate::{
        connectivity::ConnectivityState::{Idle, Ready, TransientFailure},
        metrics::{Metrics, Prometheus},
    };

    const MAX: usize = 100;

    /// The most series of an instrument after so many backends came, flipped and went.
    fn most_series(backends: u64, metrics: impl FnOnce(Metrics) -> Metrics) -> usize {
        let meter = Prometheus::new().max_series(MAX);
        let recorder = Recorder::new(metrics(Metrics::new(meter.clone())), "dns:///shop");
        let mut health = HealthMeter::new(&recorder);
        let now = Instant::now();
        for id in 0..backends {
            let label: Arc<str> = format!("10.0.0.{id}:50051").into();
            for state in [Ready, TransientFailure, Ready, TransientFailure, Idle] {
                let (health_of, cause) = ("serving", "health");
                let view = BackendView {
                    state,
                    health: health_of,
                    cause,
                };
                health.on_backend(now, id, &label, view);
            }
            health.retain(now, |other| other > id);
        }
        let text = meter.render();
        let mut series: Vec<_> = text
            .lines()
            .filter(|line| !line.contains("_bucket") && !line.starts_with('#'))
            .filter_map(|line| line.split('{').next())
            .collect();
        let all = series.clone();
        series.dedup();
        let most = series
            .iter()
            .map(|name| all.iter().filter(|other| other == &name).count());
        most.max().unwrap_or_default()
    }

    // D415
    #[test]
    fn a_churning_source_has_a_bound_of_series() {
        let all = most_series(1_000, |metrics| metrics.optional_labels(["backend"]));
        assert_eq!(all, MAX + 1, "and 1 for all others");
        let few = most_series(1_000, |metrics| metrics);
        assert!(few <= 4, "{few} without the label");
    }
}
