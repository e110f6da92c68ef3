//! What a user may change about health checking.

use std::time::Duration;

use crate::util::{
    at_least::at_least,
    backoff::{BackoffConfig, MIN_INTERVAL},
};

/// How backends are asked about their health, once a service config names a
/// service in `healthCheckConfig` (gRFC A17).
///
/// The default does what gRFC A17 says, with one exception: a backend that
/// accepts the question and says nothing fails after
/// [20 seconds](Self::first_response_timeout).
///
/// ```
/// use std::time::Duration;
/// use tonic_health_channel::{
///     HealthOptions,
///     health::{OnNotFound, OnUnimplemented},
/// };
///
/// let options = HealthOptions::default()
///     .first_response_timeout(Duration::from_secs(5))
///     .on_unimplemented(OnUnimplemented::Unhealthy)
///     .on_not_found(OnNotFound::RetryEvery(Duration::from_secs(1)));
/// assert_ne!(options, HealthOptions::default());
/// ```
#[derive(Clone, Debug, PartialEq)]
#[must_use = "options do nothing until a builder has them"]
pub struct HealthOptions {
    pub(super) backoff: BackoffConfig,
    pub(super) first_response_timeout: Option<Duration>,
    pub(super) on_unimplemented: OnUnimplemented,
    pub(super) on_not_found: OnNotFound,
    pub(super) assume_healthy_until_first_response: bool,
}

/// What a backend without `grpc.health.v1.Health/Watch` counts as.
///
/// A proxy or an HTTP server that answers 404 counts as such a backend: gRPC
/// maps 404 to UNIMPLEMENTED.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum OnUnimplemented {
    /// It is READY, one ERROR is logged, and it is not asked again on this
    /// connection. This is the default and gRFC A17's rule ("Client Behavior"):
    /// health checking can be configured before every server implements it.
    #[default]
    AssumeHealthy,
    /// The unary `Check` is called instead, again and again, on the same
    /// connection: `SERVING` is READY, any other answer, an error or no answer in
    /// time is TRANSIENT_FAILURE. A backend without `Check` too is assumed
    /// healthy. For servers with only half of the health service; gRPC clients
    /// of other languages never do this.
    PollCheck {
        /// From the start of one `Check` to the start of the next; at least
        /// 100 ms. A shorter one counts as that, and is one WARN.
        interval: Duration,
        /// How long one `Check` may take; at least 100 ms. A shorter one counts
        /// as that, and is one WARN.
        timeout: Duration,
    },
    /// It is in TRANSIENT_FAILURE for as long as this connection lasts, and one
    /// WARN is logged. For deployments where every server must have it.
    Unhealthy,
}

/// When to ask again after a backend ended `Watch` with NOT_FOUND.
///
/// The health protocol wants `SERVICE_UNKNOWN` on an open stream for a name that
/// is not registered (yet), and then no question needs to be repeated. Some
/// servers, those of `tonic-health` among them, end the stream instead.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum OnNotFound {
    /// As after any other failure, with growing delays. The default, and what
    /// gRFC A17 says ("Client Behavior"): a backend that registers the name late
    /// may be noticed as late as the [backoff](HealthOptions::backoff) allows.
    #[default]
    Backoff,
    /// This long after the start of the question, every time. At least 100 ms. A
    /// shorter one counts as that, and is one WARN.
    RetryEvery(Duration),
}

impl HealthOptions {
    /// The delays between questions that got no answer, counted from the start
    /// of each.
    ///
    /// Default: gRPC's, 1 s growing to 120 s, which is what other gRPC clients
    /// have fixed. Any answer starts it over. Questions never start closer
    /// together than 100 ms, whatever is set here.
    pub fn backoff(mut self, backoff: BackoffConfig) -> Self {
        self.backoff = backoff;
        self
    }

    /// How long a backend may take to its first answer on a `Watch` stream.
    ///
    /// When it passes, the backend is in TRANSIENT_FAILURE, the stream is
    /// cancelled and opened anew. Default: 20 s, as long as gRPC gives a
    /// connection to come up, because the health protocol asks clients to set a
    /// deadline and a hung server would otherwise hold calls in CONNECTING.
    /// `None` is the letter of gRFC A17: wait for ever. Later messages have no
    /// limit: a healthy backend has nothing to say.
    pub fn first_response_timeout(mut self, timeout: impl Into<Option<Duration>>) -> Self {
        self.first_response_timeout = timeout.into();
        self
    }

    /// What a backend without a health service counts as. Default: healthy, as
    /// gRFC A17 says.
    pub fn on_unimplemented(mut self, rule: OnUnimplemented) -> Self {
        self.on_unimplemented = match rule {
            OnUnimplemented::PollCheck { interval, timeout } => OnUnimplemented::PollCheck {
                interval: at_least("PollCheck interval", interval, MIN_INTERVAL),
                timeout: at_least("PollCheck timeout", timeout, MIN_INTERVAL),
            },
            rule @ (OnUnimplemented::AssumeHealthy | OnUnimplemented::Unhealthy) => rule,
        };
        self
    }

    /// When to ask again after NOT_FOUND. Default: with backoff, as gRFC A17
    /// says.
    pub fn on_not_found(mut self, rule: OnNotFound) -> Self {
        self.on_not_found = match rule {
            OnNotFound::RetryEvery(interval) => {
                OnNotFound::RetryEvery(at_least("RetryEvery", interval, MIN_INTERVAL))
            }
            OnNotFound::Backoff => OnNotFound::Backoff,
        };
        self
    }

    /// Whether a new connection is READY before the backend said anything about
    /// its health.
    ///
    /// Default: `false`, as gRFC A17 says ("Client Behavior"): the backend is
    /// CONNECTING until its first answer, one more round trip. `true` saves that
    /// round trip and risks calls to a backend that is about to say no.
    pub fn assume_healthy_until_first_response(mut self, assume: bool) -> Self {
        self.assume_healthy_until_first_response = assume;
        self
    }
}

impl Default for HealthOptions {
    fn default() -> Self {
        Self {
            backoff: BackoffConfig::default(),
            first_response_timeout: Some(Duration::from_secs(20)),
            on_unimplemented: OnUnimplemented::default(),
            on_not_found: OnNotFound::default(),
            assume_healthy_until_first_response: false,
        }
    }
}
