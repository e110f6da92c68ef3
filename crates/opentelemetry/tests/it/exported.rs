//! A meter provider whose exporter is in memory, and what came to it.

use std::collections::BTreeMap;

use opentelemetry_sdk::metrics::{
    InMemoryMetricExporter, PeriodicReader, SdkMeterProvider,
    data::{AggregatedMetrics, Metric, MetricData, ScopeMetrics},
};
use tonic_health_channel::{
    Channel, ChannelBuilder,
    metrics::{InstrumentKind, Metrics},
};
use tonic_health_channel_opentelemetry::OtelMeter;

use testing::within;

/// How a meter is made of a provider. Each test runs with each of them.
pub(crate) type Make = fn(&SdkMeterProvider) -> OtelMeter;

pub(crate) const MAKES: &[Make] = &[
    |provider| OtelMeter::new(provider),
    #[cfg(feature = "bound")]
    |provider| OtelMeter::bound(provider),
];

/// A provider, its meter, and its exporter.
pub(crate) struct Exported {
    exporter: InMemoryMetricExporter,
    provider: SdkMeterProvider,
    pub(crate) meter: OtelMeter,
}

/// A value of one series.
#[derive(Clone, Debug)]
pub(crate) struct Point {
    pub(crate) name: String,
    pub(crate) unit: String,
    pub(crate) description: String,
    pub(crate) kind: InstrumentKind,
    pub(crate) attributes: BTreeMap<String, String>,
    /// The sum.
    pub(crate) value: f64,
    /// How many values a histogram has.
    pub(crate) count: u64,
    pub(crate) bounds: Vec<f64>,
}

impl Exported {
    pub(crate) fn new(make: Make) -> Self {
        let exporter = InMemoryMetricExporter::default();
        let reader = PeriodicReader::builder(exporter.clone()).build();
        let provider = SdkMeterProvider::builder().with_reader(reader).build();
        Self {
            exporter,
            meter: make(&provider),
            provider,
        }
    }

    /// A channel with the name `shop` that is metered here.
    pub(crate) fn channel(
        &self,
        builder: ChannelBuilder,
        options: impl FnOnce(Metrics) -> Metrics,
    ) -> Channel {
        let metrics = options(Metrics::new(self.meter.clone()));
        let builder = builder.name("shop").metrics(metrics);
        builder.expect("known names").build()
    }

    /// Name and version of the meters, and all points, as of now.
    pub(crate) fn collect(&self) -> (Vec<(String, String)>, Vec<Point>) {
        self.exporter.reset();
        self.provider.force_flush().expect("a collection");
        let all = self.exporter.get_finished_metrics().expect("it is there");
        let scopes = || all.iter().flat_map(|resource| resource.scope_metrics());
        let scope = |scope: &ScopeMetrics| {
            let (name, version) = (scope.scope().name(), scope.scope().version());
            (name.to_owned(), version.unwrap_or_default().to_owned())
        };
        let metrics = scopes().flat_map(ScopeMetrics::metrics);
        (
            scopes().map(scope).collect(),
            metrics.flat_map(points).collect(),
        )
    }

    /// The points with this name and these attributes.
    pub(crate) fn points(&self, name: &str, attributes: &[(&str, &str)]) -> Vec<Point> {
        let (_, mut all) = self.collect();
        all.retain(|point| {
            let has = |(key, value): &(&str, &str)| {
                point.attributes.get(*key).map(String::as_str) == Some(*value)
            };
            point.name == name && attributes.iter().all(has)
        });
        all
    }

    /// How many values they have if they are histograms, else their sum.
    pub(crate) fn count(&self, name: &str, attributes: &[(&str, &str)]) -> f64 {
        let points = self.points(name, attributes).into_iter();
        let counts = points.map(|point| match point.kind {
            InstrumentKind::Histogram => point.count as f64,
            _ => point.value,
        });
        counts.sum()
    }

    /// Awaits that [`count`](Self::count) is this.
    pub(crate) async fn until_count(&self, name: &str, attributes: &[(&str, &str)], n: f64) {
        let reached = async {
            while self.count(name, attributes) != n {
                tokio::task::yield_now().await;
            }
        };
        within(&format!("{name} with {attributes:?} to be {n}"), reached).await;
    }
}

fn points(metric: &Metric) -> Vec<Point> {
    match metric.data() {
        AggregatedMetrics::F64(data) => points_of(metric, data, InstrumentKind::Observed, |n| n),
        AggregatedMetrics::U64(data) => {
            points_of(metric, data, InstrumentKind::Counter, |n| n as f64)
        }
        AggregatedMetrics::I64(data) => {
            points_of(metric, data, InstrumentKind::UpDown, |n| n as f64)
        }
    }
}

/// `sums` is the kind of a sum of this type.
fn points_of<T: Copy>(
    metric: &Metric,
    data: &MetricData<T>,
    sums: InstrumentKind,
    number: fn(T) -> f64,
) -> Vec<Point> {
    let point = |kind, attributes: &mut dyn Iterator<Item = &opentelemetry::KeyValue>| Point {
        name: metric.name().to_owned(),
        unit: metric.unit().to_owned(),
        description: metric.description().to_owned(),
        kind,
        attributes: attributes
            .map(|pair| (pair.key.to_string(), pair.value.to_string()))
            .collect(),
        value: 0.0,
        count: 0,
        bounds: Vec::new(),
    };
    match data {
        MetricData::Sum(sum) => {
            assert_eq!(sum.is_monotonic(), sums != InstrumentKind::UpDown);
            let points = sum.data_points();
            let points = points.map(|each| Point {
                value: number(each.value()),
                ..point(sums, &mut each.attributes())
            });
            points.collect()
        }
        MetricData::Histogram(histogram) => {
            let points = histogram.data_points();
            let points = points.map(|each| Point {
                value: number(each.sum()),
                count: each.count(),
                bounds: each.bounds().collect(),
                ..point(InstrumentKind::Histogram, &mut each.attributes())
            });
            points.collect()
        }
        _ => panic!("{} is neither a sum nor a histogram", metric.name()),
    }
}
