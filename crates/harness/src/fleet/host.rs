//! A backend, whatever it is made of.

use std::time::Duration;

use tonic_health_channel::Endpoint;

use super::{Fault, Result};

/// One backend, as those have it who trouble it.
#[allow(
    async_fn_in_trait,
    reason = "none of its futures is spawned, so none has to be Send"
)]
pub trait Host {
    /// Where it is, whatever becomes of it.
    fn endpoint(&self) -> Result<Endpoint>;

    /// The numbers of all calls that came to it, in any of its lives.
    fn ledger(&self) -> Result<Vec<u64>>;

    /// It ends at once.
    async fn kill(&mut self) -> Result<()>;

    /// It ends when the calls that it has have ended, and says so to its clients.
    async fn stop(&mut self) -> Result<()>;

    /// A new life, in which it is SERVING.
    async fn restart(&mut self) -> Result<()>;

    /// It does nothing any more, or goes on.
    fn pause(&mut self, pause: bool) -> Result<()>;

    /// SERVING, or NOT_SERVING.
    async fn serve(&mut self, serving: bool) -> Result<()>;

    /// A fault of the line to it begins.
    async fn disturb(&mut self, fault: Fault) -> Result<()>;

    /// And ends.
    async fn mend(&mut self, fault: Fault) -> Result<()>;

    /// For how long after a silence that lasted so long bytes may be under way that were
    /// sent in it.
    fn afterwards(&self, _silence: Duration) -> Duration {
        Duration::ZERO
    }
}
