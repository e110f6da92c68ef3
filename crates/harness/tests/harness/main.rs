//! Tests of the test harness, with tonic's own channel as the client.

mod backend;
mod health;
mod peers;

use testing::within;
use tonic::transport::{Channel, Endpoint};

async fn channel(uri: String) -> Channel {
    let endpoint = Endpoint::from_shared(uri).expect("a backend's URI is one");
    within("a channel to connect", endpoint.connect())
        .await
        .expect("the backend accepts connections")
}
