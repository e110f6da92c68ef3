//! The numbers in the text of a meter.

use testing::{Backend, GREETER, balanced, within};
use tonic_health_channel::{
    Channel, ChannelBuilder,
    metrics::{Metrics, Prometheus},
};

/// The method that most tests call, as it is recorded.
pub(super) const SAY_HELLO: &str = "demo.v1.Greeter/SayHello";

pub(super) const STARTED: &str = "grpc_client_attempt_started_total";
pub(super) const ATTEMPTS: &str = "grpc_client_attempt_duration_seconds_count";
pub(super) const CALLS: &str = "grpc_client_call_duration_seconds_count";
pub(super) const SENT: &str = "grpc_client_attempt_sent_total_compressed_message_size_bytes_sum";
pub(super) const RECEIVED: &str =
    "grpc_client_attempt_rcvd_total_compressed_message_size_bytes_sum";

/// A channel named `shop` over the backends, all of them with health checks, and its meter.
pub(super) fn metered(
    backends: &[&Backend],
    options: impl FnOnce(Metrics) -> Metrics,
) -> (Channel, Prometheus) {
    build(balanced(backends, Some(GREETER)), options)
}

pub(super) fn build(
    builder: ChannelBuilder,
    options: impl FnOnce(Metrics) -> Metrics,
) -> (Channel, Prometheus) {
    let prometheus = Prometheus::new();
    let metrics = options(Metrics::new(prometheus.clone()));
    let builder = builder.name("shop").metrics(metrics);
    (builder.expect("known names").build(), prometheus)
}

/// The lines of this name with these labels, each with its value.
pub(super) fn lines(
    prometheus: &Prometheus,
    name: &str,
    labels: &[(&str, &str)],
) -> Vec<(String, f64)> {
    let text = prometheus.render();
    let lines = text.lines().filter_map(|line| {
        let (series, value) = line.rsplit_once(' ')?;
        let has_name = series.split('{').next() == Some(name);
        let has = |(key, value): &(&str, &str)| {
            let label = format!("{key}=\"{value}\"");
            series.contains(&format!("{{{label}")) || series.contains(&format!(",{label}"))
        };
        let value = value.parse().ok()?;
        (has_name && labels.iter().all(has)).then(|| (series.to_owned(), value))
    });
    lines.collect()
}

/// The sum of these lines.
pub(super) fn sum(prometheus: &Prometheus, name: &str, labels: &[(&str, &str)]) -> f64 {
    let lines = lines(prometheus, name, labels);
    lines.into_iter().map(|(_, value)| value).sum()
}

/// How many calls and attempts ended with `status`: calls first.
pub(super) fn ended(prometheus: &Prometheus, status: &str) -> [f64; 2] {
    let labels = [("grpc_status", status)];
    [CALLS, ATTEMPTS].map(|name| sum(prometheus, name, &labels))
}

/// Awaits that this is their sum.
pub(super) async fn until_sum(
    prometheus: &Prometheus,
    name: &str,
    labels: &[(&str, &str)],
    expected: f64,
) {
    let reached = async {
        while sum(prometheus, name, labels) != expected {
            tokio::task::yield_now().await;
        }
    };
    within(&format!("{name} with {labels:?} to be {expected}"), reached).await;
}
