//! TLS: whom a client trusts, and who it says it is.
//!
//! ```text
//!   ClientTlsConfig ──Prepared::new──► Prepared ◄──TlsSource── Endpoint
//!   (what the user said)               (rustls' view)  │
//!          ▲                                           ▼
//!          └── TlsReload exchanges it        Client: one handshake
//! ```
//!
//! The types have tonic's names and meanings. What is wrong with a config is said
//! when it is given to an endpoint, not when that first connects.

mod config;
mod contained_verifier;
mod handshake;
mod pem;
mod prepared;
mod reload;
mod source;
#[cfg(all(test, feature = "tls-ring"))]
mod tests;
mod verifier;
mod wall_clock;

pub use config::ClientTlsConfig;
pub(in crate::transport) use handshake::Client;
pub use pem::{Certificate, Identity};
pub(in crate::transport) use prepared::Prepared;
pub use reload::TlsReload;
pub(in crate::transport) use source::TlsSource;
