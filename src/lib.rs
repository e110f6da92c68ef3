//! A gRPC client channel for tonic that sends calls only to backends that say
//! they are healthy.
//!
//! It stands where `tonic::transport::Channel` stands. A source names the
//! backends; each gets a connection and a `grpc.health.v1.Health/Watch` stream
//! (gRFC A17); calls go in turn to those that last said `SERVING`; and the JSON
//! gRPC service config that Go, Java and C++ users know drives it.
//!
//! It is not a server, not a caching layer, and not tonic's
//! transport with options added: connections are its own, on the `h2` crate.
//!
//! # Quick start
//!
//! ```no_run
//! # mod greeter_client {
//! #     pub struct GreeterClient<T>(pub T);
//! #     impl<T> GreeterClient<T> { pub fn new(channel: T) -> Self { Self(channel) } }
//! # }
//! # use greeter_client::GreeterClient;
//! use tonic_health_channel::{Channel, discover};
//!
//! # #[tokio::main]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let backends = discover::list(["http://10.0.0.1:50051", "http://10.0.0.2:50051"])?;
//! let channel = Channel::balance(backends)
//!     .service_config(r#"{"healthCheckConfig": {"serviceName": "demo.v1.Greeter"}}"#.parse()?)
//!     .build();
//! let client = GreeterClient::new(channel.clone()); // any generated client
//! println!("{}", channel.state()); // CONNECTING, and READY soon
//! for backend in channel.backends() {
//!     println!("{backend}"); // its state, its health and its last error
//! }
//! # Ok(())
//! # }
//! ```
//!
//! A program that uses tonic's channel changes `use tonic::transport::{Channel,
//! Endpoint}` to `use tonic_health_channel::{Channel, Endpoint}`. One thing cannot
//! work: the generated `GreeterClient::connect(uri)` is made for tonic's type.
//! Write `GreeterClient::new(Endpoint::new(uri)?.connect().await?)`.
//! `docs/migrating-from-tonic.md` has the rest.
//!
//! # Where things are
//!
//! | to | see |
//! |---|---|
//! | make a channel | [`Channel::target`], [`Channel::list`], [`Channel::balance`], [`Endpoint::connect`] |
//! | set its options | [`ChannelBuilder`], [`Endpoint`], [`HealthOptions`], [`ServiceConfig`] |
//! | see how it is, and follow it | [`Channel::status`], [`Channel::watch_status`], [`status`] |
//! | name its backends | [`discover`] |
//! | handle an error, or hand it on | [`Error`], [`ErrorKind`], [`Error::public_message`] |
//! | retry and hedge calls | [`Channel`], [`channel::CallAttempts`], `docs/failures.md` |
//! | choose how calls are spread over backends | [`service_config::LoadBalancingPolicy`], `docs/policies.md` |
//! | pass deadlines on | [`deadline`] |
//! | measure calls, connections and health | [`metrics`], `docs/observing.md` |
//! | trace calls and their attempts | [`trace`], `docs/observing.md` |
//! | use TLS | [`Endpoint::tls_config`](Endpoint), with a feature below |
//!
//! # Features
//!
//! None is on by default. Those for TLS have the names of tonic's.
//!
//! | feature | what it brings |
//! |---|---|
//! | `tls-ring` | TLS, with the cryptography of `ring` |
//! | `tls-aws-lc` | TLS, with that of `aws-lc-rs`; with both, `ring` computes |
//! | `tls-native-roots` | trust in whom the operating system trusts |
//! | `tls-webpki-roots` | trust in whom Mozilla trusts |
//! | `serde` | `Serialize` for `ChannelStatus`, `BackendStatus`, `BackendEvent` and what they have |
//! | `hickory` | name servers asked directly: validity of answers, SRV records, service configs in DNS |
//!
//! An endpoint whose scheme is `https` is reached by TLS, and trusts the roots that
//! are enabled; `Endpoint::tls_config` says more. Call credentials
//! ([`ChannelBuilder::call_credentials`]) need no feature, but are only sent over
//! TLS.
//!
//! # Speed
//!
//! Share one channel: a clone is cheap, and goes on with the same connections. On a runtime
//! of several threads callers and connections wake each other across threads, which costs
//! as much as the calls. Where that matters, give each core a current-thread runtime and a
//! channel of its own: twice the calls for half the CPU each, for the price of a connection
//! and a `Watch` to every backend from every core.
//!
//! ```no_run
//! use std::{io, thread};
//!
//! use tonic_health_channel::{Channel, discover};
//!
//! # async fn serve(channel: Channel) {}
//! fn main() -> io::Result<()> {
//!     let cores = thread::available_parallelism()?.get();
//!     let threads: Vec<_> = (0..cores).map(|_| thread::spawn(one_core)).collect();
//!     threads.into_iter().try_for_each(|one| one.join().expect("no panic"))
//! }
//!
//! fn one_core() -> io::Result<()> {
//!     let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
//!     runtime.block_on(async {
//!         let backends = discover::list(["http://10.0.0.1:50051", "http://10.0.0.2:50051"]);
//!         let channel = Channel::balance(backends.map_err(io::Error::other)?).build();
//!         serve(channel).await; // this core's part of the application
//!         Ok(())
//!     })
//! }
//! ```
//!
//! The allocator is next: on two workers, from 64 calls in flight on, jemalloc makes 14 to
//! 21 % more of them than glibc's `malloc`. `docs/benchmarks.md` has the numbers.
//!
//! # Logs
//!
//! Every transition is one [`tracing`] event. Its target says what it is about, and
//! its fields what happened:
//!
//! | target `tonic_health_channel::…` | level | message | fields |
//! |---|---|---|---|
//! | `channel` | INFO | `channel` | `from`, `to`: states; `backends`: how many; `cause` |
//! | `channel` | WARN | too short … | `option`, `given`, `least`: an option that is set below its least |
//! | `backend` | INFO | `backend` | `backend`: its label; `from`, `to`; `health`; `cause` |
//! | `backend` | WARN | the backend changes state too often … | `backend`; after 60 lines in a minute, its next are DEBUG; those of `channel` likewise |
//! | `backend` | DEBUG | `backend` | the same with `state`: another health or cause in it, or number of `connections` |
//! | `backend` | WARN | the server closed the connection for too_many_pings … | `backend`: its address; `interval` until then |
//! | `health` | ERROR | the server has no health service … | `backend`, `service`; once per connection |
//! | `health` | WARN | what a server lacks, and what is done instead | `backend`, `service` |
//! | `discover` | WARN | the source of backends failed | `error`; `retry`: when the source is asked again |
//! | `discover` | WARN | cannot watch the folder of the file … | `folder`, `error`; `every`: how often its file is read |
//! | `channel` | ERROR | the call tracer of the application panicked | `panic`; the next ones are DEBUG |
//! | `call` | DEBUG | spans of calls and attempts, for [`trace::tracing_spans`] alone | as OpenTelemetry names them |
//! | `service_config` | INFO | the service config changed | `policy`, `service` |
//! | `service_config` | WARN | the service config is invalid; or what has no effect | `error`, or `fields`, or `service` |
//!
//! # Where to start reading
//!
//! The modules follow a call downward, and a health update upward. `health/mod.rs`
//! tells what health checking is; `health/machine.rs` and `balancer/machine.rs`
//! are the rules; `call/run.rs` is the call path; `docs/architecture.md` is the
//! map.

#![cfg_attr(docsrs, feature(doc_cfg))]
#![cfg_attr(
    test,
    allow(
        clippy::disallowed_methods,
        reason = "a script for a machine starts at some instant, no matter which"
    )
)]

#[cfg(doctest)]
#[doc = include_str!("../docs/failures.md")]
struct Failures;

#[cfg(doctest)]
#[doc = include_str!("../docs/observing.md")]
struct Observing;

#[cfg(doctest)]
#[doc = include_str!("../docs/policies.md")]
struct Policies;

mod attributes;
mod balancer;
mod call;
pub mod channel;
mod connectivity;
pub mod deadline;
pub mod discover;
mod error;
#[cfg(test)]
mod fleet;
pub mod health;
pub mod metrics;
mod pb;
mod routing;
pub mod service_config;
mod subchannel;
pub mod trace;
mod transport;
mod util;

// The public interface is: what most programs name,
pub use call::WaitForReady;
#[doc(inline)]
pub use channel::Channel;
pub use channel::builder::ChannelBuilder;
pub use connectivity::ConnectivityState;
pub use error::{Error, ErrorKind};
pub use health::options::HealthOptions;
pub use service_config::config::ServiceConfig;
pub use transport::Endpoint;

// other names of `tonic::transport`,
pub use http::Uri;
pub use http_body::Body;
#[cfg(feature = "_tls-any")]
pub use tokio_rustls::rustls::pki_types::CertificateDer;
#[cfg(feature = "_tls-any")]
pub use transport::{Certificate, ClientTlsConfig, Identity};

// and the rest in modules: these, and those above that are `pub`.

/// How a channel and its backends are: now, and as it changes.
///
/// [`Channel::status`] and [`Channel::backends`] are a look at one moment. A watch follows
/// what comes later: [`StatusWatch`](status::StatusWatch) all of it,
/// [`StateWatch`](status::StateWatch) the channel's state alone, and
/// [`BackendWatch`](status::BackendWatch) each backend by events.
///
/// ```no_run
/// use tonic_health_channel::{Channel, status::CauseKind};
///
/// /// How many backends cannot be reached.
/// fn out_of_reach(channel: &Channel) -> usize {
///     let backends = channel.backends();
///     let last_errors = backends.iter().filter_map(|backend| backend.last_error());
///     last_errors.filter(|(cause, _)| cause.kind() == CauseKind::Connect).count()
/// }
/// ```
pub mod status {
    pub use crate::{
        channel::watch::{BackendEvent, BackendWatch, StateWatch, StatusWatch},
        error::{Cause, CauseKind, escape_peer_text},
        routing::{
            BackendId, BackendStatus, Backends, ChannelStatus, DetectionMethod, Ejection,
            PriorityStatus,
        },
        transport::{CallCounts, Silence},
    };
}

/// TLS beyond what tonic has, and the rustls that signatures name.
///
/// Certificates, keys and the config itself are in the root, as in tonic:
/// [`ClientTlsConfig`], [`Certificate`], [`Identity`]. They are given to
/// [`Endpoint::tls_config`].
#[cfg(feature = "_tls-any")]
pub mod tls {
    pub use crate::transport::TlsReload;
    /// The rustls that this crate is built with: [`ClientTlsConfig`](crate::ClientTlsConfig)
    /// takes its `TrustAnchor`s, and
    /// [`dangerous_tls_config_with_verifier`](crate::Endpoint::dangerous_tls_config_with_verifier)
    /// its `ServerCertVerifier`.
    #[doc(no_inline)]
    pub use tokio_rustls::rustls;
}

/// What fuzz targets reach of the inside.
#[cfg(fuzzing)]
#[doc(hidden)]
pub mod fuzzing {
    /// See `transport/h2/wire/fuzzed`.
    pub fn wire(data: &[u8]) {
        crate::transport::check_wire(data);
    }
}
