//! Where frames begin and end in the bytes of one direction (RFC 9113 §4.1).

/// What stands before the payload of a frame.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Head {
    /// Of the payload.
    pub(super) length: usize,
    pub(super) kind: u8,
    pub(super) flags: u8,
    pub(super) stream: u32,
}

impl Head {
    pub(super) const SIZE: usize = 9;

    pub(super) const DATA: u8 = 0;
    pub(super) const HEADERS: u8 = 1;
    pub(super) const RST_STREAM: u8 = 3;
    pub(super) const SETTINGS: u8 = 4;
    pub(super) const PING: u8 = 6;
    pub(super) const GOAWAY: u8 = 7;
    pub(super) const CONTINUATION: u8 = 9;

    pub(super) const END_STREAM: u8 = 1;
    pub(super) const ACK: u8 = 1;
    pub(super) const END_HEADERS: u8 = 4;
    pub(super) const PADDED: u8 = 8;
    pub(super) const PRIORITY: u8 = 0x20;

    pub(super) fn of(bytes: &[u8; Self::SIZE]) -> Self {
        let [l1, l2, l3, kind, flags, s1, s2, s3, s4] = *bytes;
        Self {
            length: u32::from_be_bytes([0, l1, l2, l3]) as usize,
            kind,
            flags,
            stream: u32::from_be_bytes([s1 & 0x7f, s2, s3, s4]),
        }
    }

    pub(super) fn has(&self, flag: u8) -> bool {
        self.flags & flag != 0
    }
}

/// How far the frames of one direction have been followed, in whatever pieces they go.
#[derive(Default)]
pub(super) struct Frames {
    bytes: [u8; Head::SIZE],
    /// How much of the head is there.
    read: usize,
    /// How much of the payload is not, once the head is.
    left: usize,
}

impl Frames {
    /// Of a direction that begins with bytes which are no frame.
    pub(super) fn after(preface: usize) -> Self {
        Self {
            bytes: [0xff; Head::SIZE],
            read: Head::SIZE,
            left: preface,
        }
    }

    /// The first frame of which the last byte is among these. `bytes` is then what stands
    /// behind it.
    #[inline]
    pub(super) fn next(&mut self, bytes: &mut &[u8]) -> Option<Head> {
        // Most come whole.
        if self.read == 0
            && let Some((head, rest)) = bytes.split_first_chunk()
        {
            let head = Head::of(head);
            if let Some(rest) = rest.get(head.length..) {
                *bytes = rest;
                return Some(head);
            }
        }
        self.assemble(bytes)
    }

    /// A frame that comes in pieces.
    #[cold]
    fn assemble(&mut self, bytes: &mut &[u8]) -> Option<Head> {
        if self.read < Head::SIZE {
            let part = bytes.len().min(Head::SIZE - self.read);
            let (head, rest) = bytes.split_at(part);
            self.bytes[self.read..self.read + part].copy_from_slice(head);
            self.read += part;
            *bytes = rest;
            if self.read < Head::SIZE {
                return None;
            }
            self.left = Head::of(&self.bytes).length;
        }
        let part = bytes.len().min(self.left);
        *bytes = &bytes[part..];
        self.left -= part;
        if self.left > 0 {
            return None;
        }
        self.read = 0;
        Some(Head::of(&self.bytes))
    }
}

impl Frames {
    /// Whether the next byte is the first of a frame.
    pub(super) fn is_between(&self) -> bool {
        self.read == 0
    }
}

#[cfg(test)]
mod tests {
    use super::{Frames, Head};

    fn frame(kind: u8, stream: u8, payload: u8) -> Vec<u8> {
        let head = [0, 0, payload, kind, 5, 0x80, 0, 0, stream];
        head.into_iter().chain(vec![7; payload.into()]).collect()
    }

    fn heads(pieces: &[&[u8]], mut frames: Frames) -> Vec<(Head, usize)> {
        let mut found = Vec::new();
        let mut before = 0;
        for piece in pieces {
            let mut rest = *piece;
            while let Some(head) = frames.next(&mut rest) {
                found.push((head, before + piece.len() - rest.len()));
            }
            assert!(rest.is_empty());
            before += piece.len();
        }
        found
    }

    #[test]
    fn frames_are_found_however_their_bytes_come() {
        let all = [
            frame(4, 0, 0),
            frame(1, 1, 20),
            frame(0, 3, 255),
            frame(7, 0, 8),
        ]
        .concat();
        let ends = [9, 38, 302, 319];
        let whole = heads(&[&all], Frames::default());
        let found: Vec<_> = whole.iter().map(|(head, end)| (head.kind, *end)).collect();
        assert_eq!(
            found,
            [(4, ends[0]), (1, ends[1]), (0, ends[2]), (7, ends[3])]
        );
        let second = Head {
            length: 20,
            kind: 1,
            flags: 5,
            stream: 1,
        };
        assert_eq!(whole[1].0, second, "the reserved bit is not the stream's");
        for cut in 0..=all.len() {
            let (first, second) = all.split_at(cut);
            assert_eq!(heads(&[first, second], Frames::default()), whole, "{cut}");
        }
        let bytes: Vec<_> = all.chunks(1).collect();
        assert_eq!(heads(&bytes, Frames::default()), whole);
    }

    #[test]
    fn what_stands_before_the_first_frame_is_a_frame_of_no_kind() {
        let all = [&[b'P'; 24][..], &frame(4, 0, 6)].concat();
        let found = heads(&[&all[..5], &all[5..]], Frames::after(24));
        let kinds: Vec<_> = found.iter().map(|(head, _)| head.kind).collect();
        assert_eq!(kinds, [0xff, 4]);
    }
}
