//! The metrics that a channel records, and the meter they go to.

use std::{collections::BTreeSet, fmt, sync::Arc};

use super::{instrument::Instrument, meter::Meter};
use crate::error::{Error, ErrorKind};

/// Tells whether the calls with a path are recorded by it.
pub(super) type MethodFilter = Arc<dyn Fn(&str) -> bool + Send + Sync>;

/// The metrics that a channel records, and the [`Meter`] they go to, for
/// [`ChannelBuilder::metrics`](crate::ChannelBuilder::metrics).
///
/// By default these are the 5 instruments of each call (gRFC A66), and this crate's own about
/// health. The others cost nothing until they are enabled by name, as gRFC A79 wants it.
///
/// ```no_run
/// use tonic_health_channel::{
///     Channel,
///     metrics::{Metrics, Prometheus},
/// };
///
/// # async fn example() -> Result<(), tonic_health_channel::Error> {
/// let prometheus = Prometheus::new();
/// let metrics = Metrics::new(prometheus.clone())
///     .enable(["grpc.subchannel.disconnections", "grpc.client.call.retries"])
///     .optional_labels(["grpc.disconnect_error"]);
/// let channel = Channel::target("dns:///shop.example:50051")?.metrics(metrics)?.build();
/// // … calls …
/// print!("{}", prometheus.render());
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
#[must_use = "metrics do nothing until a channel has them"]
pub struct Metrics {
    pub(super) meter: Arc<dyn Meter>,
    pub(super) enabled: BTreeSet<String>,
    pub(super) disabled: BTreeSet<String>,
    pub(super) optional_labels: BTreeSet<String>,
    pub(super) method_filter: Option<MethodFilter>,
}

impl Metrics {
    /// All that is on by default, into `meter`.
    pub fn new(meter: impl Meter) -> Self {
        Self {
            meter: Arc::new(meter),
            enabled: BTreeSet::new(),
            disabled: BTreeSet::new(),
            optional_labels: BTreeSet::new(),
            method_filter: None,
        }
    }

    /// Also records the instruments with these names.
    pub fn enable<S: Into<String>>(mut self, names: impl IntoIterator<Item = S>) -> Self {
        for name in names.into_iter().map(S::into) {
            self.disabled.remove(&name);
            self.enabled.insert(name);
        }
        self
    }

    /// Does not record the instruments with these names.
    pub fn disable<S: Into<String>>(mut self, names: impl IntoIterator<Item = S>) -> Self {
        for name in names.into_iter().map(S::into) {
            self.enabled.remove(&name);
            self.disabled.insert(name);
        }
        self
    }

    /// Adds these labels to each instrument that [may have](Instrument::optional_labels) them.
    /// None by default, as each multiplies the number of series.
    ///
    /// `backend` is the label of a backend. A source that names others all the time leaves the
    /// series of those that are gone in the meter. Most meters bound the number:
    /// [`Prometheus`](super::Prometheus::max_series) and OpenTelemetry's SDK to 2,000 for each
    /// instrument, and further series are 1 with the label `otel.metric.overflow`.
    ///
    /// `grpc.client.call.custom` is the [`CustomLabel`](super::CustomLabel) of each request.
    pub fn optional_labels<S: Into<String>>(mut self, keys: impl IntoIterator<Item = S>) -> Self {
        self.optional_labels.extend(keys.into_iter().map(S::into));
        self
    }

    /// Records calls by their path, without its first slash, if `filter` says so.
    ///
    /// The label `grpc.method` of any other call is `other`. So a proxy of calls has no series for
    /// each path that a client makes up. The calls of tonic's generated clients need no
    /// filter: their requests have a [`tonic::GrpcMethod`] among their extensions. After 1,000
    /// methods of a channel, further ones are `other`.
    ///
    /// `filter` is called for each call whose path it has not accepted before. A panic of it
    /// counts as `false`.
    pub fn method_filter(mut self, filter: impl Fn(&str) -> bool + Send + Sync + 'static) -> Self {
        self.method_filter = Some(Arc::new(filter));
        self
    }

    /// # Errors
    ///
    /// [`ErrorKind::InvalidOption`] if a name is not known.
    pub(crate) fn check(&self) -> Result<(), Error> {
        let all = Instrument::all();
        for name in self.enabled.iter().chain(&self.disabled) {
            if !all.iter().any(|instrument| instrument.name == name) {
                return Err(unknown("metric", name));
            }
        }
        for label in &self.optional_labels {
            let has_it = |instrument: &&&Instrument| instrument.optional_labels.contains(&&**label);
            if !all.iter().any(|instrument| has_it(&instrument)) {
                return Err(unknown("optional label", label));
            }
        }
        Ok(())
    }
}

fn unknown(what: &str, name: &str) -> Error {
    let text = format!("there is no {what} `{name}`; `Instrument::all` lists what there is");
    Error::new(ErrorKind::InvalidOption, text)
}

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Metrics")
            .field("enabled", &self.enabled)
            .field("disabled", &self.disabled)
            .field("optional_labels", &self.optional_labels)
            .finish_non_exhaustive()
    }
}

/// The value of the optional label `grpc.client.call.custom` (gRFC A108): to be put into the
/// extensions of a request.
///
/// Without it the value is the empty string. Each value is a series, so the values of a program
/// should be few. After 1,000 values of a method in a channel, further ones are `other`.
///
/// ```
/// use tonic_health_channel::metrics::CustomLabel;
///
/// let mut request = tonic::Request::new(());
/// request.extensions_mut().insert(CustomLabel::new("checkout"));
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CustomLabel(Arc<str>);

impl CustomLabel {
    /// This value.
    pub fn new(value: impl Into<Arc<str>>) -> Self {
        Self(value.into())
    }

    pub(super) fn value(&self) -> &str {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::{super::Prometheus, Metrics};
    use crate::ErrorKind;

    fn metrics() -> Metrics {
        Metrics::new(Prometheus::new())
    }

    // M26
    #[test]
    fn an_unknown_name_is_an_error_that_names_it() {
        let known = "grpc.subchannel.disconnections";
        let all = [
            metrics().enable([known, "grpc.subchannel.disconnects"]),
            metrics().disable(["grpc.subchannel.disconnects"]),
            metrics().optional_labels(["backend", "grpc.subchannel.disconnects"]),
        ];
        for metrics in all {
            let error = metrics.check().expect_err("it is not known");
            assert_eq!(error.kind(), ErrorKind::InvalidOption);
            let text = error.message();
            assert!(text.contains("`grpc.subchannel.disconnects`"), "{text}");
        }
        let known = metrics().enable([known]).optional_labels(["backend"]);
        known.check().expect("all are known");
    }
}
