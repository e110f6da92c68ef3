//! The pick halves that there are.

use super::{
    least_request::LeastRequest,
    pick_half::{First, PickHalf, PickInfo},
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
}

/// The same of whichever it is.
macro_rules! of_each {
    ($choice:expr, $each:ident => $what:expr) => {
        match $choice {
            Choice::Rotation($each) => $what,
            Choice::LeastRequest($each) => $what,
            Choice::Stride($each) => $what,
        }
    };
}

impl PickHalf for Choice {
    fn first(&self, count: usize, info: &mut impl PickInfo) -> First {
        of_each!(self, choice => choice.first(count, info))
    }

    fn peek(&self, count: usize) -> First {
        of_each!(self, choice => choice.peek(count))
    }

    fn after(&self, first: usize, nth: usize, count: usize) -> usize {
        of_each!(self, choice => choice.after(first, nth, count))
    }
}
