//! The meter: which series there are.

use std::{
    any::Any,
    collections::BTreeMap,
    fmt,
    sync::{Arc, Mutex},
};

use super::{
    series::{Family, HistogramSeries, Series},
    text,
};
use crate::{
    metrics::{
        instrument::Instrument,
        meter::{Counter, Histogram, Label, Meter, Observed, UpDown},
    },
    util::lock::lock,
};

/// How many series an instrument has at most, as in OpenTelemetry's SDK.
const MAX_SERIES: usize = 2_000;

/// The label of the series that takes in what is beyond that.
const OVERFLOW: &str = "otel.metric.overflow";

/// A [`Meter`] whose numbers Prometheus scrapes. It needs no other crate.
///
/// [`render`](Self::render) makes the text. The meter is also a tower service for a server that the
/// application has. It answers each GET with the text, whatever the path is. In axum that is
/// `Router::new().route_service("/metrics", prometheus)`.
///
/// Clones are one meter. One meter may serve all channels of a program: their series differ by
/// the label `grpc_target`.
///
/// # Names
///
/// They are those that OpenTelemetry's exporter for Prometheus makes, so that one dashboard serves
/// both. Each character of a name or a label that is neither a letter nor a digit becomes `_`. A
/// unit `s` or `By` adds `_seconds` or `_bytes`, a unit in braces adds nothing, and a counter ends
/// in `_total`. `grpc.client.attempt.started` is `grpc_client_attempt_started_total`, and
/// `grpc.client.call.duration` is `grpc_client_call_duration_seconds`. The labels of the exporter's
/// own (`otel_scope_…`) are not there. A series appears with its first value.
///
/// # Costs
///
/// A counter and a histogram have 8 parts, which threads take in turn, so that they do not share
/// cache lines. A histogram of latencies takes 350 bytes for each thread that records, up to 8.
#[derive(Clone, Default)]
pub struct Prometheus(Arc<Mutex<Registry>>);

struct Registry {
    max_series: usize,
    families: BTreeMap<&'static str, Family>,
}

impl Default for Registry {
    fn default() -> Self {
        Self {
            max_series: MAX_SERIES,
            families: BTreeMap::new(),
        }
    }
}

impl Prometheus {
    /// A meter without series.
    pub fn new() -> Self {
        Self::default()
    }

    /// How many series an instrument has at most; 2,000 by default, as in OpenTelemetry's SDK.
    /// All further ones are 1 series with the only label `otel_metric_overflow="true"`.
    ///
    /// It bounds the memory of labels that have ever new values, such as `backend`. Series are
    /// not removed, so a meter that has overflown tells new values apart only after a restart.
    pub fn max_series(self, max: usize) -> Self {
        lock(&self.0).max_series = max;
        self
    }

    /// All numbers in the text format 0.0.4 of Prometheus, ordered by name and labels.
    ///
    /// Values that [`Observed`] sources have are read now.
    pub fn render(&self) -> String {
        let registry = lock(&self.0);
        let mut out = String::new();
        for family in registry.families.values() {
            text::write(&mut out, family);
        }
        out
    }

    fn with_series<T>(
        &self,
        instrument: &'static Instrument,
        labels: &[Label],
        make: impl FnOnce() -> Series,
        pick: impl FnOnce(&Series) -> Option<T>,
    ) -> T {
        let mut registry = lock(&self.0);
        let max = registry.max_series;
        let family = registry.families.entry(instrument.name());
        let family = family.or_insert_with(|| Family {
            instrument,
            series: BTreeMap::new(),
        });
        let mut labels = labels.to_vec();
        if family.series.len() >= max && !family.series.contains_key(&labels) {
            labels = vec![Label::new(OVERFLOW, "true")];
        }
        let series = family.series.entry(labels).or_insert_with(make);
        pick(series).expect("the series of an instrument are of its kind")
    }
}

impl Meter for Prometheus {
    fn counter(&self, instrument: &'static Instrument, labels: &[Label]) -> Arc<dyn Counter> {
        let make = || Series::Counter(Arc::default());
        self.with_series(instrument, labels, make, |series| match series {
            Series::Counter(series) => Some(Arc::clone(series)),
            _ => None,
        })
    }

    fn up_down(&self, instrument: &'static Instrument, labels: &[Label]) -> Arc<dyn UpDown> {
        let make = || Series::Level(Arc::default());
        self.with_series(instrument, labels, make, |series| match series {
            Series::Level(series) => Some(Arc::clone(series)),
            _ => None,
        })
    }

    fn histogram(&self, instrument: &'static Instrument, labels: &[Label]) -> Arc<dyn Histogram> {
        let make = || Series::Histogram(Arc::new(HistogramSeries::new(instrument.buckets())));
        self.with_series(instrument, labels, make, |series| match series {
            Series::Histogram(series) => Some(Arc::clone(series)),
            _ => None,
        })
    }

    fn observe(
        &self,
        instrument: &'static Instrument,
        labels: &[Label],
        source: Arc<dyn Observed>,
    ) -> Box<dyn Any + Send + Sync> {
        let make = || Series::Observed(Arc::default());
        let series = self.with_series(instrument, labels, make, |series| match series {
            Series::Observed(series) => Some(Arc::clone(series)),
            _ => None,
        });
        series.add(source)
    }
}

impl fmt::Debug for Prometheus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let registry = lock(&self.0);
        let series = registry.families.values().map(|family| family.series.len());
        f.debug_struct("Prometheus")
            .field("series", &series.sum::<usize>())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::Prometheus;
    use crate::metrics::{Instrument, InstrumentKind, Label, Meter};

    fn first_of(kind: InstrumentKind, unit: &str) -> &'static Instrument {
        let mut all = Instrument::all().iter();
        let found = all.find(|one| one.kind() == kind && one.unit() == unit);
        found.expect("there is one")
    }

    // D407
    #[test]
    fn what_is_beyond_the_maximum_is_one_series() {
        let meter = Prometheus::new().max_series(2);
        let counter = first_of(InstrumentKind::Counter, "{attempt}");
        let series = |value| meter.counter(counter, &[Label::new("grpc.method", value)]);
        for method in ["a", "b", "c", "d", "a"] {
            series(method).add(1);
        }
        let text = meter.render();
        let lines: Vec<_> = text.lines().skip(2).collect();
        let name = "grpc_client_attempt_started_total";
        let expected = [
            format!("{name}{{grpc_method=\"a\"}} 2"),
            format!("{name}{{grpc_method=\"b\"}} 1"),
            format!("{name}{{otel_metric_overflow=\"true\"}} 2"),
        ];
        assert_eq!(lines, expected);
    }

    // D406
    #[test]
    fn a_histogram_has_cumulative_buckets() {
        let meter = Prometheus::new();
        let sizes = first_of(InstrumentKind::Histogram, "By");
        let histogram = meter.histogram(sizes, &[]);
        assert_eq!(meter.render(), "", "it has no value");
        for size in [0.0, 1024.0, 1025.0, 1e12] {
            histogram.record(size);
        }
        let text = meter.render();
        let name = "grpc_client_attempt_sent_total_compressed_message_size_bytes";
        for line in [
            format!("# TYPE {name} histogram"),
            format!("{name}_bucket{{le=\"0\"}} 1"),
            format!("{name}_bucket{{le=\"1024\"}} 2"),
            format!("{name}_bucket{{le=\"4294967296\"}} 3"),
            format!("{name}_bucket{{le=\"+Inf\"}} 4"),
            format!("{name}_sum 1000000002049"),
            format!("{name}_count 4"),
        ] {
            assert!(text.lines().any(|other| other == line), "{line}:\n{text}");
        }
    }
}
