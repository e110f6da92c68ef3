//! The same client on this crate's channel.

#[path = "client.rs"]
mod client;

use super::OURS as EXPECTED;

mod transport {
    pub(super) use tonic_health_channel::{Channel, Endpoint, channel};
}
