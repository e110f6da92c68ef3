//! The handles of series: an instrument with the attributes that it is given each time, or bound
//! to them.

use opentelemetry::{KeyValue, metrics as otel};
use tonic_health_channel::metrics::{Counter, Histogram, UpDown};

/// An instrument, and the attributes of one series.
pub(crate) struct Series<I> {
    pub(crate) instrument: I,
    pub(crate) attributes: Box<[KeyValue]>,
}

impl Counter for Series<otel::Counter<u64>> {
    fn add(&self, n: u64) {
        self.instrument.add(n, &self.attributes);
    }
}

impl UpDown for Series<otel::UpDownCounter<i64>> {
    fn add(&self, n: i64) {
        self.instrument.add(n, &self.attributes);
    }
}

impl Histogram for Series<otel::Histogram<f64>> {
    fn record(&self, value: f64) {
        self.instrument.record(value, &self.attributes);
    }
}

#[cfg(feature = "bound")]
pub(crate) mod bound {
    //! The same, with the series resolved.

    use std::sync::OnceLock;

    use opentelemetry::metrics as otel;
    use tonic_health_channel::metrics::{Counter, Histogram, UpDown};

    use super::Series;

    /// A series that is bound with its first value: the SDK exports those that are bound without
    /// any as 0, and others not at all.
    pub(crate) struct Bound<I, B> {
        series: Series<I>,
        bound: OnceLock<B>,
    }

    impl<I, B> Bound<I, B> {
        pub(crate) fn new(series: Series<I>) -> Self {
            Self {
                series,
                bound: OnceLock::new(),
            }
        }
    }

    impl Counter for Bound<otel::Counter<u64>, otel::BoundCounter<u64>> {
        fn add(&self, n: u64) {
            let bind = || self.series.instrument.bind(&self.series.attributes);
            self.bound.get_or_init(bind).add(n);
        }
    }

    impl UpDown for Bound<otel::UpDownCounter<i64>, otel::BoundUpDownCounter<i64>> {
        fn add(&self, n: i64) {
            let bind = || self.series.instrument.bind(&self.series.attributes);
            self.bound.get_or_init(bind).add(n);
        }
    }

    impl Histogram for Bound<otel::Histogram<f64>, otel::BoundHistogram<f64>> {
        fn record(&self, value: f64) {
            let bind = || self.series.instrument.bind(&self.series.attributes);
            self.bound.get_or_init(bind).record(value);
        }
    }
}
