//! The options of an [`Endpoint`].

use std::{sync::Arc, time::Duration};

use http::{HeaderValue, Uri};

use super::{
    endpoint::{Endpoint, USER_AGENT},
    executor::{BoxTask, Executor},
};
use crate::error::{Error, ErrorKind};

/// Socket options of a TCP connection.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct TcpOptions {
    pub(super) nodelay: bool,
    pub(super) keepalive: Option<Duration>,
    pub(super) keepalive_interval: Option<Duration>,
    pub(super) keepalive_retries: Option<u32>,
}

/// HTTP/2 flow control windows, in bytes. `None`: the default of this crate.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Windows {
    pub(super) stream: Option<u32>,
    pub(super) connection: Option<u32>,
}

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
                format!("endpoint `{}`: the user agent is no header value", self.uri),
            )
        };
        let application = user_agent.try_into().map_err(|_| invalid())?;
        let full = [application.as_bytes(), b" ", USER_AGENT.as_bytes()].concat();
        let user_agent = HeaderValue::from_bytes(&full).map_err(|_| invalid())?;
        Ok(Self { user_agent, ..self })
    }

    /// Sends calls with the scheme and authority of `origin` rather than those
    /// of the address: the name the server is known by, where it is reached by
    /// another.
    pub fn origin(self, origin: Uri) -> Self {
        Self {
            origin: Some(origin),
            ..self
        }
    }

    /// Bounds the time from the start of a call until its response headers,
    /// waiting for a connection included where this is the only endpoint of its
    /// channel. No bound by default. A call that also has a deadline of its own
    /// (`grpc-timeout`) ends at the earlier of the two.
    ///
    /// Running out fails the call with DEADLINE_EXCEEDED.
    pub fn timeout(self, timeout: Duration) -> Self {
        Self {
            timeout: Some(timeout),
            ..self
        }
    }

    /// Bounds one attempt to connect: name lookup, TCP over all addresses, and
    /// the peer's SETTINGS. 20 s by default, gRPC's minimum connect timeout.
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
    /// `None` turns the probes off.
    pub fn tcp_keepalive(mut self, after: Option<Duration>) -> Self {
        self.tcp.keepalive = after;
        self
    }

    /// Time between keepalive probes. 10 s by default; `None`: the system's.
    pub fn tcp_keepalive_interval(mut self, interval: Option<Duration>) -> Self {
        self.tcp.keepalive_interval = interval;
        self
    }

    /// Keepalive probes without an answer before the connection counts as
    /// dead. 3 by default; `None`: the system's.
    pub fn tcp_keepalive_retries(mut self, retries: Option<u32>) -> Self {
        self.tcp.keepalive_retries = retries;
        self
    }

    /// How many bytes one response may send ahead of its reader. 2 MiB by
    /// default.
    pub fn initial_stream_window_size(mut self, bytes: impl Into<Option<u32>>) -> Self {
        self.windows.stream = bytes.into();
        self
    }

    /// How many bytes all responses of the connection together may send ahead
    /// of their readers. 5 MiB by default.
    pub fn initial_connection_window_size(mut self, bytes: impl Into<Option<u32>>) -> Self {
        self.windows.connection = bytes.into();
        self
    }

    /// Spawns the tasks of this endpoint's connections on `executor` rather
    /// than on the tokio runtime in whose context they start.
    pub fn executor<E>(self, executor: E) -> Self
    where
        E: hyper::rt::Executor<BoxTask> + Send + Sync + 'static,
    {
        Self {
            executor: Executor::new(Arc::new(executor)),
            ..self
        }
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
