//! A client that was written for tonic's channel, run on both.
//!
//! `client.rs` is compiled twice. All that tells the two apart is the module
//! `transport` beside it: tonic's in `on_tonic`, this crate in `on_ours`. What
//! differs on purpose is in the table [`Expected`], and both columns are held.

#[allow(
    clippy::duplicate_mod,
    reason = "that one file fits both is what is tested"
)]
mod on_ours;
#[allow(
    clippy::duplicate_mod,
    reason = "that one file fits both is what is tested"
)]
mod on_tonic;
mod paths;

use std::time::Duration;

use tonic::Code;

/// What a client may see change when it changes its import.
struct Expected {
    /// What `Endpoint::timeout` and a call's own timeout end with.
    timed_out: Code,
    /// What a call gets that finds no endpoint at all. `None`: nothing, for ever.
    empty_set: Option<Code>,
    /// How the channel signs its `user-agent`.
    signature: &'static str,
    /// Whether, and how, dead peers are looked for unless told otherwise.
    tcp_keepalive: Option<Duration>,
    tcp_keepalive_interval: Option<Duration>,
    tcp_keepalive_retries: Option<u32>,
    /// Whether `Endpoint::from_shared` takes `host:port` without a scheme, to
    /// which nothing can connect.
    takes_no_scheme: bool,
    /// What a call gets whose request is larger than its client allows.
    request_too_large: Code,
    /// What an endpoint at a Unix socket gives for its URI, and tells servers.
    unix_uri: &'static str,
}

const TONIC: Expected = Expected {
    timed_out: Code::Cancelled,
    empty_set: None,
    signature: "tonic/",
    tcp_keepalive: None,
    tcp_keepalive_interval: None,
    tcp_keepalive_retries: None,
    takes_no_scheme: true,
    request_too_large: Code::Internal,
    unix_uri: "http://tonic/",
};

const OURS: Expected = Expected {
    timed_out: Code::DeadlineExceeded,
    empty_set: Some(Code::Unavailable),
    signature: "tonic-health-channel/",
    tcp_keepalive: Some(Duration::from_secs(30)),
    tcp_keepalive_interval: Some(Duration::from_secs(10)),
    tcp_keepalive_retries: Some(3),
    takes_no_scheme: false,
    request_too_large: Code::OutOfRange,
    unix_uri: "http://localhost/",
};
