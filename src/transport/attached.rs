//! What outlives a connection.

use std::sync::Arc;

use super::{AnsweredBy, CallCredentials, Queue, Restraint, call_limits::CallLimits};
use crate::util::in_flight::InFlight;

/// What a connection has of its channel and of its backend. It outlives the
/// connection, and the next one to the same backend gets it too.
#[derive(Clone)]
pub(crate) struct Attached {
    /// The number of its backend.
    pub(crate) backend: u64,
    /// Calls of the channel that wait for a slot, here or elsewhere.
    pub(crate) queue: Arc<Queue>,
    /// Calls of the backend.
    pub(crate) in_flight: InFlight,
    /// What each response says of the backend, if it is to say so.
    pub(crate) answered_by: Option<AnsweredBy>,
    /// What every request on the connection has to bring, a `Watch` too.
    pub(crate) credentials: Option<CallCredentials>,
    /// How many calls its endpoint wants, if it has a bound.
    pub(crate) limits: Option<Arc<CallLimits>>,
    /// How much less often it is sent PINGs than its endpoint says.
    pub(crate) restraint: Restraint,
}
