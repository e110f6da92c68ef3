//! The rules of `random_subsetting_experimental` (gRFC A68): which backends of many a channel uses.
//!
//! ```text
//!   all that the source names ──the lowest hashes──► the subset ──► the policy
//!                                                    the others are IDLE
//! ```
//!
//! Each channel hashes the addresses with a seed of its own, or the hash keys, so the channels of a fleet spread over
//! the backends. With one seed the order of the hashes is the same for every set. So a
//! backend that comes or goes changes at most one member.

use std::{
    collections::{BTreeMap, BTreeSet},
    num::NonZeroU32,
    sync::Arc,
};

use twox_hash::XxHash64;

use super::levels::Level;
use crate::routing::{BackendId, BackendStatus};

/// The subset of one channel.
#[derive(Debug)]
pub(super) struct Subset {
    size: u32,
    seed: u64,
    /// Of what `members` was drawn, in the order of the source.
    drawn_of: Vec<Candidate>,
    /// None if it is everything.
    members: Option<BTreeSet<BackendId>>,
}

/// A backend that may become a member.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Candidate {
    pub(super) id: BackendId,
    /// The text by which it is hashed.
    pub(super) key: Arc<str>,
    pub(super) weight: NonZeroU32,
    /// Each level has a subset of its own.
    pub(super) level: Level,
}

impl Subset {
    pub(super) fn new(size: u32, seed: u64) -> Self {
        Self {
            size,
            seed,
            drawn_of: Vec::new(),
            members: None,
        }
    }

    /// Another size, by the same seed.
    pub(super) fn resize(&mut self, size: u32) {
        self.size = size;
        self.members = self.draw();
    }

    /// Looks at the backends as they are now.
    pub(super) fn update<'a>(
        &mut self,
        backends: impl Iterator<Item = (Level, &'a BackendStatus)> + Clone,
    ) {
        let known = self.drawn_of.iter();
        let known = known.map(|known| (known.id, &known.key, known.weight, known.level));
        let named = |(level, status): (Level, &'a BackendStatus)| {
            (status.id, status.key(), status.weight(), level)
        };
        if backends.clone().map(named).eq(known) {
            return;
        }
        let candidate = |(level, status): (Level, &BackendStatus)| Candidate {
            id: status.id,
            key: Arc::clone(status.key()),
            weight: status.weight(),
            level,
        };
        self.drawn_of = backends.map(candidate).collect();
        self.members = self.draw();
    }

    /// Whether this backend is a member.
    pub(super) fn has(&self, id: BackendId) -> bool {
        let members = self.members.as_ref();
        members.is_none_or(|members| members.contains(&id))
    }

    /// How many members there are, of so many backends.
    pub(super) fn count(&self, all: usize) -> usize {
        self.members.as_ref().map_or(all, BTreeSet::len)
    }

    fn draw(&self) -> Option<BTreeSet<BackendId>> {
        let size = self.size as usize;
        if self.drawn_of.len() <= size {
            return None;
        }
        let mut levels = BTreeMap::<Level, Vec<_>>::new();
        for candidate in &self.drawn_of {
            let hash = XxHash64::oneshot(self.seed, candidate.key.as_bytes());
            let place = (weighted(hash, candidate.weight), hash, candidate.id);
            levels.entry(candidate.level).or_default().push(place);
        }
        let lowest = levels.values_mut().flat_map(|places| {
            let drawn = match places.len() > size {
                true => places.select_nth_unstable(size).0,
                false => places,
            };
            drawn.iter().map(|(_, _, id)| *id)
        });
        Some(lowest.collect())
    }
}

/// The place of a backend in the order: as an exponential variable whose rate is the weight, in
/// bits that are in the order of the numbers. The lowest of several is each of them as often as
/// its weight says. With equal weights it is the order of the hashes.
fn weighted(hash: u64, weight: NonZeroU32) -> u64 {
    const ALL: f64 = 18_446_744_073_709_551_616.0;
    let uniform = (hash as f64 + 0.5) / ALL;
    // 1 where the sum rounds to that: the last in the order.
    let drawn = -(-uniform.min(1.0)).ln_1p() / f64::from(weight.get());
    drawn.to_bits()
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeSet, num::NonZeroU32, sync::Arc};

    use proptest::prelude::*;

    use super::{Level, Subset};
    use crate::{
        attributes::Attributes, connectivity::ConnectivityState::Idle, routing::BackendStatus,
    };

    type Backends = Vec<BackendStatus>;

    fn backends(names: impl IntoIterator<Item = u64>, prefix: &str) -> Backends {
        let named = |n| BackendStatus::in_state(n, &format!("{prefix}{n}"), Idle);
        names.into_iter().map(named).collect()
    }

    fn update(subset: &mut Subset, backends: &Backends) -> Vec<u64> {
        let level = Level::default();
        subset.update(backends.iter().map(|backend| (level, backend)));
        let ids = backends.iter().map(|backend| backend.id);
        ids.filter(|id| subset.has(*id)).map(|id| id.0).collect()
    }

    fn drawn(size: u32, seed: u64, backends: &Backends) -> Vec<u64> {
        update(&mut Subset::new(size, seed), backends)
    }

    // Z02
    #[test]
    fn as_many_as_its_size_or_all() {
        let of = |count| backends(0..count, "10.0.0.1:");
        assert_eq!(drawn(5, 7, &of(10)).len(), 5);
        assert_eq!(drawn(5, 7, &of(5)), [0, 1, 2, 3, 4]);
        assert_eq!(drawn(5, 7, &of(3)), [0, 1, 2]);
        assert_eq!(drawn(5, 7, &of(0)), [0; 0]);
        assert_eq!(drawn(u32::MAX, 7, &of(3)), [0, 1, 2]);
    }

    // Z04
    #[test]
    fn the_members_are_those_with_the_lowest_hashes() {
        let endpoints = backends(0..10, "endpoint-");
        assert_eq!(drawn(5, 0, &endpoints), [1, 2, 3, 5, 8]);
        assert_eq!(drawn(1, 0, &endpoints), [1]);
        assert_eq!(drawn(2, 0, &endpoints), [1, 3]);
        assert_eq!(drawn(3, 0, &endpoints), [1, 3, 5]);
        assert_eq!(drawn(4, 0, &endpoints), [1, 2, 3, 5]);
    }

    // Z05
    #[test]
    fn the_same_backends_are_the_same_subset() {
        let endpoints = backends(0..10, "endpoint-");
        let mut subset = Subset::new(5, 0);
        let before = update(&mut subset, &endpoints);
        assert_eq!(update(&mut subset, &endpoints), before);
        let mut reversed = endpoints.clone();
        reversed.reverse();
        let mut after = update(&mut subset, &reversed);
        after.reverse();
        assert_eq!(after, before);
    }

    // Z05
    #[test]
    fn another_size_keeps_the_seed() {
        let endpoints = backends(0..10, "endpoint-");
        let mut subset = Subset::new(5, 0);
        update(&mut subset, &endpoints);
        subset.resize(3);
        assert_eq!(update(&mut subset, &endpoints), [1, 3, 5]);
        subset.resize(5);
        assert_eq!(update(&mut subset, &endpoints), [1, 2, 3, 5, 8]);
    }

    #[test]
    fn another_seed_is_another_subset() {
        let endpoints = backends(0..100, "endpoint-");
        assert_ne!(drawn(5, 1, &endpoints), drawn(5, 2, &endpoints));
    }

    // D421
    #[test]
    fn a_hash_key_stands_for_the_address() {
        let mut endpoints = backends(0..10, "10.0.0.1:");
        for (n, backend) in endpoints.iter_mut().enumerate() {
            backend.attributes = Arc::new(Attributes {
                hash_key: Some(format!("endpoint-{n}").into()),
                ..Attributes::default()
            });
        }
        assert_eq!(drawn(5, 0, &endpoints), [1, 2, 3, 5, 8], "as in Z04");
    }

    // D425
    #[test]
    fn each_level_has_a_subset() {
        let endpoints = backends(0..20, "endpoint-");
        let mut subset = Subset::new(5, 0);
        let levels = [0, 1].map(Level::of_priority);
        let leveled = endpoints.iter().enumerate();
        subset.update(leveled.map(|(n, backend)| (levels[n / 10], backend)));
        let has = |range: std::ops::Range<usize>| {
            let members = endpoints[range].iter();
            members.filter(|backend| subset.has(backend.id)).count()
        };
        assert_eq!((has(0..10), has(10..20)), (5, 5));
        let first = endpoints[..10].iter().filter(|b| subset.has(b.id));
        let first: Vec<_> = first.map(|backend| backend.id.0).collect();
        assert_eq!(first, [1, 2, 3, 5, 8], "that of the level alone");
    }

    // D422
    /// The bounds are 5 standard deviations of independent draws.
    #[test]
    fn a_heavier_backend_is_a_member_more_often() {
        let mut all = backends(0..100, "10.0.0.1:");
        all[7].attributes = Arc::new(Attributes {
            weight: NonZeroU32::new(4).unwrap(),
            ..Attributes::default()
        });
        let draws = 4_000_u32;
        let is_drawn = |seed: &u32| drawn(1, u64::from(*seed) << 32 | 0x9e37, &all) == [7];
        let heavy = (0..draws).filter(is_drawn).count();
        let (share, draws) = (4.0 / 103.0, f64::from(draws));
        let off = (heavy as f64 - share * draws).abs();
        assert!(
            off < 5.0 * (draws * share * (1.0 - share)).sqrt(),
            "{heavy}"
        );
    }

    // Z07
    /// The bounds are 5 standard deviations of independent draws.
    #[test]
    fn many_channels_spread_over_the_backends() {
        for (channels, count, size) in [
            (100, 100, 5),
            (100, 100, 25),
            (100, 10, 5),
            (500, 10, 5),
            (2000, 100, 5),
        ] {
            let all = backends(0..count, "10.0.0.1:");
            let mut uses = vec![0_u32; count as usize];
            for seed in 0..channels {
                for id in drawn(size, u64::from(seed) << 32 | 0x9e37, &all) {
                    uses[id as usize] += 1;
                }
            }
            assert_eq!(uses.iter().sum::<u32>(), channels * size);
            let (channels, share) = (f64::from(channels), f64::from(size) / count as f64);
            let bound = 5.0 * (channels * share * (1.0 - share)).sqrt();
            for uses in uses {
                let off = (f64::from(uses) - channels * share).abs();
                assert!(off < bound, "{uses} of {channels}, {size} of {count}");
            }
        }
    }

    proptest! {
        // Z06
        #[test]
        fn one_more_or_less_changes_at_most_one_member(
            names in proptest::collection::btree_set(0_u64..1_000, 2..40),
            other in 0_u64..1_000, size in 1_u32..20, seed: u64,
        ) {
            let mut more = names.clone();
            more.insert(other);
            let less: BTreeSet<_> = names.iter().copied().filter(|name| *name != other).collect();
            let mut subset = Subset::new(size, seed);
            let all = [&less, &more, &less].map(|names| {
                let members = update(&mut subset, &backends(names.iter().copied(), "10.0.0.1:"));
                BTreeSet::from_iter(members)
            });
            prop_assert_eq!(&all[0], &all[2]);
            let came: Vec<_> = all[1].difference(&all[0]).collect();
            let left: Vec<_> = all[0].difference(&all[1]).collect();
            prop_assert!(came.is_empty() || came == [&other], "{:?} came", came);
            prop_assert!(left.len() <= came.len(), "{:?} left", left);
            prop_assert_eq!(all[1].len(), more.len().min(size as usize));
        }
    }
}
