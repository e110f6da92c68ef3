//! How to reach one backend.

use std::{fmt, net::SocketAddr, num::NonZeroUsize, str::FromStr, sync::Arc, time::Duration};

use bytes::Bytes;
use http::{HeaderValue, Uri, uri};
use tokio::runtime::Handle;

use super::{
    executor::Executor,
    options::{
        ConnectionConfig, Http2Options, KeepaliveOptions, LimitOptions, Security, TcpOptions,
    },
    userinfo::{USERINFO, hide_userinfo, without_userinfo},
};
use crate::{
    error::{Error, ErrorKind},
    transport::io::{Connector, HostPort, Located, Proxy, UnixName},
    util::{backoff::BackoffConfig, zone::decode_zone},
};

/// What every request says of its sender, after the application's own words.
pub(super) const USER_AGENT: &str = concat!("tonic-health-channel/", env!("CARGO_PKG_VERSION"));

/// The same as `TCP_USER_TIMEOUT` by default (gRFC A18).
const WRITE_TIMEOUT: Duration = Duration::from_secs(20);

/// gRPC's minimum connect timeout (its connection-backoff document).
const CONNECT_TIMEOUT: Duration = Duration::from_secs(20);

/// How to reach one backend, and how to talk to it.
///
/// The same builder as tonic's `Endpoint`: make one from a URI, set options,
/// then [`connect`](Self::connect) it, or hand several to
/// [`Channel::balance_list`](crate::Channel::balance_list) or a
/// [`discover`](crate::discover) source.
///
/// ```
/// use std::time::Duration;
/// use tonic_health_channel::Endpoint;
///
/// let endpoint = Endpoint::from_static("http://10.0.0.1:50051")
///     .connect_timeout(Duration::from_secs(5))
///     .timeout(Duration::from_secs(1));
/// assert_eq!(endpoint.uri(), "http://10.0.0.1:50051");
/// ```
///
/// Equal endpoints make the same connection: a source that repeats one changes
/// nothing.
#[derive(Clone, PartialEq)]
#[must_use = "an endpoint does nothing until a channel is made of it"]
pub struct Endpoint {
    /// Without userinfo, as is `origin`.
    pub(super) uri: Uri,
    /// A URI that was given had a user or a password. Such an endpoint is not dialled.
    pub(super) had_userinfo: bool,
    pub(in crate::transport) located: Option<Located>,
    pub(super) origin: Option<Uri>,
    pub(super) user_agent: HeaderValue,
    pub(super) connect_timeout: Option<Duration>,
    pub(super) timeout: Option<Duration>,
    pub(in crate::transport) tcp: TcpOptions,
    pub(in crate::transport) write_timeout: Option<Duration>,
    pub(in crate::transport) http2: Http2Options,
    pub(in crate::transport) keepalive: KeepaliveOptions,
    pub(super) limits: LimitOptions,
    pub(super) connections: Option<NonZeroUsize>,
    pub(super) connect_backoff: Option<BackoffConfig>,
    pub(super) label: Option<Arc<str>>,
    pub(super) executor: Executor,
    pub(in crate::transport) connector: Connector,
    pub(in crate::transport) proxy: Option<Proxy>,
    pub(in crate::transport) security: Security,
}

impl Endpoint {
    /// An endpoint from anything that converts into one: a `&'static str`, a
    /// `String`, `Bytes`, a [`Uri`] or an `Endpoint`.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidEndpoint`] if it is not a URI with a host and the
    /// scheme `http` or `https`, or if it has a user or a password.
    pub fn new<D>(destination: D) -> Result<Self, Error>
    where
        D: TryInto<Self>,
        D::Error: Into<tower::BoxError>,
    {
        let endpoint: Self = destination.try_into().map_err(|error| {
            let error = error.into();
            match error.downcast::<Error>() {
                Ok(error) => *error,
                Err(other) => Error::new(ErrorKind::InvalidEndpoint, other.to_string()),
            }
        })?;
        endpoint.refuse_userinfo()?;
        Ok(endpoint)
    }

    /// # Errors
    ///
    /// [`ErrorKind::InvalidEndpoint`] if its URI or its origin had a user or a password.
    pub(crate) fn refuse_userinfo(&self) -> Result<(), Error> {
        match self.had_userinfo {
            false => Ok(()),
            true => {
                let text = format!("endpoint `{}`: {USERINFO}", self.uri);
                Err(Error::new(ErrorKind::InvalidEndpoint, text))
            }
        }
    }

    /// An endpoint from a URI, or a Unix socket, known to be right; see
    /// [`from_shared`](Self::from_shared). Whether a URI can be dialled shows when it is.
    ///
    /// # Panics
    ///
    /// If the text is neither.
    pub fn from_static(uri: &'static str) -> Self {
        match UnixName::parse(uri) {
            None => Self::from(Uri::from_static(uri)),
            Some(Ok(name)) => Self::unix(name),
            Some(Err(why)) => panic!("endpoint `{uri}`: {why}"),
        }
    }

    /// An endpoint from a URI that comes from elsewhere: `http://host:port`, or as in
    /// gRPC the name of a Unix socket, `unix:path`, `unix:///path`, and on Linux
    /// `unix-abstract:name`.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidEndpoint`] if it is neither a URI with a host and the
    /// scheme `http` or `https`, nor the name of a Unix socket. Also if it has a user or a
    /// password: credentials go to
    /// [`call_credentials`](crate::ChannelBuilder::call_credentials).
    ///
    /// ```
    /// use tonic_health_channel::Endpoint;
    ///
    /// assert!(Endpoint::from_shared("http://10.0.0.1:50051").is_ok());
    /// assert!(Endpoint::from_shared("unix:/run/greeter.sock").is_ok());
    /// let error = Endpoint::from_shared("10.0.0.1:50051").unwrap_err();
    /// assert!(error.to_string().contains("http://"), "{error}");
    /// ```
    pub fn from_shared(uri: impl Into<Bytes>) -> Result<Self, Error> {
        let bytes = uri.into();
        let given = String::from_utf8_lossy(&bytes);
        let invalid = |why: String| {
            // What cannot be read may have a password in any of its parts.
            let why = if given.contains('@') { USERINFO } else { &why };
            let text = format!("endpoint `{}`: {why}", hide_userinfo(&given));
            Error::new(ErrorKind::InvalidEndpoint, text)
        };
        match UnixName::parse(&given) {
            None => {}
            Some(Ok(name)) => return Ok(Self::unix(name)),
            Some(Err(why)) => {
                let text = format!("endpoint `{given}`: {why}");
                return Err(Error::new(ErrorKind::InvalidEndpoint, text));
            }
        }
        let uri = Uri::from_maybe_shared(bytes.clone())
            .map_err(|error| invalid(format!("not a URI: {error}")))?;
        let endpoint = Self::from(uri);
        match endpoint.target() {
            Ok(_) => Ok(endpoint),
            Err(why) => Err(invalid(why)),
        }
    }

    /// Calls over a Unix socket are for `localhost`, as in gRPC.
    fn unix(name: UnixName) -> Self {
        Self {
            located: Some(Located::Unix(name)),
            ..Self::from(Uri::from_static("http://localhost"))
        }
    }

    /// The same in all but where it is: there.
    pub(crate) fn with_target_of(&self, there: &Self) -> Self {
        Self {
            uri: there.uri.clone(),
            had_userinfo: self.had_userinfo || there.had_userinfo,
            located: there.located.clone(),
            ..self.clone()
        }
    }

    #[cfg(feature = "_tls-any")]
    pub(super) fn is_unix(&self) -> bool {
        matches!(self.located, Some(Located::Unix(_)))
    }

    /// What tells it from others in a list: its URI, or the name of its socket.
    pub(crate) fn name(&self) -> String {
        match &self.located {
            Some(Located::Unix(name)) => name.to_string(),
            _ => self.uri.to_string(),
        }
    }

    /// Where it is; `http://localhost/` for a Unix socket.
    pub fn uri(&self) -> &Uri {
        &self.uri
    }

    /// Where it connects to, for people: the address it was located at, its label, the name of
    /// its socket, or `host:port`. A connector may have been given a host that says nothing.
    pub(crate) fn address(&self) -> String {
        let has_connector = self.connector != Connector::default();
        match (&self.located, &self.label, self.target()) {
            (Some(located @ Located::Tcp(_)), ..) => located.to_string(),
            (_, Some(label), _) => label.to_string(),
            (Some(located), ..) => located.to_string(),
            (None, None, Ok(target)) if has_connector && target.is_unspecified() => {
                "the connector".to_owned()
            }
            (None, None, Ok(target)) => target.to_string(),
            (None, None, Err(_)) => self.uri.to_string(),
        }
    }

    /// What it is called, if it was given a label.
    pub(crate) fn given_label(&self) -> Option<&str> {
        self.label.as_deref()
    }

    /// The same, secured, if that is what has become of the endpoint `before`.
    ///
    /// # Errors
    ///
    /// TLS has been set, and its URI says that it stays in plain text.
    #[cfg(feature = "_tls-any")]
    pub(crate) fn secured_since(self, before: &Self, may_change: bool) -> Result<Self, Error> {
        if self.security == before.security || self.is_secure() {
            return Ok(self);
        }
        if !may_change {
            let text = format!(
                "endpoint `{}` is plaintext and ignores its TLS config; write `https://`",
                self.uri
            );
            return Err(Error::new(ErrorKind::InvalidEndpoint, text));
        }
        let mut parts = self.uri.clone().into_parts();
        parts.scheme = Some(uri::Scheme::HTTPS);
        let uri = Uri::from_parts(parts).expect("another scheme for a whole URI");
        Ok(Self { uri, ..self })
    }

    #[cfg(not(feature = "_tls-any"))]
    pub(crate) fn secured_since(self, _: &Self, _: bool) -> Result<Self, Error> {
        Ok(self)
    }

    /// The host of the URI, in brackets if it is an address of IPv6; empty without one. An
    /// address with a zone has neither: no certificate names it.
    #[cfg(feature = "_tls-any")]
    pub(in crate::transport) fn host(&self) -> &str {
        let host = self.uri.host().unwrap_or_default();
        match host.split_once('%') {
            Some((address, _)) => address.trim_start_matches('['),
            None => host,
        }
    }

    /// The port that is dialled where the URI names none.
    pub(crate) fn default_port(&self) -> u16 {
        match self.uri.scheme() == Some(&uri::Scheme::HTTPS) {
            true => 443,
            false => 80,
        }
    }

    /// The same options, and the same scheme, for a server that is known as
    /// `authority`.
    pub(crate) fn with_authority(&self, authority: uri::Authority) -> Self {
        let scheme = self.uri.scheme().cloned().unwrap_or(uri::Scheme::HTTP);
        let parts = uri::Builder::new().scheme(scheme).authority(authority);
        let uri = parts.path_and_query("/").build();
        let uri = uri.expect("a scheme, an authority and a path are a URI");
        Self {
            uri,
            ..self.clone()
        }
    }

    /// Whether a proxy is asked for the host and port of the URI.
    pub(crate) fn is_proxied(&self) -> bool {
        let uses_proxy = self.connector == Connector::default() && self.located.is_none();
        let proxy = self.proxy.as_ref().filter(|_| uses_proxy);
        let target = self.target().ok();
        target.is_some_and(|target| proxy.is_some_and(|proxy| proxy.to(&target).is_some()))
    }

    pub(crate) fn without_proxy(self) -> Self {
        Self {
            proxy: None,
            ..self
        }
    }

    /// Whether its connections are TLS: as in tonic, the scheme alone decides.
    pub(in crate::transport) fn is_secure(&self) -> bool {
        self.uri.scheme() == Some(&uri::Scheme::HTTPS)
    }

    /// The same endpoint, reached at `address`. Who it is stays: scheme and authority
    /// of requests are those of the URI.
    pub(crate) fn with_address(self, address: SocketAddr) -> Self {
        Self {
            located: Some(Located::Tcp(address)),
            ..self
        }
    }

    /// The header timeout of [`timeout`](Self::timeout).
    pub(crate) fn call_timeout(&self) -> Option<Duration> {
        self.timeout
    }

    pub(crate) fn get_connect_backoff(&self) -> Option<&BackoffConfig> {
        self.connect_backoff.as_ref()
    }

    pub(crate) fn get_executor(&self) -> &Executor {
        &self.executor
    }

    /// Whether it is dialled by sockets of ours, and not by a connector.
    pub(crate) fn uses_sockets(&self) -> bool {
        self.connector.0.is_none()
    }

    pub(in crate::transport) fn connect_deadline(&self) -> Duration {
        self.connect_timeout.unwrap_or(CONNECT_TIMEOUT)
    }

    /// How many calls it wants.
    pub(in crate::transport) fn limits(&self) -> &LimitOptions {
        &self.limits
    }

    /// What its connections take over.
    pub(in crate::transport) fn connection_config(&self, runtime: Handle) -> ConnectionConfig {
        let (scheme, authority) = self.request_origin();
        ConnectionConfig {
            scheme,
            authority,
            user_agent: self.user_agent.clone(),
            secure: self.is_secure(),
            call_timeout: self.timeout,
            header_list: self.http2.header_list(),
            address: self.address(),
            executor: self.executor.bind(runtime),
        }
    }

    /// The scheme and authority of requests.
    pub(in crate::transport) fn request_origin(&self) -> (uri::Scheme, uri::Authority) {
        let from = self.origin.as_ref().unwrap_or(&self.uri);
        let scheme = from.scheme().cloned().unwrap_or(uri::Scheme::HTTP);
        let authority = from.authority().or(self.uri.authority()).cloned();
        let authority = authority.map(without_zone);
        (
            scheme,
            authority.unwrap_or_else(|| uri::Authority::from_static("localhost")),
        )
    }

    /// What to dial, or why this URI names nothing that can be dialled.
    pub(in crate::transport) fn target(&self) -> Result<HostPort, String> {
        if self.had_userinfo {
            return Err(USERINFO.to_owned());
        }
        match self.uri.scheme_str() {
            Some("http" | "https") => {}
            Some(other) => return Err(format!("the scheme must be http, not `{other}`")),
            None => return Err("there is no scheme; write `http://host:port`".to_owned()),
        }
        let host = self.uri.host().unwrap_or_default();
        if host.is_empty() {
            return Err("there is no host".to_owned());
        }
        Ok(HostPort {
            host: decode_zone(host.trim_matches(['[', ']'])),
            port: self.port()?.unwrap_or(self.default_port()),
        })
    }

    /// The port, if the URI names one. `Uri::port` would take one that it cannot
    /// read for none, and calls would go to the default port of the scheme.
    fn port(&self) -> Result<Option<u16>, String> {
        let authority = self.uri.authority().map_or("", uri::Authority::as_str);
        let host_and_port = authority.rsplit(']').next().unwrap_or_default();
        match host_and_port.rsplit_once(':') {
            None | Some((_, "")) => Ok(None),
            Some((_, port)) => match port.parse() {
                Ok(port) => Ok(Some(port)),
                Err(_) => Err(format!("the port must be 0 to 65535, not `{port}`")),
            },
        }
    }

    /// The same endpoint over another transport than TCP.
    #[cfg(test)]
    pub(crate) fn with_connector(self, connector: Connector) -> Self {
        Self { connector, ..self }
    }
}

/// A zone means nothing to a server (RFC 6874 §4).
fn without_zone(authority: uri::Authority) -> uri::Authority {
    let (address, rest) = match authority.as_str().split_once('%') {
        Some((address, rest)) => (address, rest.split_once(']')),
        None => return authority,
    };
    let bare = rest.and_then(|(_, port)| format!("{address}]{port}").parse().ok());
    bare.unwrap_or(authority)
}

impl From<Uri> for Endpoint {
    /// An endpoint at `uri`. Whether it can be dialled shows when it is. One with a user or
    /// a password is not; the endpoint keeps neither.
    fn from(uri: Uri) -> Self {
        let (uri, had_userinfo) = without_userinfo(uri);
        Self {
            uri,
            had_userinfo,
            located: None,
            origin: None,
            user_agent: HeaderValue::from_static(USER_AGENT),
            connect_timeout: None,
            timeout: None,
            tcp: TcpOptions::default(),
            write_timeout: Some(WRITE_TIMEOUT),
            http2: Http2Options::default(),
            keepalive: KeepaliveOptions::default(),
            limits: LimitOptions::default(),
            connections: None,
            connect_backoff: None,
            label: None,
            executor: Executor::tokio(),
            connector: Connector::default(),
            proxy: None,
            security: Security::default(),
        }
    }
}

/// What becomes of an endpoint by options that may fail.
impl TryFrom<Result<Self, Error>> for Endpoint {
    type Error = Error;

    fn try_from(made: Result<Self, Error>) -> Result<Self, Error> {
        made
    }
}

impl TryFrom<Bytes> for Endpoint {
    type Error = Error;

    fn try_from(uri: Bytes) -> Result<Self, Error> {
        Self::from_shared(uri)
    }
}

impl TryFrom<String> for Endpoint {
    type Error = Error;

    fn try_from(uri: String) -> Result<Self, Error> {
        Self::from_shared(uri)
    }
}

impl TryFrom<&str> for Endpoint {
    type Error = Error;

    fn try_from(uri: &str) -> Result<Self, Error> {
        uri.parse()
    }
}

impl TryFrom<&String> for Endpoint {
    type Error = Error;

    fn try_from(uri: &String) -> Result<Self, Error> {
        uri.parse()
    }
}

impl FromStr for Endpoint {
    type Err = Error;

    fn from_str(uri: &str) -> Result<Self, Error> {
        Self::from_shared(uri.to_owned())
    }
}

impl fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Endpoint").field("uri", &self.uri).finish()
    }
}
