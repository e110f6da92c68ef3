//! Whether calls may use the connections of a subchannel.
//!
//! The subchannel's task says whether it is READY, and the balancer whether its backend is
//! ejected (gRFC A50). Both write under one lock, so that a connection of an ejected backend is
//! never pickable. No slot of it goes to a call that waits.

use std::{
    mem,
    sync::{Arc, Mutex},
};

use crate::{transport::ConnectionGroup, util::lock::lock};

/// Opens and closes the connections of a subchannel for calls.
pub(crate) struct CallGate(Mutex<State>);

struct State {
    is_ejected: bool,
    /// The connections, while the subchannel is READY.
    ready: Option<ConnectionGroup>,
}

impl CallGate {
    pub(crate) fn new(is_ejected: bool) -> Arc<Self> {
        Arc::new(Self(Mutex::new(State {
            is_ejected,
            ready: None,
        })))
    }

    /// The backend is ejected, or it is no longer.
    pub(crate) fn set_ejected(&self, is_ejected: bool) {
        let mut state = lock(&self.0);
        state.is_ejected = is_ejected;
        if let Some(connections) = &state.ready {
            connections.set_pickable(!is_ejected);
        }
    }

    /// The subchannel is READY with these connections, or not.
    pub(super) fn set_ready(&self, connections: ConnectionGroup, is_ready: bool) {
        let mut state = lock(&self.0);
        connections.set_pickable(is_ready && !state.is_ejected);
        let last = mem::replace(&mut state.ready, is_ready.then_some(connections));
        // It may be the last handle.
        drop(state);
        drop(last);
    }

    /// The subchannel has no connections any more.
    pub(super) fn clear(&self) {
        let last = lock(&self.0).ready.take();
        drop(last);
    }
}
