//! How channels are made: the constructors that tonic has, and
//! [`Channel::balance`], which has more to say.

use std::{hash::Hash, sync::Arc, time::Duration};

use bytes::Bytes;
use http::Uri;
use tokio::sync::{mpsc, oneshot};
use tower::{
    BoxError,
    discover::{Change, Discover},
};
use tracing::warn;

use crate::{
    backoff::BackoffConfig,
    balancer::{self, Settings},
    channel::Channel,
    connectivity::ConnectivityState,
    discover::{self, Source, named},
    error::{Error, ErrorKind},
    health::HealthOptions,
    service_config::ServiceConfig,
    snapshot::Status,
    transport::{Endpoint, Executor},
};

/// Calls that may wait at a time. Enough for any service that works; a bound on
/// the memory of one that does not.
const MAX_WAITING_CALLS: usize = 100_000;

/// A channel in the making. Made by [`Channel::balance`].
#[must_use = "a builder does nothing until `build`"]
pub struct ChannelBuilder {
    source: Source,
    service_config: ServiceConfig,
    health: HealthOptions,
    backoff: BackoffConfig,
    max_waiting_calls: usize,
    executor: Executor,
    eager: bool,
    header_timeout: Option<Duration>,
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
        ChannelBuilder::new(named(source, label))
    }

    /// The builder of a channel to one endpoint.
    pub fn builder(uri: Uri) -> Endpoint {
        Endpoint::from(uri)
    }

    /// The builder of a channel to one endpoint, whose URI is known to be right.
    ///
    /// # Panics
    ///
    /// If the text is not a URI.
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
    /// If called outside a tokio runtime.
    pub fn balance_list(list: impl Iterator<Item = Endpoint>) -> Self {
        let changes: Vec<_> = list
            .map(|endpoint| Change::Insert(endpoint.uri().clone(), endpoint))
            .map(Ok::<_, std::convert::Infallible>)
            .collect();
        Self::balance(futures_util::stream::iter(changes)).build()
    }

    /// A channel over a set of endpoints that the application changes through
    /// the sender, without health checks. Dropping the sender freezes the set.
    ///
    /// # Panics
    ///
    /// If called outside a tokio runtime, or with a `capacity` of zero.
    pub fn balance_channel<K>(capacity: usize) -> (Self, mpsc::Sender<Change<K, Endpoint>>)
    where
        K: Hash + Eq + Send + Clone + 'static,
    {
        let (changes, source) = discover::push(capacity);
        let source = named(source, |_, endpoint: &Endpoint| endpoint.address());
        (ChannelBuilder::new(source).build(), changes)
    }
}

impl ChannelBuilder {
    fn new(source: Source) -> Self {
        Self {
            source,
            service_config: ServiceConfig::default(),
            health: HealthOptions::default(),
            backoff: BackoffConfig::default(),
            max_waiting_calls: MAX_WAITING_CALLS,
            executor: Executor::tokio(),
            eager: true,
            header_timeout: None,
        }
    }

    /// How the channel treats its calls, in the words of gRPC's service config.
    /// Health is checked if it has a `healthCheckConfig.serviceName`. The default
    /// is the empty config: `round_robin`, and no health checks.
    pub fn service_config(mut self, config: ServiceConfig) -> Self {
        self.service_config = config;
        self
    }

    /// What the service config has no words for: patience, backoff, and servers
    /// that lack the health service. Has no effect unless health is checked.
    pub fn health_options(mut self, options: HealthOptions) -> Self {
        self.health = options;
        self
    }

    /// The pauses between attempts to connect to one backend. By default gRPC's:
    /// 1 s, growing by 1.6 up to 120 s, each ±20 %.
    pub fn connect_backoff(mut self, backoff: BackoffConfig) -> Self {
        self.backoff = backoff;
        self
    }

    /// How many calls may wait for a backend at a time; one more fails with
    /// RESOURCE_EXHAUSTED. 100,000 by default.
    pub fn max_waiting_calls(mut self, max: usize) -> Self {
        self.max_waiting_calls = max;
        self
    }

    /// Makes the channel and starts to connect.
    ///
    /// # Panics
    ///
    /// If called outside a tokio runtime.
    pub fn build(self) -> Channel {
        self.warn_of_what_has_no_effect();
        let service = self.service_config.health_check_service();
        let settings = Settings {
            backoff: self.backoff,
            health: service.map(|service| (Arc::new(self.health), Arc::from(service))),
            eager: self.eager,
            max_waiting_calls: self.max_waiting_calls,
        };
        let (stop, stopped) = oneshot::channel();
        let (board, worker) = balancer::new(self.source, settings, stopped);
        self.executor.spawn(worker);
        Channel::new_on(board, stop, self.header_timeout)
    }

    fn warn_of_what_has_no_effect(&self) {
        let fields = self.service_config.fields_without_effect();
        if !fields.is_empty() {
            warn!(
                ?fields,
                "these fields of the service config have no effect yet"
            );
        }
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

impl Endpoint {
    /// Connects, and returns the channel once it is READY.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Unavailable`] with the reason if the first attempt fails.
    /// A channel that has been READY connects again by itself.
    ///
    /// # Panics
    ///
    /// If called outside a tokio runtime.
    pub async fn connect(&self) -> Result<Channel, Error> {
        let channel = self.single(true);
        let settled = channel
            .watch_status()
            .wait_for(|status| status.state() != ConnectivityState::Connecting)
            .await;
        match settled.state() {
            ConnectivityState::Ready => Ok(channel),
            _ => Err(Error::new(ErrorKind::Unavailable, first_failure(&settled))),
        }
    }

    /// A channel that connects with its first call.
    ///
    /// # Panics
    ///
    /// If called outside a tokio runtime.
    pub fn connect_lazy(&self) -> Channel {
        self.single(false)
    }

    fn single(&self, eager: bool) -> Channel {
        let change = Change::Insert((), self.clone());
        let source = futures_util::stream::iter([Ok::<_, std::convert::Infallible>(change)]);
        let source = named(source, |(), endpoint: &Endpoint| endpoint.address());
        let builder = ChannelBuilder {
            executor: self.get_executor().clone(),
            eager,
            header_timeout: self.call_timeout(),
            ..ChannelBuilder::new(source)
        };
        builder.build()
    }
}

/// The name of a backend for people: its key, unless that says no more than its
/// address.
fn label<K: std::fmt::Debug>(key: &K, endpoint: &Endpoint) -> String {
    let key = format!("{key:?}");
    let bare = key.trim_matches('"');
    let address = endpoint.address();
    match bare.trim_end_matches('/').strip_prefix("http://") == Some(&address) {
        true => address,
        false => bare.to_owned(),
    }
}

fn first_failure(status: &Status) -> String {
    let errors = status.backends().iter().filter_map(|backend| {
        let (cause, _) = backend.last_error()?;
        Some(format!("{} {cause}", backend.label()))
    });
    errors.collect::<Vec<_>>().join("; ")
}
