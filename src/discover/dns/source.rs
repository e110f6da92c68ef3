//! The source that users hold: its options, and the stream of changes.

#[cfg(feature = "hickory")]
use std::net::SocketAddr;
use std::{
    fmt,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use futures_util::Stream;

#[cfg(feature = "hickory")]
use super::hickory::{ConfigUpdates, Hickory};
use super::{
    lookup::Resolver,
    machine::Pace,
    options::{Item, Options},
    target::DnsTarget,
    task,
};
use crate::{
    discover::RefreshHandle,
    error::Error,
    transport::Endpoint,
    util::{
        at_least::at_least,
        backoff::{self, BackoffConfig},
    },
};

/// gRPC's number (Go and C-core): what a name server may be asked by one channel whose
/// backends are all down.
const MIN_INTERVAL: Duration = Duration::from_secs(30);

/// See [`Dns::refresh_interval`].
const REFRESH_INTERVAL: Duration = Duration::from_secs(60);

/// gRPC's number for Go. Resolvers give up earlier by themselves.
const LOOKUP_TIMEOUT: Duration = Duration::from_secs(30);

/// The backends at the addresses of a name. Made by [`dns`].
///
/// The name is looked up
///
/// - at once;
/// - when its [`refresh_handle`](Self::refresh_handle) is rung, as a channel does that
///   has trouble with its backends. That is at least 30 s after the last time
///   ([`min_interval`](Self::min_interval)), and a little later by chance. So the clients of a
///   backend do not all look up at the moment when it fails;
/// - every minute ([`refresh_interval`](Self::refresh_interval)), so that backends that
///   are added get calls although none is in trouble;
/// - after a failure, with gRPC's backoff: 1 s, growing by 1.6 up to 30 s, each ±20 %.
///
/// A lookup that fails, or finds no address, is an error item with the name in it. It
/// takes no backend away. Neither does one family (A or AAAA) that cannot be
/// looked up while the other can.
#[must_use = "a source names no backend until it is polled, such as by a channel"]
pub struct Dns {
    pub(super) options: Options,
    /// From the first poll on.
    running: Option<Pin<Box<dyn Stream<Item = Item> + Send>>>,
}

/// A backend for each address of `target`, which is `host`, `host:port`, or an IP
/// address in place of the host (IPv6 in brackets). Without a port it is that of
/// `template`'s scheme: 443 for `https`, which is also gRPC's, and 80 for `http`.
///
/// All backends are as `template` says: scheme and options are its own. Its host and
/// port are not used: calls name the server by `target`, as gRPC has it, unless the
/// template has an [`origin`](Endpoint::origin).
///
/// Where `template` has a proxy for the name, the name is not looked up: it is one backend, and
/// the proxy is told the name (gRFC A1). A name of SRV records is looked up all the same.
///
/// The system is asked for the addresses. With the feature `hickory` name servers can be
/// asked instead (`Dns::hickory`), and then `target` may also be a name of SRV records,
/// `_service._proto.name`: each record that has the best priority is backends at the
/// addresses of its host and at its port. Their weights are not looked at.
///
/// # Errors
///
/// [`InvalidEndpoint`](crate::ErrorKind::InvalidEndpoint) if `target` is none of this, or if
/// `template` has a user or a password.
///
/// ```no_run
/// use tonic_health_channel::{Channel, Endpoint, discover};
///
/// # async fn example() -> Result<(), tonic_health_channel::Error> {
/// let template = Endpoint::from_static("http://backends.example");
/// let backends = discover::dns("backends.example:50051", template)?;
/// let refresh = backends.refresh_handle();
/// let channel = Channel::balance(backends)
///     .on_reresolution_needed(refresh)
///     .build();
/// # Ok(())
/// # }
/// ```
///
/// [`Channel::dns`](crate::Channel::dns) does the same in one step, and
/// [`Channel::target`](crate::Channel::target) from one string.
pub fn dns(target: &str, template: Endpoint) -> Result<Dns, Error> {
    let target = DnsTarget::parse(target)?;
    template.refuse_userinfo()?;
    let resolver = Resolver::of(&target)?;
    let options = Options {
        template: template.with_authority(target.authority()),
        target,
        refresh: RefreshHandle::new(),
        pace: default_pace(),
        lookup_timeout: LOOKUP_TIMEOUT,
        resolver,
    };
    Ok(Dns {
        options,
        running: None,
    })
}

/// The pauses of a source whose options are not set.
pub(crate) fn default_pace() -> Pace {
    Pace {
        min_interval: MIN_INTERVAL,
        refresh_interval: Some(REFRESH_INTERVAL),
        // No longer than a name that is well may be asked about.
        backoff: BackoffConfig::default().at_most(MIN_INTERVAL),
    }
}

/// Options count if they are set before the source is polled.
impl Dns {
    /// The name that is looked up, with its port.
    pub(crate) fn name(&self) -> String {
        self.options.target.to_string()
    }

    /// The least time from one lookup to the next, unless the first failed. 30 s by default, as in
    /// gRPC. Less than 100 ms counts as 100 ms, and is 1 WARN.
    ///
    /// A request that comes before waits for up to a fifth more. Any other waits for up to 1 s, or
    /// a fifth of the interval if that is less.
    pub fn min_interval(mut self, interval: Duration) -> Self {
        let interval = at_least("min_interval", interval, backoff::MIN_INTERVAL);
        self.options.pace.min_interval = interval;
        self
    }

    /// The time to the next lookup that nobody asks for; up to a fifth is added by
    /// chance. One minute by default: other gRPC clients wait for trouble, and find a
    /// backend that was added when another fails. `None` is their way.
    ///
    /// Where it is known for how long an answer is valid (with `hickory`), the name is
    /// looked up again after that time, if it is shorter. No sooner than
    /// [`min_interval`](Self::min_interval).
    pub fn refresh_interval(mut self, interval: impl Into<Option<Duration>>) -> Self {
        self.options.pace.refresh_interval = interval.into();
        self
    }

    /// How long one lookup may take until it has failed. 30 s by default, as in gRPC for
    /// Go.
    pub fn lookup_timeout(mut self, timeout: Duration) -> Self {
        self.options.lookup_timeout = timeout;
        self
    }

    /// What to ring for another look: hand it to
    /// [`on_reresolution_needed`](crate::ChannelBuilder::on_reresolution_needed).
    pub fn refresh_handle(&self) -> RefreshHandle {
        self.options.refresh.clone()
    }

    /// Asks the name servers of this system (`/etc/resolv.conf`, and before them the
    /// hosts file) without the system's resolver in between. So it is known for how
    /// long an answer is valid.
    #[cfg(feature = "hickory")]
    #[cfg_attr(docsrs, doc(cfg(feature = "hickory")))]
    pub fn hickory(mut self) -> Self {
        self.options.resolver.ask_name_servers(|_| ());
        self
    }

    /// Asks this name server and no other, except for those that are added in the same
    /// way.
    #[cfg(feature = "hickory")]
    #[cfg_attr(docsrs, doc(cfg(feature = "hickory")))]
    pub fn name_server(mut self, server: SocketAddr) -> Self {
        let resolver = &mut self.options.resolver;
        resolver.ask_name_servers(|hickory| hickory.add_server(server));
        self
    }

    /// Takes the channel's service config from DNS too (gRFC A2): from the TXT record of
    /// `_grpc_config.<host>` that begins with `grpc_config=`. The first of its entries
    /// that is for this client counts: `clientLanguage` is `rust` or absent,
    /// `clientHostname` is this host's or absent, and `percentage` covers the number
    /// that this process has drawn. Takes effect by
    /// [`Channel::dns`](crate::Channel::dns).
    ///
    /// Not by default, as in gRPC for C++ and Java: who can forge a DNS answer could
    /// switch health checks off, and each lookup costs another query, for a record that
    /// hardly anybody has.
    ///
    /// A record that is not found, or cannot be looked up before one has been found, is
    /// no config. Later failures leave what is in force. Behind a proxy for the name there is
    /// none either: the name is not looked up.
    #[cfg(feature = "hickory")]
    #[cfg_attr(docsrs, doc(cfg(feature = "hickory")))]
    pub fn service_config(mut self) -> Self {
        let resolver = &mut self.options.resolver;
        resolver.ask_name_servers(Hickory::look_up_config);
        self
    }

    /// The service configs that are found, if they are looked for. At most once.
    #[cfg(feature = "hickory")]
    pub(crate) fn config_updates(&mut self) -> Option<ConfigUpdates> {
        let configs = self.options.resolver.config_updates();
        configs.filter(|_| !self.options.is_proxied())
    }
}

impl Stream for Dns {
    type Item = Item;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Item>> {
        let Self { options, running } = &mut *self;
        let running = running.get_or_insert_with(|| match options.is_proxied() {
            true => Box::pin(task::name_proxy_backend(options.clone())),
            false => Box::pin(task::run(options.clone())),
        });
        running.as_mut().poll_next(cx)
    }
}

impl fmt::Debug for Dns {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Dns")
            .field("target", &self.options.target.to_string())
            .field("pace", &self.options.pace)
            .finish_non_exhaustive()
    }
}
