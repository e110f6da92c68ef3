//! The rules of `ring_hash_experimental` (gRFC A42, A61): every backend is connected to, and the
//! ring is made of their addresses.

use std::{sync::Arc, time::Instant};

use http::HeaderName;

use super::control::ControlHalf;
use crate::{
    connectivity::ConnectivityState::{self, Connecting, Idle, Ready, TransientFailure},
    routing::{self, BackendId, BackendStatus, Choice, Cursor, Ring, RingMember},
    service_config,
};

/// Every backend weighs the same, for an address has no weight.
const WEIGHT: u32 = 1;

#[derive(Debug)]
pub(in crate::balancer) struct RingHash {
    min_size: u32,
    max_size: u32,
    header: Option<HeaderName>,
    /// The last one that was published.
    ring: Option<Built>,
}

/// A ring, and what it was made of.
#[derive(Debug)]
struct Built {
    of: Vec<(BackendId, Arc<str>)>,
    ring: Arc<Ring>,
}

impl RingHash {
    pub(in crate::balancer) fn new(config: &service_config::RingHash) -> Self {
        let header = config.request_hash_header.as_ref();
        Self {
            min_size: config.min_ring_size,
            max_size: config.max_ring_size,
            // A config has none that is not legal.
            header: header.and_then(|name| HeaderName::from_bytes(name.as_bytes()).ok()),
            ring: None,
        }
    }

    /// From now on. A ring of the same sizes is kept.
    pub(in crate::balancer) fn configure(&mut self, config: &service_config::RingHash) {
        let mut next = Self::new(config);
        if (next.min_size, next.max_size) == (self.min_size, self.max_size) {
            next.ring = self.ring.take();
        }
        *self = next;
    }

    /// The ring of these backends: the same one for as long as they are the same.
    fn ring<'a>(&mut self, backends: impl Iterator<Item = &'a BackendStatus> + Clone) -> Arc<Ring> {
        let named = backends.map(|backend| (backend.id, &backend.address));
        if let Some(built) = &self.ring
            && named
                .clone()
                .eq(built.of.iter().map(|(id, address)| (*id, address)))
        {
            return Arc::clone(&built.ring);
        }
        let members = named.clone().map(|(_, address)| (&**address, WEIGHT));
        let ring = Arc::new(Ring::new(members, self.min_size, self.max_size));
        self.ring = Some(Built {
            of: named.map(|(id, address)| (id, address.clone())).collect(),
            ring: Arc::clone(&ring),
        });
        ring
    }
}

/// All backends are connected to. Connections do not wait for a call, unlike in gRFC A42.
impl ControlHalf for RingHash {
    /// A failed backend costs its own calls a step along the ring. With 2 of them the channel fails
    /// (gRFC A42, "Aggregated Connectivity State").
    fn aggregate(
        &self,
        states: impl ExactSizeIterator<Item = ConnectivityState>,
    ) -> ConnectivityState {
        let count = states.len();
        let (mut failing, mut connecting, mut idle) = (0, 0, 0);
        for state in states {
            match state {
                Ready => return Ready,
                TransientFailure => failing += 1,
                Connecting => connecting += 1,
                Idle => idle += 1,
                ConnectivityState::Shutdown => {}
            }
        }
        match (failing, connecting, idle) {
            (2.., _, _) => TransientFailure,
            (_, 1.., _) => Connecting,
            (1, _, _) if count > 1 => Connecting,
            (_, _, 1..) => Idle,
            _ => TransientFailure,
        }
    }

    fn choice<'a>(
        &mut self,
        _now: Instant,
        _cursor: &Arc<Cursor>,
        _ready: impl Iterator<Item = &'a BackendStatus>,
        all: impl Iterator<Item = &'a BackendStatus> + Clone,
    ) -> Choice {
        let ring = self.ring(all.clone());
        let (mut ready, mut silent) = (0_u32.., 0_u32..);
        let member = |backend: &BackendStatus| match backend.state {
            Ready => ready.next().map_or(RingMember::Failing, RingMember::Ready),
            Connecting | Idle => RingMember::Connecting,
            TransientFailure if backend.is_probed() => silent
                .next()
                .map_or(RingMember::Failing, RingMember::Silent),
            TransientFailure | ConnectivityState::Shutdown => RingMember::Failing,
        };
        let members = all.map(member).collect();
        let header = self.header.clone();
        Choice::RingHash(routing::RingHash::new(ring, members, header))
    }
}

#[cfg(test)]
mod tests {
    use std::{sync::Arc, time::Instant};

    use super::{
        BackendId, BackendStatus,
        ConnectivityState::{self, *},
        ControlHalf, HeaderName, RingHash,
    };
    use crate::{health::HealthStatus, service_config, transport::BackendCalls};

    fn rules() -> RingHash {
        RingHash::new(&service_config::RingHash::default())
    }

    fn backend(id: u64, address: &str, state: ConnectivityState) -> BackendStatus {
        BackendStatus {
            id: BackendId(id),
            label: address.into(),
            address: address.into(),
            state,
            health: HealthStatus::NotChecked,
            since: Instant::now(),
            last_error: None,
            attempt: 0,
            next_attempt: None,
            connections: 0,
            calls: BackendCalls::default(),
            ejection: None,
            silence: None,
        }
    }

    // K16
    #[test]
    fn the_channels_state_is_that_of_a_ring() {
        for (states, expected) in [
            (&[Ready][..], Ready),
            (&[Connecting], Connecting),
            (&[Idle], Idle),
            (&[TransientFailure], TransientFailure),
            (&[Ready, TransientFailure], Ready),
            (&[TransientFailure, TransientFailure, Ready], Ready),
            (&[Connecting, TransientFailure], Connecting),
            (
                &[Connecting, TransientFailure, TransientFailure],
                TransientFailure,
            ),
            (&[TransientFailure, Idle, Idle], Connecting),
            (&[Idle, Connecting], Connecting),
            (&[Idle, Idle], Idle),
            (&[], TransientFailure),
        ] {
            let state = rules().aggregate(states.iter().copied());
            assert_eq!(state, expected, "of {states:?}");
        }
    }

    // K14
    #[test]
    fn the_ring_is_kept_while_its_backends_are_the_same() {
        let mut rules = rules();
        let mut ring = |backends: &[BackendStatus]| rules.ring(backends.iter());
        let first = ring(&[backend(1, "a", Ready), backend(2, "b", Ready)]);
        let other_state = ring(&[backend(1, "a", TransientFailure), backend(2, "b", Ready)]);
        assert!(Arc::ptr_eq(&first, &other_state));
        let other_address = ring(&[backend(1, "a", Ready), backend(2, "c", Ready)]);
        assert!(!Arc::ptr_eq(&first, &other_address));
        let one_less = ring(&[backend(1, "a", Ready)]);
        assert!(!Arc::ptr_eq(&other_address, &one_less));
        let another = ring(&[backend(3, "a", Ready)]);
        assert!(!Arc::ptr_eq(&one_less, &another));
    }

    // Z17
    #[test]
    fn another_config_keeps_a_ring_of_its_sizes() {
        let backends = [backend(1, "a", Ready), backend(2, "b", Ready)];
        let (mut rules, mut config) = (rules(), service_config::RingHash::default());
        let first = rules.ring(backends.iter());
        config.request_hash_header = Some("x-user".to_owned());
        rules.configure(&config);
        assert_eq!(rules.header, Some(HeaderName::from_static("x-user")));
        assert!(Arc::ptr_eq(&first, &rules.ring(backends.iter())));
        config.min_ring_size = 2048;
        rules.configure(&config);
        assert!(!Arc::ptr_eq(&first, &rules.ring(backends.iter())));
    }
}
