//! A connection that is silent, and what its backend is told of it.

use std::{
    fmt,
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::sync::Notify;

/// A backend sends nothing, though calls and a PING wait for an answer.
///
/// New calls avoid it, but for 1 probe at a time, until its next byte. See
/// [`ChannelBuilder::silence`](crate::ChannelBuilder::silence).
///
/// ```no_run
/// use tonic_health_channel::Channel;
///
/// fn print_silent(channel: &Channel) {
///     for backend in channel.backends() {
///         if let Some(silence) = backend.silence() {
///             println!("{}: {silence}", backend.label());
///         }
///     }
/// }
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Silence {
    pub(crate) since: Instant,
    /// How long there was no byte before the PING, and after it.
    pub(crate) limit: Duration,
}

impl Silence {
    /// Since when new calls avoid it. If it has several connections, from the moment when the
    /// last of them was silent.
    pub fn since(&self) -> Instant {
        self.since
    }
}

/// `the peer has sent no bytes for 2s, and no PING ACK within 2s`.
impl fmt::Display for Silence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let limit = self.limit;
        write!(
            f,
            "the peer has sent no bytes for {limit:?}, and no PING ACK within {limit:?}"
        )
    }
}

/// When the connections of a backend are silent.
#[derive(Debug)]
pub(crate) struct SilenceRule {
    /// How long there is no byte before the PING, and after it.
    limit: Duration,
    changed: Notify,
}

impl SilenceRule {
    pub(crate) fn new(limit: Duration) -> Arc<Self> {
        Arc::new(Self {
            limit,
            changed: Notify::new(),
        })
    }

    pub(in crate::transport) fn limit(&self) -> Duration {
        self.limit
    }

    /// Resolves when a connection is silent that was not, or the reverse.
    ///
    /// # Cancel safety
    ///
    /// A change that was not seen is seen by the next call.
    pub(crate) async fn changed(&self) {
        self.changed.notified().await;
    }

    pub(super) fn on_changed(&self) {
        self.changed.notify_one();
    }
}
