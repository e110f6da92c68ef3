//! How channels are made: the constructors that tonic has, and
//! [`Channel::balance`], which has more to say.

use std::{
    any::type_name, future::Future, hash::Hash, num::NonZeroUsize, sync::Arc, time::Duration,
};

use bytes::Bytes;
use futures_util::{Stream, StreamExt};
use http::Uri;
use tokio::{runtime::Handle, sync::mpsc};
use tonic::metadata::MetadataMap;
use tower::{
    BoxError,
    discover::{Change, Discover},
};

use super::{Channel, runtime::runtime_in_context};
use crate::{
    balancer::{self, ConfigUpdates, HealthChoice, Settings},
    call::Defaults,
    discover::{self, BackendChanges, RefreshHandle, assign_ids},
    error::Error,
    health::HealthOptions,
    service_config::ServiceConfig,
    transport::{BoxTask, CallCredentials, Endpoint, Executor, RequestInfo},
    util::{backoff::BackoffConfig, contained::Contained},
};

/// Calls that may wait at a time. Enough for any service that works; a bound on
/// the memory of one that does not.
const MAX_WAITING_CALLS: usize = 100_000;

/// How long [`ChannelBuilder::connect`] waits.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(20);

/// Without a call for so long, a channel lets go of its connections; gRPC's number.
const IDLE_TIMEOUT: Duration = Duration::from_secs(30 * 60);

/// A channel in the making. Made by [`Channel::balance`].
#[must_use = "a builder does nothing until `build`"]
pub struct ChannelBuilder {
    source: BackendChanges,
    /// For the log.
    source_name: String,
    service_config: Option<ServiceConfig>,
    config_updates: Option<ConfigUpdates>,
    config_updates_disabled: bool,
    trouble: Option<RefreshHandle>,
    health: Option<HealthOptions>,
    health_service: Option<String>,
    health_disabled: bool,
    backoff: BackoffConfig,
    connections: NonZeroUsize,
    idle_timeout: Option<Duration>,
    max_waiting_calls: usize,
    tell_backend: bool,
    credentials: Option<CallCredentials>,
    allow_plaintext_credentials: bool,
    pub(super) executor: Executor,
    /// Whether its only endpoint, if there is just one, is dialled by sockets of ours.
    pub(super) needs_io: bool,
    pub(super) eager: bool,
    pub(super) defaults: Defaults,
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
        D: Discover<Service = Endpoint> + Send + 'static,
        D::Key: Hash + Eq + Clone + std::fmt::Debug + Send + Sync + 'static,
        D::Error: Into<BoxError>,
    {
        ChannelBuilder::new(assign_ids(source, label), type_name::<D>())
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
        Self::balance(futures_util::stream::iter(changes)).build()
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
            ..ChannelBuilder::new(source, "balance_channel")
        };
        (builder.build(), changes)
    }
}

impl ChannelBuilder {
    pub(super) fn new(source: BackendChanges, source_name: impl Into<String>) -> Self {
        Self {
            source,
            source_name: source_name.into(),
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
            credentials: None,
            allow_plaintext_credentials: false,
            executor: Executor::tokio(),
            needs_io: true,
            eager: true,
            defaults: Defaults::default(),
        }
    }

    /// The same with another name of its source in the log.
    pub(super) fn named(mut self, source: &str) -> Self {
        self.source_name = source.to_owned();
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
        let updates = Box::pin(updates.map(|update| update.map_err(Into::into)));
        self.config_updates = Some(Contained::new(updates));
        self
    }

    /// Takes no service config from anywhere but
    /// [`service_config`](Self::service_config).
    pub fn disable_service_config_updates(mut self) -> Self {
        self.config_updates_disabled = true;
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

    /// Checks nobody's health, whatever the service config says. That it would is one
    /// WARN, and [`HealthStatus::Disabled`](crate::HealthStatus::Disabled) at each
    /// backend.
    pub fn disable_health_check(mut self) -> Self {
        self.health_disabled = true;
        self
    }

    /// Asks for a look at the set of backends whenever one of them leaves READY, or
    /// once more cannot be used; see [`RefreshHandle`].
    pub fn on_connection_trouble(mut self, refresh: RefreshHandle) -> Self {
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
    /// for ever; less than a second is a second.
    ///
    /// A response that is still being read is a call; a `Watch` is none. The timeout
    /// is kept to an eighth: a call does not stop to look at the clock.
    pub fn idle_timeout(mut self, timeout: impl Into<Option<Duration>>) -> Self {
        self.idle_timeout = timeout.into();
        self
    }

    /// What the service config has no words for: patience, backoff, and servers
    /// that lack the health service. Has no effect unless health is checked; a channel whose
    /// only config names no service says so, in one WARN.
    pub fn health_options(mut self, options: HealthOptions) -> Self {
        self.health = Some(options);
        self
    }

    /// The pauses between attempts to connect to one backend. By default gRPC's:
    /// 1 s, growing by 1.6 up to 120 s, each ±20 %.
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
    /// # Panics
    ///
    /// If `n` is zero.
    ///
    /// ```no_run
    /// use tonic_health_channel::{Channel, discover};
    ///
    /// # async fn example() -> Result<(), tonic_health_channel::Error> {
    /// let channel = Channel::balance(discover::list(["http://10.0.0.1:50051"])?)
    ///     .connections_per_backend(4)
    ///     .build();
    /// # Ok(())
    /// # }
    /// ```
    pub fn connections_per_backend(mut self, n: usize) -> Self {
        let n = NonZeroUsize::new(n);
        self.connections = n.expect("a backend without connections takes no calls");
        self
    }

    /// How many calls may wait for a backend at a time; one more fails with
    /// RESOURCE_EXHAUSTED. 100,000 by default.
    pub fn max_waiting_calls(mut self, max: usize) -> Self {
        self.max_waiting_calls = max;
        self
    }

    /// Whether each response says in its extensions which backend it is of, by an
    /// [`AnsweredBy`](crate::AnsweredBy). Not by default: it costs three allocations
    /// per call.
    pub fn tell_backend(mut self, tell: bool) -> Self {
        self.tell_backend = tell;
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
    /// only servers use (gRFC A54). A backend whose health check has no credentials
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

    /// Sends [`call_credentials`](Self::call_credentials) over plaintext connections
    /// too, where anybody between can read and use them: for tests, and for networks
    /// that encrypt by themselves.
    pub fn allow_plaintext_credentials(mut self) -> Self {
        self.allow_plaintext_credentials = true;
        self
    }

    /// Makes the channel and starts to connect.
    ///
    /// The channel belongs to the runtime in which this is called, and ends with it. Its
    /// calls may be polled anywhere.
    ///
    /// # Panics
    ///
    /// If called outside a tokio runtime, or in one without timers or IO: `enable_all` on
    /// the runtime's `Builder` enables both.
    #[track_caller]
    pub fn build(self) -> Channel {
        let plaintext = self.allow_plaintext_credentials;
        let updates_disabled = self.config_updates_disabled;
        let config_updates = self.config_updates.filter(|_| !updates_disabled);
        let settings = Settings {
            backoff: self.backoff,
            health_choice: HealthChoice {
                service: self.health_service,
                // A later config may name a service.
                has_options: self.health.is_some() && config_updates.is_none(),
                is_disabled: self.health_disabled,
            },
            source: self.source_name,
            health: Arc::new(self.health.unwrap_or_default()),
            default_config: self.service_config.map(Arc::new),
            config_updates,
            trouble: self.trouble,
            eager: self.eager,
            connections: self.connections,
            idle_timeout: self.idle_timeout,
            max_waiting_calls: self.max_waiting_calls,
            tell_backend: self.tell_backend,
            credentials: self.credentials.map(|credentials| match plaintext {
                true => credentials.over_plaintext(),
                false => credentials,
            }),
        };
        let (commands_in, commands) = mpsc::unbounded_channel();
        // A given executor may have a runtime of its own: its worker will tell.
        let is_given = self.executor.is_given();
        let runtime = match is_given {
            true => Handle::try_current().ok(),
            false => Some(runtime_in_context(self.needs_io)),
        };
        let (board, worker) = balancer::new(self.source, settings, commands);
        match runtime {
            Some(runtime) => {
                if !is_given {
                    board.set_runtime(runtime.clone());
                }
                self.executor.bind(runtime).spawn(worker);
            }
            None => self.executor.spawn(worker),
        }
        Channel::new_on(board, commands_in, self.defaults)
    }
}

impl ChannelBuilder {
    /// [Builds](Self::build) the channel, and returns it once it is READY. That takes 20 s at
    /// most, gRPC's least connect timeout; for another bound build it, and
    /// [`wait_until_ready_within`](Channel::wait_until_ready_within) that.
    ///
    /// ```no_run
    /// use tonic_health_channel::Channel;
    ///
    /// # async fn example() -> Result<(), tonic_health_channel::Error> {
    /// let channel = Channel::target("dns:///shop.example:50051")?.connect().await?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// Those of a call that waits for a backend with this deadline:
    /// [`ErrorKind::DeadlineExceeded`](crate::ErrorKind::DeadlineExceeded), which names each
    /// backend and its reason. The channel ends with it.
    ///
    /// # Panics
    ///
    /// As [`build`](Self::build).
    ///
    /// # Cancel safety
    ///
    /// Dropping the future ends the channel.
    pub async fn connect(self) -> Result<Channel, Error> {
        let channel = self.build();
        channel.wait_until_ready_within(CONNECT_TIMEOUT).await?;
        Ok(channel)
    }
}

impl std::fmt::Debug for ChannelBuilder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ChannelBuilder")
            .field("service_config", &self.service_config)
            .field("health", &self.health)
            .finish_non_exhaustive()
    }
}

/// The name of a backend for people: its key, unless that says no more than its
/// address.
fn label<K: std::fmt::Debug>(key: &K, endpoint: &Endpoint) -> String {
    let key = format!("{key:?}");
    let bare = key.trim_matches('"');
    let address = endpoint.address();
    let bare_address = ["http://", "https://"]
        .iter()
        .find_map(|scheme| bare.trim_end_matches('/').strip_prefix(scheme));
    match bare_address == Some(&address) {
        true => address,
        false => bare.to_owned(),
    }
}
