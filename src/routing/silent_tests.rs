//! Picks where some backends are silent.

use std::{collections::BTreeMap, sync::Arc};

use http::{HeaderMap, HeaderName, HeaderValue};
use twox_hash::XxHash64;

use super::{
    Choice, Cursor, Pick, PickInfo, Picker, Ring, RingHash,
    RingMember::{self, Connecting, Failing, Ready, Silent},
    Rotation,
};

type Name = &'static str;

/// A call that draws by a seed.
struct Drawing {
    rng: fastrand::Rng,
    headers: HeaderMap,
}

impl PickInfo for Drawing {
    fn path(&self) -> &str {
        unreachable!("it goes by the draws")
    }

    fn headers(&mut self) -> &HeaderMap {
        &self.headers
    }

    fn random(&mut self) -> u64 {
        self.rng.u64(..)
    }
}

fn drawing() -> Drawing {
    Drawing {
        rng: fastrand::Rng::with_seed(7),
        headers: HeaderMap::new(),
    }
}

fn with_silent(backends: &[Name], silent: &[Name]) -> Picker<Name> {
    let choice = Choice::Rotation(Rotation::new(Arc::new(Cursor::new(0))));
    Picker::ready(backends.into(), choice, silent.into())
}

// D376
#[test]
fn a_silent_backend_is_offered_its_share_of_the_calls_as_probes() {
    const CALLS: u32 = 8_000;
    let picker = with_silent(&["A", "B", "C"], &["D"]);
    let mut call = drawing();
    let (mut probes, mut sent) = (0_u32, BTreeMap::new());
    for _ in 0..CALLS {
        let mut candidates = match picker.pick(&mut call) {
            Pick::Probe(probed) => {
                assert!(!probed.are_all());
                assert_eq!(probed.copied().collect::<Vec<_>>(), ["D"]);
                probes += 1;
                match picker.pick_past_probes(&mut call) {
                    Pick::Send(candidates) => candidates,
                    other => panic!("expected the others, got {other:?}"),
                }
            }
            Pick::Send(candidates) => candidates,
            other => panic!("expected backends, got {other:?}"),
        };
        *sent.entry(*candidates.next().unwrap()).or_insert(0) += 1;
        assert_eq!(candidates.count(), 2, "no silent one among them");
    }
    // 5 standard deviations of a binomial distribution are 194.
    assert!(probes.abs_diff(CALLS / 4) < 194, "{probes}");
    let share = CALLS.div_ceil(3);
    assert!(sent.values().all(|sent| share - sent <= 1), "{sent:?}");
    match picker.peek() {
        Pick::Send(candidates) => assert_eq!(candidates.count(), 3),
        other => panic!("expected the others, got {other:?}"),
    }
    assert_eq!(picker.backends(), ["A", "B", "C"]);
}

// D376
#[test]
fn where_all_are_silent_each_is_tried_and_then_the_call_fails() {
    let picker = Picker::<Name>::failing(vec!["A", "B", "C"]);
    let mut call = drawing();
    let mut firsts = BTreeMap::new();
    for _ in 0..100 {
        let Pick::Probe(probes) = picker.pick(&mut call) else {
            panic!("expected silent backends");
        };
        assert!(probes.are_all());
        let mut order: Vec<_> = probes.copied().collect();
        *firsts.entry(order[0]).or_insert(0) += 1;
        order.sort_unstable();
        assert_eq!(order, ["A", "B", "C"]);
        assert!(matches!(picker.pick_past_probes(&mut call), Pick::Fail));
    }
    assert_eq!(firsts.len(), 3);
    assert!(matches!(picker.peek(), Pick::Fail));
}

// D376
#[test]
fn silent_backends_wake_whom_their_state_wakes() {
    let (some, all) = (with_silent(&["A"], &["B"]), Picker::failing(vec!["A"]));
    let up = with_silent(&["A"], &[]);
    wakes(&up, &some, false);
    wakes(&some, &up, false);
    wakes(&some, &all, true);
    for waiting in [Picker::Connecting, Picker::Idle, Picker::Failing] {
        wakes(&waiting, &some, true);
        wakes(&some, &waiting, true);
    }
    wakes(&all, &some, true);
    wakes(&all, &Picker::Failing, false);
    wakes(&Picker::Failing, &all, false);
    wakes(&all, &Picker::Connecting, false);
    wakes(&all, &Picker::Idle, true);
    wakes(&Picker::Connecting, &all, true);
}

#[track_caller]
fn wakes(old: &Picker<Name>, new: &Picker<Name>, expected: bool) {
    let woken = old.could_answer_differently(new);
    assert_eq!(woken, expected, "from {old:?} to {new:?}");
}

const HEADER: HeaderName = HeaderName::from_static("x-user");
const KEYS: [Name; 3] = ["a", "b", "c"];

/// Where a call with this key goes first as a probe, and then.
fn by_key(states: [RingMember; 3], key: Name) -> (Option<Name>, Option<Name>) {
    let (mut members, mut ready, mut silent) = (states, Vec::new(), Vec::new());
    for (member, key) in members.iter_mut().zip(KEYS) {
        let (number, backends) = match member {
            Ready(number) => (number, &mut ready),
            Silent(number) => (number, &mut silent),
            Connecting | Failing => continue,
        };
        *number = u32::try_from(backends.len()).expect("there are 3");
        backends.push(key);
    }
    let ring = Arc::new(Ring::new(KEYS.map(|key| (key, 1)), 50, 100));
    let choice = RingHash::new(ring, members.into(), Some(HEADER));
    let picker = Picker::ready(ready, Choice::RingHash(choice), silent);
    let mut call = drawing();
    call.headers.insert(HEADER, HeaderValue::from_static(key));
    let probed = match picker.pick(&mut call) {
        Pick::Probe(mut probes) => probes.next().copied(),
        _ => None,
    };
    let sent = match picker.pick_past_probes(&mut call) {
        Pick::Send(mut candidates) => candidates.next().copied(),
        _ => None,
    };
    (probed, sent)
}

// D377
#[test]
fn on_a_ring_the_probe_of_a_backend_is_a_call_with_its_key() {
    let ring = Ring::new(KEYS.map(|key| (key, 1)), 50, 100);
    for key in ["u", "v", "w", "x", "y", "z"] {
        let (start, mut steps) = (ring.entry(XxHash64::oneshot(0, key.as_bytes())), 0);
        let order: Vec<_> = std::iter::from_fn(|| ring.next_member(start, &mut steps)).collect();
        let [own, second, third] = order[..] else {
            panic!("3 members, not {order:?}");
        };
        let name = |member: usize| Some(KEYS[member]);
        let with = |first, next| {
            let mut states = [Ready(0); 3];
            (states[own], states[second]) = (first, next);
            by_key(states, key)
        };
        assert_eq!(with(Silent(0), Ready(0)), (name(own), name(second)));
        assert_eq!(with(Ready(0), Silent(0)), (None, name(own)));
        assert_eq!(with(Failing, Silent(0)), (name(second), name(third)));
        assert_eq!(
            with(Silent(0), Connecting),
            (name(own), None),
            "{key} waits"
        );
        assert_eq!(with(Silent(0), Silent(0)), (name(own), name(third)));
    }
}
