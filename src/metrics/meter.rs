//! Where metrics go: what a sink implements.

use std::{any::Any, sync::Arc};

use super::instrument::Instrument;

/// A sink of metrics, such as [`Prometheus`](super::Prometheus), or an adapter to a library.
///
/// A channel asks for each series once, and keeps the handle. A call then only adds numbers by
/// its handles. So a meter resolves labels here, and not for each call.
///
/// One meter may serve many channels. The same series may be asked for several times, such as by
/// channels with the same target. All handles of a series add to it.
///
/// A panic here or in a handle is contained: the handle is logged at ERROR and not used again.
///
/// ```
/// use std::sync::{
///     Arc,
///     atomic::{AtomicI64, AtomicU64, Ordering::Relaxed},
/// };
/// use tonic_health_channel::metrics::{Counter, Histogram, Instrument, Label, Meter, UpDown};
///
/// /// Counts what is recorded, whatever it is.
/// #[derive(Default)]
/// struct Records(Arc<AtomicU64>);
///
/// struct Handle(Arc<AtomicU64>);
///
/// impl Meter for Records {
///     fn counter(&self, _: &'static Instrument, _: &[Label]) -> Arc<dyn Counter> {
///         Arc::new(Handle(self.0.clone()))
///     }
///     fn up_down(&self, _: &'static Instrument, _: &[Label]) -> Arc<dyn UpDown> {
///         Arc::new(Handle(self.0.clone()))
///     }
///     fn histogram(&self, _: &'static Instrument, _: &[Label]) -> Arc<dyn Histogram> {
///         Arc::new(Handle(self.0.clone()))
///     }
/// }
///
/// impl Counter for Handle {
///     fn add(&self, _: u64) {
///         self.0.fetch_add(1, Relaxed);
///     }
/// }
/// impl UpDown for Handle {
///     fn add(&self, _: i64) {
///         self.0.fetch_add(1, Relaxed);
///     }
/// }
/// impl Histogram for Handle {
///     fn record(&self, _: f64) {
///         self.0.fetch_add(1, Relaxed);
///     }
/// }
/// ```
pub trait Meter: Send + Sync + 'static {
    /// Whether it is to be recorded, unless [`Metrics::enable`](super::Metrics::enable) or
    /// [`disable`](super::Metrics::disable) names it. By default, if the
    /// [instrument](Instrument::is_default) says so.
    fn is_enabled(&self, instrument: &'static Instrument) -> bool {
        instrument.is_default()
    }

    /// The series of a [`Counter`](super::InstrumentKind::Counter) with these labels.
    fn counter(&self, instrument: &'static Instrument, labels: &[Label]) -> Arc<dyn Counter>;

    /// The series of an [`UpDown`](super::InstrumentKind::UpDown) with these labels.
    fn up_down(&self, instrument: &'static Instrument, labels: &[Label]) -> Arc<dyn UpDown>;

    /// The series of a [`Histogram`](super::InstrumentKind::Histogram) with these labels.
    fn histogram(&self, instrument: &'static Instrument, labels: &[Label]) -> Arc<dyn Histogram>;

    /// Reads `source` at each collection, as a part of the series of an
    /// [`Observed`](super::InstrumentKind::Observed) instrument. The series is the sum of its
    /// parts. When the result is dropped, the part keeps the value that it has then.
    ///
    /// By default nothing is read, and the instrument has no series.
    fn observe(
        &self,
        instrument: &'static Instrument,
        labels: &[Label],
        source: Arc<dyn Observed>,
    ) -> Box<dyn Any + Send + Sync> {
        let _ = (instrument, labels, source);
        Box::new(())
    }
}

/// The handle of a sum that only grows.
pub trait Counter: Send + Sync {
    /// Adds `n`.
    fn add(&self, n: u64);
}

/// The handle of a sum that grows and falls.
pub trait UpDown: Send + Sync {
    /// Adds `n`, which may be negative.
    fn add(&self, n: i64);
}

/// The handle of a distribution.
pub trait Histogram: Send + Sync {
    /// Records 1 value.
    fn record(&self, value: f64);
}

/// A sum that is read at each collection. It only grows.
pub trait Observed: Send + Sync {
    /// The sum, now.
    fn value(&self) -> f64;
}

/// A name and a value that tell one series of an instrument from others.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Label {
    key: &'static str,
    value: Arc<str>,
}

impl Label {
    /// The label `key` with this value.
    pub fn new(key: &'static str, value: impl Into<Arc<str>>) -> Self {
        Self {
            key,
            value: value.into(),
        }
    }

    /// The name in gRPC's spelling, such as `grpc.method`.
    pub fn key(&self) -> &'static str {
        self.key
    }

    /// The value. A label whose value is not known has the empty string (gRFC A78).
    pub fn value(&self) -> &str {
        &self.value
    }
}

/// All handles of a meter may be shared.
impl<M: Meter + ?Sized> Meter for Arc<M> {
    fn is_enabled(&self, instrument: &'static Instrument) -> bool {
        (**self).is_enabled(instrument)
    }

    fn counter(&self, instrument: &'static Instrument, labels: &[Label]) -> Arc<dyn Counter> {
        (**self).counter(instrument, labels)
    }

    fn up_down(&self, instrument: &'static Instrument, labels: &[Label]) -> Arc<dyn UpDown> {
        (**self).up_down(instrument, labels)
    }

    fn histogram(&self, instrument: &'static Instrument, labels: &[Label]) -> Arc<dyn Histogram> {
        (**self).histogram(instrument, labels)
    }

    fn observe(
        &self,
        instrument: &'static Instrument,
        labels: &[Label],
        source: Arc<dyn Observed>,
    ) -> Box<dyn Any + Send + Sync> {
        (**self).observe(instrument, labels, source)
    }
}
