//! Metrics of a channel over 2 backends that flip, on a port that Prometheus scrapes, and the spans
//! of a call.
//!
//! It calls, takes a backend's health away and gives it back, and reads the port as Prometheus
//! does. With `--stay` it goes on until Ctrl-C, with more channels and trouble of every kind, so that
//! each panel of `docs/observing/grafana.json` shows something.
//!
//! ```text
//! $ cargo run --example observed
//! metrics: http://127.0.0.1:40123/metrics
//! calls with OK: 20
//! backends READY and SERVING: 2, then 1, then 2
//! backend A was out for 0.21 s, because of its health
//! connections that are open: 2
//! spans of a call:
//!   DEBUG call{…}:attempt{otel.name=Attempt.demo.v1.Greeter.SayHello … otel.status_code="OK"}: close
//!   DEBUG call{otel.name=Sent.demo.v1.Greeter.SayHello … otel.status_code="OK"}: close
//! ```
//!
//! Exits with 1 if a number is another than it has to be.

mod common;
#[path = "observed/trouble.rs"]
mod trouble;

use std::{
    env, io,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use axum::Router;
use common::{
    Result,
    backend::{self, GREETER, GreeterService},
    greeter::{HelloRequest, greeter_client::GreeterClient},
};
use grpc_health_service::ServingStatus::{NotServing, Serving};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    select,
};
use tonic_health_channel::{
    Channel,
    ConnectivityState::Ready,
    metrics::{Metrics, Prometheus},
    trace::tracing_spans,
};
use tracing::instrument::WithSubscriber;
use tracing_subscriber::fmt::format::FmtSpan;

const CALLS: usize = 20;
const IN_USE: &str = r#"tonic_health_channel_backends{grpc_target="channel:///shop",state="ready",health="serving"}"#;

#[tokio::main]
async fn main() -> Result<()> {
    let prometheus = Prometheus::new();
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let port = listener.local_addr()?;
    println!("metrics: http://{port}/metrics");
    let router = Router::new().route_service("/metrics", prometheus.clone());
    tokio::spawn(async { axum::serve(listener, router).await });

    let (a, control) = backend::start(GreeterService::new("A".into())).await?;
    let (b, _other) = backend::start(GreeterService::new("B".into())).await?;
    let metrics = for_dashboard(prometheus);
    let channel = Channel::list([a, b])?
        .health_check(GREETER)
        .name("shop")
        .metrics(metrics.clone())?
        .call_tracer(tracing_spans())
        .build();
    until_ready(&channel, 2).await;
    let mut client = GreeterClient::new(channel.clone());
    for _ in 0..CALLS {
        client.say_hello(HelloRequest::default()).await?;
    }
    let calls = r#"grpc_client_call_duration_seconds_count{grpc_method="demo.v1.Greeter/SayHello",grpc_target="channel:///shop",grpc_status="OK"}"#;
    println!(
        "calls with OK: {}",
        expect(port, calls, CALLS as f64).await?
    );

    let mut in_use = vec![expect(port, IN_USE, 2.0).await?];
    control.set(None, NotServing);
    until_ready(&channel, 1).await;
    in_use.push(expect(port, IN_USE, 1.0).await?);
    tokio::time::sleep(Duration::from_millis(200)).await;
    control.set(None, Serving);
    until_ready(&channel, 2).await;
    in_use.push(expect(port, IN_USE, 2.0).await?);
    let [before, between, after] = in_use[..] else {
        return Err("3 numbers".into());
    };
    println!("backends READY and SERVING: {before}, then {between}, then {after}");

    let out = r#"tonic_health_channel_backend_not_ready_time_seconds_total{grpc_target="channel:///shop",cause="health"}"#;
    let seconds = scrape(port, out).await?.ok_or("no outage")?;
    if !(0.2..10.0).contains(&seconds) {
        return Err(format!("an outage of {seconds} s").into());
    }
    println!("backend A was out for {seconds:.2} s, because of its health");
    let open = r#"grpc_subchannel_open_connections{grpc_target="channel:///shop"}"#;
    println!(
        "connections that are open: {}",
        expect(port, open, 2.0).await?
    );
    print_spans(&mut client).await?;
    if env::args().any(|word| word == "--stay") {
        select! {
            ended = tokio::signal::ctrl_c() => ended?,
            ended = trouble::go_on(channel, control, metrics) => ended?,
        }
    }
    Ok(())
}

/// One call with a subscriber that takes its spans. A program sets its subscriber once, and for all
/// calls; here 1 of them is enough.
async fn print_spans(client: &mut GreeterClient<Channel>) -> Result<()> {
    let lines = Lines::default();
    let writer = lines.clone();
    let subscriber = tracing_subscriber::fmt()
        .with_env_filter("tonic_health_channel::call=debug")
        .with_span_events(FmtSpan::CLOSE)
        .with_target(false)
        .with_ansi(false)
        .without_time()
        .with_writer(move || writer.clone())
        .finish();
    let call = client.say_hello(HelloRequest::default());
    call.with_subscriber(subscriber).await?;
    let text = lines.text();
    println!("spans of a call:");
    text.lines()
        .for_each(|line| println!("  {}", line.trim_start()));
    for wanted in [
        "otel.name=Attempt.demo.v1.Greeter.SayHello",
        "otel.name=Sent.demo.v1.Greeter.SayHello",
        r#"otel.status_code="OK""#,
        "transparent-retry=false",
    ] {
        if !text.contains(wanted) {
            return Err(format!("the spans lack {wanted}").into());
        }
    }
    Ok(())
}

/// Where the subscriber writes to.
#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<u8>>>);

impl Lines {
    fn text(&self) -> String {
        let bytes = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        String::from_utf8_lossy(&bytes).into_owned()
    }
}

impl io::Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut lines = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        lines.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// All that the dashboard shows, as `docs/observing.md` gives it.
fn for_dashboard(prometheus: Prometheus) -> Metrics {
    Metrics::new(prometheus)
        .enable([
            "grpc.client.call.hedges",
            "grpc.client.call.retries",
            "grpc.client.call.retry_delay",
            "grpc.client.call.transparent_retries",
            "grpc.client.tls.handshakes",
            "grpc.lb.outlier_detection.ejections_enforced",
            "grpc.lb.outlier_detection.ejections_unenforced",
            "grpc.subchannel.connection_attempts_failed",
            "grpc.subchannel.connection_attempts_succeeded",
            "grpc.subchannel.disconnections",
            "grpc.subchannel.open_connections",
        ])
        .optional_labels(["grpc.disconnect_error"])
}

async fn until_ready(channel: &Channel, number: usize) {
    let mut status = channel.watch_status();
    let ready = status.wait_for(|status| {
        let all = status.backends().iter();
        all.filter(|backend| backend.state() == Ready).count() == number
    });
    ready.await;
}

/// The value of this series, which has to be `expected`.
async fn expect(port: std::net::SocketAddr, series: &str, expected: f64) -> Result<f64> {
    match scrape(port, series).await? {
        Some(value) if value == expected => Ok(value),
        value => Err(format!("{series} is {value:?}, and not {expected}").into()),
    }
}

/// The value of this series, as Prometheus reads it.
async fn scrape(port: std::net::SocketAddr, series: &str) -> Result<Option<f64>> {
    let mut server = TcpStream::connect(port).await?;
    let request = format!("GET /metrics HTTP/1.1\r\nhost: {port}\r\nconnection: close\r\n\r\n");
    server.write_all(request.as_bytes()).await?;
    let mut answer = String::new();
    server.read_to_string(&mut answer).await?;
    let mut lines = answer.lines();
    let value = lines.find_map(|line| line.strip_prefix(series));
    Ok(value.map(|value| value.trim().parse()).transpose()?)
}
