//! The pick half of `weighted_round_robin` (gRFC A58): rotation in which light backends are left
//! out of some rounds.
//!
//! ```text
//!   weights   A 2   B 3   C 6         turn    0 1 2   3 4 5   6 7 8   9 …
//!   in 65535  21845 32768 65535       pick    - B C   - - C   A B C   - …
//! ```
//!
//! Each turn of the channel's [`Cursor`] names a backend, as in rotation, and a round. Whether
//! the backend is taken in this round follows from its weight alone. The heaviest is in each, and
//! one of half that weight in every other. Picks of a backend are as far apart as its weight
//! allows, in each round at another place.
//!
//! The numbers are those of C-core's static stride scheduler, which has no state but the turn.

use std::sync::Arc;

use super::{
    pick_half::{First, PickHalf, PickInfo, in_rotation},
    rotation::Cursor,
};

/// The weight of the heaviest backend, and the number of rounds until all repeats.
const MAX_WEIGHT: u16 = u16::MAX;

/// By how much the rounds of neighbours are shifted against each other.
const SHIFT: u64 = (MAX_WEIGHT / 2) as u64;

/// A weight counts as no more than this many times the mean. So a pick takes no more turns on
/// average, whatever the weights are.
const MAX_RATIO: f64 = 10.0;

/// A weight counts as no less than this part of the mean. Without calls, the lightest would have
/// no report that changes its weight.
const MIN_RATIO: f64 = 0.01;

/// Rotation by weights.
#[derive(Debug)]
pub(crate) struct Stride {
    /// Of each READY backend, as part of the largest. None is 0.
    weights: Box<[u16]>,
    cursor: Arc<Cursor>,
}

impl Stride {
    /// With a weight for each backend; 0 is one that is not known, and counts as the mean of the
    /// others. `None` if rotation without weights is the same, or fewer than 2 are known.
    pub(crate) fn new(weights: &[f64], cursor: Arc<Cursor>) -> Option<Self> {
        let weights = scaled(weights)?;
        Some(Self { weights, cursor })
    }

    /// The pick of the first turn from `turn` on that is one, and the turn after it.
    fn find(&self, mut turn: usize) -> (First, usize) {
        let count = self.weights.len() as u32;
        loop {
            // As many turns as C-core has: so no product below is too large.
            let sequence = turn as u32;
            turn = turn.wrapping_add(1);
            let (backend, round) = (sequence % count, u64::from(sequence / count));
            let weight = self.weights[backend as usize];
            let position = u64::from(weight) * round + u64::from(backend) * SHIFT;
            let (picks, rest) = (
                position / u64::from(MAX_WEIGHT),
                position % u64::from(MAX_WEIGHT),
            );
            if rest >= u64::from(MAX_WEIGHT - weight) {
                let first = First {
                    backend: backend as usize,
                    // Grows by 1 with each pick of this backend. The number of the round does
                    // not: a backend of half the weight would have even ones alone.
                    round: picks as usize,
                };
                return (first, turn);
            }
        }
    }
}

impl PickHalf for Stride {
    fn first(&self, _count: usize, _info: &mut impl PickInfo) -> Option<First> {
        Some(self.cursor.advance_past(|turn| self.find(turn)))
    }

    fn peek(&self, _count: usize) -> First {
        let (first, _) = self.find(self.cursor.turn());
        first
    }

    fn after(&self, first: usize, nth: usize, count: usize) -> usize {
        in_rotation(first, nth, count)
    }
}

/// The weights as parts of the largest, if they make a difference.
fn scaled(weights: &[f64]) -> Option<Box<[u16]>> {
    u32::try_from(weights.len()).ok()?;
    let known = |weight: f64| (weight > 0.0).then(|| weight.min(f64::from(f32::MAX)));
    let (mut count, mut sum, mut max) = (0_u32, 0.0, 0.0_f64);
    for weight in weights.iter().copied().filter_map(known) {
        count += 1;
        sum += weight;
        max = max.max(weight);
    }
    if count < 2 {
        return None;
    }
    let mean = sum / f64::from(count);
    let max = max.min(MAX_RATIO * mean);
    let scale = f64::from(MAX_WEIGHT) / max;
    // `as` takes what is too large for the largest.
    let mean = ((scale * mean).round() as u16).max(1);
    let least = ((f64::from(mean) * MIN_RATIO).round() as u16).max(1);
    let scaled = weights.iter().map(|weight| match known(*weight) {
        Some(weight) => ((weight.min(max) * scale).round() as u16).max(least),
        None => mean,
    });
    let scaled: Box<[u16]> = scaled.collect();
    let are_equal = scaled.windows(2).all(|pair| pair[0] == pair[1]);
    (!are_equal).then_some(scaled)
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeMap, thread};

    use http::HeaderMap;
    use proptest::prelude::*;

    use super::*;

    fn stride_at(turn: usize, weights: &[f64]) -> Stride {
        let cursor = Arc::new(Cursor::new(turn));
        Stride::new(weights, cursor).expect("weights that make a difference")
    }

    fn stride(weights: &[f64]) -> Stride {
        stride_at(0, weights)
    }

    fn first(stride: &Stride) -> First {
        let first = stride.first(stride.weights.len(), &mut ("/s/m", HeaderMap::new()));
        first.expect("no call waits")
    }

    fn picks(stride: &Stride, n: usize) -> Vec<usize> {
        (0..n).map(|_| first(stride).backend).collect()
    }

    /// How often each is picked.
    fn counts(stride: &Stride, n: usize) -> Vec<usize> {
        let mut counts = vec![0; stride.weights.len()];
        picks(stride, n)
            .into_iter()
            .for_each(|pick| counts[pick] += 1);
        counts
    }

    // W15
    #[test]
    fn the_picks_of_given_weights_are_those_of_c_core() {
        let stride = stride(&[2.0, 3.0, 6.0]);
        assert_eq!(*stride.weights, [21_845, 32_768, 65_535]);
        let (mut picked, mut turns) = (Vec::new(), Vec::new());
        for _ in 0..12 {
            picked.push(first(&stride).backend);
            turns.push(stride.cursor.turn());
        }
        assert_eq!(picked, [1, 2, 2, 0, 1, 2, 2, 1, 2, 0, 2, 1]);
        assert_eq!(turns[..6], [2, 3, 6, 7, 8, 9]);
        assert_eq!(turns[11], 20);
        let other = picks(&self::stride(&[1.0, 2.0, 3.0]), 12);
        assert_eq!(other, [1, 2, 2, 0, 1, 2, 1, 2, 2, 0, 1, 2]);
    }

    // W15
    #[test]
    fn turns_go_on_after_the_last_number_of_32_bits_and_of_all() {
        for last in [u32::MAX as usize, usize::MAX] {
            let stride = stride_at(last, &[2.0, 3.0, 6.0]);
            let (_, next) = stride.find(last);
            assert!(next == last.wrapping_add(1) || next == last.wrapping_add(3));
            stride
                .cursor
                .advance_past(|turn| ((), turn.wrapping_add(1)));
            assert_eq!(picks(&stride, 6), [1, 2, 2, 0, 1, 2]);
        }
    }

    // W17
    #[test]
    fn a_weight_that_is_not_known_is_the_mean_of_the_others() {
        for unknown in [0.0, -1.0, f64::NAN] {
            let stride = stride(&[3.0, unknown, 1.0]);
            assert_eq!(*stride.weights, [65_535, 43_690, 21_845]);
            assert_eq!(picks(&stride, 12), [0, 1, 2, 0, 0, 1, 0, 1, 2, 0, 0, 1]);
            assert_eq!(counts(&self::stride(&[3.0, unknown, 1.0]), 6), [3, 2, 1]);
        }
        assert_eq!(counts(&stride(&[1.0, 2.0, 3.0]), 6), [1, 2, 3]);
    }

    // W17, W22
    #[test]
    fn weights_that_make_no_difference_are_rotation() {
        let cases: [&[f64]; 8] = [
            &[],
            &[3.0],
            &[0.0, 0.0],
            &[2.0, 0.0, 0.0],
            &[7.0, 7.0, 7.0],
            &[300.0, 300.0, 0.0],
            &[-1.0, 4.0],
            &[f64::INFINITY, f64::MAX],
        ];
        for weights in cases {
            let stride = Stride::new(weights, Arc::new(Cursor::new(0)));
            assert!(stride.is_none(), "{weights:?}");
        }
    }

    // W19
    #[test]
    fn the_heaviest_counts_as_no_more_than_10_times_the_mean() {
        let mut weights = vec![1.0; 20];
        weights[0] = 81.0;
        let mut expected = vec![1; 20];
        expected[0] = 50;
        assert_eq!(counts(&stride(&weights), 69), expected);
    }

    // W20
    #[test]
    fn the_lightest_counts_as_no_less_than_a_hundredth_of_the_mean() {
        let stride = stride(&[100.0, 1e-10]);
        assert_eq!(*stride.weights, [65_535, 328]);
        assert_eq!(counts(&stride, 201), [200, 1]);
    }

    // D334
    #[test]
    fn a_full_one_passes_the_call_on_in_rotation() {
        let stride = stride(&[2.0, 3.0, 6.0]);
        let full = first(&stride).backend;
        assert_eq!(full, 1);
        assert_eq!([1, 2].map(|nth| stride.after(full, nth, 3)), [2, 0]);
        let next = first(&stride).backend;
        assert_eq!(next, 2, "those that it was passed on to have their turns");
    }

    // D335
    #[test]
    fn each_pick_of_a_backend_is_its_next_round() {
        let stride = stride(&[2.0, 3.0, 6.0, 5.0]);
        let mut rounds = BTreeMap::new();
        for _ in 0..1_000 {
            let First { backend, round } = first(&stride);
            if let Some(last) = rounds.insert(backend, round) {
                assert_eq!(round, last + 1);
            }
        }
    }

    #[test]
    fn threads_that_pick_at_the_same_moment_share_one_sequence() {
        let stride = stride(&[1.0, 2.0, 3.0]);
        let mut sum = vec![0; 3];
        thread::scope(|scope| {
            let threads: Vec<_> = (0..4)
                .map(|_| scope.spawn(|| counts(&stride, 3_000)))
                .collect();
            for thread in threads {
                let counts = thread.join().expect("picking does not panic");
                sum.iter_mut().zip(counts).for_each(|(sum, n)| *sum += n);
            }
        });
        let alone = counts(&self::stride(&[1.0, 2.0, 3.0]), 12_000);
        assert_eq!(sum, alone);
    }

    #[test]
    fn to_peek_is_to_see_the_next_pick_and_takes_no_turn() {
        let stride = stride(&[2.0, 3.0, 6.0]);
        for _ in 0..20 {
            let seen = stride.peek(3).backend;
            assert_eq!(stride.peek(3).backend, seen);
            assert_eq!(first(&stride).backend, seen);
        }
    }

    fn any_weights() -> impl Strategy<Value = Vec<f64>> {
        proptest::collection::vec(any::<f64>(), 0..20)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]

        /// W15: in the rounds until all repeats, each has as many picks as its weight says.
        #[test]
        fn in_a_full_cycle_each_has_exactly_its_weight(
            weights in proptest::collection::vec(0.5_f64..20.0, 2..6),
        ) {
            let Some(stride) = Stride::new(&weights, Arc::new(Cursor::new(0))) else {
                return Ok(());
            };
            let turns = usize::from(MAX_WEIGHT) * weights.len();
            let mut counts = vec![0; weights.len()];
            let mut next = stride.find(0);
            while next.1 <= turns {
                counts[next.0.backend] += 1;
                next = stride.find(next.1);
            }
            let expected: Vec<_> = stride.weights.iter().copied().map(usize::from).collect();
            prop_assert_eq!(counts, expected);
        }

        /// A peer may report anything.
        #[test]
        fn whatever_the_weights_a_pick_ends(weights in any_weights(), turn: usize) {
            if let Some(stride) = Stride::new(&weights, Arc::new(Cursor::new(turn))) {
                prop_assert_eq!(stride.weights.iter().max(), Some(&MAX_WEIGHT));
                prop_assert!(stride.weights.iter().all(|weight| *weight > 0));
                prop_assert_eq!(picks(&stride, 50).len(), 50);
            }
        }
    }
}
