//! Sums that are read at each collection.
//!
//! The SDK keeps the last observation of a series, and a callback cannot be taken back. So an
//! instrument has one callback for good, which adds up the parts of each series.

use std::{
    collections::HashMap,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use opentelemetry::{KeyValue, metrics::AsyncInstrument};
use tonic_health_channel::metrics::{Label, Observed};

/// How many series are told apart: as many as the SDK has of an instrument by default. A source
/// that names ever new backends does not fill the memory.
const MAX_SERIES: usize = 2_000;

/// The key of the series of all others, as in the SDK.
const OVERFLOW: &str = "otel.metric.overflow";

/// All series of one instrument.
#[derive(Default)]
pub(crate) struct Family(Mutex<HashMap<Vec<Label>, Sum>>);

/// One series. Its sources are read without the lock, because they have locks of their own.
struct Sum {
    attributes: Arc<[KeyValue]>,
    /// The last values of the parts that are over.
    ended: f64,
    sources: Vec<Arc<dyn Observed>>,
    /// The last observation. A part that ends while it is read does not make the sum fall.
    observed: f64,
}

impl Family {
    /// Adds a part to the series with these labels, until the result is dropped.
    pub(crate) fn add(self: &Arc<Self>, labels: &[Label], source: Arc<dyn Observed>) -> Part {
        let mut series = self.lock();
        let mut labels = labels.to_vec();
        if series.len() >= MAX_SERIES && !series.contains_key(&labels) {
            labels = Vec::new();
        }
        let sum = series.entry(labels.clone()).or_insert_with_key(|labels| {
            let overflow = || vec![KeyValue::new(OVERFLOW, true)];
            let attributes = match labels.is_empty() {
                true => overflow(),
                false => attributes(labels).into(),
            };
            Sum {
                attributes: attributes.into(),
                ended: 0.0,
                sources: Vec::new(),
                observed: 0.0,
            }
        });
        sum.sources.push(Arc::clone(&source));
        Part {
            family: Arc::clone(self),
            labels,
            source,
        }
    }

    /// Tells the SDK the sum of each series.
    pub(crate) fn observe(&self, instrument: &dyn AsyncInstrument<f64>) {
        let parts =
            |(labels, sum): (&Vec<Label>, &Sum)| (labels.clone(), sum.ended, sum.sources.clone());
        let all: Vec<_> = self.lock().iter().map(parts).collect();
        for (labels, ended, sources) in all {
            let running: f64 = sources.iter().map(|source| read(&**source)).sum();
            let mut series = self.lock();
            let Some(sum) = series.get_mut(&labels) else {
                continue;
            };
            sum.observed = sum.observed.max(ended + running);
            let (attributes, value) = (Arc::clone(&sum.attributes), sum.observed);
            drop(series);
            instrument.observe(value, &attributes);
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Vec<Label>, Sum>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A part that is read until this is dropped. Its last value stays.
pub(crate) struct Part {
    family: Arc<Family>,
    labels: Vec<Label>,
    source: Arc<dyn Observed>,
}

impl Drop for Part {
    fn drop(&mut self) {
        let last = read(&*self.source);
        let mut series = self.family.lock();
        if let Some(sum) = series.get_mut(&self.labels) {
            let is_it = |source: &Arc<dyn Observed>| Arc::ptr_eq(source, &self.source);
            if let Some(at) = sum.sources.iter().position(is_it) {
                sum.sources.swap_remove(at);
                sum.ended += last;
            }
        }
    }
}

/// A source whose panic would end the collection of all metrics.
fn read(source: &dyn Observed) -> f64 {
    let value = catch_unwind(AssertUnwindSafe(|| source.value())).unwrap_or(0.0);
    if value.is_finite() { value } else { 0.0 }
}

/// Labels as OpenTelemetry has them.
pub(crate) fn attributes(labels: &[Label]) -> Box<[KeyValue]> {
    let labels = labels.iter();
    let pairs = labels.map(|label| KeyValue::new(label.key(), label.value().to_owned()));
    pairs.collect()
}

#[cfg(test)]
mod tests {
    use std::sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering::Relaxed},
    };

    use opentelemetry::{KeyValue, metrics::AsyncInstrument};
    use tonic_health_channel::metrics::{Label, Observed};

    use super::{Family, MAX_SERIES};

    #[derive(Default)]
    struct Number(AtomicU64);

    impl Observed for Number {
        fn value(&self) -> f64 {
            match self.0.load(Relaxed) {
                13 => panic!("no value"),
                14 => f64::NAN,
                number => number as f64,
            }
        }
    }

    #[derive(Default)]
    struct Seen(Mutex<Vec<(f64, Vec<KeyValue>)>>);

    impl AsyncInstrument<f64> for Seen {
        fn observe(&self, value: f64, attributes: &[KeyValue]) {
            let mut seen = self.0.lock().expect("no panic");
            seen.push((value, attributes.to_vec()));
        }
    }

    fn observed(family: &Family) -> Vec<(f64, Vec<KeyValue>)> {
        let seen = Seen::default();
        family.observe(&seen);
        seen.0.into_inner().expect("no panic")
    }

    fn number(of: u64) -> Arc<Number> {
        Arc::new(Number(of.into()))
    }

    // M33
    #[test]
    fn a_series_is_the_sum_of_its_parts_and_never_falls() {
        let family = Arc::<Family>::default();
        let shop = [Label::new("grpc.target", "dns:///shop")];
        let (first, second) = (number(2), number(3));
        let part = family.add(&shop, first.clone());
        let _other = family.add(&shop, second.clone());
        let attributes = vec![KeyValue::new("grpc.target", "dns:///shop")];
        assert_eq!(observed(&family), [(5.0, attributes.clone())]);
        first.0.store(4, Relaxed);
        drop(part);
        assert_eq!(observed(&family), [(7.0, attributes.clone())], "it stays");
        for broken in [13, 14, 1] {
            second.0.store(broken, Relaxed);
            assert_eq!(observed(&family), [(7.0, attributes.clone())]);
        }
    }

    // M33
    #[test]
    fn series_beyond_the_maximum_are_one() {
        let family = Arc::<Family>::default();
        let backend = |n: usize| [Label::new("backend", n.to_string())];
        let parts = (0..MAX_SERIES + 2).map(|n| family.add(&backend(n), number(1)));
        let _parts: Vec<_> = parts.collect();
        let _known = family.add(&backend(0), number(1));
        let all = observed(&family);
        assert_eq!(all.len(), MAX_SERIES + 1);
        let others = (2.0, vec![KeyValue::new("otel.metric.overflow", true)]);
        assert!(all.contains(&others));
        assert!(all.contains(&(2.0, vec![KeyValue::new("backend", "0")])));
    }
}
