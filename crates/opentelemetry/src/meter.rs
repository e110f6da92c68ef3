//! The meter that hands series to OpenTelemetry.

use std::{
    any::Any,
    collections::HashMap,
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use opentelemetry::{
    InstrumentationScope,
    metrics::{self as otel, MeterProvider},
};
use tonic_health_channel::metrics::{
    Counter, Histogram, Instrument, Label, Meter, Observed, UpDown,
};

#[cfg(feature = "bound")]
use crate::handles::bound::Bound;
use crate::{
    NAME,
    handles::Series,
    observed::{Family, attributes},
};

/// A sink of metrics that hands them to OpenTelemetry.
///
/// The instruments are of a meter with the name `tonic-health-channel` and the version of this
/// crate. They have the names, units, descriptions and boundaries of
/// [`Instrument`], which are those of the
/// gRFCs where they define them (gRFC A66, A79). Views of the provider apply.
///
/// Handles resolve their attributes once. A call then adds 5 values, each by a look-up of the SDK;
/// with `OtelMeter::bound` there is none.
///
/// Clones share their instruments, and one meter may serve all channels of a program. Make only 1
/// for a provider. Sums that are read at each collection, such as
/// `tonic_health_channel.backend.not_ready_time`, add up within a meter. Of 2 meters the SDK keeps
/// the last sum.
///
/// Series of backends that are gone stay with cumulative temporality. The SDK has up to 2,000 of an
/// instrument, and 1 for all others, `otel.metric.overflow`.
///
/// ```
/// use opentelemetry_sdk::metrics::{InMemoryMetricExporter, PeriodicReader, SdkMeterProvider};
/// use tonic_health_channel::{Channel, metrics::Metrics};
/// use tonic_health_channel_opentelemetry::OtelMeter;
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let exporter = InMemoryMetricExporter::default(); // OTLP in a program
/// let provider = SdkMeterProvider::builder()
///     .with_reader(PeriodicReader::builder(exporter).build())
///     .build();
/// let meter = OtelMeter::new(&provider);
/// let metrics = Metrics::new(meter).enable(["grpc.subchannel.open_connections"]);
/// let channel = Channel::target("dns:///shop.example:50051")?.metrics(metrics)?.build();
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct OtelMeter(Arc<Inner>);

struct Inner {
    meter: otel::Meter,
    #[cfg(feature = "bound")]
    is_bound: bool,
    made: Mutex<Made>,
}

/// The instruments there are, by name. The SDK asks not to make one twice.
#[derive(Default)]
struct Made {
    counters: HashMap<&'static str, otel::Counter<u64>>,
    up_downs: HashMap<&'static str, otel::UpDownCounter<i64>>,
    histograms: HashMap<&'static str, otel::Histogram<f64>>,
    observed: HashMap<&'static str, Arc<Family>>,
}

impl OtelMeter {
    /// A sink whose meter is of `provider`, which may be any implementation.
    pub fn new(provider: &dyn MeterProvider) -> Self {
        Self(Arc::new(Inner::of(provider)))
    }

    /// The same with bound instruments: a handle resolves its series with its first value, and
    /// adds to it without a look-up from then on.
    ///
    /// The values are those of [`new`](Self::new), and a call costs less. The interface is
    /// experimental in OpenTelemetry (`experimental_metrics_bound_instruments`). The provider must
    /// be of `opentelemetry_sdk`, or one that implements `SyncInstrument::bind`: others drop each
    /// value. With delta temporality a series stays in the SDK for as long as its channel.
    #[cfg(feature = "bound")]
    #[cfg_attr(docsrs, doc(cfg(feature = "bound")))]
    pub fn bound(provider: &dyn MeterProvider) -> Self {
        Self(Arc::new(Inner {
            is_bound: true,
            ..Inner::of(provider)
        }))
    }
}

impl Inner {
    fn of(provider: &dyn MeterProvider) -> Self {
        let scope = InstrumentationScope::builder(NAME).with_version(env!("CARGO_PKG_VERSION"));
        Self {
            meter: provider.meter_with_scope(scope.build()),
            #[cfg(feature = "bound")]
            is_bound: false,
            made: Mutex::default(),
        }
    }

    fn made(&self) -> MutexGuard<'_, Made> {
        self.made.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Meter for OtelMeter {
    fn counter(&self, instrument: &'static Instrument, labels: &[Label]) -> Arc<dyn Counter> {
        let make = || {
            let builder = self.0.meter.u64_counter(instrument.name());
            let builder = builder.with_unit(instrument.unit());
            builder.with_description(instrument.description()).build()
        };
        let mut made = self.0.made();
        let made = made.counters.entry(instrument.name()).or_insert_with(make);
        let series = Series {
            instrument: made.clone(),
            attributes: attributes(labels),
        };
        #[cfg(feature = "bound")]
        if self.0.is_bound {
            return Arc::new(Bound::<_, otel::BoundCounter<u64>>::new(series));
        }
        Arc::new(series)
    }

    fn up_down(&self, instrument: &'static Instrument, labels: &[Label]) -> Arc<dyn UpDown> {
        let make = || {
            let builder = self.0.meter.i64_up_down_counter(instrument.name());
            let builder = builder.with_unit(instrument.unit());
            builder.with_description(instrument.description()).build()
        };
        let mut made = self.0.made();
        let made = made.up_downs.entry(instrument.name()).or_insert_with(make);
        let series = Series {
            instrument: made.clone(),
            attributes: attributes(labels),
        };
        #[cfg(feature = "bound")]
        if self.0.is_bound {
            return Arc::new(Bound::<_, otel::BoundUpDownCounter<i64>>::new(series));
        }
        Arc::new(series)
    }

    fn histogram(&self, instrument: &'static Instrument, labels: &[Label]) -> Arc<dyn Histogram> {
        let make = || {
            let builder = self.0.meter.f64_histogram(instrument.name());
            let builder = builder.with_unit(instrument.unit());
            let builder = builder.with_description(instrument.description());
            let builder = builder.with_boundaries(instrument.buckets().to_vec());
            builder.build()
        };
        let mut made = self.0.made();
        let made = made.histograms.entry(instrument.name());
        let series = Series {
            instrument: made.or_insert_with(make).clone(),
            attributes: attributes(labels),
        };
        #[cfg(feature = "bound")]
        if self.0.is_bound {
            return Arc::new(Bound::<_, otel::BoundHistogram<f64>>::new(series));
        }
        Arc::new(series)
    }

    fn observe(
        &self,
        instrument: &'static Instrument,
        labels: &[Label],
        source: Arc<dyn Observed>,
    ) -> Box<dyn Any + Send + Sync> {
        let make = || {
            let family = Arc::<Family>::default();
            let read = Arc::clone(&family);
            let builder = self.0.meter.f64_observable_counter(instrument.name());
            let builder = builder.with_unit(instrument.unit());
            let builder = builder.with_description(instrument.description());
            // It outlives its handle.
            builder
                .with_callback(move |observer| read.observe(observer))
                .build();
            family
        };
        let mut made = self.0.made();
        let family = made.observed.entry(instrument.name()).or_insert_with(make);
        Box::new(family.add(labels, source))
    }
}

impl fmt::Debug for OtelMeter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OtelMeter").finish_non_exhaustive()
    }
}
