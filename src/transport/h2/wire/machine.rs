//! What a frame on the wire means for the streams of its connection, and for `h2`.

use std::{ops::RangeInclusive, time::Instant};

use super::{
    frames::Head,
    rates::{Rated, Rates},
};
use crate::transport::connection::{Came, StreamTable};

/// Header blocks of one stream that do not end it: 1xx, and those of the response.
const MOST_HEADERS: u8 = 100;

const MAX_HEADER_LIST_SIZE: u8 = 6;

/// `:status` in one byte of HPACK, as every encoder writes 200 (RFC 7541, Appendix A).
pub(super) const STATUS: RangeInclusive<u8> = 0x88..=0x8e;
/// A header that HTTP/2 forbids, in one byte: an empty `transfer-encoding`.
pub(super) const FORBIDDEN: u8 = 0xb9;

/// What the IO does with a frame of the peer's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// `h2` is shown it.
    Pass,
    /// It changes nothing, and `h2` is not shown it.
    Cut,
    /// `h2` is shown it, and nothing behind it in this turn.
    Pause,
    /// A GOAWAY: what was opened before it goes out before anything else is read.
    GoAway,
    /// Trailers with a `:status`, at this byte of the payload. `h2` would drop it; with
    /// [`FORBIDDEN`] in its place it fails the stream, as it should (RFC 9113 §8.1).
    Malformed(usize),
    /// The connection ends; [`Machine::why`] says for which reason.
    Break,
}

/// Judges the frames of the peer, in their order.
#[derive(Default)]
pub(super) struct Machine {
    rates: Rates,
    /// Headers that end their stream go on in another frame.
    ends_with_headers: bool,
    has_settings: bool,
    has_goaway: bool,
    why: String,
}

impl Machine {
    /// A frame of the peer's is here whole. `payload` is there for SETTINGS and HEADERS.
    #[inline]
    pub(super) fn on_frame(
        &mut self,
        head: Head,
        payload: &[u8],
        streams: &mut StreamTable,
        now: impl FnOnce() -> Instant,
    ) -> Verdict {
        match head.kind {
            Head::DATA if head.length > 0 || head.has(Head::END_STREAM) => {
                let came = Came::frame(head.length, head.has(Head::PADDED));
                streams.on_data(head.stream, came, head.has(Head::END_STREAM));
            }
            Head::HEADERS if head.has(Head::END_STREAM) => {
                // Else `h2` waits for the rest of the headers.
                let all = head.has(Head::END_HEADERS);
                self.ends_with_headers |= !all;
                if streams.on_last_headers(head.stream, all)
                    && let Some(at) = status_at(head, payload)
                {
                    return Verdict::Malformed(at);
                }
            }
            Head::HEADERS => {
                match streams.on_headers(head.stream, status_at(head, payload).is_some()) {
                    Some(blocks) if blocks > MOST_HEADERS => {
                        self.why = format!("more than {MOST_HEADERS} header blocks on one stream");
                        return Verdict::Break;
                    }
                    Some(_) => {}
                    None => return self.count(Rated::Other, Verdict::Pass, now),
                }
            }
            Head::CONTINUATION if head.has(Head::END_HEADERS) && self.ends_with_headers => {
                self.ends_with_headers = false;
                streams.on_response_over(head.stream);
            }
            Head::RST_STREAM if streams.on_reset(head.stream) => {}
            Head::DATA => return self.count(Rated::EmptyData, Verdict::Cut, now),
            Head::SETTINGS if head.has(Head::ACK) => streams.on_settings_ack(),
            Head::PING if head.has(Head::ACK) => {}
            Head::SETTINGS => {
                follow_settings(payload, streams);
                // With the first there is no stream to be walked.
                let verdict = match std::mem::replace(&mut self.has_settings, true) {
                    false => Verdict::Pass,
                    true => Verdict::Pause,
                };
                return self.count(Rated::Settings, verdict, now);
            }
            Head::PING => return self.count(Rated::Ping, Verdict::Pass, now),
            // `h2` opens no stream after the first, so there is nothing to pause for again.
            Head::GOAWAY if !self.has_goaway => {
                self.has_goaway = true;
                return Verdict::GoAway;
            }
            _ => return self.count(Rated::Other, Verdict::Pass, now),
        }
        Verdict::Pass
    }

    #[cold]
    fn count(&mut self, rated: Rated, verdict: Verdict, now: impl FnOnce() -> Instant) -> Verdict {
        match self.rates.count(rated, now) {
            Ok(()) => verdict,
            Err(why) => {
                self.why = why;
                Verdict::Break
            }
        }
    }

    /// Why the connection ends, after [`Verdict::Break`].
    pub(super) fn why(&self) -> &str {
        &self.why
    }

    /// A frame of ours is on the wire whole. `h2` tells by the first frame of headers whether
    /// they end a stream, and writes the others in the same breath.
    #[inline]
    pub(super) fn on_written(&mut self, head: Head, streams: &mut StreamTable) {
        match head.kind {
            Head::HEADERS => {
                self.rates.on_request_frame();
                streams.on_head(head.stream);
                if head.has(Head::END_STREAM) {
                    streams.on_request_over(head.stream);
                }
            }
            Head::DATA => {
                self.rates.on_request_frame();
                if head.has(Head::END_STREAM) {
                    streams.on_request_over(head.stream);
                }
            }
            Head::RST_STREAM => {
                streams.on_reset(head.stream);
            }
            _ => {}
        }
    }
}

/// Where `:status` is, if it is one byte: then it is none of 1xx.
fn status_at(head: Head, payload: &[u8]) -> Option<usize> {
    let padding = usize::from(head.has(Head::PADDED));
    let priority = if head.has(Head::PRIORITY) { 5 } else { 0 };
    let at = padding + priority;
    payload
        .get(at)
        .is_some_and(|byte| STATUS.contains(byte))
        .then_some(at)
}

/// Takes over what `h2` does not tell of the peer's SETTINGS (RFC 9113 §6.5.1).
fn follow_settings(payload: &[u8], streams: &mut StreamTable) {
    for setting in payload.chunks_exact(6) {
        if let [0, MAX_HEADER_LIST_SIZE, value @ ..] = setting
            && let Ok(value) = value.try_into()
        {
            streams.set_header_list(u32::from_be_bytes(value));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{super::frames::Head, MOST_HEADERS, Machine, Verdict};
    use crate::{transport::connection::StreamTable, util::clock::now};

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
            streams.on_request_over(number);
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
            let mut machine = Machine::default();
            for head in *heads {
                machine.on_frame(*head, &[], &mut streams, now);
            }
            assert_eq!(streams.take_freed().slots, *freed, "{heads:?}");
        }
    }

    #[test]
    fn frames_that_are_not_just_passed_on() {
        let data = |flags, length| Head {
            length,
            ..head(Head::DATA, flags, 1)
        };
        let rows: &[(&[Head], Verdict)] = &[
            (&[head(Head::GOAWAY, 0, 0)], Verdict::GoAway),
            (&[head(Head::GOAWAY, 0, 0); 2], Verdict::Pass),
            (&[head(Head::SETTINGS, 0, 0)], Verdict::Pass),
            (&[head(Head::SETTINGS, 0, 0); 2], Verdict::Pause),
            (&[head(Head::SETTINGS, Head::ACK, 0)], Verdict::Pass),
            (&[data(0, 0)], Verdict::Cut),
            (&[data(0, 1)], Verdict::Pass),
            (&[data(Head::END_STREAM, 0)], Verdict::Pass),
            (&[data(Head::PADDED, 2)], Verdict::Pass),
        ];
        for (heads, verdict) in rows {
            let (mut machine, mut streams) = (Machine::default(), streams());
            let last = heads
                .iter()
                .map(|head| machine.on_frame(*head, &[], &mut streams, now))
                .last();
            assert_eq!(last.as_ref(), Some(verdict), "{heads:?}");
        }
    }

    #[test]
    fn a_status_in_trailers_is_malformed() {
        let (end, all) = (Head::END_STREAM | Head::END_HEADERS, Head::END_HEADERS);
        let (padded, priority) = (Head::PADDED, Head::PRIORITY);
        let answer: (u8, u8, &[u8]) = (Head::HEADERS, all, &[0x88, 0xbe]);
        let interim: (u8, u8, &[u8]) = (Head::HEADERS, all, b"\x08\x03100");
        let data: (u8, u8, &[u8]) = (Head::DATA, 0, &[7]);
        type Frame<'a> = (u8, u8, &'a [u8]);
        let rows: &[(&[Frame<'_>], Verdict)] = &[
            (&[(Head::HEADERS, end, &[0x88])], Verdict::Pass),
            (&[interim, (Head::HEADERS, end, &[0x88])], Verdict::Pass),
            (
                &[answer, (Head::HEADERS, end, &[0xbe, 0x88])],
                Verdict::Pass,
            ),
            (&[answer, (Head::HEADERS, end, &[])], Verdict::Pass),
            (
                &[answer, (Head::HEADERS, end, &[0x88])],
                Verdict::Malformed(0),
            ),
            (
                &[answer, (Head::HEADERS, Head::END_STREAM, &[0x8e])],
                Verdict::Malformed(0),
            ),
            (
                &[interim, data, (Head::HEADERS, end, &[0x8e])],
                Verdict::Malformed(0),
            ),
            (
                &[answer, (Head::HEADERS, end | padded, &[1, 0x88, 0])],
                Verdict::Malformed(1),
            ),
            (
                &[
                    answer,
                    (
                        Head::HEADERS,
                        end | padded | priority,
                        &[1, 0, 0, 0, 0, 9, 0x88, 0],
                    ),
                ],
                Verdict::Malformed(6),
            ),
        ];
        for (frames, verdict) in rows {
            let (mut machine, mut streams) = (Machine::default(), streams());
            let mut last = Verdict::Pass;
            for (kind, flags, payload) in *frames {
                let length = payload.len();
                let head = Head {
                    length,
                    ..head(*kind, *flags, 1)
                };
                last = machine.on_frame(head, payload, &mut streams, now);
            }
            assert_eq!(last, *verdict, "{frames:?}");
        }
    }

    #[test]
    fn the_last_word_on_header_lists_counts() {
        let (mut machine, mut streams) = (Machine::default(), streams());
        let rows: &[(&[u8], Option<u32>)] = &[
            (&[0, 3, 0, 0, 0, 100], None),
            (&[0, 3, 0, 0, 0, 100, 0, 6, 0, 0, 0x40, 0], Some(16 << 10)),
            (&[], Some(16 << 10)),
            (&[0, 6, 0, 0, 0, 9, 0, 6, 0, 1, 0, 0, 1, 2], Some(64 << 10)),
        ];
        for (payload, header_list) in rows {
            let head = head(Head::SETTINGS, 0, 0);
            machine.on_frame(head, payload, &mut streams, now);
            assert_eq!(streams.header_list(), *header_list, "{payload:?}");
        }
    }

    #[test]
    fn a_stream_has_100_header_blocks_that_do_not_end_it() {
        let (mut machine, mut streams) = (Machine::default(), streams());
        let mut block = |stream| {
            let head = head(Head::HEADERS, Head::END_HEADERS, stream);
            machine.on_frame(head, &[], &mut streams, now)
        };
        for _ in 0..MOST_HEADERS {
            assert_eq!(block(1), Verdict::Pass);
        }
        assert_eq!(block(3), Verdict::Pass, "another stream");
        assert_eq!(block(1), Verdict::Break);
        assert_eq!(machine.why(), "more than 100 header blocks on one stream");
    }

    #[test]
    fn frames_that_change_nothing_end_the_connection_where_there_are_too_many() {
        let rows = [
            (head(Head::SETTINGS, 0, 0), 100),
            (head(Head::PING, 0, 0), 10_000),
            (head(Head::DATA, 0, 1), 10_000),
            (head(Head::RST_STREAM, 0, 11), 100_000),
            (head(Head::HEADERS, Head::END_HEADERS, 11), 100_000),
            (head(8, 0, 1), 100_000),
            (head(2, 0, 1), 100_000),
            (head(0x63, 0, 1), 100_000),
        ];
        for (head, most) in rows {
            let (mut machine, mut streams) = (Machine::default(), streams());
            let at = now();
            for _ in 0..most {
                let verdict = machine.on_frame(head, &[], &mut streams, || at);
                assert_ne!(verdict, Verdict::Break, "{head:?}");
            }
            let verdict = machine.on_frame(head, &[], &mut streams, || at);
            assert_eq!(verdict, Verdict::Break, "{head:?}");
            assert!(machine.why().ends_with("in 10s"), "{}", machine.why());
        }
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
            Machine::default().on_written(*written, &mut streams);
            assert_eq!(streams.take_freed().slots, 0);
            Machine::default().on_frame(head(Head::DATA, end, 1), &[], &mut streams, now);
            assert_eq!(
                streams.take_freed().slots,
                usize::from(*ends),
                "{written:?}"
            );
        }
        let mut streams = StreamTable::default();
        streams.open(1, 0);
        Machine::default().on_written(head(Head::RST_STREAM, 0, 1), &mut streams);
        assert_eq!(streams.take_freed().slots, 1);
    }
}
