//! What an endpoint may be told about its connections, as data.

use std::{net::IpAddr, time::Duration};

use http::{HeaderValue, uri};

use super::executor::Executor;
#[cfg(feature = "_tls-any")]
use super::io::Source;

/// How long sent data may stay unacknowledged before the kernel gives up (gRFC A18
/// and its default).
const USER_TIMEOUT: Duration = Duration::from_secs(20);

/// Bytes of response headers or trailers, by default.
const HEADER_LIST: u32 = 16 << 10;

/// Socket options of a TCP connection.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct TcpOptions {
    pub(super) nodelay: bool,
    pub(super) keepalive: Option<Duration>,
    pub(super) keepalive_interval: Option<Duration>,
    pub(super) keepalive_retries: Option<u32>,
    pub(super) user_timeout: Option<Duration>,
    pub(super) local_address: Option<IpAddr>,
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
pub(super) struct Http2Options {
    pub(super) stream_window: Option<u32>,
    pub(super) connection_window: Option<u32>,
    pub(super) adaptive_window: bool,
    pub(super) max_frame_size: Option<u32>,
    pub(super) header_table_size: Option<u32>,
    pub(super) max_header_list_size: Option<u32>,
    pub(super) max_concurrent_reset_streams: Option<usize>,
    pub(super) reset_stream_duration: Option<Duration>,
    pub(super) max_local_error_reset_streams: Option<Option<usize>>,
}

impl Http2Options {
    /// The largest headers or trailers of a response, in bytes.
    pub(super) fn header_list(&self) -> u32 {
        self.max_header_list_size.unwrap_or(HEADER_LIST)
    }
}

/// HTTP/2 PINGs to a silent peer.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct KeepaliveOptions {
    /// `None`: no PINGs.
    pub(super) interval: Option<Duration>,
    pub(super) timeout: Duration,
    pub(super) while_idle: bool,
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
pub(super) struct LimitOptions {
    pub(super) concurrency: Option<usize>,
    /// So many calls in a period of so long.
    pub(super) rate: Option<(u64, Duration)>,
}

/// What an endpoint says about TLS.
#[derive(Clone, Default, PartialEq)]
pub(super) struct Security {
    #[cfg(feature = "_tls-any")]
    pub(super) tls: Source,
}

/// What a connection takes over from its endpoint.
pub(super) struct ConnectionConfig {
    /// Of every request.
    pub(super) scheme: uri::Scheme,
    pub(super) authority: uri::Authority,
    pub(super) user_agent: HeaderValue,
    /// Whether requests go out behind TLS.
    pub(super) secure: bool,
    /// Bounds the time to response headers.
    pub(super) call_timeout: Option<Duration>,
    /// The largest headers or trailers of a response, in bytes.
    pub(super) header_list: u32,
    /// `host:port`, for people.
    pub(super) address: String,
    /// Runs the tasks of the connection.
    pub(super) executor: Executor,
}
