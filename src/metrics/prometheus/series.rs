//! The numbers of one series. Threads that record at a moment write to different cache lines.

use std::{
    any::Any,
    array,
    collections::BTreeMap,
    sync::{
        Arc, Mutex, OnceLock, Weak,
        atomic::{
            AtomicBool, AtomicI64, AtomicU64, AtomicUsize,
            Ordering::{Acquire, Relaxed, Release},
        },
    },
};

use crate::{
    metrics::{
        instrument::Instrument,
        meter::{self, Label, Observed},
    },
    util::{contained::contained, lock::lock},
};

/// How many threads can record into one series without sharing a cache line.
const SHARDS: usize = 8;

/// The shard of the thread that asks.
fn shard() -> usize {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    thread_local! {
        static SHARD: usize = NEXT.fetch_add(1, Relaxed) % SHARDS;
    }
    // While a thread ends, it has none of its own.
    SHARD.try_with(|shard| *shard).unwrap_or(0)
}

/// All series of one instrument.
pub(super) struct Family {
    pub(super) instrument: &'static Instrument,
    pub(super) series: BTreeMap<Vec<Label>, Series>,
}

pub(super) enum Series {
    Counter(Arc<CounterSeries>),
    Level(Arc<LevelSeries>),
    Histogram(Arc<HistogramSeries>),
    Observed(Arc<ObservedSeries>),
}

/// As large as what processors fetch at once.
#[derive(Default)]
#[repr(align(128))]
struct Padded(AtomicU64);

/// The sum of a counter.
#[derive(Default)]
pub(super) struct CounterSeries([Padded; SHARDS]);

impl CounterSeries {
    pub(super) fn sum(&self) -> u64 {
        let parts = self.0.iter().map(|part| part.0.load(Relaxed));
        parts.fold(0, u64::wrapping_add)
    }
}

impl meter::Counter for CounterSeries {
    fn add(&self, n: u64) {
        self.0[shard()].0.fetch_add(n, Relaxed);
    }
}

/// A number that rises and falls. It is known once it was added to.
#[derive(Default)]
pub(super) struct LevelSeries {
    value: AtomicI64,
    is_known: AtomicBool,
}

impl LevelSeries {
    pub(super) fn value(&self) -> Option<i64> {
        let is_known = self.is_known.load(Acquire);
        is_known.then(|| self.value.load(Relaxed))
    }
}

impl meter::UpDown for LevelSeries {
    fn add(&self, n: i64) {
        self.value.fetch_add(n, Relaxed);
        self.is_known.store(true, Release);
    }
}

/// A distribution. A shard is made by the first thread that needs it: most series are of few
/// threads, and have up to 42 numbers in each.
pub(super) struct HistogramSeries {
    bounds: &'static [f64],
    shards: [OnceLock<Box<Shard>>; SHARDS],
}

struct Shard {
    /// One more than there are bounds.
    counts: Box<[AtomicU64]>,
    /// The bits of an `f64`.
    sum: AtomicU64,
}

/// The values of a histogram.
pub(super) struct Distribution {
    /// Of each bucket alone.
    pub(super) counts: Vec<u64>,
    pub(super) sum: f64,
}

impl HistogramSeries {
    pub(super) fn new(bounds: &'static [f64]) -> Self {
        Self {
            bounds,
            shards: array::from_fn(|_| OnceLock::new()),
        }
    }

    pub(super) fn distribution(&self) -> Distribution {
        let mut all = Distribution {
            counts: vec![0; self.bounds.len() + 1],
            sum: 0.0,
        };
        for shard in self.shards.iter().filter_map(OnceLock::get) {
            all.sum += f64::from_bits(shard.sum.load(Relaxed));
            for (sum, count) in all.counts.iter_mut().zip(&shard.counts) {
                *sum += count.load(Relaxed);
            }
        }
        all
    }
}

impl meter::Histogram for HistogramSeries {
    fn record(&self, value: f64) {
        let shard = self.shards[shard()].get_or_init(|| {
            let counts = (0..=self.bounds.len()).map(|_| AtomicU64::new(0));
            Box::new(Shard {
                counts: counts.collect(),
                sum: AtomicU64::new(0.0_f64.to_bits()),
            })
        });
        let bucket = self.bounds.partition_point(|bound| *bound < value);
        shard.counts[bucket].fetch_add(1, Relaxed);
        let add = |sum: u64| Some((f64::from_bits(sum) + value).to_bits());
        let _ = shard.sum.fetch_update(Relaxed, Relaxed, add);
    }
}

/// A sum of parts that are read when it is.
#[derive(Default)]
pub(super) struct ObservedSeries(Mutex<Parts>);

#[derive(Default)]
struct Parts {
    /// The last values of those that are over.
    ended: f64,
    sources: Vec<(u64, Arc<dyn Observed>)>,
    next: u64,
}

impl ObservedSeries {
    /// Adds a part, until the result is dropped.
    pub(super) fn add(self: &Arc<Self>, source: Arc<dyn Observed>) -> Box<dyn Any + Send + Sync> {
        let mut parts = lock(&self.0);
        let number = parts.next;
        parts.next += 1;
        parts.sources.push((number, source));
        let series = Arc::downgrade(self);
        Box::new(Part { series, number })
    }

    pub(super) fn sum(&self) -> f64 {
        let parts = lock(&self.0);
        let running = parts.sources.iter().map(|(_, source)| read(&**source));
        parts.ended + running.sum::<f64>()
    }
}

struct Part {
    series: Weak<ObservedSeries>,
    number: u64,
}

impl Drop for Part {
    fn drop(&mut self) {
        let Some(series) = self.series.upgrade() else {
            return;
        };
        let mut parts = lock(&series.0);
        let at = |(number, _): &(u64, _)| *number == self.number;
        if let Some(at) = parts.sources.iter().position(at) {
            let (_, source) = parts.sources.swap_remove(at);
            parts.ended += read(&*source);
        }
    }
}

/// A source of the application's, as this meter may be used by others, too.
fn read(source: &dyn Observed) -> f64 {
    let value = contained(|| source.value()).unwrap_or(0.0);
    if value.is_finite() { value } else { 0.0 }
}

#[cfg(test)]
mod tests {
    use std::{sync::Arc, thread};

    use super::{
        super::super::meter::{Counter, Histogram, Observed},
        CounterSeries, HistogramSeries, ObservedSeries,
    };

    #[test]
    fn threads_lose_nothing() {
        const THREADS: usize = 12;
        let (counter, histogram) = (CounterSeries::default(), HistogramSeries::new(&[0.0, 2.0]));
        thread::scope(|scope| {
            for _ in 0..THREADS {
                scope.spawn(|| {
                    for value in 0..1_000_u32 {
                        counter.add(2);
                        histogram.record(f64::from(value % 4));
                    }
                });
            }
        });
        assert_eq!(counter.sum(), 24_000);
        let all = histogram.distribution();
        assert_eq!(all.counts, [3_000, 6_000, 3_000], "bounds are inclusive");
        assert_eq!(all.sum, 12.0 * 1_500.0);
    }

    #[test]
    fn a_part_that_is_over_keeps_its_value() {
        struct Of(f64);
        impl Observed for Of {
            fn value(&self) -> f64 {
                self.0
            }
        }
        let series = Arc::new(ObservedSeries::default());
        let first = series.add(Arc::new(Of(1.5)));
        let _second = series.add(Arc::new(Of(2.0)));
        let _broken = series.add(Arc::new(Of(f64::NAN)));
        assert_eq!(series.sum(), 3.5);
        drop(first);
        assert_eq!(series.sum(), 3.5);
    }
}
