//! The gRPC health service for tonic servers.
//!
//! [`HealthService::new`] makes a [`HealthHandle`], which sets statuses, and a service for
//! `Server::builder().add_service` of tonic. It keeps the protocol [`grpc.health.v1`] with
//! `Check`, `Watch` and `List` (gRFC A90).
//!
//! ```no_run
//! use grpc_health_service::{HealthService, ServingStatus};
//! use tonic::transport::Server;
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let (health, service) = HealthService::new();
//! health.set("demo.v1.Greeter", ServingStatus::Serving);
//! Server::builder()
//!     .add_service(service)
//!     .serve("[::]:50051".parse()?)
//!     .await?;
//! # Ok(())
//! # }
//! ```
//!
//! # The protocol
//!
//! | call | answer |
//! |---|---|
//! | `Check` | the status; NOT_FOUND `unknown service` for a name without a status |
//! | `Watch` | the status at once, then each change; SERVICE_UNKNOWN for a name without a status, whose stream stays open |
//! | `List` | all names with their status; RESOURCE_EXHAUSTED above 100 names |
//!
//! A name of more than 200 bytes fails with INVALID_ARGUMENT, and a request of more than 4 KiB
//! with OUT_OF_RANGE. A `Watch` above [`HealthOptions::max_watchers`] fails with
//! RESOURCE_EXHAUSTED.
//!
//! # Stopping
//!
//! [`HealthHandle::drain_on`] makes the future that `serve_with_shutdown` takes. It tells
//! watchers NOT_SERVING, waits until they have taken it, and ends their streams.
//! [`Drain::cut_off`] bounds the wait for open calls. `stop_signal` is SIGTERM or Ctrl-C.
//!
//! # Dependencies and HTTP
//!
//! [`HealthHandle::check`] probes a dependency periodically and sets a status by the results.
//! [`HealthHandle::http_probes`] answers `/healthz` and `/readyz` over HTTP.
//!
//! # From tonic-health
//!
//! | `tonic-health` | here |
//! |---|---|
//! | `tonic_health::server::health_reporter()` | [`HealthService::new()`] |
//! | `reporter.set_serving::<S>().await` | [`health.set_serving::<S>()`](HealthHandle::set_serving) |
//! | `reporter.set_not_serving::<S>().await` | [`health.set_not_serving::<S>()`](HealthHandle::set_not_serving) |
//! | `reporter.set_service_status(name, status).await` | [`health.set(name, status)`](HealthHandle::set) |
//! | `reporter.clear_service_status(name).await` | [`health.clear(name)`](HealthHandle::clear) |
//! | `tonic_health::ServingStatus` | [`ServingStatus`], with the same names |
//! | `Watch` of an unknown name fails with NOT_FOUND | SERVICE_UNKNOWN, and the stream stays open |
//! | a status that is set again is sent again | it is not |
//! | a cleared name ends its streams with OK | SERVICE_UNKNOWN, and they stay open |
//!
//! [`grpc.health.v1`]: https://github.com/grpc/grpc/blob/master/doc/health-checking.md

/// The descriptor of `grpc/health/v1/health.proto`, as an encoded `FileDescriptorSet`.
///
/// `tonic-reflection` takes it, so that `grpcurl` and other tools can call the service without
/// its file:
///
/// ```no_run
/// # fn reflect() -> Result<(), tonic_reflection::server::Error> {
/// let reflection = tonic_reflection::server::Builder::configure()
///     .register_encoded_file_descriptor_set(grpc_health_service::FILE_DESCRIPTOR_SET)
///     .build_v1()?;
/// # drop(reflection);
/// # Ok(())
/// # }
/// ```
pub const FILE_DESCRIPTOR_SET: &[u8] = include_bytes!("pb/grpc.health.v1.bin");

#[cfg(all(doctest, feature = "signal"))]
#[doc = include_str!("../README.md")]
struct Readme;

#[cfg(all(doctest, feature = "signal"))]
#[doc = include_str!("../../../docs/draining.md")]
struct Guide;

mod check;
mod codec;
mod drain;
mod handle;
mod http_probes;
mod log;
mod log_budget;
mod options;
mod pb;
mod registry;
mod service;
mod shared;
#[cfg(all(feature = "signal", any(unix, windows)))]
mod signal;
mod status;
mod thresholds;
mod watch;
mod wire;

pub use check::{AlreadyChecked, Check, CheckOptions};
pub use drain::{Drain, DrainOptions, Drained};
pub use handle::HealthHandle;
pub use http_probes::HttpProbes;
pub use options::HealthOptions;
pub use service::HealthService;
#[cfg(all(feature = "signal", any(unix, windows)))]
pub use signal::stop_signal;
pub use status::ServingStatus;
