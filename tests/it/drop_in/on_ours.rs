//! The same client on this crate's channel.

#[path = "client.rs"]
mod client;
#[cfg(feature = "tls-ring")]
#[path = "tls.rs"]
mod tls;

use super::OURS as EXPECTED;

mod transport {
    #[cfg(feature = "tls-ring")]
    pub(super) use tonic_health_channel::{Certificate, ClientTlsConfig, Identity};
    pub(super) use tonic_health_channel::{Channel, Endpoint, channel};
}
