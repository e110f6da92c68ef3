//! The rules of `random_subsetting_experimental` (gRFC A68): which backends of many a channel uses.
//!
//! ```text
//!   all that the source names ──the lowest hashes──► the subset ──► the policy
//!                                                    the others are IDLE
//! ```
//!
//! Each channel hashes the addresses with a seed of its own, so the channels of a fleet spread over
//! the backends. With one seed the order of the hashes is the same for every set. So a
//! backend that comes or goes changes at most one member.

use std::{collections::BTreeSet, sync::Arc};

use twox_hash::XxHash64;

use crate::routing::BackendId;

/// The subset of one channel.
#[derive(Debug)]
pub(super) struct Subset {
    size: u32,
    seed: u64,
    /// Of what `members` was drawn, in the order of the source.
    drawn_of: Vec<(BackendId, Arc<str>)>,
    /// None if it is everything.
    members: Option<BTreeSet<BackendId>>,
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

    /// Looks at the backends as they are now, each with its address.
    pub(super) fn update<'a>(
        &mut self,
        backends: impl ExactSizeIterator<Item = (BackendId, &'a Arc<str>)> + Clone,
    ) {
        let mut both = backends.clone().zip(&self.drawn_of);
        if backends.len() == self.drawn_of.len()
            && both.all(|((id, address), known)| id == known.0 && *address == known.1)
        {
            return;
        }
        let backends = backends.map(|(id, address)| (id, Arc::clone(address)));
        self.drawn_of = backends.collect();
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
        let hash = |(id, address): &(BackendId, Arc<str>)| {
            (XxHash64::oneshot(self.seed, address.as_bytes()), *id)
        };
        let mut hashes: Vec<_> = self.drawn_of.iter().map(hash).collect();
        let (lowest, _, _) = hashes.select_nth_unstable(size);
        Some(lowest.iter().map(|(_, id)| *id).collect())
    }
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeSet, sync::Arc};

    use proptest::prelude::*;

    use super::Subset;
    use crate::routing::BackendId;

    type Backends = Vec<(BackendId, Arc<str>)>;

    fn backends(names: impl IntoIterator<Item = u64>, prefix: &str) -> Backends {
        let named = |n| (BackendId(n), format!("{prefix}{n}").into());
        names.into_iter().map(named).collect()
    }

    fn update(subset: &mut Subset, backends: &Backends) -> Vec<u64> {
        subset.update(backends.iter().map(|(id, address)| (*id, address)));
        let ids = backends.iter().map(|(id, _)| id);
        ids.filter(|id| subset.has(**id)).map(|id| id.0).collect()
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
