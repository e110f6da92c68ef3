//! The channel, what makes one, and what follows one.
//!
//! ```text
//!   target ─┐
//!           ├─► builder ──build──► Channel (handle) ──► watch, ready_backends
//!   connect ┘
//! ```

mod build;
pub(crate) mod builder;
mod config_file;
mod connect;
mod handle;
pub(crate) mod ready_backends;
mod runtime;
#[cfg(feature = "serde")]
mod serialize;
mod target;
mod template;
pub(crate) mod watch;

#[cfg(feature = "_tls-any")]
#[doc(no_inline)]
pub use crate::transport::ClientTlsConfig;
#[doc(no_inline)]
pub use crate::transport::Endpoint;
pub use handle::{Channel, ResponseFuture};
#[doc(no_inline)]
pub use tower::discover::Change;
