//! The pick half of `ring_hash_experimental` (gRFC A42, A61, A76): calls with the same header go to
//! the same backend.
//!
//! ```text
//!   values of the header, joined by "," ──XXH64──► entry of the ring, and of its backend:
//!       READY               the call takes it
//!       CONNECTING, IDLE    the call waits
//!       TRANSIENT_FAILURE   the same with the next entry
//! ```
//!
//! A call without the header takes the first READY backend from a random entry. A backend that
//! has no free stream passes its calls on to the next one along the ring.

use std::{hash::Hasher, sync::Arc};

use http::HeaderName;
use twox_hash::XxHash64;

use super::{
    pick_half::{First, PickHalf, PickInfo},
    ring::Ring,
};

/// The ring with the states of its members.
#[derive(Debug)]
pub(crate) struct RingHash {
    ring: Arc<Ring>,
    members: Box<[RingMember]>,
    /// The values of this header are the key of a call.
    header: Option<HeaderName>,
}

/// A backend, as far as a call goes by it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RingMember {
    /// With its number among those that are READY.
    Ready(u32),
    /// Calls wait for it.
    Connecting,
    /// Calls pass it.
    Failing,
}

impl RingHash {
    /// `members` are those of the ring, by number.
    pub(crate) fn new(
        ring: Arc<Ring>,
        members: Box<[RingMember]>,
        header: Option<HeaderName>,
    ) -> Self {
        Self {
            ring,
            members,
            header,
        }
    }

    /// The hash of the call's key, if it has one.
    fn hash(&self, info: &mut impl PickInfo) -> Option<u64> {
        let header = self.header.as_ref()?;
        let mut values = info.headers().get_all(header).iter();
        let (first, second) = (values.next()?, values.next());
        let Some(second) = second else {
            return Some(XxHash64::oneshot(0, first.as_bytes()));
        };
        let mut hasher = XxHash64::with_seed(0);
        hasher.write(first.as_bytes());
        for value in [second].into_iter().chain(values) {
            hasher.write(b",");
            hasher.write(value.as_bytes());
        }
        Some(hasher.finish())
    }

    /// The backend of a call with this hash. None if the call is to wait.
    fn by_key(&self, hash: u64) -> Option<First> {
        let start = self.ring.entry(hash);
        let mut steps = 0;
        while let Some(member) = self.ring.next_member(start, &mut steps) {
            match self.members[member] {
                RingMember::Ready(backend) => return Some(first_at(backend, start)),
                RingMember::Connecting => return None,
                RingMember::Failing => {}
            }
        }
        // There is a READY backend, or this would not be asked.
        Some(first_at(0, start))
    }

    /// The backend of a call without a key that has drawn this number.
    fn at_random(&self, number: u64) -> First {
        let start = self.ring.entry(number);
        let mut steps = 0;
        let backend = self.next_ready(start, &mut steps);
        first_at(backend.unwrap_or_default(), start)
    }

    fn next_ready(&self, start: usize, steps: &mut usize) -> Option<u32> {
        while let Some(member) = self.ring.next_member(start, steps) {
            if let RingMember::Ready(backend) = self.members[member] {
                return Some(backend);
            }
        }
        None
    }
}

/// The round of a backend that has several connections is the entry, so that a key keeps its
/// connection, too.
fn first_at(backend: u32, entry: usize) -> First {
    First {
        backend: backend as usize,
        round: entry,
    }
}

impl PickHalf for RingHash {
    fn first(&self, _count: usize, info: &mut impl PickInfo) -> Option<First> {
        match self.hash(info) {
            Some(hash) => self.by_key(hash),
            None => Some(self.at_random(info.random())),
        }
    }

    /// Any: the key of the next call is not known.
    fn peek(&self, _count: usize) -> First {
        self.at_random(0)
    }

    /// There are no turns.
    fn peek_for(&self, count: usize, info: &mut impl PickInfo) -> Option<First> {
        self.first(count, info)
    }

    /// [`next`](PickHalf::next) goes by the ring.
    fn after(&self, first: usize, nth: usize, count: usize) -> usize {
        First::of_turn(first + nth, count).backend
    }

    /// The next one along the ring.
    fn next(&self, first: First, steps: &mut usize, _count: usize) -> Option<usize> {
        let mut ready = || self.next_ready(first.round, steps);
        let next = ready()?;
        // The first one is on the way again.
        let next = if next as usize == first.backend {
            ready()?
        } else {
            next
        };
        Some(next as usize)
    }

    fn key(&self, info: &mut impl PickInfo) -> Option<u64> {
        self.hash(info)
    }

    fn may_wait(&self) -> bool {
        self.members.contains(&RingMember::Connecting)
    }

    fn could_answer_differently(&self, newer: &Self) -> bool {
        let is_same = Arc::ptr_eq(&self.ring, &newer.ring)
            && self.members == newer.members
            && self.header == newer.header;
        self.may_wait() && !is_same
    }
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeSet, sync::Arc};

    use http::{HeaderMap, HeaderName, HeaderValue};
    use proptest::prelude::*;
    use twox_hash::XxHash64;

    use super::{
        super::{
            choice::Choice,
            picker::{Pick, Picker},
            ring::Ring,
        },
        PickInfo, RingHash,
        RingMember::{self, Connecting, Failing, Ready},
    };

    const HEADER: HeaderName = HeaderName::from_static("x-user");
    const KEYS: [&str; 5] = ["a", "b", "c", "d", "e"];

    /// A call with these values of the header, that draws one number.
    struct Call {
        headers: HeaderMap,
        number: Option<u64>,
    }

    impl PickInfo for Call {
        fn path(&self) -> &str {
            unreachable!("a ring does not ask for the path")
        }

        fn headers(&mut self) -> &HeaderMap {
            &self.headers
        }

        fn random(&mut self) -> u64 {
            self.number.take().expect("one number is enough")
        }
    }

    fn with_values(values: &[&'static str]) -> Call {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(HEADER, HeaderValue::from_static(value));
        }
        Call {
            headers,
            number: None,
        }
    }

    fn drawing(number: u64) -> Call {
        Call {
            number: Some(number),
            ..with_values(&[])
        }
    }

    fn ring(members: usize) -> Arc<Ring> {
        let keys = KEYS[..members].iter();
        Arc::new(Ring::new(keys.map(|key| (*key, 1)), 50, 100))
    }

    /// A picker of those in `states` that are READY, by number.
    fn picker(ring: &Arc<Ring>, states: &[RingMember]) -> Picker<usize> {
        picker_by(ring, states, Some(HEADER))
    }

    fn picker_by(
        ring: &Arc<Ring>,
        states: &[RingMember],
        header: Option<HeaderName>,
    ) -> Picker<usize> {
        let (mut members, mut backends) = (states.to_vec(), Vec::new());
        for (number, member) in members.iter_mut().enumerate() {
            if let Ready(backend) = member {
                *backend = backends.len() as u32;
                backends.push(number);
            }
        }
        let choice = RingHash::new(Arc::clone(ring), members.into(), header);
        Picker::Ready {
            backends: backends.into(),
            choice: Choice::RingHash(choice),
        }
    }

    /// All that the call may be sent to, in this order. None if it waits.
    fn candidates(picker: &Picker<usize>, mut call: Call) -> Option<Vec<usize>> {
        match picker.pick(&mut call) {
            Pick::Send(candidates) => Some(candidates.copied().collect()),
            Pick::Wait => None,
            other => panic!("it sends or waits, and not {other:?}"),
        }
    }

    /// The members from the entry of this hash on, each once.
    fn order(ring: &Ring, hash: u64) -> Vec<usize> {
        let (start, mut steps) = (ring.entry(hash), 0);
        std::iter::from_fn(|| ring.next_member(start, &mut steps)).collect()
    }

    fn hash(text: &str) -> u64 {
        XxHash64::oneshot(0, text.as_bytes())
    }

    // K04
    #[test]
    fn the_state_of_the_entry_decides() {
        let ring = ring(2);
        let order = order(&ring, hash("v"));
        for (picked, next, expected) in [
            (Ready(0), Connecting, Some(vec![order[0]])),
            (Ready(0), Ready(0), Some(order.clone())),
            (Ready(0), Failing, Some(vec![order[0]])),
            (Connecting, Ready(0), None),
            (Failing, Ready(0), Some(vec![order[1]])),
            (Failing, Connecting, None),
        ] {
            let mut states = [picked; 2];
            states[order[1]] = next;
            let given = candidates(&picker(&ring, &states), with_values(&["v"]));
            assert_eq!(given, expected, "{picked:?}, {next:?}");
        }
    }

    // K03, K05
    #[test]
    fn the_key_is_the_values_joined_by_commas() {
        let ring = ring(5);
        let all = picker(&ring, &[Ready(0); 5]);
        for (values, key) in [
            (&["foo"][..], "foo"),
            (&[""], ""),
            (&["v1", "v2"], "v1,v2"),
            (&["v1", "", "v2"], "v1,,v2"),
        ] {
            let given = candidates(&all, with_values(values));
            assert_eq!(given, Some(order(&ring, hash(key))), "{values:?}");
        }
    }

    // K05, K09
    #[test]
    fn a_call_without_a_key_begins_at_a_random_entry() {
        let ring = ring(5);
        for header in [Some(HEADER), None] {
            let all = picker_by(&ring, &[Ready(0); 5], header);
            for number in [0, 1 << 62, 1 << 63, u64::MAX] {
                let given = candidates(&all, drawing(number));
                assert_eq!(given, Some(order(&ring, number)));
            }
        }
        let mut call = with_values(&["v"]);
        call.number = Some(7);
        let unnamed = picker_by(&ring, &[Ready(0); 5], None);
        assert_eq!(candidates(&unnamed, call), Some(order(&ring, 7)));
    }

    // K06
    #[test]
    fn a_call_without_a_key_takes_the_next_ready_backend() {
        let ring = ring(5);
        let order = order(&ring, 7);
        let mut states = [Failing; 5];
        states[order[0]] = Connecting;
        states[order[2]] = Ready(0);
        states[order[4]] = Ready(0);
        let given = candidates(&picker(&ring, &states), drawing(7));
        assert_eq!(given, Some(vec![order[2], order[4]]));
    }

    // D354
    #[test]
    fn a_backend_without_an_entry_is_better_than_none() {
        let ring = Arc::new(Ring::new(KEYS.map(|key| (key, 1)), 1, 3));
        let order = order(&ring, hash("v"));
        let mut states = [Failing; 5];
        states[order[4]] = Ready(0);
        let one = picker(&ring, &states);
        assert_eq!(candidates(&one, with_values(&["v"])), Some(vec![order[4]]));
        assert_eq!(candidates(&one, drawing(hash("v"))), Some(vec![order[4]]));
    }

    #[test]
    fn a_question_is_answered_as_the_call_is() {
        let ring = ring(5);
        let mut states = [Ready(0); 5];
        states[order(&ring, hash("v"))[0]] = Connecting;
        let picker = picker(&ring, &states);
        let waits = picker.peek_for(&mut with_values(&["v"]));
        assert!(matches!(waits, Pick::Wait));
        match picker.peek() {
            Pick::Send(candidates) => assert_eq!(candidates.count(), 4),
            other => panic!("there are free ones, and not {other:?}"),
        }
    }

    // K24
    #[test]
    fn calls_that_wait_for_a_backend_are_woken_when_one_changes() {
        let ring = ring(2);
        let waits = picker(&ring, &[Connecting, Ready(0)]);
        let wakes = |newer: &Picker<usize>| waits.could_answer_differently(newer);
        assert!(!wakes(&picker(&ring, &[Connecting, Ready(0)])));
        assert!(wakes(&picker(&ring, &[Ready(0), Ready(0)])));
        assert!(wakes(&picker(&ring, &[Failing, Ready(0)])));
        assert!(wakes(&picker(&ring, &[Connecting, Failing])));
        assert!(wakes(&picker(&self::ring(2), &[Connecting, Ready(0)])));
        assert!(wakes(&picker_by(&ring, &[Connecting, Ready(0)], None)));
    }

    #[test]
    fn without_a_backend_to_wait_for_no_call_is_woken() {
        let ring = ring(2);
        let none = picker(&ring, &[Failing, Ready(0)]);
        assert!(!none.could_answer_differently(&picker(&ring, &[Ready(0), Ready(0)])));
        assert!(!none.could_answer_differently(&picker(&self::ring(2), &[Connecting, Ready(0)])));
    }

    fn states() -> impl Strategy<Value = Vec<RingMember>> {
        let state = prop_oneof![Just(Ready(0)), Just(Connecting), Just(Failing)];
        proptest::collection::vec(state, 5)
    }

    proptest! {
        /// Candidates are the READY backends, each once, in the order of the ring. The first may
        /// be further along than the entry of the call.
        // K26
        #[test]
        fn a_full_backend_passes_a_call_on_along_the_ring(states in states(), number: u64) {
            let ring = ring(5);
            let picker = picker(&ring, &states);
            let order = order(&ring, number);
            let is_ready = |member: &usize| matches!(states[*member], Ready(_));
            let expected: Vec<_> = order.iter().copied().filter(is_ready).collect();
            let given = candidates(&picker, drawing(number)).expect("it never waits");
            if expected.is_empty() {
                prop_assert!(given.is_empty());
            } else {
                prop_assert_eq!(&given, &expected);
                let unique: BTreeSet<_> = given.iter().collect();
                prop_assert_eq!(unique.len(), given.len());
            }
        }
    }
}
