//! How the options of an [`Endpoint`] are set.

use std::{net::IpAddr, num::NonZeroUsize, time::Duration};

use http::{HeaderValue, Uri};

use tower::BoxError;
use tower_service::Service;

use super::{
    endpoint::{Endpoint, USER_AGENT},
    executor::{BoxTask, Executor},
    userinfo::without_userinfo,
};
use crate::{
    error::{Error, ErrorKind},
    transport::io::{Connector, Proxy},
    util::{at_least::at_least, backoff::BackoffConfig},
};

/// The shortest time between keepalive PINGs that clients may choose (gRFC A8).
const LEAST_KEEPALIVE_INTERVAL: Duration = Duration::from_secs(10);

impl Endpoint {
    /// Puts the application's name before this crate's in the `user-agent`
    /// header.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidEndpoint`] if it is not a valid header value.
    pub fn user_agent<T>(self, user_agent: T) -> Result<Self, Error>
    where
        T: TryInto<HeaderValue>,
    {
        let invalid = || {
            Error::new(
                ErrorKind::InvalidEndpoint,
                format!(
                    "endpoint `{}`: the user agent is not a valid header value",
                    self.uri
                ),
            )
        };
        let application = user_agent.try_into().map_err(|_| invalid())?;
        let full = [application.as_bytes(), b" ", USER_AGENT.as_bytes()].concat();
        let user_agent = HeaderValue::from_bytes(&full).map_err(|_| invalid())?;
        Ok(Self { user_agent, ..self })
    }

    /// Sends calls with the scheme and authority of `origin` rather than those
    /// of the address: the name the server is known by, where it is reached by
    /// another. TLS goes on to verify the host of the address, as in tonic; a
    /// `domain_name` in the TLS config is what changes that.
    ///
    /// An endpoint whose origin has a user or a password is not dialled.
    pub fn origin(self, origin: Uri) -> Self {
        let (origin, had_userinfo) = without_userinfo(origin);
        Self {
            origin: Some(origin),
            had_userinfo: self.had_userinfo || had_userinfo,
            ..self
        }
    }

    /// Bounds the time from the start of a call until its response headers,
    /// waiting for a connection included where this is the only endpoint of its
    /// channel. No bound by default. A call that also has a deadline of its own
    /// (`grpc-timeout`) ends at the earlier of the two. 0 fails each call.
    ///
    /// Of several endpoints the longest timeout bounds the wait, if each has one, and then
    /// the endpoint's own the time from there.
    ///
    /// Running out fails the call with DEADLINE_EXCEEDED.
    pub fn timeout(self, timeout: Duration) -> Self {
        Self {
            timeout: Some(timeout),
            ..self
        }
    }

    /// Bounds one attempt to connect: name lookup, TCP over all addresses, TLS,
    /// and the peer's SETTINGS. 20 s by default, gRPC's minimum connect timeout.
    pub fn connect_timeout(self, timeout: Duration) -> Self {
        Self {
            connect_timeout: Some(timeout),
            ..self
        }
    }

    /// Sends small writes at once (`TCP_NODELAY`). On by default.
    pub fn tcp_nodelay(mut self, enabled: bool) -> Self {
        self.tcp.nodelay = enabled;
        self
    }

    /// Probes a silent peer after this time (`SO_KEEPALIVE`). 30 s by default,
    /// so that a dead peer is found although nothing is being sent to it;
    /// `None` turns the probes off. Rounded up to whole seconds, from 1 s to 32,767 s, which
    /// is what Linux takes.
    pub fn tcp_keepalive(mut self, after: Option<Duration>) -> Self {
        self.tcp.keepalive = after;
        self
    }

    /// Time between keepalive probes. 10 s by default; `None`: the system's. Rounded as
    /// [`tcp_keepalive`](Self::tcp_keepalive).
    pub fn tcp_keepalive_interval(mut self, interval: Option<Duration>) -> Self {
        self.tcp.keepalive_interval = interval;
        self
    }

    /// Keepalive probes without an answer before the connection counts as
    /// dead. 3 by default; `None`: the system's. Less than 1 is taken for 1, more than 127
    /// for 127.
    pub fn tcp_keepalive_retries(mut self, retries: Option<u32>) -> Self {
        self.tcp.keepalive_retries = retries;
        self
    }

    /// How long what was sent may wait for the peer's acknowledgement before the
    /// connection counts as dead (`TCP_USER_TIMEOUT`), in whole milliseconds. 20 s by
    /// default, as in gRPC (gRFC A18); `None`: until the system gives up, which takes
    /// a quarter of an hour. Only Linux knows it.
    ///
    /// Linux also ends a connection whose peer acknowledges but takes nothing for this
    /// long, its buffers full: a server that is stopped in a debugger, say.
    pub fn tcp_user_timeout(mut self, timeout: impl Into<Option<Duration>>) -> Self {
        self.tcp.user_timeout = timeout.into();
        self
    }

    /// How long the peer may take nothing of what is written to it before the connection
    /// counts as dead. 20 s by default, as for [`tcp_user_timeout`](Self::tcp_user_timeout);
    /// `None`: for ever.
    ///
    /// The time runs only while something waits to be written. It holds for Unix sockets and
    /// for what a connector gives, on every system, where `TCP_USER_TIMEOUT` is of TCP alone.
    ///
    /// ```
    /// use std::time::Duration;
    /// use tonic_health_channel::Endpoint;
    ///
    /// let endpoint = Endpoint::from_static("unix:/run/greeter.sock")
    ///     .write_timeout(Duration::from_secs(5));
    /// # let _ = endpoint;
    /// ```
    pub fn write_timeout(mut self, timeout: impl Into<Option<Duration>>) -> Self {
        self.write_timeout = timeout.into();
        self
    }

    /// Connects from this address. By default the system chooses one.
    pub fn local_address(mut self, address: Option<IpAddr>) -> Self {
        self.tcp.local_address = address;
        self
    }

    /// How many bytes one response may send ahead of its reader. 2 MiB by
    /// default, and with `None`; never more than
    /// [`initial_connection_window_size`](Self::initial_connection_window_size).
    pub fn initial_stream_window_size(mut self, bytes: impl Into<Option<u32>>) -> Self {
        self.http2.stream_window = bytes.into();
        self
    }

    /// How many bytes of all responses of the connection may wait to be read. 64 MiB by
    /// default, and with `None`: 32 full windows of streams.
    ///
    /// The window of the connection itself is 1 GiB. A smaller one would be filled by responses
    /// that are not read, and every other call would stall with them.
    ///
    /// Where more waits, the server is told windows of 64 KiB for each stream, until half as
    /// much waits. Where twice as much waits, the largest response of which nothing was read
    /// for 100 ms ends with RESOURCE_EXHAUSTED. Each frame counts 256 bytes more, as it takes
    /// in memory.
    pub fn initial_connection_window_size(mut self, bytes: impl Into<Option<u32>>) -> Self {
        self.http2.connection_window = bytes.into();
        self
    }

    /// Takes windows that hold what a long fat network has on its way: 16 MiB for a
    /// stream, whatever the sizes say. Not by default: it pays for large responses over
    /// round trips of more than some 20 ms, and a slow reader holds eight times as much.
    ///
    /// hyper estimates the product of bandwidth and delay with PINGs, and lets the
    /// windows grow up to that size. Here they have it from the start, and nothing
    /// is measured: servers that count PINGs end the connection over them.
    pub fn http2_adaptive_window(mut self, enabled: bool) -> Self {
        self.http2.adaptive_window = enabled;
        self
    }

    /// The largest frame that the peer may send, in bytes. 16 KiB by default, and
    /// with `None`; HTTP/2 knows sizes from there to 16 MiB less one, and one beyond
    /// is taken for the nearest. A larger frame ends its connection.
    pub fn max_frame_size(mut self, bytes: impl Into<Option<u32>>) -> Self {
        self.http2.max_frame_size = bytes.into();
        self
    }

    /// The most that the peer may use for its table of header fields, in bytes.
    /// 4,096 by default, as in HTTP/2. A peer that takes more ends its connection by
    /// that; one that says nothing of its table has 4,096, also where less is allowed.
    pub fn http2_header_table_size(mut self, bytes: u32) -> Self {
        self.http2.header_table_size = Some(bytes);
        self
    }

    /// The largest headers or trailers of a response, in bytes, each field counted
    /// with 32 more. 16 KiB by default.
    ///
    /// Headers beyond it fail their call, with INTERNAL, and no other. Of trailers the
    /// rest is dropped; the call fails, with UNKNOWN, if the status was in the rest.
    /// More than four times as much ends the connection.
    pub fn http2_max_header_list_size(mut self, bytes: u32) -> Self {
        self.http2.max_header_list_size = Some(bytes);
        self
    }

    /// How many cancelled streams are remembered at a time, so that what the peer
    /// sent before it knew is not taken for an error. 10,000 by default, so that
    /// many calls can be cancelled at once.
    pub fn http2_max_concurrent_reset_streams(mut self, max: usize) -> Self {
        self.http2.max_concurrent_reset_streams = Some(max);
        self
    }

    /// How long a cancelled stream is remembered. 10 s by default.
    pub fn http2_reset_stream_duration(mut self, duration: Duration) -> Self {
        self.http2.reset_stream_duration = Some(duration);
        self
    }

    /// How many streams may end by an error of the peer's before the connection is
    /// closed with it. 50,000 by default, as what is left of each may have to wait
    /// for a peer that does not read. No bound with `None`.
    pub fn http2_max_local_error_reset_streams(mut self, max: impl Into<Option<usize>>) -> Self {
        self.http2.max_local_error_reset_streams = Some(max.into());
        self
    }

    /// Sends an HTTP/2 PING when nothing has come from the peer for this long; at
    /// least 10 s. Less counts as 10 s (gRFC A8), and is one WARN. No PINGs by default.
    ///
    /// A dead host is found without: see [`tcp_keepalive`](Self::tcp_keepalive).
    /// PINGs help where something between client and server forgets connections or
    /// keeps them open for a server that is gone: proxies, load balancers, NAT.
    /// Servers count them. One of Go, Java or C++ takes more than a few in five
    /// minutes for an attack and ends the connection with `too_many_pings`, unless it
    /// is told to permit them. The next connections to that backend then wait twice
    /// as long between PINGs, and a WARN says so.
    ///
    /// ```
    /// use std::time::Duration;
    /// use tonic_health_channel::Endpoint;
    ///
    /// let endpoint = Endpoint::from_static("http://10.0.0.1:50051")
    ///     .http2_keep_alive_interval(Duration::from_secs(60))
    ///     .keep_alive_timeout(Duration::from_secs(10));
    /// ```
    pub fn http2_keep_alive_interval(mut self, interval: Duration) -> Self {
        self.keepalive.interval = Some(at_least(
            "http2_keep_alive_interval",
            interval,
            LEAST_KEEPALIVE_INTERVAL,
        ));
        self
    }

    /// How long the peer may stay silent after a PING before its connection is
    /// closed. 20 s by default.
    pub fn keep_alive_timeout(mut self, timeout: Duration) -> Self {
        self.keepalive.timeout = timeout;
        self
    }

    /// Whether PINGs are also sent while no stream is open. Not by default. The
    /// `Watch` of a health check is a stream.
    pub fn keep_alive_while_idle(mut self, enabled: bool) -> Self {
        self.keepalive.while_idle = enabled;
        self
    }

    /// How many calls the backend has at a time, the responses that are still being
    /// read among them; health checks do not count. No bound by default but the
    /// peer's, for each of its connections.
    ///
    /// A call beyond it waits as for a free stream: within its deadline, first come
    /// first served, and for whichever backend of the channel is free first.
    pub fn concurrency_limit(mut self, limit: usize) -> Self {
        self.limits.concurrency = Some(limit);
        self
    }

    /// How many connections the backend has for its calls, whatever its channel says:
    /// see [`ChannelBuilder::connections_per_backend`]. One by default, where this is
    /// the only endpoint of its channel.
    ///
    /// ```
    /// use std::num::NonZeroUsize;
    /// use tonic_health_channel::Endpoint;
    ///
    /// let four = NonZeroUsize::new(4).expect("above 0");
    /// let endpoint = Endpoint::from_static("http://10.0.0.1:50051").connections_per_backend(four);
    /// # let _ = endpoint;
    /// ```
    ///
    /// [`ChannelBuilder::connections_per_backend`]: crate::ChannelBuilder::connections_per_backend
    pub fn connections_per_backend(mut self, n: NonZeroUsize) -> Self {
        self.connections = Some(n);
        self
    }

    /// The pauses between attempts to connect to the backend, whatever its channel says: see
    /// [`ChannelBuilder::connect_backoff`].
    ///
    /// [`ChannelBuilder::connect_backoff`]: crate::ChannelBuilder::connect_backoff
    pub fn connect_backoff(mut self, backoff: BackoffConfig) -> Self {
        self.connect_backoff = Some(backoff);
        self
    }

    /// What errors, the log and
    /// [`BackendStatus::label`](crate::status::BackendStatus::label) call the backend, in place
    /// of its host and port. For a [`connector`](Self::connector), whose URI may say nothing of
    /// where it leads.
    ///
    /// ```
    /// use tonic_health_channel::Endpoint;
    ///
    /// let endpoint = Endpoint::from_static("http://[::]:50051").label("/run/greeter.sock");
    /// ```
    pub fn label(mut self, label: impl Into<String>) -> Self {
        self.label = Some(label.into().into());
        self
    }

    /// How many calls may be sent to the backend in each period of `duration`, which
    /// begins with its first call. No bound by default.
    ///
    /// A call beyond it waits for the next period, as it would for a free stream;
    /// see [`concurrency_limit`](Self::concurrency_limit).
    ///
    /// # Panics
    ///
    /// If `limit` or `duration` is zero.
    pub fn rate_limit(mut self, limit: u64, duration: Duration) -> Self {
        assert!(
            limit > 0,
            "the limit of a rate limit must be at least 1 call"
        );
        assert!(
            !duration.is_zero(),
            "the period of a rate limit must be longer than 0 s"
        );
        self.limits.rate = Some((limit, duration));
        self
    }

    /// Changes nothing: there is no buffer between calls and connections. For
    /// applications that say it to tonic; the bound on calls that wait is
    /// [`ChannelBuilder::max_waiting_calls`](crate::ChannelBuilder::max_waiting_calls).
    pub fn buffer_size(self, _: impl Into<Option<usize>>) -> Self {
        self
    }

    /// Connects by `connector` rather than by a socket of its own: a tower service
    /// from the URI to an IO, such as hyper's connectors, for one endpoint or for each
    /// in a balanced channel. What HTTP/2 needs beyond that, and the connect timeout,
    /// stay with the endpoint; its socket options and its proxy have no effect.
    ///
    /// Endpoints are equal only if their connectors are clones of each other, made by
    /// cloning an endpoint: a source that repeats an endpoint keeps one to clone.
    ///
    /// ```
    /// use hyper_util::rt::TokioIo;
    /// use tonic_health_channel::Endpoint;
    ///
    /// let endpoint = Endpoint::from_static("http://greeter").connector(tower::service_fn(
    ///     async |_: http::Uri| {
    ///         let (ours, _theirs) = tokio::io::duplex(1 << 16);
    ///         Ok::<_, std::io::Error>(TokioIo::new(ours))
    ///     },
    /// ));
    /// ```
    pub fn connector<C>(mut self, connector: C) -> Self
    where
        C: Service<Uri> + Send + 'static,
        C::Error: Into<BoxError>,
        C::Future: Send,
        C::Response: hyper::rt::Read + hyper::rt::Write + Unpin + Send + 'static,
    {
        self.connector = Connector::of_service(connector);
        self
    }

    /// Connects through an HTTP proxy, by the method CONNECT (gRFC A1): `uri` is
    /// `http://proxy:port`, or `http://user:password@proxy:port`. The proxy is told the
    /// host and port, and looks the name up. No proxy by default, and never one to a
    /// Unix socket. It is for all other backends, `localhost` included.
    ///
    /// Other gRPC clients take a proxy from the environment without being asked to;
    /// see [`proxy_from_env`](Self::proxy_from_env).
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidOption`] if `uri` is not of that kind.
    pub fn http_proxy(mut self, uri: &str) -> Result<Self, Error> {
        let proxy = Proxy::new(uri).map_err(|why| no_proxy("of this endpoint", why))?;
        self.proxy = Some(proxy);
        Ok(self)
    }

    /// Connects through the proxy that the environment names now, if any: by
    /// `https_proxy` or `HTTPS_PROXY`, except to what `no_proxy` or `NO_PROXY` lists:
    /// names with their subdomains, subdomains alone (`.name`), IP addresses, networks such
    /// as `10.0.0.0/8`, each but these also with a port, or `*`. The list is read as Go reads
    /// it. `localhost` and loopback addresses never have a proxy from the environment.
    ///
    /// An application says this itself, because a variable that was set for web
    /// traffic would else move its calls to a proxy that knows nothing of them.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidOption`] if what it names is no HTTP proxy.
    pub fn proxy_from_env(self) -> Result<Self, Error> {
        self.proxy_from(|name| std::env::var(name).ok())
    }

    /// The same with the variables of another environment.
    pub(crate) fn proxy_from(
        mut self,
        variable: impl Fn(&str) -> Option<String>,
    ) -> Result<Self, Error> {
        self.proxy = Proxy::of(variable)
            .transpose()
            .map_err(|why| no_proxy("in the environment", why))?;
        Ok(self)
    }

    /// Spawns the tasks of this endpoint's connections on `executor` rather
    /// than on the tokio runtime in whose context they start. An executor that has no tokio
    /// runtime borrows that one.
    pub fn executor<E>(self, executor: E) -> Self
    where
        E: hyper::rt::Executor<BoxTask> + Send + Sync + 'static,
    {
        Self {
            executor: Executor::given(executor),
            ..self
        }
    }

    /// How many its backend is to have, if it says so itself.
    pub(crate) fn connections(&self) -> Option<NonZeroUsize> {
        self.connections
    }

    /// See [`tcp_nodelay`](Self::tcp_nodelay).
    pub fn get_tcp_nodelay(&self) -> bool {
        self.tcp.nodelay
    }

    /// See [`connect_timeout`](Self::connect_timeout).
    pub fn get_connect_timeout(&self) -> Option<Duration> {
        self.connect_timeout
    }

    /// See [`tcp_keepalive`](Self::tcp_keepalive).
    pub fn get_tcp_keepalive(&self) -> Option<Duration> {
        self.tcp.keepalive
    }

    /// See [`tcp_keepalive_interval`](Self::tcp_keepalive_interval).
    pub fn get_tcp_keepalive_interval(&self) -> Option<Duration> {
        self.tcp.keepalive_interval
    }

    /// See [`tcp_keepalive_retries`](Self::tcp_keepalive_retries).
    pub fn get_tcp_keepalive_retries(&self) -> Option<u32> {
        self.tcp.keepalive_retries
    }
}

fn no_proxy(of: &str, why: &str) -> Error {
    let text = format!("the proxy {of}: {why}; write http://host:port");
    Error::new(ErrorKind::InvalidOption, text)
}
