//! Backends of several priorities and localities over real sockets, and panic.

use std::num::NonZeroU32;

use testing::{
    Answer, Backend, GREETER, H2Peer, checking, dead_addr, endpoint, hello, outcome, quick_backoff,
    quick_health, refusal, spread, start, start_patient, until, until_backends, until_that, within,
};
use tokio::sync::mpsc;
use tonic_health_channel::{
    Channel, ChannelBuilder,
    ConnectivityState::{Ready, TransientFailure},
    ServiceConfig,
    channel::Change,
    discover::{self, Locality},
    status::ChannelStatus,
};

/// A set of backends with attributes, and the builder of a channel over it.
fn by_hand() -> (Source, ChannelBuilder) {
    let (changes, source) = discover::push(64);
    let builder = Channel::balance(source)
        .connect_backoff(quick_backoff())
        .health_options(quick_health())
        .service_config(checking(GREETER));
    (Source(changes), builder)
}

struct Source(mpsc::Sender<Change<&'static str, discover::Backend>>);

impl Source {
    async fn insert(&self, key: &'static str, backend: discover::Backend) {
        let sent = self.0.send(Change::Insert(key, backend)).await;
        sent.expect("the channel listens");
    }
}

fn at(uri: String) -> discover::Backend {
    discover::Backend::new(endpoint(uri))
}

fn zone(zone: &str) -> Locality {
    Locality {
        zone: zone.to_owned(),
        ..Locality::default()
    }
}

// D430, N10
#[tokio::test]
async fn calls_stay_in_the_zone_and_spill_over_as_its_backends_fail() {
    let all = Backend::builder().serving(GREETER);
    let [a, b, far] = all.start_each(["a", "b", "far"]).await;
    let (source, builder) = by_hand();
    let channel = builder.locality(zone("here")).build();
    for (key, backend, place) in [("a", &a, "here"), ("b", &b, "here"), ("far", &far, "there")] {
        source
            .insert(key, at(backend.uri()).locality(zone(place)))
            .await;
    }
    until_backends(&channel, &[Ready; 3]).await;
    assert_eq!(spread(&channel, 20, &[&a, &b, &far]).await, [10, 10, 0]);

    a.set_not_serving(GREETER).await;
    until_backends(&channel, &[TransientFailure, Ready, Ready]).await;
    let hits = spread(&channel, 300, &[&a, &b, &far]).await;
    // 30 %, with 5 standard deviations to each side.
    assert!(hits[0] == 0 && (51..=129).contains(&hits[2]), "{hits:?}");

    b.kill().await;
    until_backends(&channel, &[TransientFailure, TransientFailure, Ready]).await;
    assert_eq!(spread(&channel, 20, &[&a, &b, &far]).await, [0, 0, 20]);

    a.set_serving(GREETER).await;
    b.restart().await;
    until_backends(&channel, &[Ready; 3]).await;
    assert_eq!(spread(&channel, 20, &[&a, &b, &far]).await, [10, 10, 0]);
}

// D420, N08
#[tokio::test]
async fn another_priority_moves_calls_and_keeps_the_connection_and_its_streams() {
    let [a, b] = Backend::builder()
        .serving(GREETER)
        .start_each(["a", "b"])
        .await;
    let (source, builder) = by_hand();
    let channel = builder.build();
    source.insert("a", at(a.uri())).await;
    source.insert("b", at(b.uri()).priority(1)).await;
    until_backends(&channel, &[Ready; 2]).await;
    let held = start(&channel, "hold");
    a.until_held(1).await;

    source.insert("a", at(a.uri()).priority(2)).await;
    let moved = |status: &ChannelStatus| status.backends()[0].priority() == 2;
    until_that(&channel, "another priority", moved).await;
    assert_eq!(spread(&channel, 10, &[&a, &b]).await, [0, 10]);
    let numbers: Vec<_> = channel
        .status()
        .priorities()
        .iter()
        .map(|p| p.priority())
        .collect();
    assert_eq!(numbers, [1, 2]);

    a.release();
    assert_eq!(outcome(held).await.expect("an answer").backend, "a");
    assert_eq!((a.connections(), b.connections()), (1, 1));
}

// N26
#[tokio::test]
async fn in_panic_calls_go_to_backends_that_say_not_serving() {
    let [a, b, c] = Backend::builder()
        .serving(GREETER)
        .start_each(["a", "b", "c"])
        .await;
    for (threshold, answers) in [(0, false), (50, true)] {
        let (source, builder) = by_hand();
        let channel = builder.panic_threshold(threshold).build();
        for (key, backend) in [("a", &a), ("b", &b), ("c", &c)] {
            source.insert(key, at(backend.uri())).await;
        }
        until_backends(&channel, &[Ready; 3]).await;
        for backend in [&a, &b, &c] {
            backend.set_not_serving(GREETER).await;
        }
        until_backends(&channel, &[TransientFailure; 3]).await;
        if answers {
            until(&channel, Ready).await;
            assert_eq!(spread(&channel, 9, &[&a, &b, &c]).await, [3, 3, 3]);
            assert!(
                channel
                    .backends()
                    .iter()
                    .all(|backend| backend.takes_calls())
            );
            c.kill().await;
            let gone = |status: &ChannelStatus| !status.backends()[2].takes_calls();
            until_that(&channel, "a lost backend", gone).await;
            assert_eq!(spread(&channel, 8, &[&a, &b]).await, [4, 4]);
        } else {
            let text = refusal(&channel).await;
            assert!(text.contains("NOT_SERVING"), "{text}");
            assert!(channel.status().priorities().is_empty());
        }
        for backend in [&a, &b] {
            backend.set_serving(GREETER).await;
        }
        if answers {
            until_backends(&channel, &[Ready, Ready, TransientFailure]).await;
            assert!(!channel.status().priorities()[0].is_in_panic());
        }
        c.set_serving(GREETER).await;
    }
}

// D431
/// A call that waits is served when panic opens a backend, and not before.
#[tokio::test]
async fn panic_serves_calls_that_wait() {
    let [a, b] = Backend::builder()
        .serving(GREETER)
        .start_each(["a", "b"])
        .await;
    let (source, builder) = by_hand();
    let channel = builder.panic_threshold(60).build();
    a.set_not_serving(GREETER).await;
    source.insert("a", at(a.uri())).await;
    source.insert("b", at(dead_addr().uri()).priority(1)).await;
    until(&channel, Ready).await;
    assert_eq!(hello(&channel).await.expect("in panic").backend, "a");

    source.insert("b", at(b.uri()).priority(1)).await;
    let healthy = |status: &ChannelStatus| status.backends()[1].state() == Ready;
    until_that(&channel, "a healthy backend", healthy).await;
    assert_eq!(
        spread(&channel, 5, &[&a, &b]).await,
        [0, 5],
        "100 % suffice"
    );

    b.kill().await;
    let patient = start_patient(&channel, "you");
    assert_eq!(outcome(patient).await.expect("an answer").backend, "a");
}

// D427
#[tokio::test]
async fn a_zone_without_a_free_stream_passes_calls_on() {
    let near = H2Peer::limited_to(1).await;
    near.answer_calls(Answer::KeepOpen);
    let far = Backend::builder().serving(GREETER).start().await;
    let (source, builder) = by_hand();
    let channel = builder
        .service_config(ServiceConfig::default())
        .locality(zone("here"))
        .build();
    source
        .insert("near", at(near.uri()).locality(zone("here")))
        .await;
    source
        .insert("far", at(far.uri()).locality(zone("there")))
        .await;
    until_backends(&channel, &[Ready; 2]).await;
    let stuck = start(&channel, "you");
    near.until_calls(1).await;
    within("an answer from afar", hello(&channel))
        .await
        .expect("an answer");
    assert_eq!(far.hits(), 1);
    stuck.abort();
}

// D423
#[tokio::test]
async fn without_reports_weights_of_the_source_share_the_calls() {
    let [a, b] = Backend::builder().start_each(["a", "b"]).await;
    let (source, builder) = by_hand();
    let config = r#"{"loadBalancingConfig": [{"weighted_round_robin": {}}]}"#;
    let channel = builder
        .service_config(config.parse().expect("valid"))
        .build();
    let weight = NonZeroU32::new(3).expect("not 0");
    source.insert("a", at(a.uri()).weight(weight)).await;
    source.insert("b", at(b.uri())).await;
    until_backends(&channel, &[Ready; 2]).await;
    assert_eq!(spread(&channel, 400, &[&a, &b]).await, [300, 100]);

    source.insert("a", at(a.uri())).await;
    let is_light = |status: &ChannelStatus| status.backends()[0].weight().get() == 1;
    until_that(&channel, "another weight", is_light).await;
    assert_eq!(spread(&channel, 40, &[&a, &b]).await, [20, 20]);
    assert_eq!(a.connections(), 1);
}
