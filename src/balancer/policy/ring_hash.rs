//! The rules of `ring_hash_experimental` (gRFC A42, A61): every backend is connected to, and the
//! ring is made of their hash keys (gRFC A76) or addresses, by their weights.

use std::{mem, num::NonZeroU32, sync::Arc, time::Instant};

use http::HeaderName;

use super::control::ControlHalf;
use crate::{
    connectivity::ConnectivityState::{self, Connecting, Idle, Ready, TransientFailure},
    routing::{self, BackendId, BackendStatus, Choice, Cursor, Ring, RingMember},
    service_config,
};

#[derive(Debug)]
pub(in crate::balancer) struct RingHash {
    min_size: u32,
    max_size: u32,
    header: Option<HeaderName>,
    /// Those that were published last, by the number of the level.
    rings: Vec<Option<Built>>,
}

/// A ring, and what it was made of.
#[derive(Debug)]
struct Built {
    of: Vec<(BackendId, Arc<str>, NonZeroU32)>,
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
            rings: Vec::new(),
        }
    }

    /// From now on. Rings of the same sizes are kept.
    pub(in crate::balancer) fn configure(&mut self, config: &service_config::RingHash) {
        let mut next = Self::new(config);
        if (next.min_size, next.max_size) == (self.min_size, self.max_size) {
            next.rings = mem::take(&mut self.rings);
        }
        *self = next;
    }

    /// The ring of the backends of this level: the same one for as long as they are the same.
    fn ring<'a>(
        &mut self,
        level: usize,
        backends: impl Iterator<Item = &'a BackendStatus> + Clone,
    ) -> Arc<Ring> {
        let named = backends.map(|backend| (backend.id, backend.key(), backend.weight()));
        if self.rings.len() <= level {
            self.rings.resize_with(level + 1, || None);
        }
        if let Some(built) = &self.rings[level]
            && named
                .clone()
                .eq(built.of.iter().map(|(id, key, weight)| (*id, key, *weight)))
        {
            return Arc::clone(&built.ring);
        }
        let members = named.clone();
        let members = members.map(|(_, key, weight)| (&**key, weight.get()));
        let ring = Arc::new(Ring::new(members, self.min_size, self.max_size));
        let of = named.map(|(id, key, weight)| (id, Arc::clone(key), weight));
        self.rings[level] = Some(Built {
            of: of.collect(),
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
        level: usize,
        _cursor: &Arc<Cursor>,
        members: impl Iterator<Item = &'a BackendStatus> + Clone,
    ) -> Choice {
        let ring = self.ring(level, members.clone());
        let mut ready = 0_u32..;
        let member = |backend: &BackendStatus| match backend.state {
            _ if backend.takes_calls => ready.next().map_or(RingMember::Failing, RingMember::Ready),
            Connecting | Idle => RingMember::Connecting,
            Ready | TransientFailure | ConnectivityState::Shutdown => RingMember::Failing,
        };
        let members = members.map(member).collect();
        let header = self.header.clone();
        Choice::RingHash(routing::RingHash::new(ring, members, header))
    }
}

#[cfg(test)]
mod tests {
    use std::{num::NonZeroU32, sync::Arc};

    use super::{
        BackendStatus,
        ConnectivityState::{self, *},
        ControlHalf, HeaderName, RingHash,
    };
    use crate::{attributes::Attributes, routing::Ring, service_config};

    fn rules() -> RingHash {
        RingHash::new(&service_config::RingHash::default())
    }

    fn backend(id: u64, address: &str, state: ConnectivityState) -> BackendStatus {
        BackendStatus::in_state(id, address, state)
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
        let mut ring = |backends: &[BackendStatus]| rules.ring(0, backends.iter());
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

    // D421, D422
    #[test]
    fn the_ring_is_made_of_hash_keys_and_weights() {
        let with = |id, address, key: Option<&str>, weight| BackendStatus {
            attributes: Arc::new(Attributes {
                weight: NonZeroU32::new(weight).unwrap(),
                hash_key: key.map(Into::into),
                ..Attributes::default()
            }),
            ..backend(id, address, Ready)
        };
        let mut rules = rules();
        let mut ring = |backends: &[BackendStatus]| rules.ring(0, backends.iter());
        let first = ring(&[with(1, "a", Some("pod-0"), 1), with(2, "b", None, 1)]);
        let moved = ring(&[with(1, "c", Some("pod-0"), 1), with(2, "b", None, 1)]);
        assert!(Arc::ptr_eq(&first, &moved), "the key has not moved");
        let heavier = ring(&[with(1, "c", Some("pod-0"), 1), with(2, "b", None, 3)]);
        assert!(!Arc::ptr_eq(&moved, &heavier));
        assert_eq!(
            format!("{heavier:?}"),
            format!("{:?}", Ring::new([("pod-0", 1), ("b", 3)], 1024, 4096))
        );
    }

    #[test]
    fn each_level_keeps_its_ring() {
        let mut rules = rules();
        let (near, far) = ([backend(1, "a", Ready)], [backend(2, "b", Ready)]);
        let first = rules.ring(0, near.iter());
        let second = rules.ring(1, far.iter());
        assert!(Arc::ptr_eq(&first, &rules.ring(0, near.iter())));
        assert!(Arc::ptr_eq(&second, &rules.ring(1, far.iter())));
    }

    // Z17
    #[test]
    fn another_config_keeps_a_ring_of_its_sizes() {
        let backends = [backend(1, "a", Ready), backend(2, "b", Ready)];
        let (mut rules, mut config) = (rules(), service_config::RingHash::default());
        let first = rules.ring(0, backends.iter());
        config.request_hash_header = Some("x-user".to_owned());
        rules.configure(&config);
        assert_eq!(rules.header, Some(HeaderName::from_static("x-user")));
        assert!(Arc::ptr_eq(&first, &rules.ring(0, backends.iter())));
        config.min_ring_size = 2048;
        rules.configure(&config);
        assert!(!Arc::ptr_eq(&first, &rules.ring(0, backends.iter())));
    }
}
