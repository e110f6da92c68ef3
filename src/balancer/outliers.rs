//! Which backends do worse than the others (gRFC A50): the sweep at the end of each interval.
//!
//! ```text
//!             an outlier, and it may be ejected
//!   (in use) ───────────────────────────────────► Ejected { until }
//!       ▲                                            │
//!       └──── the first sweep after `until` ─────────┘
//! ```
//!
//! gRFC A50 swaps 2 buckets of counts at each sweep. Here the counts of a backend only grow, and
//! an interval has the difference between 2 sweeps. So a call writes a number that nothing resets,
//! and a config that changes in an interval loses no count.
//!
//! gRFC A50 leaves 3 questions to the clients. An ejected backend is not ejected once more.
//! At least 1 backend may be ejected, unless the maximum is 0 %. The maximum is looked at before
//! an ejection, so that 1 ejection may go beyond it.

use std::{
    collections::BTreeMap,
    fmt,
    sync::Arc,
    time::{Duration, Instant},
};

use crate::{
    routing::{BackendId, DetectionMethod, Ejection, Outlier},
    service_config::{FailurePercentageEjection, OutlierDetection, SuccessRateEjection},
    transport::Outcomes,
    util::instant::after,
};

/// The shortest interval. A sweep looks at each backend, and none may follow the other at once.
const MIN_INTERVAL: Duration = Duration::from_millis(10);

/// Outlier detection over all backends of a channel.
#[derive(Debug)]
pub(super) struct Outliers {
    config: OutlierDetection,
    interval_began: Instant,
    /// Draws whether an outlier is ejected.
    rng: fastrand::Rng,
    /// The backends that run.
    hosts: BTreeMap<BackendId, Host>,
}

#[derive(Debug, Default)]
struct Host {
    /// The counts when the interval began, or when the backend did.
    before: Outcomes,
    /// See [`Ejection::multiplier`].
    multiplier: u32,
    ejection: Option<Arc<Ejection>>,
}

/// The result of a sweep.
#[must_use]
#[derive(Debug, Default, PartialEq)]
pub(super) struct Sweep {
    /// Backends that are ejected from now on, or no longer.
    pub(super) changed: Vec<(BackendId, Option<Arc<Ejection>>)>,
    /// Outliers that are not ejected.
    pub(super) spared: Vec<Spared>,
}

/// An outlier that is not ejected.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Spared {
    pub(crate) id: BackendId,
    pub(crate) outlier: Outlier,
    pub(crate) why: WhySpared,
}

/// Why an outlier is not ejected, in the words of gRFC A91.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum WhySpared {
    EnforcementPercentage,
    MaxEjectionOverflow,
}

/// The attempts of one backend in one interval.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Tally {
    succeeded: u64,
    failed: u64,
}

/// As the label `unenforced_reason` of gRFC A91.
impl fmt::Display for WhySpared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::EnforcementPercentage => "enforcement_percentage",
            Self::MaxEjectionOverflow => "max_ejection_overflow",
        })
    }
}

impl Outliers {
    /// Counts from now on. `counts` has each backend that runs, with what is counted of it by now.
    pub(super) fn new(
        now: Instant,
        config: OutlierDetection,
        seed: u64,
        counts: impl Iterator<Item = (BackendId, Outcomes)>,
    ) -> Self {
        let host = |(id, before)| {
            let host = Host {
                before,
                ..Host::default()
            };
            (id, host)
        };
        Self {
            config,
            interval_began: now,
            rng: fastrand::Rng::with_seed(seed),
            hosts: counts.map(host).collect(),
        }
    }

    /// Another config. Counts, ejections and the begin of the interval stay. The ejections that
    /// last longer by it, or shorter.
    pub(super) fn on_config(&mut self, config: OutlierDetection) -> Sweep {
        self.config = config;
        let mut sweep = Sweep::default();
        for (id, host) in &mut self.hosts {
            let Some(ejection) = &mut host.ejection else {
                continue;
            };
            let until = after(ejection.since, ejection_time(&self.config, host.multiplier));
            if until != ejection.until {
                Arc::make_mut(ejection).until = until;
                sweep.changed.push((*id, Some(Arc::clone(ejection))));
            }
        }
        sweep
    }

    /// When [`sweep`](Self::sweep) has something to do. No time, if the interval never ends.
    pub(super) fn deadline(&self) -> Option<Instant> {
        let interval = self.config.interval.max(MIN_INTERVAL);
        self.interval_began.checked_add(interval)
    }

    /// A backend runs from now on, or it is at another address: what was found of it before does
    /// not count. `before` is what is counted of it by now.
    pub(super) fn begin(&mut self, id: BackendId, before: Outcomes) {
        let host = Host {
            before,
            ..Host::default()
        };
        self.hosts.insert(id, host);
    }

    /// A backend does not run any more.
    pub(super) fn forget(&mut self, id: BackendId) {
        self.hosts.remove(&id);
    }

    /// The first interval begins, and no backend runs.
    pub(super) fn restart(&mut self, now: Instant) {
        self.interval_began = now;
        self.hosts.clear();
    }

    /// The end of an interval, if it is due. `counts` has each backend that runs, with what is
    /// counted of it by now.
    pub(super) fn sweep(
        &mut self,
        now: Instant,
        counts: impl Iterator<Item = (BackendId, Outcomes)>,
    ) -> Sweep {
        if self.deadline().is_none_or(|deadline| deadline > now) {
            return Sweep::default();
        }
        self.interval_began = now;
        let tallies = self.end_interval(counts);
        let mut sweep = Sweep::default();
        if let Some(rule) = &self.config.success_rate_ejection {
            let outliers = by_success_rate(rule, &tallies);
            self.eject(now, outliers, rule.enforcement_percentage, &mut sweep);
        }
        if let Some(rule) = &self.config.failure_percentage_ejection {
            let outliers = by_failure_percentage(rule, &tallies);
            self.eject(now, outliers, rule.enforcement_percentage, &mut sweep);
        }
        self.take_back(now, &mut sweep);
        sweep
    }

    /// The tally of each backend.
    fn end_interval(
        &mut self,
        counts: impl Iterator<Item = (BackendId, Outcomes)>,
    ) -> Vec<(BackendId, Tally)> {
        let mut tallies = Vec::with_capacity(self.hosts.len());
        for (id, counts) in counts {
            let Some(host) = self.hosts.get_mut(&id) else {
                debug_assert!(false, "each backend that runs has begun");
                continue;
            };
            let before = std::mem::replace(&mut host.before, counts);
            let tally = Tally::between(before, counts, self.config.server_errors_only);
            tallies.push((id, tally));
        }
        tallies
    }

    fn eject(
        &mut self,
        now: Instant,
        outliers: Vec<(BackendId, Outlier)>,
        enforcement_percentage: u32,
        sweep: &mut Sweep,
    ) {
        let all = self.hosts.len();
        let hosts = self.hosts.values();
        let mut ejected = hosts.filter(|host| host.ejection.is_some()).count();
        for (id, outlier) in outliers {
            let has_room = has_room(self.config.max_ejection_percent, ejected, all);
            let Some(host) = self.hosts.get_mut(&id) else {
                continue;
            };
            if host.ejection.is_some() {
                continue;
            }
            let why = match has_room {
                false => Some(WhySpared::MaxEjectionOverflow),
                true if self.rng.u32(0..100) >= enforcement_percentage => {
                    Some(WhySpared::EnforcementPercentage)
                }
                true => None,
            };
            if let Some(why) = why {
                sweep.spared.push(Spared { id, outlier, why });
                continue;
            }
            host.multiplier = host.multiplier.saturating_add(1);
            let ejection = Arc::new(Ejection {
                since: now,
                until: after(now, ejection_time(&self.config, host.multiplier)),
                multiplier: host.multiplier,
                outlier,
            });
            host.ejection = Some(Arc::clone(&ejection));
            ejected += 1;
            sweep.changed.push((id, Some(ejection)));
        }
    }

    fn take_back(&mut self, now: Instant, sweep: &mut Sweep) {
        for (id, host) in &mut self.hosts {
            match &host.ejection {
                None => host.multiplier = host.multiplier.saturating_sub(1),
                Some(ejection) if now > ejection.until => {
                    host.ejection = None;
                    sweep.changed.push((*id, None));
                }
                Some(_) => {}
            }
        }
    }
}

impl Tally {
    fn between(before: Outcomes, now: Outcomes, server_errors_only: bool) -> Self {
        let succeeded = now.succeeded.saturating_sub(before.succeeded);
        let failed = now.failed.saturating_sub(before.failed);
        let server_failed = now.server_failed.saturating_sub(before.server_failed);
        match server_errors_only {
            false => Self { succeeded, failed },
            true => Self {
                succeeded: succeeded + failed.saturating_sub(server_failed),
                failed: server_failed,
            },
        }
    }

    fn volume(self) -> u64 {
        self.succeeded + self.failed
    }

    /// From 0 to 1.
    fn success_rate(self) -> f64 {
        self.succeeded as f64 / self.volume() as f64
    }
}

/// Whether one more backend may be ejected.
fn has_room(max_percent: u32, ejected: usize, all: usize) -> bool {
    let (ejected, all, max) = (ejected as u64, all as u64, u64::from(max_percent));
    max > 0 && (ejected == 0 || ejected * 100 < max * all)
}

/// How long an ejection with this multiplier lasts.
fn ejection_time(config: &OutlierDetection, multiplier: u32) -> Duration {
    let base = config.base_ejection_time;
    let max = config.max_ejection_time.max(base);
    base.saturating_mul(multiplier).min(max)
}

/// The backends with enough attempts, if they are enough.
fn candidates(
    tallies: &[(BackendId, Tally)],
    request_volume: u32,
    minimum_hosts: u32,
) -> Vec<(BackendId, Tally)> {
    // Without an attempt there is no rate.
    let least = u64::from(request_volume).max(1);
    let enough = tallies.iter().filter(|(_, tally)| tally.volume() >= least);
    let candidates: Vec<_> = enough.copied().collect();
    match candidates.len() >= minimum_hosts as usize {
        true => candidates,
        false => Vec::new(),
    }
}

/// The backends whose success rate is too far below the mean.
fn by_success_rate(
    rule: &SuccessRateEjection,
    tallies: &[(BackendId, Tally)],
) -> Vec<(BackendId, Outlier)> {
    let candidates = candidates(tallies, rule.request_volume, rule.minimum_hosts);
    let rates: Vec<_> = candidates
        .iter()
        .map(|(_, tally)| tally.success_rate())
        .collect();
    let (mean, deviation) = mean_and_deviation(&rates);
    let bound = mean - deviation * (f64::from(rule.stdev_factor) / 1000.0);
    let bound = (bound * 100.0).min(f64::from(rule.only_below_percentage));
    let outlier = |((id, tally), rate): (&(BackendId, Tally), &f64)| {
        let outlier = Outlier {
            method: DetectionMethod::SuccessRate,
            percentage: rate * 100.0,
            bound,
            volume: tally.volume(),
        };
        (outlier.percentage < bound).then_some((*id, outlier))
    };
    candidates.iter().zip(&rates).filter_map(outlier).collect()
}

/// The backends of whose attempts too many failed.
fn by_failure_percentage(
    rule: &FailurePercentageEjection,
    tallies: &[(BackendId, Tally)],
) -> Vec<(BackendId, Outlier)> {
    let candidates = candidates(tallies, rule.request_volume, rule.minimum_hosts);
    let outlier = |(id, tally): (BackendId, Tally)| {
        let is_above = tally.failed * 100 > u64::from(rule.threshold) * tally.volume();
        let outlier = Outlier {
            method: DetectionMethod::FailurePercentage,
            percentage: tally.failed as f64 * 100.0 / tally.volume() as f64,
            bound: f64::from(rule.threshold),
            volume: tally.volume(),
        };
        is_above.then_some((id, outlier))
    };
    candidates.into_iter().filter_map(outlier).collect()
}

/// The mean, and the standard deviation of the whole population.
fn mean_and_deviation(rates: &[f64]) -> (f64, f64) {
    let count = rates.len() as f64;
    let (least, most) = rates
        .iter()
        .fold((1.0, 0.0), |(least, most): (f64, f64), rate| {
            (least.min(*rate), most.max(*rate))
        });
    // A mean that is rounded must not be above rates that are all the same.
    let mean = (rates.iter().sum::<f64>() / count).max(least).min(most);
    let squares = rates.iter().map(|rate| (mean - rate).powi(2));
    (mean, (squares.sum::<f64>() / count).sqrt())
}

#[cfg(test)]
mod tests;
