//! What an endpoint may be told about its connections, as data.

use std::{net::IpAddr, time::Duration};

use http::{HeaderValue, uri};

use super::executor::BoundExecutor;
#[cfg(feature = "_tls-any")]
use crate::transport::io::TlsSource;

/// How long sent data may stay unacknowledged before the kernel gives up (gRFC A18
/// and its default).
const USER_TIMEOUT: Duration = Duration::from_secs(20);

/// Bytes of response headers or trailers, by default.
const HEADER_LIST: u32 = 16 << 10;

/// Socket options of a TCP connection.
#[derive(Clone, Debug, PartialEq)]
pub(in crate::transport) struct TcpOptions {
    pub(crate) nodelay: bool,
    pub(crate) keepalive: Option<Duration>,
    pub(crate) keepalive_interval: Option<Duration>,
    pub(crate) keepalive_retries: Option<u32>,
    pub(crate) user_timeout: Option<Duration>,
    pub(crate) local_address: Option<IpAddr>,
}

impl Default for TcpOptions {
    fn default() -> Self {
        Self {
            nodelay: true,
            keepalive: Some(Duration::from_secs(30)),
            keepalive_interval: Some(Duration::from_secs(10)),
            keepalive_retries: Some(3),
            user_timeout: Some(USER_TIMEOUT),
            local_address: None,
        }
    }
}

/// What `h2` is told, where it is not the default of this crate. Sizes in bytes.
#[derive(Clone, Debug, Default, PartialEq)]
pub(in crate::transport) struct Http2Options {
    pub(crate) stream_window: Option<u32>,
    pub(crate) connection_window: Option<u32>,
    pub(crate) adaptive_window: bool,
    pub(crate) max_frame_size: Option<u32>,
    pub(crate) header_table_size: Option<u32>,
    pub(super) max_header_list_size: Option<u32>,
    pub(crate) max_concurrent_reset_streams: Option<usize>,
    pub(crate) reset_stream_duration: Option<Duration>,
    pub(crate) max_local_error_reset_streams: Option<Option<usize>>,
}

impl Http2Options {
    /// The largest headers or trailers of a response, in bytes.
    pub(in crate::transport) fn header_list(&self) -> u32 {
        self.max_header_list_size.unwrap_or(HEADER_LIST)
    }
}

/// HTTP/2 PINGs to a silent peer.
#[derive(Clone, Debug, PartialEq)]
pub(in crate::transport) struct KeepaliveOptions {
    /// `None`: no PINGs.
    pub(crate) interval: Option<Duration>,
    pub(crate) timeout: Duration,
    pub(crate) while_idle: bool,
}

impl Default for KeepaliveOptions {
    fn default() -> Self {
        Self {
            interval: None,
            timeout: Duration::from_secs(20),
            while_idle: false,
        }
    }
}

/// How many calls a backend gets.
#[derive(Clone, Debug, Default, PartialEq)]
pub(in crate::transport) struct LimitOptions {
    pub(crate) concurrency: Option<usize>,
    /// So many calls in a period of so long.
    pub(crate) rate: Option<(u64, Duration)>,
}

/// What an endpoint says about TLS.
#[derive(Clone, Default, PartialEq)]
pub(in crate::transport) struct Security {
    #[cfg(feature = "_tls-any")]
    pub(crate) tls: TlsSource,
}

/// What a connection takes over from its endpoint.
pub(in crate::transport) struct ConnectionConfig {
    /// Of every request.
    pub(crate) scheme: uri::Scheme,
    pub(crate) authority: uri::Authority,
    pub(crate) user_agent: HeaderValue,
    /// Whether requests go out behind TLS.
    pub(crate) secure: bool,
    /// Bounds the time to response headers.
    pub(crate) call_timeout: Option<Duration>,
    /// The largest headers or trailers of a response, in bytes.
    pub(crate) header_list: u32,
    /// `host:port`, for people.
    pub(crate) address: String,
    /// Runs the tasks of the connection, and keeps their time.
    pub(crate) executor: BoundExecutor,
}
