//! Whether calls may use the connections of a subchannel.
//!
//! The subchannel's task says whether it is READY, and the balancer whether its backend is
//! ejected (gRFC A50) or in panic. Both write under one lock, so that a connection of an ejected
//! backend is pickable in panic only. Otherwise no slot of it goes to a call that waits.

use std::sync::{Arc, Mutex};

use crate::{transport::ConnectionGroup, util::lock::lock};

/// Opens and closes the connections of a subchannel for calls.
pub(crate) struct CallGate(Mutex<State>);

struct State {
    is_ejected: bool,
    /// Calls use the connections whatever is said of the backend.
    in_panic: bool,
    is_ready: bool,
    /// While there are any.
    connections: Option<ConnectionGroup>,
}

impl State {
    fn follow(&self) {
        if let Some(connections) = &self.connections {
            let is_well = self.is_ready && !self.is_ejected;
            connections.set_pickable(is_well || self.in_panic);
        }
    }
}

impl CallGate {
    pub(crate) fn new(is_ejected: bool, in_panic: bool) -> Arc<Self> {
        Arc::new(Self(Mutex::new(State {
            is_ejected,
            in_panic,
            is_ready: false,
            connections: None,
        })))
    }

    /// The backend is ejected, or it is no longer.
    pub(crate) fn set_ejected(&self, is_ejected: bool) {
        let mut state = lock(&self.0);
        state.is_ejected = is_ejected;
        state.follow();
    }

    /// The priority of the backend is in panic, or it is no longer.
    pub(crate) fn set_in_panic(&self, in_panic: bool) {
        let mut state = lock(&self.0);
        state.in_panic = in_panic;
        state.follow();
    }

    /// The subchannel has these connections, and is READY or not.
    pub(super) fn set_ready(&self, connections: ConnectionGroup, is_ready: bool) {
        let mut state = lock(&self.0);
        let last = state.connections.replace(connections);
        state.is_ready = is_ready;
        state.follow();
        // It may be the last handle.
        drop(state);
        drop(last);
    }

    /// The subchannel has no connections any more.
    pub(super) fn clear(&self) {
        let mut state = lock(&self.0);
        let last = state.connections.take();
        state.is_ready = false;
        drop(state);
        drop(last);
    }
}
