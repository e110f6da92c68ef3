//! The ring of `ring_hash_experimental` (gRFC A42), as its members and their weights make it.
//!
//! ```text
//!   members  A, B, C             entries, by hash      B1  A0  C0  A1  B0  C1
//!   hash of a call ─────────────────────────────────────────▲
//!                                       the first entry from there: C0
//! ```
//!
//! A member with the weight of 2 others has as many entries as both. Where an entry is depends
//! on its member's key alone, so most calls stay where they are when other members come and go.
//!
//! A walk along the ring names each member once. It keeps no set of those that it has named: each
//! entry knows how far back its member's last entry is.

use std::{collections::BTreeMap, fmt::Write};

use twox_hash::XxHash64;

/// Members are numbered from 0, in the order in which they were given.
#[derive(Debug)]
pub(crate) struct Ring {
    /// Of each entry, ascending.
    hashes: Box<[u64]>,
    /// In the same order.
    entries: Box<[Entry]>,
    /// The members without an entry: there are more of them than the ring may have entries.
    off_ring: Box<[u32]>,
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    member: u32,
    /// How many entries back its member has the one before: all of them, if it has no other.
    back: u32,
}

/// The members with one key share its entries, and the key has the sum of their weights.
#[derive(Default)]
struct Sharing {
    weight: f64,
    members: Vec<u32>,
}

impl Ring {
    /// Of members with these keys and weights, where 0 counts as 1. It has at least `min_size`
    /// entries, in proportion to the weights, and at most `max_size`.
    ///
    /// The order of the members does not matter: rounding goes by the order of the keys.
    pub(crate) fn new<'a>(
        members: impl IntoIterator<Item = (&'a str, u32)>,
        min_size: u32,
        max_size: u32,
    ) -> Self {
        let (mut keys, mut count) = (BTreeMap::<&str, Sharing>::new(), 0);
        for (key, weight) in members {
            let sharing = keys.entry(key).or_default();
            sharing.weight += f64::from(weight.max(1));
            sharing.members.push(count);
            count += 1;
        }
        let entries = placed(&keys, min_size, max_size);
        let members: Vec<_> = entries.iter().map(|(_, member)| *member).collect();
        let last = last_entries(&members, count as usize);
        let is_off = |member: &u32| last[*member as usize].is_none();
        let off_ring = (0..count).filter(is_off).collect();
        let back = distances(&members, last).into_iter();
        let entry = |(member, back)| Entry { member, back };
        Self {
            hashes: entries.iter().map(|(hash, _)| *hash).collect(),
            entries: members.into_iter().zip(back).map(entry).collect(),
            off_ring,
        }
    }

    /// The entry at which a call with this hash begins.
    pub(super) fn entry(&self, hash: u64) -> usize {
        let entry = self.hashes.partition_point(|of_entry| *of_entry < hash);
        match entry < self.hashes.len() {
            true => entry,
            false => 0,
        }
    }

    /// The next member of a walk that began at the entry `start` and has made so many `steps`.
    /// A walk names each member once: first those on the ring, and then the others.
    pub(super) fn next_member(&self, start: usize, steps: &mut usize) -> Option<usize> {
        let size = self.entries.len();
        while *steps < size {
            let at = start + *steps;
            let entry = self.entries[if at < size { at } else { at - size }];
            let is_first = *steps < entry.back as usize;
            *steps += 1;
            if is_first {
                return Some(entry.member as usize);
            }
        }
        let beyond = *steps - size;
        if beyond >= self.off_ring.len() {
            return None;
        }
        *steps += 1;
        let at = (start + beyond) % self.off_ring.len();
        Some(self.off_ring[at] as usize)
    }
}

/// Hash and member of each entry, in order (gRFC A42, with the arithmetic of C-core).
fn placed(keys: &BTreeMap<&str, Sharing>, min_size: u32, max_size: u32) -> Vec<(u64, u32)> {
    let total: f64 = keys.values().map(|sharing| sharing.weight).sum();
    let shares = keys.values().map(|sharing| sharing.weight / total);
    let smallest = shares.fold(1.0, f64::min);
    let scale = (smallest * f64::from(min_size)).ceil() / smallest;
    let scale = scale.min(f64::from(max_size));
    let mut entries = Vec::with_capacity(scale.ceil() as usize);
    let (mut target, mut text) = (0.0, String::new());
    for (key, sharing) in keys {
        target += scale * (sharing.weight / total);
        text.clear();
        let _ = write!(text, "{key}_");
        let prefix = text.len();
        let mut number = 0;
        while (entries.len() as f64) < target {
            text.truncate(prefix);
            let _ = write!(text, "{number}");
            let member = sharing.members[number % sharing.members.len()];
            entries.push((XxHash64::oneshot(0, text.as_bytes()), member));
            number += 1;
        }
    }
    entries.sort_unstable();
    entries
}

/// Of each member its last entry, if it has one.
fn last_entries(entries: &[u32], members: usize) -> Vec<Option<usize>> {
    let mut last = vec![None; members];
    for (at, member) in entries.iter().enumerate() {
        last[*member as usize] = Some(at);
    }
    last
}

/// For each entry how many entries back its member has another one. `last` is behind the first.
fn distances(entries: &[u32], mut last: Vec<Option<usize>>) -> Vec<u32> {
    let mut back = Vec::with_capacity(entries.len());
    for (at, member) in entries.iter().enumerate() {
        let before = last[*member as usize].replace(at).unwrap_or(at);
        let around = if before < at { 0 } else { entries.len() };
        back.push((at + around - before) as u32);
    }
    back
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use proptest::prelude::*;
    use twox_hash::XxHash64;

    use super::Ring;

    fn equal<'a>(keys: &'a [&'a str]) -> impl Iterator<Item = (&'a str, u32)> {
        keys.iter().map(|key| (*key, 1))
    }

    /// How many entries each member has.
    fn counts(ring: &Ring, members: usize) -> Vec<usize> {
        let of = |member: usize| {
            let entries = ring.entries.iter();
            entries
                .filter(|entry| entry.member as usize == member)
                .count()
        };
        (0..members).map(of).collect()
    }

    fn member(ring: &Ring, hash: u64) -> usize {
        let mut steps = 0;
        ring.next_member(ring.entry(hash), &mut steps)
            .expect("a member")
    }

    fn walk(ring: &Ring, start: usize) -> Vec<usize> {
        let mut steps = 0;
        std::iter::from_fn(|| ring.next_member(start, &mut steps)).collect()
    }

    // K03
    #[test]
    fn texts_hash_as_in_other_clients() {
        for (text, hash) in [
            ("", 0xef46_db37_51d8_e999),
            ("a", 0xd24e_c4f1_a98c_6e5b),
            ("abc", 0x44bc_2cf5_ad77_0999),
            ("foo", 0x33bf_00a8_59c4_ba3f),
            ("a,b", 0xf0e4_9786_78bb_cc60),
            ("10.0.0.1:50051_0", 0x7423_8964_7ea7_2c09),
            ("10.0.0.1:50051_1", 0x5832_90db_2176_95a0),
            ("10.0.0.2:50051_0", 0xe512_e006_d964_2ea9),
        ] {
            assert_eq!(XxHash64::oneshot(0, text.as_bytes()), hash, "{text:?}");
        }
    }

    // K01
    #[test]
    fn entries_are_in_proportion_to_weights() {
        let members = [("a", 3), ("b", 3), ("c", 4)];
        for (min, max, expected) in [
            (3, 20, [1, 1, 2]),
            (4, 20, [2, 2, 3]),
            (6, 20, [2, 2, 3]),
            (8, 20, [3, 3, 4]),
            (8, 8, [3, 2, 3]),
            (1024, 4096, [308, 308, 411]),
        ] {
            let ring = Ring::new(members, min, max);
            assert_eq!(counts(&ring, 3), expected, "{min} to {max}");
        }
    }

    // K01
    #[test]
    fn an_entry_is_the_hash_of_its_key_and_its_number() {
        let keys = ["10.0.0.2:50051", "10.0.0.1:50051"];
        let ring = Ring::new(equal(&keys), 3, 4);
        let mut expected: Vec<_> = [(1, "10.0.0.1"), (0, "10.0.0.2")]
            .into_iter()
            .flat_map(|(member, host)| [0, 1].map(|n| (member, format!("{host}:50051_{n}"))))
            .map(|(member, text)| (XxHash64::oneshot(0, text.as_bytes()), member))
            .collect();
        expected.sort_unstable();
        let members = ring.entries.iter().map(|entry| entry.member);
        let entries: Vec<_> = ring.hashes.iter().copied().zip(members).collect();
        assert_eq!(entries, expected);
    }

    // K01
    #[test]
    fn a_call_begins_at_the_first_entry_from_its_hash() {
        let ring = Ring::new(equal(&["a", "b", "c"]), 8, 20);
        for (at, hash) in ring.hashes.iter().enumerate() {
            assert_eq!(ring.entry(*hash), at);
            let after = hash.wrapping_add(1);
            assert_eq!(ring.entry(after), (at + 1) % ring.hashes.len());
        }
        assert_eq!(ring.entry(0), 0);
        assert_eq!(ring.entry(u64::MAX), 0, "behind the last comes the first");
    }

    // K15
    #[test]
    fn keys_are_spread_by_weight() {
        let weights = [1, 3, 10, 2];
        let members = ["a", "b", "c", "d"].into_iter().zip(weights);
        let ring = Ring::new(members, 1024, 4096);
        let mut shares = [0_u32; 4];
        for key in 0_u32..16_000 {
            shares[member(&ring, XxHash64::oneshot(0, &key.to_le_bytes()))] += 1;
        }
        for (share, weight) in shares.into_iter().zip(weights) {
            let off = f64::from(share) / f64::from(weight * 1_000);
            assert!((0.75..1.25).contains(&off), "{share} for {weight} of 16");
        }
    }

    // K13
    #[test]
    fn the_order_of_the_members_does_not_matter() {
        let keys = ["c", "a", "d", "b"];
        let ring = Ring::new(keys.into_iter().zip([1, 2, 3, 4]), 64, 100);
        let sorted = Ring::new([("a", 2), ("b", 4), ("c", 1), ("d", 3)], 64, 100);
        assert_eq!(ring.hashes, sorted.hashes);
        for (here, there) in ring.entries.iter().zip(&sorted.entries) {
            let there = ["a", "b", "c", "d"][there.member as usize];
            assert_eq!(keys[here.member as usize], there);
        }
    }

    // D353
    #[test]
    fn members_with_one_key_share_its_entries() {
        let ring = Ring::new(equal(&["a", "b", "a"]), 30, 100);
        assert_eq!(counts(&ring, 3), [10, 10, 10]);
        let merged = Ring::new([("a", 2), ("b", 1)], 30, 100);
        assert_eq!(ring.hashes, merged.hashes);
    }

    // D354
    #[test]
    fn members_beyond_the_size_of_the_ring_come_last() {
        let keys: Vec<_> = (0..20).map(|n| format!("10.0.0.{n}:1")).collect();
        let ring = Ring::new(keys.iter().map(|key| (&**key, 1)), 4, 8);
        // The sum of 20 shares is a little more than 8, so there is one more, as in C-core.
        let size = ring.hashes.len();
        assert_eq!((size, ring.off_ring.len()), (9, 11));
        for start in 0..size {
            let walk = walk(&ring, start);
            assert_eq!(walk.len(), 20);
            assert_eq!(BTreeSet::from_iter(&walk).len(), 20);
            let last = walk[size..].iter().map(|member| *member as u32);
            assert!(
                last.into_iter()
                    .all(|member| ring.off_ring.contains(&member))
            );
        }
    }

    #[test]
    fn a_ring_of_nobody_has_no_entry() {
        let ring = Ring::new([], 1024, 4096);
        assert_eq!(walk(&ring, ring.entry(7)), [0; 0]);
    }

    fn keys() -> impl Strategy<Value = BTreeMap<String, u32>> {
        let key = (0_u8..40).prop_map(|n| format!("10.0.0.{n}:50051"));
        proptest::collection::btree_map(key, 1_u32..5, 2..20)
    }

    fn weighted(keys: &BTreeMap<String, u32>) -> impl Iterator<Item = (&str, u32)> {
        keys.iter().map(|(key, weight)| (&**key, *weight))
    }

    proptest! {
        /// Those that it passes have been named before, at an entry between.
        #[test]
        fn a_walk_names_each_once_in_the_order_of_the_ring(
            keys in keys(), min in 1_u32..200, max in 200_u32..300, start in 0_usize..300,
        ) {
            let ring = Ring::new(weighted(&keys), min, max);
            let start = start % ring.entries.len();
            let (from_start, before) = (&ring.entries[start..], &ring.entries[..start]);
            let mut expected: Vec<usize> = Vec::new();
            for entry in from_start.iter().chain(before) {
                if !expected.contains(&(entry.member as usize)) {
                    expected.push(entry.member as usize);
                }
            }
            prop_assert_eq!(walk(&ring, start), expected);
        }

        // K13
        /// A key moves for 2 reasons: its entry is gone, or there is a new one before it.
        #[test]
        fn a_key_stays_while_its_member_does(
            keys in keys(), leaver in 0_usize..20, hashes in proptest::collection::vec(any::<u64>(), 50),
        ) {
            let full = Ring::new(weighted(&keys), 100, 200);
            let leaver = keys.keys().nth(leaver % keys.len()).expect("one of them").clone();
            let mut left = keys.clone();
            left.remove(&leaver);
            let less = Ring::new(weighted(&left), 100, 200);
            let before: Vec<_> = keys.keys().collect();
            let after: Vec<_> = left.keys().collect();
            for hash in hashes {
                let (from, to) = (before[member(&full, hash)], after[member(&less, hash)]);
                let is_new = !full.hashes.contains(&less.hashes[less.entry(hash)]);
                let is_gone = !less.hashes.contains(&full.hashes[full.entry(hash)]);
                prop_assert!(from == to || is_gone || is_new, "from {} to {}", from, to);
                prop_assert!(from != &leaver || is_gone);
            }
        }
    }

    // K13
    #[test]
    fn one_that_leaves_moves_about_its_share() {
        let keys: Vec<_> = (0..20).map(|n| format!("10.0.0.{n}:50051")).collect();
        let all = || keys.iter().map(|key| (&**key, 1));
        let full = Ring::new(all(), 1000, 4096);
        let less = Ring::new(all().skip(1), 1000, 4096);
        let hashes = (0_u32..10_000).map(|key| XxHash64::oneshot(0, &key.to_le_bytes()));
        let moved = hashes.filter(|hash| member(&full, *hash) != member(&less, *hash) + 1);
        let moved = moved.count();
        // 1 of 20 leaves, and each other one gets 53 entries for 50.
        assert!((300..1_500).contains(&moved), "{moved} of 10,000 keys");
    }
}
