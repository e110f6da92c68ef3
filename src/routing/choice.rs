//! The pick halves that there are.

use super::{
    by_level::ByLevel,
    least_request::LeastRequest,
    pick_half::{First, PickHalf, PickInfo},
    ring_hash::RingHash,
    rotation::Rotation,
    stride::Stride,
};

/// The pick half of the policy in force.
#[derive(Debug)]
pub(crate) enum Choice {
    /// That of `round_robin` and of `pick_first`.
    Rotation(Rotation),
    /// That of `least_request_experimental`.
    LeastRequest(LeastRequest),
    /// That of `weighted_round_robin`, where weights make a difference.
    Stride(Stride),
    /// That of `ring_hash_experimental`.
    RingHash(RingHash),
    /// That of any policy, where backends are of several levels.
    ByLevel(Box<ByLevel<Choice>>),
}

/// The same of whichever it is.
macro_rules! of_each {
    ($choice:expr, $each:ident => $what:expr) => {
        match $choice {
            Choice::Rotation($each) => $what,
            Choice::LeastRequest($each) => $what,
            Choice::Stride($each) => $what,
            Choice::RingHash($each) => $what,
            Choice::ByLevel($each) => $what,
        }
    };
}

impl PickHalf for Choice {
    fn first(&self, count: usize, info: &mut impl PickInfo) -> Option<First> {
        of_each!(self, choice => choice.first(count, info))
    }

    fn peek(&self, count: usize) -> First {
        of_each!(self, choice => choice.peek(count))
    }

    fn after(&self, first: usize, nth: usize, count: usize) -> usize {
        of_each!(self, choice => choice.after(first, nth, count))
    }

    fn peek_for(&self, count: usize, info: &mut impl PickInfo) -> Option<First> {
        of_each!(self, choice => choice.peek_for(count, info))
    }

    fn next(&self, first: First, steps: &mut usize, count: usize) -> Option<usize> {
        of_each!(self, choice => choice.next(first, steps, count))
    }

    fn key(&self, info: &mut impl PickInfo) -> Option<u64> {
        of_each!(self, choice => choice.key(info))
    }

    fn may_wait(&self) -> bool {
        of_each!(self, choice => choice.may_wait())
    }

    fn could_answer_differently(&self, newer: &Self) -> bool {
        match (self, newer) {
            (Self::RingHash(old), Self::RingHash(new)) => old.could_answer_differently(new),
            // A call that waits for a place on a ring has another policy now.
            _ => self.may_wait(),
        }
    }
}
