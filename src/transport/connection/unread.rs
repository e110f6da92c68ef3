//! How much of what has come on a connection may wait to be read.
//!
//! The window of a connection bounds nothing here: responses that are not read would fill it, and
//! stall every other call on the connection, and the `Watch`. What waits is counted instead. At a
//! cap the windows of streams become small, and at twice the cap the response that hoards
//! most is ended.

use std::{cmp::Reverse, collections::HashMap, ops::AddAssign, time::Duration};

/// What a DATA frame takes in `h2` besides its bytes.
const FRAME: usize = 256;
/// A response that has less is not ended: it has no more than a frame may bring.
const LEAST_HOARD: usize = 16 << 10;
/// A reader that has read nothing for so long does not read.
pub(in crate::transport) const A_WHILE: Duration = Duration::from_millis(100);

/// DATA of one stream.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in crate::transport) struct Came {
    bytes: u32,
    /// Those that bring something to read.
    frames: u32,
}

impl Came {
    /// One frame, with the padding that it has.
    #[inline]
    pub(in crate::transport) fn frame(bytes: usize, is_padded: bool) -> Self {
        Self {
            bytes: u32::try_from(bytes).unwrap_or(u32::MAX),
            // One that is all padding, or nothing, is never read.
            frames: u32::from(!is_padded && bytes > 0),
        }
    }

    /// How many frames bring something to read. Padded frames do not count.
    #[inline]
    pub(super) fn frames(self) -> u32 {
        self.frames
    }

    /// What it takes while it is not read, in bytes.
    #[inline]
    pub(in crate::transport) fn cost(self) -> usize {
        let frames = FRAME.saturating_mul(self.frames as usize);
        frames.saturating_add(self.bytes as usize)
    }

    /// What it takes of which `bytes` are not read, and `frames` are.
    pub(super) fn cost_of_rest(self, bytes: usize, frames: u32) -> usize {
        // Counts wrap on streams that live long.
        let rest = self.frames.wrapping_sub(frames).cast_signed().max(0);
        bytes.saturating_add(FRAME.saturating_mul(rest.unsigned_abs() as usize))
    }
}

impl AddAssign for Came {
    #[inline]
    fn add_assign(&mut self, more: Self) {
        self.bytes = self.bytes.saturating_add(more.bytes);
        self.frames = self.frames.wrapping_add(more.frames);
    }
}

/// What one stream has that is not read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::transport) struct Hoard {
    pub(super) stream: u32,
    pub(super) cost: usize,
    /// Frames that were read. None if it cannot be ended.
    pub(super) frames: Option<u32>,
}

/// Says what comes of what is not read.
pub(in crate::transport) struct UnreadCap {
    cap: usize,
    is_narrow: bool,
    /// How much more may come before what is not read is counted.
    budget: usize,
    /// How far streams were read at the last count, while windows are small.
    marks: HashMap<u32, u32>,
}

impl UnreadCap {
    pub(in crate::transport) fn new(cap: usize) -> Self {
        Self {
            cap,
            is_narrow: false,
            budget: cap,
            marks: HashMap::new(),
        }
    }

    /// This much has come. Whether what is not read is to be counted now.
    pub(in crate::transport) fn on_came(&mut self, cost: usize) -> bool {
        self.budget = self.budget.saturating_sub(cost);
        self.budget == 0 && !self.is_narrow
    }

    /// Whether streams are to have small windows. What is not read is then to be counted
    /// every [`A_WHILE`].
    pub(in crate::transport) fn is_narrow(&self) -> bool {
        self.is_narrow
    }

    /// The most that may wait to be read, in bytes.
    pub(in crate::transport) fn most(&self) -> usize {
        self.cap.saturating_mul(2)
    }

    /// What is not read. The places of those that are to be ended, the largest first.
    ///
    /// A stream that is read is not ended: on a fast network its peer may have sent more than
    /// a reader has read by now.
    pub(in crate::transport) fn on_counted(&mut self, hoards: &[Hoard]) -> Vec<usize> {
        let mut total: usize = hoards.iter().map(|hoard| hoard.cost).sum();
        let mut ended = Vec::new();
        if total >= self.most() {
            for at in by_size(hoards) {
                match self.is_stalled(&hoards[at]) {
                    Some(true) if total >= self.most() => {
                        total -= hoards[at].cost;
                        ended.push(at);
                    }
                    Some(true) | None => break,
                    Some(false) => {}
                }
            }
        }
        self.is_narrow = total >= self.cap || (self.is_narrow && total > self.cap / 2);
        self.marks.clear();
        if self.is_narrow {
            let marks = hoards.iter();
            let marks = marks.filter_map(|hoard| Some((hoard.stream, hoard.frames?)));
            self.marks.extend(marks);
        }
        self.budget = self.cap.saturating_sub(total).max(self.cap / 16);
        ended
    }

    /// Whether nothing of it was read since the last count. None if it has begun since then.
    fn is_stalled(&self, hoard: &Hoard) -> Option<bool> {
        let Some(frames) = hoard.frames else {
            return Some(false);
        };
        let mark = self.marks.get(&hoard.stream)?;
        Some(*mark == frames)
    }
}

/// The places of those that are worth an end, the largest first.
fn by_size(hoards: &[Hoard]) -> Vec<usize> {
    let places = 0..hoards.len();
    let mut places: Vec<_> = places
        .filter(|at| hoards[*at].cost >= LEAST_HOARD)
        .collect();
    places.sort_by_key(|at| Reverse(hoards[*at].cost));
    places
}

#[cfg(test)]
mod tests {
    use super::{Came, FRAME, Hoard, LEAST_HOARD, UnreadCap};

    const CAP: usize = 64 << 20;

    fn hoard(stream: u32, cost: usize, frames: u32) -> Hoard {
        Hoard {
            stream,
            cost,
            frames: Some(frames),
        }
    }

    #[test]
    fn a_frame_costs_its_bytes_and_its_place() {
        let mut came = Came::default();
        assert_eq!(came.cost(), 0);
        came += Came::frame(1000, false);
        came += Came::frame(20, true);
        assert_eq!(came.cost(), 1020 + FRAME);
        assert_eq!(came.cost_of_rest(7, 0), 7 + FRAME);
        assert_eq!(came.cost_of_rest(0, 1), 0);
        assert_eq!(came.cost_of_rest(0, 2), 0, "with a padded one");
    }

    #[test]
    fn what_comes_is_counted_before_it_can_be_too_much() {
        let mut cap = UnreadCap::new(CAP);
        assert!(!cap.on_came(CAP - 1));
        assert!(cap.on_came(1));
        cap.on_counted(&[hoard(1, CAP / 2, 0)]);
        assert!(!cap.on_came(CAP / 2 - 1));
        assert!(cap.on_came(1));
        cap.on_counted(&[hoard(1, CAP - 1, 0)]);
        assert!(!cap.on_came(CAP / 16 - 1), "not for every frame");
        assert!(cap.on_came(1));
    }

    #[test]
    fn windows_are_small_from_the_cap_until_half_of_it() {
        let mut cap = UnreadCap::new(CAP);
        for (cost, narrow) in [
            (CAP - 1, false),
            (CAP, true),
            (CAP / 2 + 1, true),
            (CAP / 2, false),
            (CAP - 1, false),
        ] {
            assert!(cap.on_counted(&[hoard(1, cost, 0)]).is_empty());
            assert_eq!(cap.is_narrow(), narrow, "{cost}");
        }
    }

    #[test]
    fn at_twice_the_cap_the_largest_that_is_not_read_is_ended() {
        let whole = Hoard {
            frames: None,
            ..hoard(9, CAP, 0)
        };
        let small = LEAST_HOARD - 1;
        type Row<'a> = (&'a str, &'a [Hoard], &'a [Hoard], &'a [usize]);
        let rows: &[Row<'_>] = &[
            (
                "the largest",
                &[hoard(1, CAP / 2, 0), hoard(3, CAP, 0)],
                &[hoard(1, CAP / 2, 0), hoard(3, CAP * 3 / 2, 0)],
                &[1],
            ),
            (
                "as many as it takes",
                &[hoard(1, CAP, 5), hoard(3, CAP, 0), hoard(5, CAP, 7)],
                &[hoard(1, CAP, 5), hoard(3, CAP + 1, 0), hoard(5, CAP, 7)],
                &[1, 0],
            ),
            (
                "not one that is read",
                &[hoard(1, CAP / 2, 0), hoard(3, CAP, 0)],
                &[hoard(1, CAP / 2, 0), hoard(3, CAP * 3 / 2, 1)],
                &[0],
            ),
            (
                "not one that is new, nor a smaller one in its place",
                &[hoard(1, CAP, 0)],
                &[hoard(1, CAP, 0), hoard(3, CAP + 1, 0)],
                &[],
            ),
            ("not one that is whole", &[whole; 2], &[whole; 2], &[]),
            (
                "not one that would not help",
                &[whole, hoard(1, small, 0)],
                &[whole, whole, hoard(1, small, 0)],
                &[],
            ),
            (
                "below it none",
                &[hoard(1, CAP, 0)],
                &[hoard(1, 2 * CAP - 1, 0)],
                &[],
            ),
        ];
        for (name, before, after, ended) in rows {
            let mut cap = UnreadCap::new(CAP);
            assert!(cap.on_counted(before).is_empty(), "{name}");
            assert_eq!(cap.on_counted(after), *ended, "{name}");
        }
    }

    #[test]
    fn while_windows_are_small_it_is_time_to_count_every_while() {
        let mut cap = UnreadCap::new(CAP);
        cap.on_counted(&[hoard(1, CAP, 3)]);
        assert!(!cap.on_came(2 * CAP));
        cap.on_counted(&[hoard(1, 0, 4)]);
        assert!(cap.on_came(CAP));
    }
}
