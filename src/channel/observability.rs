//! The metrics and traces of a channel, and the name that they have for it.

use std::sync::Arc;

use super::builder::ChannelBuilder;
use crate::{error::Error, metrics::Metrics, trace::CallTracer};

impl ChannelBuilder {
    /// Records metrics of the channel. By default there are none, which costs nothing.
    ///
    /// With it, a call reads the clock twice and adds to 5 series. It allocates no more, but for
    /// the first calls of each method and status, a request that streams, and hedges.
    /// `docs/observing.md` lists the metrics.
    ///
    /// The label `grpc.target` is the target in its canonical form: `dns:///shop.example:50051`
    /// also for `shop.example:50051`, and a URI without its path. For any other source it is
    /// `channel:///` and the [`name`](Self::name), or `balance:///`. Channels with the same
    /// target and the same meter share their series.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidOption`](crate::ErrorKind::InvalidOption) if `metrics` has a name that
    /// is not known.
    ///
    /// ```
    /// use tonic_health_channel::{
    ///     Channel,
    ///     metrics::{Metrics, Prometheus},
    /// };
    ///
    /// # fn example() -> Result<(), tonic_health_channel::Error> {
    /// let prometheus = Prometheus::new();
    /// let builder = Channel::target("dns:///shop.example:50051")?
    ///     .metrics(Metrics::new(prometheus.clone()))?;
    /// # Ok(())
    /// # }
    /// # example().unwrap();
    /// ```
    pub fn metrics(mut self, metrics: Metrics) -> Result<Self, Error> {
        metrics.check()?;
        self.metrics = Some(metrics);
        Ok(self)
    }

    /// Traces the calls of the channel, and each of their attempts (gRFC A66). By default none is
    /// traced, which costs nothing. [`tracing_spans`](crate::trace::tracing_spans) makes spans of
    /// the crate `tracing`.
    ///
    /// The tracer decides what a call costs with it. The channel itself allocates once more for each
    /// attempt. A call that [`CallTracer::start`] does not trace costs no more than that.
    ///
    /// A header that an interceptor has set goes out as it is, unless the tracer sets one with the
    /// same name.
    pub fn call_tracer(mut self, tracer: Arc<dyn CallTracer>) -> Self {
        self.call_tracer = Some(tracer);
        self
    }

    /// The name of the channel in metrics and traces (gRFC A66). A list of addresses would be another for each
    /// change of the list.
    pub(super) fn canonical_target(&self) -> String {
        match (&self.target, &self.name) {
            (Some(target), _) => target.clone(),
            (None, Some(name)) => format!("channel:///{name}"),
            (None, None) => "balance:///".to_owned(),
        }
    }
}
