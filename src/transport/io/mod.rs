//! How bytes get to a peer: what is dialled, by what, and through what.
//!
//! [`address`] names it, a [`Connector`] or a socket reaches it, a [`Proxy`] may lie between,
//! TLS goes around it ([`tls`]), and [`sniff`] keeps what comes first.

mod address;
mod connector;
mod contained_io;
mod no_proxy;
mod progress;
mod proxy;
mod sniff;
#[cfg(feature = "_tls-any")]
mod tls;

pub(super) use address::{HostPort, Located, UnixName};
#[cfg(test)]
pub(super) use connector::Io;
pub(super) use connector::{BoxIo, Connector};
pub(super) use progress::Progress;
pub(super) use proxy::{Hop, Proxy};
pub(super) use sniff::{ReadActivity, SniffedIo};
#[cfg(feature = "_tls-any")]
pub use tls::{Certificate, ClientTlsConfig, Identity, TlsReload};
#[cfg(feature = "_tls-any")]
pub(super) use tls::{Client, Prepared, TlsSource};
