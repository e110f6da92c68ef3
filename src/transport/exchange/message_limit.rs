//! The bound on each message of a body.

use super::prefixes::Prefixes;
use crate::error::{Error, ErrorKind};

/// Looks for a message that is too large, in a body that comes in pieces.
///
/// A size is the one in the prefix: a compressed message counts compressed.
#[derive(Debug)]
pub(super) struct MessageLimit {
    max: u32,
    prefixes: Prefixes,
}

/// A message is larger than the limit.
#[derive(Debug, PartialEq)]
pub(super) struct TooLarge {
    size: u32,
    max: u32,
}

impl MessageLimit {
    /// At most `max` bytes for each message. With 0 only empty ones pass.
    pub(super) fn new(max: u32) -> Self {
        Self {
            max,
            prefixes: Prefixes::default(),
        }
    }

    /// The same limit, at the beginning of a body.
    pub(super) fn restarted(&self) -> Self {
        Self::new(self.max)
    }

    /// Takes note of the next piece of the body. Fails with the piece that
    /// completes the prefix of a message too large, and knows nothing of what
    /// comes after that.
    pub(super) fn check(&mut self, mut piece: &[u8]) -> Result<(), TooLarge> {
        let max = self.max;
        let mut sizes = std::iter::from_fn(|| Some(self.prefixes.next(&mut piece)?.size));
        match sizes.find(|size| *size > max) {
            Some(size) => Err(TooLarge { size, max }),
            None => Ok(()),
        }
    }
}

impl TooLarge {
    pub(super) fn in_request(self) -> Error {
        self.error("trying to send message", "")
    }

    pub(super) fn in_response(self, address: &str) -> Error {
        self.error("received message", &format!(" from {address}"))
    }

    fn error(self, what: &str, origin: &str) -> Error {
        let Self { size, max } = self;
        Error::new(
            ErrorKind::MessageTooLarge,
            format!(
                "{what} larger than max ({size} vs. {max}){origin}; the service config sets the \
                 max, in bytes"
            ),
        )
    }
}

#[cfg(test)]
mod tests {
    use proptest::{collection::vec, prelude::*, sample::Index};

    use super::{MessageLimit, TooLarge};

    fn message(length: usize) -> Vec<u8> {
        let prefix = u32::try_from(length)
            .expect("a short message")
            .to_be_bytes();
        [&[0], &prefix[..], &vec![0xff; length]].concat()
    }

    /// The verdict over `body` as one piece.
    #[track_caller]
    fn assert_verdict(max: u32, body: &[u8], too_large: Option<u32>) {
        let expected = too_large.map_or(Ok(()), |size| Err(TooLarge { size, max }));
        assert_eq!(MessageLimit::new(max).check(body), expected);
    }

    #[test]
    fn a_message_of_the_limit_passes_and_one_byte_more_does_not() {
        assert_verdict(64, &message(64), None);
        assert_verdict(64, &message(65), Some(65));
    }

    #[test]
    fn at_zero_only_empty_messages_pass() {
        assert_verdict(0, &[message(0), message(0)].concat(), None);
        assert_verdict(0, &[message(0), message(1)].concat(), Some(1));
    }

    #[test]
    fn the_prefix_is_enough_to_know() {
        assert_verdict(64, &[0, 0, 0, 1], None);
        assert_verdict(64, &[0, 0, 0, 1, 0], Some(256));
    }

    #[test]
    fn a_length_may_have_all_its_bits() {
        assert_verdict(u32::MAX - 1, &[0, 255, 255, 255, 255], Some(u32::MAX));
        assert_verdict(u32::MAX, &[0, 255, 255, 255, 255, 7], None);
    }

    #[test]
    fn a_compressed_message_counts_as_it_is_on_the_wire() {
        assert_verdict(64, &[1, 0, 0, 0, 64], None);
        assert_verdict(64, &[1, 0, 0, 0, 65], Some(65));
    }

    #[test]
    fn the_errors_name_the_size_and_the_limit() {
        let too_large = || TooLarge { size: 70, max: 64 };
        assert_eq!(
            too_large().in_request().message(),
            "trying to send message larger than max (70 vs. 64); the service config sets the max, \
             in bytes"
        );
        assert_eq!(
            too_large().in_response("10.0.0.1:50051").message(),
            "received message larger than max (70 vs. 64) from 10.0.0.1:50051; the service config \
             sets the max, in bytes"
        );
    }

    /// The size of the first message above `max` whose prefix is in `body`.
    fn first_above(max: u32, mut body: &[u8]) -> Option<u32> {
        while let [_, a, b, c, d, rest @ ..] = body {
            let size = u32::from_be_bytes([*a, *b, *c, *d]);
            if size > max {
                return Some(size);
            }
            body = &rest[rest.len().min(size as usize)..];
        }
        None
    }

    /// After every piece, what is known is what the bytes so far say.
    #[test]
    fn the_verdict_does_not_depend_on_where_frames_end() {
        let bodies = vec(0_usize..48, 0..12);
        let ends = vec(any::<Index>(), 0..24);
        proptest!(|(max in 0_u32..40, lengths in bodies, cut_off: Index, ends in ends)| {
            let mut body: Vec<u8> = lengths.into_iter().flat_map(message).collect();
            body.truncate(cut_off.index(body.len() + 1));
            let mut ends: Vec<_> = ends.iter().map(|end| end.index(body.len() + 1)).collect();
            ends.push(body.len());
            ends.sort_unstable();
            let mut limit = MessageLimit::new(max);
            let mut start = 0;
            for end in ends {
                let expected = first_above(max, &body[..end]);
                let verdict = limit.check(&body[start..end]);
                prop_assert_eq!(verdict.err().map(|error| error.size), expected);
                if expected.is_some() {
                    break;
                }
                start = end;
            }
        });
    }
}
