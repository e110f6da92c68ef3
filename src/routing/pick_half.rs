//! The pick half of a policy: what it is asked for a call, and what it may ask of the call.

use http::HeaderMap;

/// How calls choose among READY backends, which are numbered from 0 in the order of the source.
pub(crate) trait PickHalf {
    /// The backend that this call begins with, of `count`. Takes a turn, if the policy has turns.
    /// None if the call is to wait for a backend that is not READY.
    fn first(&self, count: usize, info: &mut impl PickInfo) -> Option<First>;

    /// Where the next call is likely to begin. Takes no turn.
    fn peek(&self, count: usize) -> First;

    /// Where this call would begin. Takes no turn. None if the call is to wait for a backend that
    /// is not READY.
    fn peek_for(&self, count: usize, _info: &mut impl PickInfo) -> Option<First> {
        Some(self.peek(count))
    }

    /// The backend for a call that has found `first` full, and `nth - 1` others. For `nth` from 1
    /// to `count - 1` it names each of the others once.
    fn after(&self, first: usize, nth: usize, count: usize) -> usize;

    /// The same, by how far the call has come. That begins with 1 step, and `next` adds to it. None
    /// if all have been named.
    #[inline(always)]
    fn next(&self, first: First, steps: &mut usize, count: usize) -> Option<usize> {
        let nth = *steps;
        if nth >= count {
            return None;
        }
        *steps += 1;
        Some(self.after(first.backend, nth, count))
    }

    /// The number that calls with one key have in common, if the policy goes by keys.
    fn key(&self, _info: &mut impl PickInfo) -> Option<u64> {
        None
    }

    /// Whether calls may wait for a backend that is not READY. Then they do so in
    /// TRANSIENT_FAILURE, too.
    fn may_wait(&self) -> bool {
        false
    }

    /// Whether a call that waits for such a backend may be answered otherwise by `newer`.
    fn could_answer_differently(&self, _newer: &Self) -> bool {
        self.may_wait()
    }
}

/// One call, as far as a policy may choose by it. Each answer is made when it is asked for, so a
/// policy that asks nothing costs a call nothing.
#[cfg_attr(not(test), expect(dead_code, reason = "no policy asks for the path"))]
pub(crate) trait PickInfo {
    /// `/package.Service/Method`
    fn path(&self) -> &str;

    /// The headers of the caller, perhaps with those that the channel adds. After an attempt
    /// they may have to be put together again.
    fn headers(&mut self) -> &HeaderMap;

    /// A random number, each time another.
    fn random(&mut self) -> u64;
}

/// In tests a call is a path and headers. It has no random numbers.
#[cfg(test)]
impl PickInfo for (&str, HeaderMap) {
    fn path(&self) -> &str {
        self.0
    }

    fn headers(&mut self) -> &HeaderMap {
        &self.1
    }

    fn random(&mut self) -> u64 {
        unreachable!("a test of chance has a call of its own")
    }
}

/// Where a call begins.
#[derive(Clone, Copy, Debug)]
pub(crate) struct First {
    pub(super) backend: usize,
    /// How often each backend has had its turn. It grows by 1 from one turn of a backend to
    /// its next. A backend takes its connections in turn by it, without a counter of its own. Without turns, any number will do.
    pub(super) round: usize,
}

impl First {
    /// With this turn, of a rotation over `count` backends.
    pub(super) fn of_turn(turn: usize, count: usize) -> Self {
        // With no backends there is no candidate: the call waits as if all were full.
        let (backend, round) = match count {
            0 => (0, 0),
            n => (turn % n, turn / n),
        };
        Self { backend, round }
    }
}

/// For [`PickHalf::after`]: those that follow `first`, then those before it.
pub(super) fn in_rotation(first: usize, nth: usize, count: usize) -> usize {
    let at = first + nth;
    if at < count { at } else { at - count }
}
