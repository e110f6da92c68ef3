//! The pick half of `least_request_experimental` (gRFC A48): of some backends that are drawn, the
//! one with the fewest calls.
//!
//! ```text
//!   in flight   A 3   B 0   C 7   D 1        draws   C, A   ──► A
//!                                                    D, D   ──► D
//! ```
//!
//! A draw does not exclude a backend from the next one, so 2 draws may be the same backend. The
//! count is the backend's own, over all its connections. It goes on from picker to picker, and
//! while the backend is not READY.

use super::pick_half::{First, PickHalf, PickInfo, drawn, in_rotation};
use crate::transport::BackendCalls;

/// The least loaded of some backends that are drawn.
#[derive(Debug)]
pub(crate) struct LeastRequest {
    /// How many to draw, at least 1.
    choices: u32,
    /// Of each READY backend.
    calls: Box<[BackendCalls]>,
}

impl LeastRequest {
    pub(crate) fn new(choices: u32, calls: impl Iterator<Item = BackendCalls>) -> Self {
        Self {
            choices,
            calls: calls.collect(),
        }
    }

    fn load(&self, backend: usize) -> usize {
        self.calls.get(backend).map_or(0, BackendCalls::in_flight)
    }
}

impl PickHalf for LeastRequest {
    fn first(&self, count: usize, info: &mut impl PickInfo) -> Option<First> {
        let mut random = info.random();
        let mut backend = drawn(random, count);
        if count > 1 {
            let mut load = self.load(backend);
            for _ in 1..self.choices {
                random = info.random();
                let other = drawn(random, count);
                let other_load = self.load(other);
                // Of equals the one that is drawn first.
                if other_load < load {
                    (backend, load) = (other, other_load);
                }
            }
        }
        // The connection goes by the lower part of the number, and the backend by the upper.
        let round = random as usize;
        Some(First { backend, round })
    }

    /// Any: the draws of the next call are not known.
    fn peek(&self, count: usize) -> First {
        First::of_turn(0, count)
    }

    fn after(&self, first: usize, nth: usize, count: usize) -> usize {
        in_rotation(first, nth, count)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use http::HeaderMap;
    use proptest::prelude::*;

    use super::{
        super::{
            choice::Choice,
            picker::{Pick, Picker},
        },
        LeastRequest, PickInfo, drawn,
    };
    use crate::transport::BackendCalls;

    /// A call whose draws are known.
    struct Drawing<'a> {
        draws: &'a [usize],
        of: usize,
    }

    impl PickInfo for Drawing<'_> {
        fn path(&self) -> &str {
            unreachable!("it goes by the draws")
        }

        fn headers(&mut self) -> &HeaderMap {
            unreachable!("it goes by the draws")
        }

        fn random(&mut self) -> u64 {
            let (first, rest) = self.draws.split_first().expect("one more draw");
            self.draws = rest;
            u64::try_from(((*first as u128) << 64).div_ceil(self.of as u128)).unwrap()
        }
    }

    /// A call that draws by a seed.
    struct Seeded(fastrand::Rng);

    impl PickInfo for Seeded {
        fn path(&self) -> &str {
            unreachable!("it goes by the draws")
        }

        fn headers(&mut self) -> &HeaderMap {
            unreachable!("it goes by the draws")
        }

        fn random(&mut self) -> u64 {
            self.0.u64(..)
        }
    }

    fn backends(n: usize) -> Vec<BackendCalls> {
        (0..n).map(|_| BackendCalls::default()).collect()
    }

    fn picker(choices: u32, calls: &[BackendCalls]) -> Picker<usize> {
        Picker::Ready {
            backends: (0..calls.len()).collect(),
            choice: Choice::LeastRequest(LeastRequest::new(choices, calls.iter().cloned())),
        }
    }

    fn candidates(picker: &Picker<usize>, info: &mut impl PickInfo) -> Vec<usize> {
        match picker.pick(info) {
            Pick::Send(candidates) => candidates.copied().collect(),
            other => panic!("expected backends, got {other:?}"),
        }
    }

    /// A call that stays in flight.
    fn start(picker: &Picker<usize>, calls: &[BackendCalls], draws: &[usize]) -> usize {
        let of = calls.len();
        let picked = candidates(picker, &mut Drawing { draws, of })[0];
        calls[picked].enter();
        picked
    }

    // L02
    #[test]
    fn the_least_loaded_of_the_drawn_is_picked() {
        let calls = backends(3);
        let picker = picker(2, &calls);
        let draws = [
            [0, 0],
            [0, 1],
            [1, 2],
            [0, 0],
            [1, 0],
            [2, 0],
            [0, 0],
            [2, 2],
            [2, 1],
        ];
        let picks = draws.map(|draws| start(&picker, &calls, &draws));
        assert_eq!(picks, [0, 1, 2, 0, 1, 2, 0, 2, 1]);
    }

    // L03
    #[test]
    fn of_equals_the_one_that_is_drawn_first_is_picked() {
        let calls = backends(3);
        let picker = picker(3, &calls);
        assert_eq!(start(&picker, &calls, &[2, 0, 1]), 2);
        assert_eq!(start(&picker, &calls, &[1, 2, 0]), 1);
        calls[2].leave(1);
        assert_eq!(start(&picker, &calls, &[1, 2, 0]), 2);
    }

    // L04
    #[test]
    fn a_backend_without_calls_gets_all_of_them_until_it_has_as_many() {
        let calls = backends(3);
        calls[..2]
            .iter()
            .for_each(|of| (0..25).for_each(|_| of.enter()));
        let picker = picker(3, &calls);
        let draws = [[0, 1, 2], [2, 1, 0], [1, 2, 0]];
        for draws in draws.iter().cycle().take(25) {
            assert_eq!(start(&picker, &calls, draws), 2);
        }
        assert_eq!(draws.map(|draws| start(&picker, &calls, &draws)), [0, 2, 1]);
    }

    // L05
    #[test]
    fn a_single_backend_takes_all_calls() {
        let calls = backends(1);
        let picker = picker(2, &calls);
        assert_eq!([(); 3].map(|()| start(&picker, &calls, &[0])), [0; 3]);
    }

    // L07
    #[test]
    fn the_next_picker_draws_as_often_as_it_is_told_and_the_counts_stay() {
        let calls = backends(3);
        let before = picker(2, &calls);
        assert_eq!(start(&before, &calls, &[0, 0]), 0);
        assert_eq!(start(&before, &calls, &[1, 1]), 1);
        assert_eq!(start(&before, &calls, &[0, 1]), 0, "it draws twice");
        assert_eq!(start(&picker(3, &calls), &calls, &[0, 1, 2]), 2);
    }

    // L11
    #[test]
    fn a_full_one_passes_the_call_on_in_rotation() {
        let calls = backends(4);
        let draws = &[2, 3];
        let order = candidates(&picker(2, &calls), &mut Drawing { draws, of: 4 });
        assert_eq!(order, [2, 3, 0, 1]);
    }

    #[test]
    fn without_backends_there_is_no_candidate() {
        let draws = &[0];
        let order = candidates(&picker(2, &[]), &mut Drawing { draws, of: 1 });
        assert!(order.is_empty());
    }

    #[test]
    fn at_equal_load_each_backend_has_its_share_of_the_picks() {
        const PICKS: u32 = 8_000;
        let picker = picker(2, &backends(4));
        let mut call = Seeded(fastrand::Rng::with_seed(7));
        let mut counts = BTreeMap::new();
        for _ in 0..PICKS {
            *counts
                .entry(candidates(&picker, &mut call)[0])
                .or_insert(0_u32) += 1;
        }
        assert_eq!(counts.len(), 4);
        // 5 standard deviations of a binomial distribution are 194.
        for (backend, count) in counts {
            assert!(count.abs_diff(PICKS / 4) < 194, "{backend}: {count}");
        }
    }

    proptest! {
        #[test]
        fn each_number_stands_for_a_backend(random: u64, count in 1_usize..100_000) {
            prop_assert!(drawn(random, count) < count);
        }
    }
}
