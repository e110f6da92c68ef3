//! The weight of a backend by the load that it reports (gRFC A58).
//!
//! ```text
//!   report ──► weight ──► not usable ── blackout over ──► usable ── no report ──► expired
//!                             ▲                                     for a while      │
//!                             └──────────── a report ◄────────────────────────────────┘
//! ```
//!
//! The caches of a backend that has become READY are empty, so its first reports say little of the
//! load that it will bear. It has a weight once it has reported for a while: the blackout.

use std::time::{Duration, Instant};

use crate::pb::orca::OrcaLoadReport;

/// How a report becomes a weight.
#[derive(Debug, PartialEq)]
pub(crate) struct LoadRules {
    error_penalty: f64,
    metrics: Vec<Metric>,
}

/// When a weight may be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct WeightPeriods {
    /// After the first report. 0 is none.
    pub(crate) blackout: Duration,
    /// After the last report.
    pub(crate) expiration: Duration,
}

/// Why a backend has no weight that may be used (gRFC A78).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NoWeight {
    /// It has reported none, or its blackout lasts.
    NotYetUsable,
    /// The last report is too old.
    Stale,
}

/// The reports of a backend so far.
#[derive(Debug, Default)]
pub(super) struct LoadWeight {
    weight: f64,
    last_updated: Option<Instant>,
    /// The first report of those that go on until now.
    non_empty_since: Option<Instant>,
}

/// One of the numbers of a report that says how much of a backend is in use (gRFC A114).
#[derive(Debug, PartialEq, Eq)]
enum Metric {
    Application,
    Cpu,
    Memory,
    Named(String),
    Utilization(String),
}

impl LoadRules {
    /// The utilization is the greatest of these metrics, as far as a report has them. A name of
    /// another form means none.
    pub(crate) fn new<'a>(error_penalty: f64, metrics: impl Iterator<Item = &'a str>) -> Self {
        Self {
            error_penalty,
            metrics: metrics.filter_map(Metric::of_name).collect(),
        }
    }

    /// Requests per second for each part of the backend that they use. `None` if the report says
    /// nothing of that: above all where there have been no requests.
    pub(super) fn weigh(&self, report: &OrcaLoadReport) -> Option<f64> {
        let rate = positive(report.rps_fractional)?;
        let utilization = self.utilization(report)?;
        let errors = positive(report.eps).unwrap_or(0.0);
        let penalty = errors / rate * self.error_penalty;
        positive(rate / (utilization + penalty)).filter(|weight| weight.is_finite())
    }

    fn utilization(&self, report: &OrcaLoadReport) -> Option<f64> {
        let named = self.metrics.iter().filter_map(|metric| metric.of(report));
        let named = named.reduce(f64::max);
        let own = || positive(report.application_utilization);
        named.or_else(own).or(positive(report.cpu_utilization))
    }
}

impl Metric {
    fn of_name(name: &str) -> Option<Self> {
        Some(match name.split_once('.') {
            Some(("named_metrics", name)) => Self::Named(name.to_owned()),
            Some(("utilization", name)) => Self::Utilization(name.to_owned()),
            Some(_) => return None,
            None => match name {
                "application_utilization" => Self::Application,
                "cpu_utilization" => Self::Cpu,
                "mem_utilization" => Self::Memory,
                _ => return None,
            },
        })
    }

    fn of(&self, report: &OrcaLoadReport) -> Option<f64> {
        positive(match self {
            Self::Application => report.application_utilization,
            Self::Cpu => report.cpu_utilization,
            Self::Memory => report.mem_utilization,
            Self::Named(name) => *report.named_metrics.get(name)?,
            Self::Utilization(name) => *report.utilization.get(name)?,
        })
    }
}

/// Nothing for NaN, too.
fn positive(number: f64) -> Option<f64> {
    (number > 0.0).then_some(number)
}

impl LoadWeight {
    /// A report with this weight has come.
    pub(super) fn on_report(&mut self, now: Instant, weight: f64) {
        self.weight = weight;
        self.last_updated = Some(now);
        self.non_empty_since.get_or_insert(now);
    }

    /// Its backend was not READY, and is now. The weight stays, and a blackout begins with the
    /// next report.
    pub(super) fn on_ready(&mut self) {
        self.non_empty_since = None;
    }

    /// The weight that it has now.
    pub(super) fn at(&mut self, now: Instant, periods: WeightPeriods) -> Result<f64, NoWeight> {
        let last_updated = self.last_updated.ok_or(NoWeight::NotYetUsable)?;
        if now.saturating_duration_since(last_updated) >= periods.expiration {
            self.non_empty_since = None;
            return Err(NoWeight::Stale);
        }
        let is_usable = periods.blackout.is_zero()
            || self
                .non_empty_since
                .is_some_and(|since| now.saturating_duration_since(since) >= periods.blackout);
        is_usable
            .then_some(self.weight)
            .ok_or(NoWeight::NotYetUsable)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn rules(error_penalty: f64, metrics: &[&str]) -> LoadRules {
        LoadRules::new(error_penalty, metrics.iter().copied())
    }

    fn report(rate: f64, application: f64) -> OrcaLoadReport {
        OrcaLoadReport {
            rps_fractional: rate,
            application_utilization: application,
            ..OrcaLoadReport::default()
        }
    }

    fn with_errors(rate: f64, application: f64, errors: f64) -> OrcaLoadReport {
        OrcaLoadReport {
            eps: errors,
            ..report(rate, application)
        }
    }

    #[track_caller]
    fn weighs(rules: &LoadRules, report: &OrcaLoadReport, expected: f64) {
        let weight = rules.weigh(report).expect("a report with a weight");
        assert!((weight - expected).abs() < expected * 1e-9, "{weight}");
    }

    // W03, W14
    #[test]
    fn a_weight_is_the_rate_for_each_part_in_use() {
        let rules = rules(1.0, &[]);
        weighs(&rules, &report(10.0, 1.0), 10.0);
        weighs(&rules, &report(10.0, 0.1), 100.0);
        let both = OrcaLoadReport {
            cpu_utilization: 2.0,
            ..report(10.0, 0.1)
        };
        weighs(&rules, &both, 100.0);
        for application_utilization in [0.0, -1.0, f64::NAN] {
            let cpu = OrcaLoadReport {
                application_utilization,
                ..both.clone()
            };
            weighs(&rules, &cpu, 5.0);
        }
    }

    // W07, W08
    #[test]
    fn errors_count_as_utilization() {
        let (fine, failing) = (with_errors(10.0, 1.0, 0.0), with_errors(10.0, 0.1, 10.0));
        let lenient = rules(0.0, &[]);
        weighs(&lenient, &fine, 10.0);
        weighs(&lenient, &failing, 100.0);
        let strict = rules(0.9, &[]);
        weighs(&strict, &fine, 10.0);
        weighs(&strict, &failing, 10.0);
        for (errors, weight) in [(50.0, 1000.0 / 6.0), (20.0, 1000.0 / 3.0), (10.0, 500.0)] {
            weighs(&rules(1.0, &[]), &with_errors(100.0, 0.1, errors), weight);
        }
        weighs(&strict, &with_errors(10.0, 1.0, -5.0), 10.0);
        weighs(&strict, &with_errors(10.0, 1.0, f64::NAN), 10.0);
    }

    // W13
    #[test]
    fn a_report_without_a_rate_or_a_utilization_has_no_weight() {
        let rules = rules(1.0, &[]);
        let numbers = [0.0, -1.0, f64::NAN];
        for number in numbers {
            assert_eq!(rules.weigh(&report(number, 0.5)), None);
            assert_eq!(rules.weigh(&report(10.0, number)), None);
        }
        assert_eq!(rules.weigh(&OrcaLoadReport::default()), None);
    }

    // D330
    #[test]
    fn a_weight_that_is_not_a_number_is_none() {
        let rules = rules(1.0, &[]);
        let reports = [
            report(f64::INFINITY, 0.5),
            report(10.0, f64::INFINITY),
            report(f64::MAX, f64::MIN_POSITIVE),
            with_errors(10.0, 0.5, f64::INFINITY),
        ];
        for report in reports {
            assert_eq!(rules.weigh(&report), None, "{report:?}");
        }
    }

    // W33
    #[test]
    fn the_greatest_of_the_named_metrics_is_the_utilization() {
        let full = OrcaLoadReport {
            cpu_utilization: 0.2,
            mem_utilization: 0.4,
            utilization: [("disk", 0.5), ("a.b", 0.8), ("odd", f64::NAN)]
                .map(named)
                .into(),
            named_metrics: [("queue", 2.0), ("idle", 0.0), ("odd", -1.0)]
                .map(named)
                .into(),
            ..report(10.0, 0.1)
        };
        let cases: &[(&[&str], f64)] = &[
            (&["cpu_utilization"], 0.2),
            (&["mem_utilization"], 0.4),
            (&["application_utilization"], 0.1),
            (&["utilization.disk"], 0.5),
            (&["utilization.a.b"], 0.8),
            (&["named_metrics.queue"], 2.0),
            (
                &["cpu_utilization", "named_metrics.queue", "utilization.disk"],
                2.0,
            ),
            (
                &["named_metrics.idle", "utilization.odd", "cpu_utilization"],
                0.2,
            ),
            // None is valid.
            (
                &["named_metrics.idle", "named_metrics.odd", "utilization.odd"],
                0.1,
            ),
            (
                &[
                    "disk",
                    "utilization",
                    "metrics.disk",
                    "",
                    "utilization.none",
                ],
                0.1,
            ),
        ];
        for (names, utilization) in cases {
            weighs(&rules(1.0, names), &full, 10.0 / utilization);
        }
        let cpu_alone = OrcaLoadReport {
            application_utilization: 0.0,
            ..full
        };
        weighs(&rules(1.0, &["named_metrics.idle"]), &cpu_alone, 50.0);
    }

    fn named((name, number): (&str, f64)) -> (String, f64) {
        (name.to_owned(), number)
    }

    /// A backend, and the seconds of its life.
    struct Life {
        start: Instant,
        weight: LoadWeight,
        periods: WeightPeriods,
    }

    impl Life {
        fn new(blackout: u32, expiration: u32) -> Self {
            Self {
                start: Instant::now(),
                weight: LoadWeight::default(),
                periods: WeightPeriods {
                    blackout: SECOND * blackout,
                    expiration: SECOND * expiration,
                },
            }
        }

        fn reports(&mut self, second: u32, weight: f64) {
            self.weight.on_report(self.start + SECOND * second, weight);
        }

        #[track_caller]
        fn has(&mut self, second: u32, weight: f64) {
            let now = self.start + SECOND * second;
            let at = self.weight.at(now, self.periods).unwrap_or(0.0);
            assert_eq!(at, weight, "at {second} s");
        }
    }

    // W10
    #[test]
    fn a_weight_is_used_after_the_blackout() {
        let mut life = Life::new(10, 180);
        life.has(0, 0.0);
        life.reports(5, 7.0);
        life.has(5, 0.0);
        life.reports(14, 8.0);
        life.has(14, 0.0);
        life.has(15, 8.0);
        let mut without = Life::new(0, 180);
        without.reports(5, 7.0);
        without.has(5, 7.0);
    }

    // W11
    #[test]
    fn a_weight_expires_and_the_next_report_begins_a_blackout() {
        let mut life = Life::new(10, 60);
        life.reports(0, 7.0);
        life.has(10, 7.0);
        life.has(59, 7.0);
        life.has(60, 0.0);
        life.reports(70, 8.0);
        life.has(70, 0.0);
        life.has(79, 0.0);
        life.has(80, 8.0);
    }

    // W12
    #[test]
    fn a_backend_that_is_ready_again_has_a_blackout() {
        let mut life = Life::new(10, 180);
        life.reports(0, 7.0);
        life.has(10, 7.0);
        life.weight.on_ready();
        life.has(20, 0.0);
        life.reports(30, 8.0);
        life.has(39, 0.0);
        life.has(40, 8.0);
    }

    /// As in gRFC A58, and not as in grpc-go: only the blackout begins anew.
    // W12
    #[test]
    fn without_a_blackout_the_weight_outlives_a_reconnect() {
        let mut life = Life::new(0, 180);
        life.reports(0, 7.0);
        life.weight.on_ready();
        life.has(20, 7.0);
        life.has(180, 0.0);
    }
}
