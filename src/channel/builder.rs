//! How channels are made: the constructors that tonic has, and
//! [`Channel::balance`], which has more to say.

use std::{
    any::type_name, future::Future, hash::Hash, num::NonZeroUsize, sync::Arc, time::Duration,
};

use bytes::Bytes;
use futures_util::{Stream, StreamExt};
use http::Uri;
use tokio::sync::mpsc;
use tonic::metadata::MetadataMap;
use tower::{
    BoxError,
    discover::{Change, Discover},
};

use super::Channel;
use crate::{
    balancer::{ConfigUpdates, LevelSettings},
    call::Defaults,
    discover::{self, BackendChanges, RefreshHandle, assign_ids},
    health::HealthOptions,
    metrics::Metrics,
    routing::RetrySettings,
    service_config::ServiceConfig,
    trace::CallTracer,
    transport::{BoxTask, CallCredentials, Endpoint, Executor, RequestInfo},
    util::{at_least::at_least, backoff::BackoffConfig, contained::Contained},
};

/// Calls that may wait at a time. Enough for any service that works; a bound on
/// the memory of one that does not.
const MAX_WAITING_CALLS: usize = 100_000;

/// Without a call for so long, a channel lets go of its connections; gRPC's number.
const IDLE_TIMEOUT: Duration = Duration::from_secs(30 * 60);

/// The least of that, as in gRPC for Java and C++: the task looks 8 times in it.
const MIN_IDLE_TIMEOUT: Duration = Duration::from_secs(1);

/// How long a source may say nothing at first: as long as an attempt to connect.
const FIRST_BACKENDS_TIMEOUT: Duration = Duration::from_secs(20);

/// A channel in the making. Made by [`Channel::balance`].
#[must_use = "a builder does nothing until `build`"]
pub struct ChannelBuilder {
    pub(super) backends: Backends,
    pub(super) made_of: MadeOf,
    /// For the log, and where there is no target for metrics.
    pub(super) name: Option<String>,
    /// For the log, without that.
    pub(super) default_name: Option<String>,
    /// The name of its backends for metrics, in gRPC's canonical form.
    pub(super) target: Option<String>,
    pub(super) metrics: Option<Metrics>,
    pub(super) call_tracer: Option<Arc<dyn CallTracer>>,
    pub(super) first_backends_timeout: Option<Duration>,
    pub(super) service_config: Option<ServiceConfig>,
    pub(super) config_updates: Option<ConfigUpdates>,
    pub(super) config_updates_disabled: bool,
    pub(super) trouble: Option<RefreshHandle>,
    pub(super) health: Option<HealthOptions>,
    pub(super) health_service: Option<String>,
    pub(super) health_disabled: bool,
    pub(super) backoff: BackoffConfig,
    pub(super) connections: NonZeroUsize,
    pub(super) idle_timeout: Option<Duration>,
    pub(super) max_waiting_calls: usize,
    pub(super) tell_backend: bool,
    pub(super) count_calls: bool,
    pub(super) silence: Option<Duration>,
    pub(super) retries: RetrySettings,
    pub(super) levels: LevelSettings,
    pub(super) credentials: Option<CallCredentials>,
    pub(super) allow_plaintext_credentials: bool,
    pub(super) executor: Executor,
    /// Whether its only endpoint, if there is just one, is dialled by sockets of ours.
    pub(super) needs_io: bool,
    pub(super) eager: bool,
    pub(super) defaults: Defaults,
}

/// The source of a channel, and what comes with it.
pub(super) struct Backends {
    pub(super) changes: BackendChanges,
    /// The type of the source, for the log.
    pub(super) source: &'static str,
    pub(super) trouble: Option<RefreshHandle>,
    pub(super) config_updates: Option<ConfigUpdates>,
    /// Of each backend that it may name, where that is known.
    pub(super) timeout: Option<Duration>,
}

/// What [`ChannelBuilder::endpoint`] sets options of.
pub(super) enum MadeOf {
    /// Endpoints that have theirs.
    Source,
    Target {
        target: String,
        template: Box<Endpoint>,
    },
    List(Vec<Endpoint>),
}

impl Backends {
    pub(super) fn new(changes: BackendChanges, source: &'static str) -> Self {
        Self {
            changes,
            source,
            trouble: None,
            config_updates: None,
            timeout: None,
        }
    }
}

/// Constructors. Those with a name of tonic's mean what they mean there.
impl Channel {
    /// A channel over the backends that `source` names; see
    /// [`discover`] for what a source is.
    ///
    /// ```no_run
    /// use tonic_health_channel::{Channel, discover};
    ///
    /// # async fn example() -> Result<(), tonic_health_channel::Error> {
    /// let backends = discover::list(["http://10.0.0.1:50051", "http://10.0.0.2:50051"])?;
    /// let channel = Channel::balance(backends)
    ///     .service_config(r#"{"healthCheckConfig": {"serviceName": ""}}"#.parse()?)
    ///     .build();
    /// # Ok(())
    /// # }
    /// ```
    pub fn balance<D>(source: D) -> ChannelBuilder
    where
        D: Discover<Service: Into<discover::Backend>> + Send + 'static,
        D::Key: Hash + Eq + Clone + std::fmt::Debug + Send + Sync + 'static,
        D::Error: Into<BoxError>,
    {
        ChannelBuilder::new(Backends::new(assign_ids(source, label), type_name::<D>()))
    }

    /// The builder of a channel to one endpoint.
    pub fn builder(uri: Uri) -> Endpoint {
        Endpoint::from(uri)
    }

    /// The builder of a channel to one endpoint, whose URI or Unix socket is known to
    /// be right.
    ///
    /// # Panics
    ///
    /// If the text is neither.
    pub fn from_static(uri: &'static str) -> Endpoint {
        Endpoint::from_static(uri)
    }

    /// The builder of a channel to one endpoint, whose URI comes from elsewhere.
    ///
    /// # Errors
    ///
    /// If the text is not a URI. Whether it is one that can be dialled shows when
    /// it is; [`Endpoint::from_shared`] tells at once.
    pub fn from_shared(uri: impl Into<Bytes>) -> Result<Endpoint, http::uri::InvalidUri> {
        Uri::from_maybe_shared(uri.into()).map(Endpoint::from)
    }

    /// A channel over a list of endpoints, without health checks. One that is
    /// listed twice is one backend.
    ///
    /// # Panics
    ///
    /// If called outside a tokio runtime, or in one without timers or IO.
    pub fn balance_list(list: impl Iterator<Item = Endpoint>) -> Self {
        let changes: Vec<_> = list
            .map(|endpoint| Change::Insert(endpoint.name(), endpoint))
            .map(Ok::<_, std::convert::Infallible>)
            .collect();
        Self::balance(futures_util::stream::iter(changes))
            .named("balance_list")
            .connect_backoff(BackoffConfig::soon())
            .build()
    }

    /// A channel over a set of endpoints that the application changes through
    /// the sender, without health checks. Dropping the sender freezes the set.
    ///
    /// # Panics
    ///
    /// If called outside a tokio runtime, in one without timers or IO, or with a
    /// `capacity` of zero.
    pub fn balance_channel<K>(capacity: usize) -> (Self, mpsc::Sender<Change<K, Endpoint>>)
    where
        K: Hash + Eq + Send + Clone + 'static,
    {
        Self::pushed_to(capacity, Executor::tokio())
    }

    /// The same, whose own task runs on `executor`. Those of a connection run where
    /// its endpoint says. An executor without a tokio runtime borrows that in which this is
    /// called.
    ///
    /// # Panics
    ///
    /// If called with a `capacity` of zero, or if `executor` panics.
    pub fn balance_channel_with_executor<K, E>(
        capacity: usize,
        executor: E,
    ) -> (Self, mpsc::Sender<Change<K, Endpoint>>)
    where
        K: Hash + Eq + Send + Clone + 'static,
        E: hyper::rt::Executor<BoxTask> + Send + Sync + 'static,
    {
        Self::pushed_to(capacity, Executor::given(executor))
    }

    fn pushed_to<K>(
        capacity: usize,
        executor: Executor,
    ) -> (Self, mpsc::Sender<Change<K, Endpoint>>)
    where
        K: Hash + Eq + Send + Clone + 'static,
    {
        let (changes, source) = discover::push(capacity);
        let source = assign_ids(source, |_, endpoint: &Endpoint| endpoint.address());
        let builder = ChannelBuilder {
            executor,
            ..ChannelBuilder::new(Backends::new(source, "balance_channel"))
        };
        let builder = builder.named("balance_channel");
        (
            builder.connect_backoff(BackoffConfig::soon()).build(),
            changes,
        )
    }
}

impl ChannelBuilder {
    pub(super) fn new(backends: Backends) -> Self {
        Self {
            backends,
            made_of: MadeOf::Source,
            name: None,
            default_name: None,
            target: None,
            metrics: None,
            call_tracer: None,
            first_backends_timeout: Some(FIRST_BACKENDS_TIMEOUT),
            service_config: None,
            config_updates: None,
            config_updates_disabled: false,
            trouble: None,
            health: None,
            health_service: None,
            health_disabled: false,
            backoff: BackoffConfig::default(),
            connections: NonZeroUsize::MIN,
            idle_timeout: Some(IDLE_TIMEOUT),
            max_waiting_calls: MAX_WAITING_CALLS,
            tell_backend: false,
            count_calls: false,
            silence: None,
            retries: RetrySettings::default(),
            levels: LevelSettings::default(),
            credentials: None,
            allow_plaintext_credentials: false,
            executor: Executor::tokio(),
            needs_io: true,
            eager: true,
            defaults: Defaults::default(),
        }
    }

    /// The same, called so in the log unless [`name`](Self::name) says otherwise.
    pub(super) fn named(mut self, name: &str) -> Self {
        self.default_name = Some(name.to_owned());
        self
    }

    /// What the channel is called in its log lines (field `channel`). By default its target,
    /// the backend's address, or the type of its source.
    ///
    /// The metrics of a channel without a target call it `channel:///name`.
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.name = Some(name.into());
        self
    }

    /// How the channel treats its calls, in the words of gRPC's service config.
    /// Health is checked if it has a `healthCheckConfig.serviceName`. The default
    /// is the empty config: `round_robin`, and no health checks.
    ///
    /// Where [`service_config_updates`](Self::service_config_updates) bring one, this
    /// is the one to fall back on (gRFC A21).
    pub fn service_config(mut self, config: ServiceConfig) -> Self {
        self.service_config = Some(config);
        self
    }

    /// Service configs that come while the channel lives. Each takes the place of the
    /// one before in all it says: rules for methods apply to calls that are made from
    /// then on, another name to check the health of is asked about at once, on the
    /// connections there are, and a backend stays as it is until the answer.
    ///
    /// An item is a config, `None` if there is none (then the one of
    /// [`service_config`](Self::service_config) counts), or an error. As gRFC A21 has
    /// it:
    ///
    /// - Before the first item the channel is CONNECTING, starts nothing, and calls
    ///   wait.
    /// - If the first is an error, [`service_config`](Self::service_config) counts if
    ///   it was called; else the channel is in TRANSIENT_FAILURE until there is a
    ///   valid one.
    /// - After a valid one, an error changes nothing but the logs.
    /// - A stream that ends leaves what is in force; one that ends without an item had
    ///   no config.
    ///
    /// ```no_run
    /// use tokio::sync::mpsc;
    /// use tonic_health_channel::{Channel, Error, ServiceConfig, discover};
    ///
    /// # async fn example(mut texts: mpsc::Receiver<String>) -> Result<(), Error> {
    /// // `texts` come from a file or a control plane.
    /// let configs = futures_util::stream::poll_fn(move |cx| {
    ///     let parsed = |text: String| text.parse::<ServiceConfig>().map(Some);
    ///     texts.poll_recv(cx).map(|text| text.map(parsed))
    /// });
    /// let channel = Channel::balance(discover::list(["http://10.0.0.1:50051"])?)
    ///     .service_config_updates(configs)
    ///     .build();
    /// # Ok(())
    /// # }
    /// ```
    pub fn service_config_updates<S, E>(mut self, updates: S) -> Self
    where
        S: Stream<Item = Result<Option<ServiceConfig>, E>> + Send + 'static,
        E: Into<BoxError> + 'static,
    {
        self.config_updates = Some(config_updates(updates));
        self
    }

    /// Whether to take no service config from anywhere but
    /// [`service_config`](Self::service_config). Not by default.
    pub fn disable_service_config_updates(mut self, disable: bool) -> Self {
        self.config_updates_disabled = disable;
        self
    }

    /// Checks the health of `service` at each backend (gRFC A17), as
    /// `healthCheckConfig.serviceName` does. The empty name is the whole server.
    ///
    /// A service config that has a `healthCheckConfig` counts in its place, which is one WARN
    /// where it says something else. Not with `pick_first`, as in gRPC.
    ///
    /// ```no_run
    /// use tonic_health_channel::{Channel, discover};
    ///
    /// # async fn example() -> Result<(), tonic_health_channel::Error> {
    /// let backends = discover::list(["http://10.0.0.1:50051", "http://10.0.0.2:50051"])?;
    /// let channel = Channel::balance(backends).health_check("demo.Greeter").build();
    /// # Ok(())
    /// # }
    /// ```
    pub fn health_check(mut self, service: impl Into<String>) -> Self {
        self.health_service = Some(service.into());
        self
    }

    /// Whether to check no health, even if the service config enables health checks. Not by
    /// default. That it would is one WARN, and [`HealthStatus::Disabled`](crate::health::HealthStatus::Disabled) at each
    /// backend.
    pub fn disable_health_check(mut self, disable: bool) -> Self {
        self.health_disabled = disable;
        self
    }

    /// Asks for a look at the set of backends whenever one of them leaves READY, or
    /// once more cannot be used; see [`RefreshHandle`].
    pub fn on_reresolution_needed(mut self, refresh: RefreshHandle) -> Self {
        self.trouble = Some(refresh);
        self
    }

    /// Whether calls wait in TRANSIENT_FAILURE for a backend, instead of failing at
    /// once. Not by default. A call ([`WaitForReady`](crate::WaitForReady)) or the
    /// service config (`waitForReady` of its method) can say otherwise.
    pub fn wait_for_ready(mut self, wait: bool) -> Self {
        self.defaults.wait_for_ready = wait;
        self
    }

    /// How long the channel may be without a call before it is IDLE, and without
    /// connections, until the next one. 30 minutes by default, as in gRPC; `None` is
    /// for ever. Less than a second counts as a second, as in gRPC for Java and C++, and is one
    /// WARN.
    ///
    /// A response that is still being read is a call; a `Watch` is none. The timeout
    /// is kept to an eighth: a call does not stop to look at the clock.
    pub fn idle_timeout(mut self, timeout: impl Into<Option<Duration>>) -> Self {
        let at_least = |timeout| at_least("idle_timeout", timeout, MIN_IDLE_TIMEOUT);
        self.idle_timeout = timeout.into().map(at_least);
        self
    }

    /// What the service config has no words for: patience, backoff, and servers
    /// that lack the health service. Has no effect unless health is checked; a channel whose
    /// only config names no service says so, in one WARN.
    pub fn health_options(mut self, options: HealthOptions) -> Self {
        self.health = Some(options);
        self
    }

    /// How long the source may name no backend until the channel is TRANSIENT_FAILURE, and
    /// calls fail with that reason; from the start, or from when it leaves IDLE. Once the
    /// source names one, all is as ever. 20 s by default; `None` is for ever, as in gRPC.
    pub fn first_backends_timeout(mut self, timeout: impl Into<Option<Duration>>) -> Self {
        self.first_backends_timeout = timeout.into();
        self
    }

    /// The pauses between attempts to connect to one backend. By default gRPC's:
    /// 1 s, growing by 1.6 up to 120 s, each ±20 %. An endpoint can
    /// [say otherwise](crate::Endpoint::connect_backoff) for itself. Channels by tonic's
    /// constructors begin with 100 ms, as tonic connects again with the next call.
    pub fn connect_backoff(mut self, backoff: BackoffConfig) -> Self {
        self.backoff = backoff;
        self
    }

    /// How many connections each backend has for its calls. One by default, as in gRPC,
    /// and enough for nearly everybody: it carries as many calls at a time as the server
    /// allows streams. An endpoint can
    /// [say otherwise](crate::Endpoint::connections_per_backend) for itself.
    ///
    /// More are for when one connection is what holds calls up:
    ///
    /// - **Streams.** A server that allows 100 of them has the 101st call wait, or go
    ///   to another backend. With `n` connections it has `n` times as many (gRFC A105).
    ///   Where the number can be raised at the server, that is simpler.
    /// - **Throughput.** Few backends and many callers on several threads, who take
    ///   turns at the connection's one lock; large messages, for which one TCP
    ///   connection has one congestion window; a server or a proxy that gives each
    ///   connection one core.
    ///
    /// The price is `n` sockets, TLS handshakes and sets of buffers for each backend,
    /// here and there, and that fewer calls share a segment. Two connections to a single
    /// backend gave two busy threads a quarter more calls for a quarter less CPU; one
    /// thread, or four backends, gained nothing, and four connections made it a sixth
    /// worse (`docs/benchmarks.md`). Measure.
    ///
    /// Health is watched on the first connection alone, and counts for all of them. It
    /// is connected as ever; the others follow one by one, at least 100 ms apart, and
    /// calls use those there are, in turn. The share of a backend does not depend on how
    /// many it has. One that is lost is dialled again with
    /// [backoff](Self::connect_backoff), and if it was the first, another takes its
    /// place, and the `Watch` moves there. So all of them must lead to the same server:
    /// not so behind a load balancer that shares connections out.
    ///
    /// Unlike gRFC A105, which opens connections as streams run out, these are always
    /// open, so the service config's `connectionScaling` has no part in it.
    /// [`Channel::ready_backends`] names the first one alone.
    ///
    /// ```no_run
    /// use std::num::NonZeroUsize;
    /// use tonic_health_channel::{Channel, discover};
    ///
    /// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
    /// let channel = Channel::balance(discover::list(["http://10.0.0.1:50051"])?)
    ///     .connections_per_backend(NonZeroUsize::try_from(4)?)
    ///     .build();
    /// # Ok(())
    /// # }
    /// ```
    pub fn connections_per_backend(mut self, n: NonZeroUsize) -> Self {
        self.connections = n;
        self
    }

    /// How many calls may wait for a backend at a time; one more fails with
    /// RESOURCE_EXHAUSTED. 100,000 by default.
    pub fn max_waiting_calls(mut self, max: usize) -> Self {
        self.max_waiting_calls = max;
        self
    }

    /// Whether each response says in its extensions which backend it is of, by an
    /// [`AnsweredBy`](crate::channel::AnsweredBy). Not by default: it costs three allocations
    /// per call.
    pub fn tell_backend(mut self, tell: bool) -> Self {
        self.tell_backend = tell;
        self
    }

    /// Whether each backend counts how the calls on it end: the numbers are in
    /// [`BackendStatus::calls`](crate::status::BackendStatus::calls). Not by default: a call then
    /// writes 2 more counters that all calls of its backend share.
    ///
    /// ```
    /// use tonic_health_channel::{Channel, discover};
    ///
    /// # async fn example() -> Result<(), tonic_health_channel::Error> {
    /// let backends = discover::list(["http://10.0.0.1:50051", "http://10.0.0.2:50051"])?;
    /// let channel = Channel::balance(backends).count_calls(true).build();
    /// // … calls …
    /// for backend in &channel.backends() {
    ///     if let Some(calls) = backend.calls() {
    ///         println!("{}: {} of {} failed", backend.label(), calls.failed, calls.started);
    ///     }
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub fn count_calls(mut self, count: bool) -> Self {
        self.count_calls = count;
        self
    }

    /// Adds to every call what `credentials` gives for it, such as an access token;
    /// to `Watch` and `Check` of the health checks too.
    ///
    /// It is asked once a backend has been picked, and again for another attempt, in
    /// the call's own task and deadline. The call holds its stream meanwhile, so a
    /// token is better kept and renewed than fetched for each call, and never
    /// fetched over this same channel. What it gives stands beside what the caller
    /// has put into the request.
    ///
    /// Channels over one endpoint have them too if they are made here, over a list of
    /// one.
    ///
    /// Its error fails the call, before anything is sent, with
    /// [`ErrorKind::Credentials`](crate::ErrorKind::Credentials): with its code, or INTERNAL if that is one that
    /// only servers use (gRFC A54). Where the method has a retry policy that lists the code,
    /// another attempt follows. A backend whose health check has no credentials
    /// is in TRANSIENT_FAILURE, with that reason.
    ///
    /// As in gRPC, credentials are only sent over TLS: on a plaintext connection the
    /// call fails with UNAUTHENTICATED, and `credentials` is not even asked. See
    /// [`allow_plaintext_credentials`](Self::allow_plaintext_credentials), and
    /// [`RequestInfo::service_url`] for an example.
    pub fn call_credentials<F, C>(mut self, credentials: F) -> Self
    where
        F: Fn(RequestInfo) -> C + Send + Sync + 'static,
        C: Future<Output = Result<MetadataMap, tonic::Status>> + Send + 'static,
    {
        self.credentials = Some(CallCredentials::new(credentials));
        self
    }

    /// Whether to send [`call_credentials`](Self::call_credentials) over plaintext connections
    /// too, for tests, and for networks that encrypt by themselves. Every host on the way can
    /// read and use them. Not by default.
    pub fn allow_plaintext_credentials(mut self, allow: bool) -> Self {
        self.allow_plaintext_credentials = allow;
        self
    }
}

pub(super) fn config_updates<S, E>(updates: S) -> ConfigUpdates
where
    S: Stream<Item = Result<Option<ServiceConfig>, E>> + Send + 'static,
    E: Into<BoxError> + 'static,
{
    Contained::new(Box::pin(updates.map(|update| update.map_err(Into::into))))
}

/// The name of a backend for people: the label of its endpoint, or its key; if that is its URI,
/// its address.
fn label<K: std::fmt::Debug>(key: &K, endpoint: &Endpoint) -> String {
    if let Some(label) = endpoint.given_label() {
        return label.to_owned();
    }
    let key = format!("{key:?}");
    let bare = key.trim_matches('"');
    let uri = endpoint.uri().to_string();
    match bare.trim_end_matches('/') == uri.trim_end_matches('/') {
        true => endpoint.address(),
        false => bare.to_owned(),
    }
}
