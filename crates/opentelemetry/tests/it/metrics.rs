//! The metrics of a channel.

use std::{collections::BTreeMap, sync::Arc};

use testing::{Backend, GREETER, balanced, call, hello, request, until, until_that};
use tonic::Request;
use tonic_health_channel::{
    ConnectivityState::{Ready, TransientFailure},
    metrics::{CustomLabel, Instrument, InstrumentKind, Label, Meter, Metrics, Observed},
};

use crate::exported::{Exported, MAKES};

const STARTED: &str = "grpc.client.attempt.started";
const ATTEMPTS: &str = "grpc.client.attempt.duration";
const SENT: &str = "grpc.client.attempt.sent_total_compressed_message_size";
const RECEIVED: &str = "grpc.client.attempt.rcvd_total_compressed_message_size";
const CALLS: &str = "grpc.client.call.duration";
const OPEN: &str = "grpc.subchannel.open_connections";
const BACKENDS: &str = "tonic_health_channel.backends";
const BACKEND_OUT: &str = "tonic_health_channel.backend.not_ready_time";

fn as_it_is(metrics: Metrics) -> Metrics {
    metrics
}

fn instrument(name: &str) -> &'static Instrument {
    let mut all = Instrument::all().iter();
    all.find(|instrument| instrument.name() == name)
        .expect(name)
}

// M28
#[tokio::test]
async fn a_call_is_exported_as_grpc_defines_it() {
    for make in MAKES {
        let exported = Exported::new(*make);
        let backend = Backend::start().await;
        let channel = exported.channel(balanced(&[&backend], Some(GREETER)), as_it_is);
        let reply = hello(&channel).await.expect("an answer");
        let (scopes, points) = exported.collect();
        let version = env!("CARGO_PKG_VERSION").to_owned();
        assert_eq!(scopes, [("tonic-health-channel".to_owned(), version)]);

        let mut of_calls: Vec<_> = points
            .iter()
            .filter(|point| point.name.starts_with("grpc."))
            .collect();
        of_calls.sort_by(|a, b| a.name.cmp(&b.name));
        let names: Vec<_> = of_calls.iter().map(|point| point.name.as_str()).collect();
        assert_eq!(
            names,
            [ATTEMPTS, RECEIVED, SENT, STARTED, CALLS],
            "1 series of each"
        );
        for point in of_calls {
            let (unit, bounds) = match &*point.name {
                STARTED => ("{attempt}", [].as_slice()),
                SENT | RECEIVED => ("By", instrument(SENT).buckets()),
                _ => ("s", instrument(CALLS).buckets()),
            };
            assert_eq!(
                (&*point.unit, &*point.bounds),
                (unit, bounds),
                "{}",
                point.name
            );
            assert_eq!(point.description, instrument(&point.name).description());
            let mut attributes = BTreeMap::from([
                ("grpc.method", "demo.v1.Greeter/SayHello"),
                ("grpc.target", "channel:///shop"),
            ]);
            if point.name != STARTED {
                attributes.insert("grpc.status", "OK");
                assert_eq!(point.count, 1);
            }
            let found = point.attributes.iter();
            let found = found.map(|(key, value)| (key.as_str(), value.as_str()));
            assert_eq!(
                found.collect::<BTreeMap<_, _>>(),
                attributes,
                "{}",
                point.name
            );
            // Field 1, "you"; fields 1 and 2 of the reply.
            let size = 4 + reply.message.len() + reply.backend.len();
            match &*point.name {
                STARTED => assert_eq!(point.value, 1.0),
                SENT => assert_eq!(point.value, 5.0),
                RECEIVED => assert_eq!(point.value, size as f64),
                _ => assert!(point.value > 0.0, "{}", point.name),
            }
        }
        // gRFC A66.
        let seconds = instrument(CALLS).buckets();
        assert_eq!(seconds[..3], [0.0, 0.00001, 0.00005]);
        assert_eq!(seconds.last(), Some(&100.0));
    }
}

struct Seconds(f64);

impl Observed for Seconds {
    fn value(&self) -> f64 {
        self.0
    }
}

// M28
#[test]
fn each_instrument_is_exported_with_its_kind_unit_and_bounds() {
    for make in MAKES {
        let exported = Exported::new(*make);
        let meter = &exported.meter;
        let target = [Label::new("grpc.target", "dns:///shop")];
        let mut parts = Vec::new();
        for instrument in Instrument::all() {
            match instrument.kind() {
                InstrumentKind::Counter => meter.counter(instrument, &target).add(2),
                InstrumentKind::UpDown => meter.up_down(instrument, &target).add(-2),
                InstrumentKind::Histogram => meter.histogram(instrument, &target).record(2.0),
                InstrumentKind::Observed => {
                    let source = Arc::new(Seconds(2.0));
                    parts.push(meter.observe(instrument, &target, source));
                }
                other => panic!("{other:?} is not tested"),
            }
        }
        let (_, points) = exported.collect();
        assert_eq!(points.len(), Instrument::all().len());
        for instrument in Instrument::all() {
            let name = instrument.name();
            let mut named = points.iter().filter(|point| point.name == name);
            let point = named.next().unwrap_or_else(|| panic!("{name} is there"));
            assert_eq!(point.kind, instrument.kind(), "{}", point.name);
            assert_eq!(point.unit, instrument.unit(), "{}", point.name);
            assert_eq!(point.description, instrument.description());
            assert_eq!(point.bounds, instrument.buckets(), "{}", point.name);
            let expected = match instrument.kind() {
                InstrumentKind::UpDown => -2.0,
                _ => 2.0,
            };
            assert_eq!(point.value, expected, "{}", point.name);
            assert_eq!(point.attributes["grpc.target"], "dns:///shop");
        }
    }
}

// M29
#[test]
fn a_series_without_a_value_is_not_exported() {
    for make in MAKES {
        let exported = Exported::new(*make);
        let target = [Label::new("grpc.target", "dns:///shop")];
        let counter = exported.meter.counter(instrument(STARTED), &target);
        let _level = exported.meter.up_down(instrument(OPEN), &target);
        let _histogram = exported.meter.histogram(instrument(CALLS), &target);
        assert!(exported.collect().1.is_empty());
        counter.add(1);
        // Another handle of the same series.
        exported.meter.counter(instrument(STARTED), &target).add(1);
        let (_, points) = exported.collect();
        assert_eq!((points.len(), points[0].value), (1, 2.0));
    }
}

// M30
#[tokio::test]
async fn optional_labels_that_are_not_known_are_empty() {
    for make in MAKES {
        let exported = Exported::new(*make);
        let backend = Backend::start().await;
        let channel = exported.channel(balanced(&[&backend], None), |metrics| {
            metrics.optional_labels(["grpc.lb.locality", "grpc.client.call.custom"])
        });
        hello(&channel).await.expect("an answer");
        let unknown = [("grpc.lb.locality", ""), ("grpc.client.call.custom", "")];
        assert_eq!(exported.count(ATTEMPTS, &unknown), 1.0);
        let mut labelled = Request::new(request("you"));
        labelled
            .extensions_mut()
            .insert(CustomLabel::new("checkout"));
        call(&channel, labelled).await.expect("an answer");
        let custom = [
            ("grpc.lb.locality", ""),
            ("grpc.client.call.custom", "checkout"),
        ];
        assert_eq!(exported.count(ATTEMPTS, &custom), 1.0);
        assert_eq!(exported.count(ATTEMPTS, &unknown), 1.0);
    }
}

// M31
#[tokio::test]
async fn levels_rise_and_fall() {
    for make in MAKES {
        let exported = Exported::new(*make);
        let backend = Backend::start().await;
        let channel = exported.channel(balanced(&[&backend], Some(GREETER)), |metrics| {
            metrics.enable([OPEN])
        });
        until(&channel, Ready).await;
        let of = |state| [("state", state)];
        assert_eq!(exported.count(BACKENDS, &of("ready")), 1.0);
        assert_eq!(exported.count(OPEN, &[]), 1.0);
        backend.set_not_serving(GREETER).await;
        until(&channel, TransientFailure).await;
        exported
            .until_count(BACKENDS, &of("transient_failure"), 1.0)
            .await;
        assert_eq!(exported.count(BACKENDS, &of("ready")), 0.0);
        channel.close().await;
        exported.until_count(OPEN, &[], 0.0).await;
    }
}

// M32
#[tokio::test]
async fn channels_share_a_meter_and_the_series_of_the_same_target() {
    for make in MAKES {
        let exported = Exported::new(*make);
        let backend = Backend::start().await;
        let shop = || exported.channel(balanced(&[&backend], None), as_it_is);
        let other = balanced(&[&backend], None).name("orders");
        let other = other.metrics(Metrics::new(exported.meter.clone()));
        let other = other.expect("known names").build();
        for channel in [&shop(), &shop(), &other] {
            hello(channel).await.expect("an answer");
        }
        let of = |target| [("grpc.target", target)];
        for name in [STARTED, CALLS] {
            assert_eq!(exported.count(name, &of("channel:///shop")), 2.0, "{name}");
            assert_eq!(
                exported.count(name, &of("channel:///orders")),
                1.0,
                "{name}"
            );
        }
    }
}

// M33
#[tokio::test]
async fn an_outage_counts_at_each_collection_and_stays() {
    for make in MAKES {
        let exported = Exported::new(*make);
        let backend = Backend::start().await;
        let shop = || exported.channel(balanced(&[&backend], Some(GREETER)), as_it_is);
        let channels = [shop(), shop()];
        for channel in &channels {
            until(channel, Ready).await;
        }
        backend.set_not_serving(GREETER).await;
        for channel in &channels {
            let out = "a backend that is out";
            until_that(channel, out, |status| {
                status.backends()[0].state() == TransientFailure
            })
            .await;
        }
        let out = || exported.count(BACKEND_OUT, &[("cause", "health")]);
        let first = out();
        assert!(first > 0.0, "it lasts");
        assert!(out() > first, "it is read at each collection");
        let series = exported.points(BACKEND_OUT, &[("cause", "health")]);
        assert_eq!(series.len(), 1, "the 2 channels have the same target");
        for channel in &channels {
            channel.close().await;
        }
        drop(channels);
        let last = out();
        assert!(last > first);
        assert_eq!(out(), last, "it is over");
    }
}
