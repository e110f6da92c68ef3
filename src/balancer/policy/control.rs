//! The control half of a policy: what the balancer shows it, and what it decides.

use std::{sync::Arc, time::Instant};

use super::super::levels::Level;
use crate::{
    connectivity::ConnectivityState,
    routing::{BackendId, BackendStatus, Choice, Cursor, Rotation},
    transport::LoadRules,
};

/// The control half, as the balancer uses it. Defaults are those of a policy that runs every backend and
/// sends calls to the READY ones in rotation.
pub(super) trait ControlHalf {
    const PROPERTIES: Properties = Properties {
        checks_health: true,
        reconnects: true,
    };

    /// The channel leaves IDLE.
    fn begin(&mut self, _now: Instant) {}

    /// Looks at the backends as they are now, in the order of the source.
    fn decide(
        &mut self,
        _now: Instant,
        _backends: impl ExactSizeIterator<Item = BackendView>,
    ) -> Decision {
        Decision {
            run: Run::All,
            changed: false,
            chooses_anew: false,
        }
    }

    /// When to look again, if nothing happens before.
    fn deadline(&self, _backends: usize) -> Option<Instant> {
        None
    }

    /// The state of the channel, from those of its backends as they are reported. Each
    /// subchannel keeps TRANSIENT_FAILURE until READY (gRFC A62), and counts health as part of
    /// its state (gRFC A61).
    fn aggregate(
        &self,
        states: impl ExactSizeIterator<Item = ConnectivityState>,
    ) -> ConnectivityState {
        ConnectivityState::aggregate(states)
    }

    /// How the load is weighed that backends report with calls, if the policy goes by it.
    fn load_rules(&self) -> Option<&Arc<LoadRules>> {
        None
    }

    /// The pick half: how calls choose among those of these backends that take calls. They come in
    /// the order of the source, which is that of the picker. With levels it is asked for each, by
    /// its number. `cursor` is that of the level.
    fn choice<'a>(
        &mut self,
        _now: Instant,
        _level: usize,
        cursor: &Arc<Cursor>,
        _members: impl Iterator<Item = &'a BackendStatus> + Clone,
    ) -> Choice {
        Choice::Rotation(Rotation::new(Arc::clone(cursor)))
    }
}

/// The properties of a policy, whatever its backends do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::balancer) struct Properties {
    /// Health is part of a backend's state, where the service config or the application asks.
    pub(in crate::balancer) checks_health: bool,
    /// A subchannel that is lost connects again by itself.
    pub(in crate::balancer) reconnects: bool,
}

/// A backend, as far as it matters to a policy.
#[derive(Clone, Copy, Debug)]
pub(in crate::balancer) struct BackendView {
    pub(in crate::balancer) id: BackendId,
    pub(in crate::balancer) state: ConnectivityState,
    pub(in crate::balancer) level: Level,
    pub(in crate::balancer) is_ipv6: bool,
}

/// The result of a look at the backends.
#[derive(Debug, PartialEq, Eq)]
#[must_use]
pub(in crate::balancer) struct Decision {
    pub(in crate::balancer) run: Run,
    /// The channel's state may be another by that, though no backend's is.
    pub(in crate::balancer) changed: bool,
    /// Calls are to choose by another pick half, though nothing else is different: statuses are
    /// not published, and no call that waits is woken.
    pub(in crate::balancer) chooses_anew: bool,
}

/// Which subchannels are to run, until the policy decides otherwise.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::balancer) enum Run {
    /// That of every backend. A backend that is named later runs at once.
    All,
    /// Those of these backends, and no other.
    Only(Vec<BackendId>),
    /// None: the channel goes IDLE.
    GoIdle,
}
