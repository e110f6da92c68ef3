//! Metrics of a channel by the facade `metrics`, for whatever recorder a program has.
//!
//! The adapter is [`Facade`]. Below it are a recorder that prints, and a call.
//!
//! ```text
//! $ cargo run --example metrics_facade
//! grpc.client.attempt.started{grpc.method=demo.v1.Greeter/SayHello, grpc.target=channel:///shop}: 1
//! ```
//!
//! Exits with 1 if that line is not there.

mod common;

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError, atomic::AtomicU64, atomic::Ordering::Relaxed},
};

use common::{
    backend::{self, GreeterService},
    greeter::{HelloRequest, greeter_client::GreeterClient},
};
use metrics::{Key, KeyName, Level, Metadata, Recorder, SharedString, Unit, with_recorder};
use tonic_health_channel::{
    Channel,
    metrics::{Counter, Histogram, Instrument, Label, Meter, Metrics, UpDown},
};

/// Hands each series to the recorder of the program. Sums that are read at each collection are
/// left out, because the facade has none.
struct Facade;

struct Handle<T>(T);

static METADATA: Metadata<'_> = Metadata::new("tonic_health_channel", Level::INFO, None);

fn key(instrument: &'static Instrument, labels: &[Label]) -> Key {
    let labels = labels.iter();
    let labels = labels.map(|label| metrics::Label::new(label.key(), label.value().to_owned()));
    Key::from_parts(instrument.name(), labels.collect::<Vec<_>>())
}

impl Meter for Facade {
    fn counter(&self, instrument: &'static Instrument, labels: &[Label]) -> Arc<dyn Counter> {
        let key = key(instrument, labels);
        let handle = with_recorder(|recorder| recorder.register_counter(&key, &METADATA));
        Arc::new(Handle(handle))
    }

    fn up_down(&self, instrument: &'static Instrument, labels: &[Label]) -> Arc<dyn UpDown> {
        let key = key(instrument, labels);
        let handle = with_recorder(|recorder| recorder.register_gauge(&key, &METADATA));
        Arc::new(Handle(handle))
    }

    fn histogram(&self, instrument: &'static Instrument, labels: &[Label]) -> Arc<dyn Histogram> {
        let key = key(instrument, labels);
        let handle = with_recorder(|recorder| recorder.register_histogram(&key, &METADATA));
        Arc::new(Handle(handle))
    }
}

impl Counter for Handle<metrics::Counter> {
    fn add(&self, n: u64) {
        self.0.increment(n);
    }
}

impl UpDown for Handle<metrics::Gauge> {
    fn add(&self, n: i64) {
        self.0.increment(n as f64);
    }
}

impl Histogram for Handle<metrics::Histogram> {
    fn record(&self, value: f64) {
        self.0.record(value);
    }
}

/// A recorder that keeps counters alone.
#[derive(Clone, Default)]
struct Kept(Arc<Mutex<BTreeMap<String, Arc<AtomicU64>>>>);

impl Recorder for Kept {
    fn describe_counter(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn describe_gauge(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn describe_histogram(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

    fn register_counter(&self, key: &Key, _: &Metadata<'_>) -> metrics::Counter {
        let labels = key
            .labels()
            .map(|label| format!("{}={}", label.key(), label.value()));
        let series = format!(
            "{}{{{}}}",
            key.name(),
            labels.collect::<Vec<_>>().join(", ")
        );
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        metrics::Counter::from_arc(Arc::clone(kept.entry(series).or_default()))
    }

    fn register_gauge(&self, _: &Key, _: &Metadata<'_>) -> metrics::Gauge {
        metrics::Gauge::noop()
    }

    fn register_histogram(&self, _: &Key, _: &Metadata<'_>) -> metrics::Histogram {
        metrics::Histogram::noop()
    }
}

#[tokio::main]
async fn main() -> common::Result<()> {
    let kept = Kept::default();
    metrics::set_global_recorder(kept.clone()).map_err(|error| error.to_string())?;
    let (uri, _control) = backend::start(GreeterService::new("A".into())).await?;
    let builder = Channel::list([uri])?.name("shop");
    let channel = builder.metrics(Metrics::new(Facade))?.build();
    let mut client = GreeterClient::new(channel);
    client.say_hello(HelloRequest::default()).await?;
    let kept = kept.0.lock().unwrap_or_else(PoisonError::into_inner);
    let mut started = kept.iter();
    let started = started.find(|(series, _)| series.starts_with("grpc.client.attempt.started"));
    match started.map(|(series, count)| (series, count.load(Relaxed))) {
        Some((series, 1)) => println!("{series}: 1"),
        other => return Err(format!("1 attempt was started, and not {other:?}").into()),
    }
    Ok(())
}
