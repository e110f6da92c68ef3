//! The types beside a [`Channel`]: backoff, credentials, responses, attempts, READY backends.
//!
//! It has the names of `tonic::transport::channel`, and those of what else stands beside a
//! channel: [`BackoffConfig`], [`RequestInfo`], [`AnsweredBy`], [`CallAttempts`],
//! [`ReadyBackends`].
//!
//! ```text
//!   target ─┐
//!           ├─► builder ──build──► Channel (handle) ──► watch, ready_backends
//!   connect ┘
//! ```

mod attempt_options;
mod build;
pub(crate) mod builder;
mod config_file;
mod connect;
mod handle;
mod level_options;
mod observability;
mod ready_backends;
mod runtime;
#[cfg(feature = "serde")]
mod serialize;
mod silence_option;
mod target;
mod template;
pub(crate) mod watch;

#[cfg(feature = "_tls-any")]
#[doc(no_inline)]
pub use crate::transport::ClientTlsConfig;
#[doc(no_inline)]
pub use crate::transport::Endpoint;
pub use crate::{
    error::{CallAttempts, FailedAttempt},
    transport::{AnsweredBy, RequestInfo},
    util::backoff::BackoffConfig,
};
pub use handle::{Channel, ResponseFuture};
pub use ready_backends::{BackendConnection, ReadyBackends};
#[doc(no_inline)]
pub use tower::discover::Change;
