//! The client on tonic's channel.

#[path = "client.rs"]
mod client;
#[cfg(feature = "tls-ring")]
#[path = "tls.rs"]
mod tls;

use super::TONIC as EXPECTED;

mod transport {
    #[cfg(feature = "tls-ring")]
    pub(super) use tonic::transport::{Certificate, ClientTlsConfig, Identity};
    pub(super) use tonic::transport::{Channel, Endpoint, channel};
}
