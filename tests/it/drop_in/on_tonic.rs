//! The client on tonic's channel.

#[path = "client.rs"]
mod client;

use super::TONIC as EXPECTED;

mod transport {
    pub(super) use tonic::transport::{Channel, Endpoint, channel};
}
