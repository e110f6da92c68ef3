//! The option that finds backends which send nothing.

use std::time::Duration;

use super::builder::ChannelBuilder;
use crate::util::at_least::at_least;

/// A shorter time is within the delays of a scheduler, and each driver would set a timer as often.
const MIN_SILENCE: Duration = Duration::from_millis(10);

impl ChannelBuilder {
    /// How long a connection with calls in flight may bring no byte until it is sent 1 PING. If
    /// no byte comes within the same time again, it is silent: new calls avoid it. `None`, the
    /// default, is never.
    ///
    /// A backend that is paused or cut off keeps its calls until their deadlines, and its
    /// connection stays open. Health checks do not see it, as their stream may be quiet for
    /// hours. [Keepalive](crate::Endpoint::http2_keep_alive_interval) sees it, but ends the
    /// connection with all calls, and asks for 10 s between PINGs at least. This option avoids the
    /// backend within 2 times the duration, and keeps its connection and its calls.
    ///
    /// - The backend is TRANSIENT_FAILURE with
    ///   [`BackendStatus::silence`](crate::status::BackendStatus::silence), for the policy as for
    ///   users. If all are, calls that are not wait-for-ready fail with that reason.
    /// - 1 call at a time still goes there on each connection, as a probe: as often as the policy
    ///   would choose the backend. Calls that are attempted again prefer others.
    /// - Any byte ends the silence, be it late or the PING ACK. Then the measure begins anew.
    /// - A backend with several connections is silent if all of them are. Calls avoid each that
    ///   is silent.
    /// - A slow handler is not silent, as its server answers the PING.
    ///
    /// Choose it above the slowest round trip, and below half of the calls' deadlines. A PING waits
    /// behind what is being sent, so large requests on a slow link need more. If all calls
    /// end before the PING is due, it is not sent. Less than 10 ms counts as
    /// 10 ms, which a busy scheduler may need, and is 1 WARN.
    ///
    /// Servers count PINGs (gRFC A8). Those in Go, Java and C++ forgive 2 until they next send
    /// HEADERS or DATA, and end the connection over more. So a connection sends 2 of them between
    /// messages of its server, and then 1 in 5 minutes. Calls that all take longer than 3 times
    /// the duration, with no message between, may thus hide a server that stops later.
    ///
    /// The cost is 1 timer, and a clock read for each wake-up of a connection that brings bytes.
    /// That is 0.8 % of the instructions of a call.
    ///
    /// ```
    /// use std::time::Duration;
    /// use tonic_health_channel::{Channel, discover};
    ///
    /// # async fn example() -> Result<(), tonic_health_channel::Error> {
    /// let backends = discover::list(["http://10.0.0.1:50051", "http://10.0.0.2:50051"])?;
    /// let channel = Channel::balance(backends).silence(Duration::from_millis(500)).build();
    /// # Ok(())
    /// # }
    /// ```
    pub fn silence(mut self, limit: impl Into<Option<Duration>>) -> Self {
        let at_least = |limit| at_least("silence", limit, MIN_SILENCE);
        self.silence = limit.into().map(at_least);
        self
    }
}
