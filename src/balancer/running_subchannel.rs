//! The worker's hold on a subchannel that runs.

use std::sync::Arc;

use tokio::sync::oneshot;

use crate::{subchannel::CallGate, transport::ConnectionGroup};

/// A subchannel that runs. Dropping this stops it.
pub(super) struct RunningSubchannel {
    _stop: oneshot::Sender<()>,
    /// The target of calls, while it is connected.
    pub(super) connections: Option<ConnectionGroup>,
    /// Keeps calls from the connections while the backend is ejected, and lets them through in
    /// panic.
    pub(super) gate: Arc<CallGate>,
    /// Its task has died, and will be started again.
    pub(super) is_dead: bool,
}

impl RunningSubchannel {
    pub(super) fn new(stop: oneshot::Sender<()>, is_ejected: bool, in_panic: bool) -> Self {
        Self {
            _stop: stop,
            connections: None,
            gate: CallGate::new(is_ejected, in_panic),
            is_dead: false,
        }
    }
}
