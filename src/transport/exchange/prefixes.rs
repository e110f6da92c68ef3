//! The messages of a gRPC body, as far as their prefixes tell.
//!
//! A body is a sequence of messages, each behind a prefix of 5 bytes (gRPC over HTTP2,
//! "Length-Prefixed-Message"). The first byte says whether the message is compressed, and the
//! others are its length, big-endian. A frame of HTTP/2 may end anywhere, within a prefix too, and
//! may bring many messages.

use crate::trace::MessageInfo;

const PREFIX: usize = 5;

/// The prefix of a message.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Prefix {
    pub(crate) is_compressed: bool,
    /// Of the message behind it, in bytes.
    pub(crate) size: u32,
}

impl Prefix {
    /// As a trace is told of it. `number` is from 0.
    pub(crate) fn message(self, number: u64) -> MessageInfo {
        MessageInfo::new(number, self.size, self.is_compressed)
    }
}

/// Reads the prefixes in a body that comes in pieces.
#[derive(Debug, Default)]
pub(super) struct Prefixes {
    /// The prefix at hand, of which `known` bytes have come.
    prefix: [u8; PREFIX],
    known: u8,
    /// The rest to come of the message behind the last whole prefix.
    to_come: u32,
}

impl Prefixes {
    /// The next prefix that is complete with `piece`, which then begins behind that prefix. None if
    /// there is none; then all of `piece` is read.
    pub(super) fn next(&mut self, piece: &mut &[u8]) -> Option<Prefix> {
        loop {
            let skipped = piece.len().min(self.to_come as usize);
            self.to_come -= skipped as u32;
            *piece = &piece[skipped..];
            let (byte, rest) = piece.split_first()?;
            self.prefix[usize::from(self.known)] = *byte;
            self.known += 1;
            *piece = rest;
            if usize::from(self.known) == PREFIX {
                self.known = 0;
                let [compressed, length @ ..] = self.prefix;
                self.to_come = u32::from_be_bytes(length);
                return Some(Prefix {
                    is_compressed: compressed != 0,
                    size: self.to_come,
                });
            }
        }
    }
}

/// Adds up the sizes of the messages in a body that comes in pieces: as they are on the wire,
/// without their prefixes. A message counts with the last byte of its prefix.
#[derive(Debug, Default)]
pub(crate) struct MessageBytes {
    prefixes: Prefixes,
    total: u64,
    /// How many.
    messages: u64,
}

impl MessageBytes {
    /// Takes note of the next piece of the body.
    #[inline]
    pub(crate) fn add(&mut self, piece: &[u8]) {
        self.add_each(piece, |_, _| {});
    }

    /// The same, and tells the number of each message, from 0, with its prefix.
    #[inline]
    pub(crate) fn add_each(&mut self, mut piece: &[u8], mut tell: impl FnMut(u64, Prefix)) {
        while let Some(prefix) = self.prefixes.next(&mut piece) {
            tell(self.messages, prefix);
            self.messages += 1;
            self.total += u64::from(prefix.size);
        }
    }

    pub(crate) fn total(&self) -> u64 {
        self.total
    }
}

#[cfg(test)]
mod tests {
    use super::MessageBytes;

    // M06
    #[test]
    fn sizes_add_up_wherever_frames_end() {
        let body = [
            &[1, 0, 0, 0, 7][..],
            &[0xff; 7],
            &[0; 5],
            &[0, 0, 0, 1, 0],
            &[0xff; 256],
        ];
        let body = body.concat();
        for length in 1..=body.len() {
            let mut bytes = MessageBytes::default();
            body.chunks(length).for_each(|piece| bytes.add(piece));
            assert_eq!(bytes.total(), 7 + 256, "in pieces of {length} bytes");
        }
    }
}
