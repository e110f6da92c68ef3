//! Calls: what goes out, what comes back, when they end.

mod allowance;
mod crowds;
mod deadlines;
mod kinds;
mod limits;
mod metadata;
mod refused;
mod wait_for_ready;

use testing::{Backend, balanced, until};
use tonic_health_channel::{Channel, ConnectivityState::Ready};

/// A backend, and a READY channel to it without health checks.
async fn connected() -> (Backend, Channel) {
    let backend = Backend::builder().name("A").start().await;
    let channel = balanced(&[&backend], None).build();
    until(&channel, Ready).await;
    (backend, channel)
}
