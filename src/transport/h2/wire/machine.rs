//! What a frame on the wire means for the streams of its connection, and for `h2`.

use super::frames::Head;
use crate::transport::connection::StreamTable;

/// What the IO does behind a frame of the peer's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Reads on.
    Pass,
    /// A GOAWAY: what was opened before it goes out before anything else is read.
    GoAway,
}

/// Judges the frames of the peer, in their order.
#[derive(Default)]
pub(super) struct Incoming {
    /// Headers that end their stream go on in another frame.
    ends_with_headers: bool,
}

impl Incoming {
    /// A frame of the peer's is here whole.
    #[inline]
    pub(super) fn on_frame(&mut self, head: Head, streams: &mut StreamTable) -> Verdict {
        match head.kind {
            Head::DATA if head.has(Head::END_STREAM) => streams.on_response_over(head.stream),
            Head::HEADERS if head.has(Head::END_STREAM) => match head.has(Head::END_HEADERS) {
                true => streams.on_response_over(head.stream),
                // `h2` waits for the rest of the headers.
                false => self.ends_with_headers = true,
            },
            Head::CONTINUATION if head.has(Head::END_HEADERS) && self.ends_with_headers => {
                self.ends_with_headers = false;
                streams.on_response_over(head.stream);
            }
            Head::RST_STREAM => streams.on_reset(head.stream),
            Head::GOAWAY => return Verdict::GoAway,
            _ => {}
        }
        Verdict::Pass
    }
}

/// A frame of ours is on the wire whole. `h2` sends headers that end a stream in one frame, or
/// tells by the first that they do; what follows is written in the same breath.
#[inline]
pub(super) fn on_written(head: Head, streams: &mut StreamTable) {
    match head.kind {
        Head::HEADERS => {
            streams.on_head(head.stream);
            if head.has(Head::END_STREAM) {
                streams.on_request_over(head.stream);
            }
        }
        Head::DATA if head.has(Head::END_STREAM) => streams.on_request_over(head.stream),
        Head::RST_STREAM => streams.on_reset(head.stream),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::{super::frames::Head, Incoming, Verdict, on_written};
    use crate::transport::connection::StreamTable;

    fn head(kind: u8, flags: u8, stream: u32) -> Head {
        Head {
            length: 0,
            kind,
            flags,
            stream,
        }
    }

    /// Streams 1 to 9 are open, and our side of each is over.
    fn streams() -> StreamTable {
        let mut streams = StreamTable::default();
        for number in (1..10).step_by(2) {
            streams.open(number, 0);
            on_written(head(Head::DATA, Head::END_STREAM, number), &mut streams);
        }
        streams
    }

    #[test]
    fn frames_that_end_a_stream_end_it() {
        let (end, last) = (Head::END_STREAM, Head::END_HEADERS);
        let rows: &[(&[Head], usize)] = &[
            (&[head(Head::DATA, end, 1)], 1),
            (&[head(Head::DATA, 0, 1)], 0),
            (&[head(Head::HEADERS, end | last, 1)], 1),
            (&[head(Head::HEADERS, last, 1)], 0),
            (&[head(Head::HEADERS, end, 1)], 0),
            (
                &[head(Head::HEADERS, end, 1), head(Head::CONTINUATION, 0, 1)],
                0,
            ),
            (
                &[
                    head(Head::HEADERS, end, 1),
                    head(Head::CONTINUATION, last, 1),
                ],
                1,
            ),
            (
                &[head(Head::HEADERS, 0, 1), head(Head::CONTINUATION, last, 1)],
                0,
            ),
            (
                &[head(Head::RST_STREAM, 0, 1), head(Head::RST_STREAM, 0, 3)],
                2,
            ),
            (&[head(Head::RST_STREAM, 0, 11)], 0),
            (&[head(6, 1, 0), head(4, 1, 0)], 0),
        ];
        for (heads, freed) in rows {
            let mut streams = streams();
            let mut incoming = Incoming::default();
            for head in *heads {
                assert_eq!(incoming.on_frame(*head, &mut streams), Verdict::Pass);
            }
            assert_eq!(streams.take_freed().slots, *freed, "{heads:?}");
        }
    }

    #[test]
    fn a_goaway_is_one() {
        let verdict = Incoming::default().on_frame(head(Head::GOAWAY, 0, 0), &mut streams());
        assert_eq!(verdict, Verdict::GoAway);
    }

    #[test]
    fn what_is_written_ends_our_side_or_the_stream() {
        let end = Head::END_STREAM;
        let rows: &[(Head, bool)] = &[
            (head(Head::HEADERS, end, 1), true),
            (head(Head::DATA, end, 1), true),
            (head(Head::DATA, 0, 1), false),
            (head(4, 1, 0), false),
            (head(0xff, 0xff, 1), false),
        ];
        for (written, ends) in rows {
            let mut streams = StreamTable::default();
            streams.open(1, 0);
            on_written(*written, &mut streams);
            assert_eq!(streams.take_freed().slots, 0);
            Incoming::default().on_frame(head(Head::DATA, end, 1), &mut streams);
            assert_eq!(
                streams.take_freed().slots,
                usize::from(*ends),
                "{written:?}"
            );
        }
        let mut streams = StreamTable::default();
        streams.open(1, 0);
        on_written(head(Head::RST_STREAM, 0, 1), &mut streams);
        assert_eq!(streams.take_freed().slots, 1);
    }
}
