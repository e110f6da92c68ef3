//! The pick half of a channel whose backends are of several priorities or localities: first the
//! level of a call is chosen, and then the policy chooses a backend of that level.
//!
//! ```text
//!   a hash or a number of the call ──► near 70 %, far 20 %, priority 1 10 %
//!                                        └──► the policy's choice among the near ones
//! ```
//!
//! A call that finds the backends of its level full goes on to those of the other levels, in
//! their order. So no call waits while any backend has a free stream.

use super::pick_half::{First, PickHalf, PickInfo};

/// A choice for each level.
#[derive(Debug)]
pub(crate) struct ByLevel<P> {
    levels: Box<[LevelChoice<P>]>,
    /// Of each READY backend, its level and its number there.
    places: Box<[Place]>,
}

/// The choice of one level.
#[derive(Debug)]
pub(crate) struct LevelChoice<P> {
    /// The part of the calls that it has, in parts of the sum of all.
    pub(crate) share: u32,
    /// Its READY backends by their number in the picker.
    pub(crate) members: Box<[u32]>,
    pub(crate) choice: P,
}

#[derive(Clone, Copy, Debug, Default)]
struct Place {
    level: u32,
    number: u32,
}

/// Set in the steps of a call that has been through its own level.
const BEYOND: usize = 1 << (usize::BITS - 1);

impl<P> ByLevel<P> {
    /// Each READY backend is a member of 1 level. At least 1 share is not 0.
    pub(crate) fn new(levels: Box<[LevelChoice<P>]>) -> Self {
        let count = levels.iter().map(|level| level.members.len()).sum();
        let mut places = vec![Place::default(); count];
        for (level, of_level) in (0..).zip(&levels) {
            for (number, member) in (0..).zip(&of_level.members) {
                if let Some(place) = places.get_mut(*member as usize) {
                    *place = Place { level, number };
                }
            }
        }
        Self {
            levels,
            places: places.into(),
        }
    }

    /// The level of a call with this number.
    fn level_of(&self, number: u64) -> Option<&LevelChoice<P>> {
        let shares = self.levels.iter().map(|level| u64::from(level.share));
        let mut left = number % shares.sum::<u64>().max(1);
        let mut levels = self.levels.iter();
        levels.find(|level| match left.checked_sub(u64::from(level.share)) {
            None => true,
            Some(rest) => {
                left = rest;
                false
            }
        })
    }
}

impl<P: PickHalf> ByLevel<P> {
    /// Calls with one key are in one level, as long as the shares are the same.
    fn number(&self, info: &mut impl PickInfo) -> u64 {
        let key = self.levels.first().and_then(|level| level.choice.key(info));
        key.unwrap_or_else(|| info.random())
    }
}

impl<P> LevelChoice<P> {
    /// A backend of this level as the picker numbers it.
    fn in_picker(&self, first: First) -> First {
        let member = self.members.get(first.backend).copied();
        First {
            backend: member.unwrap_or_default() as usize,
            round: first.round,
        }
    }
}

/// Not inlined: a channel without levels is to have no instructions for this.
impl<P: PickHalf> PickHalf for ByLevel<P> {
    #[inline(never)]
    fn first(&self, count: usize, info: &mut impl PickInfo) -> Option<First> {
        let Some(level) = self.level_of(self.number(info)) else {
            return Some(First::of_turn(0, count));
        };
        let first = level.choice.first(level.members.len(), info)?;
        Some(level.in_picker(first))
    }

    /// That of the level with the most calls.
    #[inline(never)]
    fn peek(&self, count: usize) -> First {
        match self.levels.iter().max_by_key(|level| level.share) {
            Some(level) => level.in_picker(level.choice.peek(level.members.len())),
            None => First::of_turn(0, count),
        }
    }

    #[inline(never)]
    fn peek_for(&self, count: usize, info: &mut impl PickInfo) -> Option<First> {
        let Some(level) = self.level_of(self.number(info)) else {
            return Some(First::of_turn(0, count));
        };
        let first = level.choice.peek_for(level.members.len(), info)?;
        Some(level.in_picker(first))
    }

    /// [`next`](PickHalf::next) goes by levels.
    fn after(&self, first: usize, nth: usize, count: usize) -> usize {
        First::of_turn(first + nth, count).backend
    }

    #[inline(never)]
    fn next(&self, first: First, steps: &mut usize, _count: usize) -> Option<usize> {
        let own = self.places.get(first.backend)?;
        let level = self.levels.get(own.level as usize)?;
        if *steps & BEYOND == 0 {
            let in_level = First {
                backend: own.number as usize,
                round: first.round,
            };
            let count = level.members.len();
            if let Some(next) = level.choice.next(in_level, steps, count) {
                return level.members.get(next).map(|member| *member as usize);
            }
            *steps = BEYOND;
        }
        let others = (0..).zip(&self.levels);
        let others = others.filter(|(level, _)| *level != own.level);
        let mut others = others.flat_map(|(_, level)| &level.members);
        let next = others.nth(*steps & !BEYOND)?;
        *steps += 1;
        Some(*next as usize)
    }

    fn may_wait(&self) -> bool {
        self.levels.iter().any(|level| level.choice.may_wait())
    }
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeMap, sync::Arc};

    use http::HeaderMap;

    use super::{
        super::{
            choice::Choice,
            picker::{Pick, Picker},
            rotation::{Cursor, Rotation},
        },
        *,
    };

    /// A call whose random numbers are 0, 1, 2 …
    struct Call {
        headers: HeaderMap,
        number: u64,
    }

    impl PickInfo for Call {
        fn path(&self) -> &str {
            "/s/m"
        }

        fn headers(&mut self) -> &HeaderMap {
            &self.headers
        }

        fn random(&mut self) -> u64 {
            self.number += 1;
            self.number - 1
        }
    }

    fn call() -> Call {
        Call {
            headers: HeaderMap::new(),
            number: 0,
        }
    }

    /// Levels with these shares and members, each with a rotation of its own.
    fn picker(levels: &[(u32, &[u32])]) -> Picker<u32> {
        let level = |(share, members): &(u32, &[u32])| LevelChoice {
            share: *share,
            members: (*members).into(),
            choice: Choice::Rotation(Rotation::new(Arc::new(Cursor::new(0)))),
        };
        let count: usize = levels.iter().map(|(_, members)| members.len()).sum();
        let levels = levels.iter().map(level).collect();
        Picker::Ready {
            backends: (0..count as u32).collect(),
            choice: Choice::ByLevel(Box::new(ByLevel::new(levels))),
        }
    }

    fn candidates(picker: &Picker<u32>, call: &mut Call) -> Vec<u32> {
        match picker.pick(call) {
            Pick::Send(candidates) => candidates.copied().collect(),
            other => panic!("expected candidates, got {other:?}"),
        }
    }

    // D426
    #[test]
    fn calls_go_to_each_level_by_its_share_and_rotate_within() {
        let picker = picker(&[(7_000, &[0, 2]), (3_000, &[1]), (0, &[3])]);
        let mut call = call();
        let mut counts = BTreeMap::new();
        for _ in 0..10_000 {
            *counts.entry(candidates(&picker, &mut call)[0]).or_insert(0) += 1;
        }
        assert_eq!(counts, BTreeMap::from([(0, 3_500), (2, 3_500), (1, 3_000)]));
    }

    // D427
    #[test]
    fn a_call_goes_on_to_its_level_and_then_to_the_others_in_order() {
        let picker = picker(&[(7_000, &[0, 2]), (3_000, &[1, 5]), (0, &[3, 4])]);
        let mut first = call();
        assert_eq!(candidates(&picker, &mut first), [0, 2, 1, 5, 3, 4]);
        let mut second = call();
        second.number = 7_000;
        assert_eq!(candidates(&picker, &mut second), [1, 5, 0, 2, 3, 4]);
        let mut all = candidates(&picker, &mut call());
        all.sort_unstable();
        assert_eq!(all, [0, 1, 2, 3, 4, 5]);
    }

    #[test]
    fn a_look_takes_no_turn() {
        let picker = picker(&[(100, &[0, 1])]);
        for _ in 0..2 {
            let Pick::Send(mut candidates) = picker.peek() else {
                panic!("it is READY")
            };
            assert_eq!(candidates.next(), Some(&0));
            let Pick::Send(mut candidates) = picker.peek_for(&mut call()) else {
                panic!("it is READY")
            };
            assert_eq!(candidates.next(), Some(&0));
        }
    }
}
