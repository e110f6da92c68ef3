//! Trouble of every kind, again and again: each panel of `docs/observing/grafana.json` shows it.
//!
//! Each kind has a channel of its own, and all of them have the same meter. The servers are those
//! of this crate's tests.

use std::time::Duration;

use futures_util::stream;
use grpc_health_service::ServingStatus::{NotServing, Serving};
use h2::Reason;
use testing::{
    Answer, Backend, Configs, GREETER, H2Peer, balanced, balanced_at, by_hand, call, checking,
    dead_addr, endpoint, hello, of_all_methods, quick_health, waiting_for_ready,
};
use tokio::{
    task::JoinSet,
    time::{MissedTickBehavior, interval, sleep},
};
use tonic::Code;
use tonic_health_channel::{Channel, ChannelBuilder, Endpoint, channel::Change, metrics::Metrics};

use super::common::{Result, backend::Control};

/// The pause between 2 calls, or 2 troubles.
const OFTEN: Duration = Duration::from_millis(20);
const SELDOM: Duration = Duration::from_millis(500);

const RETRIES: &str = r#""retryPolicy": {"maxAttempts": 3, "initialBackoff": "0.01s",
    "maxBackoff": "0.01s", "backoffMultiplier": 1, "retryableStatusCodes": ["UNAVAILABLE"]}"#;

const HEDGES: &str = r#""hedgingPolicy": {"maxAttempts": 2, "hedgingDelay": "0.02s"}"#;

/// 1 of 2 outliers is ejected, and the other one is too many.
const EJECTIONS: &str = r#"{"loadBalancingConfig": [{"outlier_detection_experimental": {
    "interval": "1s", "baseEjectionTime": "0.5s", "maxEjectionTime": "0.5s",
    "maxEjectionPercent": 10,
    "failurePercentageEjection": {"threshold": 30, "minimumHosts": 1, "requestVolume": 1},
    "childPolicy": [{"round_robin": {}}]}}]}"#;

/// Does not return, unless a channel does something else than it should.
pub(crate) async fn go_on(shop: Channel, control: Control, metrics: Metrics) -> Result<()> {
    let mut all = JoinSet::new();
    all.spawn(flips(shop, control));
    all.spawn(attempts(metrics.clone()));
    all.spawn(ejections(metrics.clone()));
    all.spawn(connections(metrics.clone()));
    all.spawn(waiting(metrics.clone()));
    all.spawn(watches(metrics.clone()));
    all.spawn(sources(metrics.clone()));
    all.spawn(configs(metrics.clone()));
    #[cfg(feature = "tls-ring")]
    all.spawn(handshakes(metrics));
    match all.join_next().await {
        Some(ended) => ended?,
        None => Ok(()),
    }
}

fn build(builder: ChannelBuilder, name: &str, metrics: Metrics) -> Result<Channel> {
    Ok(builder.name(name).metrics(metrics)?.build())
}

/// The health of a backend changes under calls.
async fn flips(shop: Channel, control: Control) -> Result<()> {
    loop {
        for status in [NotServing, Serving] {
            control.set(None, status);
            for _ in 0..20 {
                hello(&shop).await?;
                sleep(OFTEN).await;
            }
        }
    }
}

/// Attempts that are followed by another one: a failure, a refusal, and silence.
async fn attempts(metrics: Metrics) -> Result<()> {
    let peer = H2Peer::start().await;
    let channel = |name: &str, rules: &str| {
        let builder = balanced_at([peer.uri()], None);
        let builder = builder.service_config(of_all_methods(rules).parse()?);
        build(builder, name, metrics.clone())
    };
    let retrying = channel("retries", RETRIES)?;
    let plain = channel("refusals", r#""waitForReady": true"#)?;
    let hedging = channel("hedges", HEDGES)?;
    for (channel, answer) in [
        (&retrying, Answer::Status(Code::Unavailable)),
        (&plain, Answer::Reset(Reason::REFUSED_STREAM)),
        (&hedging, Answer::KeepOpen),
    ]
    .iter()
    .cycle()
    {
        peer.answer_next_calls(1, *answer);
        hello(channel).await?;
        sleep(OFTEN).await;
    }
    Ok(())
}

/// Backends that say nothing of their health, and fail their calls.
async fn ejections(metrics: Metrics) -> Result<()> {
    let peers = [
        H2Peer::start().await,
        H2Peer::start().await,
        H2Peer::start().await,
    ];
    for peer in &peers[1..] {
        peer.answer_calls(Answer::Status(Code::Unavailable));
    }
    let builder = balanced_at(peers.iter().map(|peer| peer.uri()), None);
    let builder = builder.service_config(EJECTIONS.parse()?);
    let channel = build(builder, "outliers", metrics)?;
    loop {
        // 2 of 3 fail.
        let _ = hello(&channel).await;
        sleep(OFTEN).await;
    }
}

/// Connections that are cut, and a backend that refuses them.
async fn connections(metrics: Metrics) -> Result<()> {
    let (backend, refuses) = (Backend::start().await, dead_addr());
    let builder = balanced_at([backend.uri(), refuses.uri()], None);
    let channel = build(builder, "connections", metrics)?;
    loop {
        // The cut may meet it.
        let _ = call(&channel, waiting_for_ready("you", true)).await;
        backend.cut_connections();
        sleep(SELDOM).await;
    }
}

/// Calls that wait in vain.
async fn waiting(metrics: Metrics) -> Result<()> {
    let refuses = dead_addr();
    let channel = build(balanced_at([refuses.uri()], None), "waiting", metrics)?;
    loop {
        let mut request = waiting_for_ready("you", true);
        request.set_timeout(SELDOM);
        let ended = call(&channel, request).await;
        if ended.is_ok() {
            return Err("an answer of a backend that refuses connections".into());
        }
    }
}

/// Health checks that fail.
async fn watches(metrics: Metrics) -> Result<()> {
    let backend = Backend::builder().scripted().serving(GREETER).start().await;
    let builder = balanced(&[&backend], Some(GREETER));
    let _channel = build(builder, "watches", metrics)?;
    loop {
        backend.until_open_watches(1).await;
        backend.end_watches(Code::PermissionDenied);
        sleep(SELDOM).await;
    }
}

/// Backends that come and go, from a source that fails in between.
async fn sources(metrics: Metrics) -> Result<()> {
    let backend = Backend::start().await;
    let at: Endpoint = endpoint(backend.uri());
    let mut timer = interval(SELDOM);
    // The channel leaves a source alone for a while after an error.
    timer.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let turns = stream::unfold((timer, 0_u64), move |(mut timer, turn)| {
        let at = at.clone();
        async move {
            timer.tick().await;
            let item = match turn % 3 {
                0 => Ok(Change::Insert("a", at)),
                1 => Ok(Change::Remove("a")),
                _ => Err("the registry is down"),
            };
            Some((item, (timer, turn + 1)))
        }
    });
    let builder = Channel::balance(Box::pin(turns))
        .service_config(checking(GREETER))
        .health_options(quick_health());
    let channel = build(builder, "source", metrics)?;
    // Holds the channel.
    channel.watch_status().wait_for(|_| false).await;
    Ok(())
}

/// Configs that come at run time, of which each second one is invalid.
async fn configs(metrics: Metrics) -> Result<()> {
    let backend = Backend::start().await;
    let (backends, builder) = by_hand(None);
    backends.insert("a", backend.uri()).await;
    let builder = builder.name("configs").metrics(metrics)?;
    let (configs, _channel) = Configs::of(builder);
    for config in ["{}", r#"{"loadBalancingConfig": 3}"#].iter().cycle() {
        configs.say(config);
        sleep(SELDOM).await;
    }
    Ok(())
}

/// TLS handshakes, of which each second one has a certificate that has expired.
#[cfg(feature = "tls-ring")]
async fn handshakes(metrics: Metrics) -> Result<()> {
    use testing::{Authority, ServerTls, TlsFront};

    let (backend, authority) = (Backend::start().await, Authority::new());
    let good = TlsFront::of(&backend, &authority).await;
    let expired = TlsFront::start(&backend, ServerTls::new(&authority.expired())).await;
    let (backends, builder) = by_hand(None);
    for (key, front) in [("good", &good), ("expired", &expired)] {
        let endpoint = front.endpoint(authority.trusted());
        backends.insert_as(key, endpoint).await;
    }
    let channel = build(builder, "tls", metrics)?;
    loop {
        let _ = call(&channel, waiting_for_ready("you", true)).await;
        backend.cut_connections();
        sleep(SELDOM).await;
    }
}
