//! The meter of one channel: series are resolved here, and the code of the application that is
//! behind them is contained.

use std::{
    any::Any,
    collections::{HashMap, HashSet},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
};

use tracing::error;

use super::{
    instrument::Instrument,
    meter::{Counter, Histogram, Label, Meter, Observed, UpDown},
    names,
    settings::{MethodFilter, Metrics},
};
use crate::util::{
    contained::{Contained, contained},
    lock::lock,
};

/// The target of what is logged here; see the crate's documentation.
const CHANNEL: &str = "tonic_health_channel::channel";

/// The meter of one channel, and its settings.
pub(crate) struct Recorder {
    settings: Contained<Metrics>,
    target: Arc<str>,
    recorded: HashSet<&'static str>,
    /// The series of what is rare, by their instrument.
    rare: Mutex<HashMap<&'static str, HashMap<Vec<Label>, Rare>>>,
}

/// The most series of an instrument that are kept for what is rare. Others are asked for each
/// time: labels of a churning source do not fill the memory.
const MAX_RARE: usize = 2_000;

/// A series of what is rare.
#[derive(Clone)]
enum Rare {
    Count(Arc<Count>),
    Level(Arc<Level>),
    Spread(Arc<Spread>),
}

impl Recorder {
    pub(crate) fn new(settings: Metrics, target: impl Into<Arc<str>>) -> Arc<Self> {
        let is_recorded = |instrument: &&&'static Instrument| {
            let name = instrument.name;
            if settings.disabled.contains(name) {
                return false;
            }
            let by_meter = || contained(|| settings.meter.is_enabled(instrument));
            settings.enabled.contains(name) || by_meter().unwrap_or(false)
        };
        let recorded = Instrument::all().iter().filter(is_recorded);
        Arc::new(Self {
            recorded: recorded.map(|instrument| instrument.name).collect(),
            settings: Contained::new(settings),
            target: target.into(),
            rare: Mutex::default(),
        })
    }

    /// Adds 1 to a counter.
    pub(super) fn add(&self, instrument: &'static Instrument, labels: &[Given<'_>]) {
        let make = || Rare::Count(Arc::new(self.count(instrument, labels)));
        if let Some(Rare::Count(count)) = self.rare(instrument, labels, make) {
            count.add(1);
        }
    }

    /// Adds `by` to a level.
    pub(super) fn shift(&self, instrument: &'static Instrument, labels: &[Given<'_>], by: i64) {
        let make = || Rare::Level(Arc::new(self.level(instrument, labels)));
        if let Some(Rare::Level(level)) = self.rare(instrument, labels, make) {
            level.add(by);
        }
    }

    /// Records a value of a histogram.
    pub(super) fn record(&self, instrument: &'static Instrument, labels: &[Given<'_>], value: f64) {
        let make = || Rare::Spread(Arc::new(self.spread(instrument, labels)));
        if let Some(Rare::Spread(spread)) = self.rare(instrument, labels, make) {
            spread.record(value);
        }
    }

    /// A series that is kept, if the instrument is recorded.
    fn rare(
        &self,
        instrument: &'static Instrument,
        labels: &[Given<'_>],
        make: impl FnOnce() -> Rare,
    ) -> Option<Rare> {
        if !self.records(instrument) {
            return None;
        }
        let labels = self.labels(instrument, labels);
        let known =
            |rare: &HashMap<_, HashMap<_, Rare>>| rare.get(instrument.name)?.get(&labels).cloned();
        if let Some(series) = known(&lock(&self.rare)) {
            return Some(series);
        }
        // The code of the application is not called behind a lock.
        let series = make();
        let mut rare = lock(&self.rare);
        let rare = rare.entry(instrument.name).or_default();
        if rare.len() < MAX_RARE {
            rare.insert(labels, series.clone());
        }
        Some(series)
    }

    pub(super) fn method_filter(&self) -> Option<&MethodFilter> {
        self.settings.method_filter.as_ref()
    }

    /// Whether `instrument` is recorded.
    pub(super) fn records(&self, instrument: &'static Instrument) -> bool {
        self.recorded.contains(instrument.name)
    }

    /// Whether the optional label `key` is asked for.
    pub(super) fn has_label(&self, key: &str) -> bool {
        self.settings.optional_labels.contains(key)
    }

    /// The series of `instrument` with these labels. That of the target is added.
    pub(super) fn count(&self, instrument: &'static Instrument, labels: &[Given<'_>]) -> Count {
        let made = self.make(instrument, labels, |meter, labels| {
            meter.counter(instrument, labels)
        });
        Count(made)
    }

    pub(super) fn level(&self, instrument: &'static Instrument, labels: &[Given<'_>]) -> Level {
        let made = self.make(instrument, labels, |meter, labels| {
            meter.up_down(instrument, labels)
        });
        Level(made)
    }

    pub(super) fn spread(&self, instrument: &'static Instrument, labels: &[Given<'_>]) -> Spread {
        let made = self.make(instrument, labels, |meter, labels| {
            meter.histogram(instrument, labels)
        });
        Spread(made)
    }

    /// Has `source` read at each collection until the result is dropped.
    pub(super) fn observe(
        &self,
        instrument: &'static Instrument,
        labels: &[Given<'_>],
        source: Arc<dyn Observed>,
    ) -> Observation {
        if !self.records(instrument) {
            return Observation(None);
        }
        let labels = self.labels(instrument, labels);
        let meter = &self.settings.meter;
        let made = contained(|| Contained::new(meter.observe(instrument, &labels, source)));
        Observation(made.map_err(|panic| tell(instrument, &panic)).ok())
    }

    fn make<T: ?Sized>(
        &self,
        instrument: &'static Instrument,
        labels: &[Given<'_>],
        make: impl FnOnce(&dyn Meter, &[Label]) -> Arc<T>,
    ) -> Option<Plugged<T>> {
        if !self.records(instrument) {
            return None;
        }
        let labels = self.labels(instrument, labels);
        let made = contained(|| Contained::new(make(&self.settings.meter, &labels)));
        let handle = made.map_err(|panic| tell(instrument, &panic)).ok()?;
        Some(Plugged {
            handle,
            instrument,
            has_panicked: AtomicBool::new(false),
        })
    }

    /// All that the instrument has, in its order, and the optional ones that are asked for.
    fn labels(&self, instrument: &Instrument, given: &[Given<'_>]) -> Vec<Label> {
        let optional = instrument.optional_labels.iter();
        let optional = optional.filter(|key| self.has_label(key));
        let keys = instrument.labels.iter().chain(optional);
        keys.map(|key| match *key {
            names::TARGET => Label::new(names::TARGET, Arc::clone(&self.target)),
            key => {
                let given = given.iter().find(|(name, _)| *name == key);
                Label::new(key, given.map_or("", |(_, value)| value))
            }
        })
        .collect()
    }
}

/// A label and its value.
pub(super) type Given<'a> = (&'static str, &'a str);

/// A handle of the application's. After a panic it is not used again.
struct Plugged<T: ?Sized> {
    handle: Contained<Arc<T>>,
    instrument: &'static Instrument,
    has_panicked: AtomicBool,
}

impl<T: ?Sized> Plugged<T> {
    #[inline]
    fn with(&self, record: impl FnOnce(&T)) {
        if !self.has_panicked.load(Relaxed)
            && let Err(panic) = contained(|| record(&self.handle))
        {
            self.has_panicked.store(true, Relaxed);
            tell(self.instrument, &panic);
        }
    }
}

#[cold]
fn tell(instrument: &Instrument, panic: &str) {
    let instrument = instrument.name;
    let what = "the meter of the application panicked; the series is not recorded any more";
    // A subscriber is code of the application, too.
    let _ = contained(|| error!(target: CHANNEL, instrument, panic, "{what}"));
}

/// A counter, if it is recorded.
pub(super) struct Count(Option<Plugged<dyn Counter>>);

impl Count {
    #[inline]
    pub(super) fn add(&self, n: u64) {
        if let Some(counter) = &self.0 {
            counter.with(|counter| counter.add(n));
        }
    }
}

/// A number that rises and falls, if it is recorded.
pub(super) struct Level(Option<Plugged<dyn UpDown>>);

impl Level {
    pub(super) fn add(&self, n: i64) {
        if let Some(level) = &self.0 {
            level.with(|level| level.add(n));
        }
    }
}

/// A histogram, if it is recorded.
pub(super) struct Spread(Option<Plugged<dyn Histogram>>);

impl Spread {
    #[inline]
    pub(super) fn record(&self, value: f64) {
        if let Some(histogram) = &self.0 {
            histogram.with(|histogram| histogram.record(value));
        }
    }
}

/// A value that is read at each collection while this lives, if it is recorded.
#[expect(dead_code, reason = "it is held for its drop")]
pub(super) struct Observation(Option<Contained<Box<dyn Any + Send + Sync>>>);

#[cfg(test)]
mod tests {
    use std::sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    };

    use super::{super::instruments as all, Recorder};
    use crate::metrics::{
        Counter, Histogram, Instrument, InstrumentKind, Label, Meter, Metrics, Prometheus, UpDown,
    };

    /// Panics where it is told to.
    #[derive(Default)]
    struct Broken {
        resolves: bool,
        asked: Arc<AtomicUsize>,
    }

    struct Handle(Arc<AtomicUsize>);

    impl Meter for Broken {
        fn counter(&self, _: &'static Instrument, _: &[Label]) -> Arc<dyn Counter> {
            assert!(self.resolves, "no counter");
            Arc::new(Handle(Arc::clone(&self.asked)))
        }
        fn up_down(&self, _: &'static Instrument, _: &[Label]) -> Arc<dyn UpDown> {
            panic!("no level")
        }
        fn histogram(&self, _: &'static Instrument, _: &[Label]) -> Arc<dyn Histogram> {
            panic!("no histogram")
        }
    }

    impl Counter for Handle {
        fn add(&self, _: u64) {
            self.0.fetch_add(1, Relaxed);
            panic!("not added");
        }
    }

    impl Drop for Handle {
        fn drop(&mut self) {
            panic!("dropped");
        }
    }

    // D408
    #[test]
    fn a_meter_that_panics_is_not_used_again() {
        let asked = Arc::<AtomicUsize>::default();
        let meter = Broken {
            resolves: true,
            asked: Arc::clone(&asked),
        };
        let recorder = Recorder::new(Metrics::new(meter), "dns:///shop");
        let counter = recorder.count(&all::ATTEMPT_STARTED, &[]);
        (0..3).for_each(|_| counter.add(1));
        assert_eq!(asked.load(Relaxed), 1);
        recorder.spread(&all::CALL_DURATION, &[]).record(1.0);
        recorder.level(&all::BACKENDS, &[]).add(1);
        let recorder = Recorder::new(Metrics::new(Broken::default()), "dns:///shop");
        recorder.count(&all::ATTEMPT_STARTED, &[]).add(1);
    }

    #[test]
    fn each_instrument_has_its_labels_and_those_asked_for() {
        let meter = Prometheus::new();
        let names = Instrument::all().iter().map(|instrument| instrument.name());
        let metrics = Metrics::new(meter.clone()).enable(names);
        let recorder = Recorder::new(metrics.optional_labels(["backend"]), "dns:///shop");
        for instrument in Instrument::all() {
            match instrument.kind() {
                InstrumentKind::Counter => recorder.count(instrument, &[]).add(1),
                InstrumentKind::UpDown => recorder.level(instrument, &[]).add(1),
                InstrumentKind::Histogram => recorder.spread(instrument, &[]).record(1.0),
                InstrumentKind::Observed => {}
            }
        }
        let text = meter.render();
        for line in [
            "tonic_health_channel_backends{grpc_target=\"dns:///shop\",state=\"\",health=\"\",\
             backend=\"\"} 1",
            "grpc_subchannel_open_connections{grpc_target=\"dns:///shop\"} 1",
            "grpc_client_tls_handshakes_total{grpc_target=\"dns:///shop\",\
             grpc_tls_handshake_result=\"\"} 1",
        ] {
            assert!(text.lines().any(|other| other == line), "{line}:\n{text}");
        }
    }
}
