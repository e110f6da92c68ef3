//! After a GOAWAY, what was opened before it goes out before anything else is read.
//!
//! A server that shuts down gracefully says GOAWAY with a number that is no stream's yet,
//! then PING, and takes the answer to the PING for the end of the requests (RFC 9113
//! §6.8). What comes later it counts out; netty even breaks the connection over the DATA
//! of a stream that it has counted out, and with it the calls that it has. `h2` answers a
//! PING before it writes the requests that wait to be written, so it is not shown the PING
//! until they are.

use std::{
    io::{self, IoSlice},
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard},
    task::{Context, Poll},
};

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::util::lock::lock;

/// An IO under `h2` that pauses reading after the first GOAWAY, for one pass of writing.
///
/// Until then it notes the streams that the peer has ended, whether they are read or not.
pub(super) struct WireIo<T> {
    io: T,
    stage: Stage,
    ends: StreamEnds,
}

/// The streams that the peer has ended since this was last asked. The IO notes them, after
/// each read.
#[derive(Clone, Default)]
pub(super) struct StreamEnds(Arc<Mutex<Ended>>);

#[derive(Default)]
pub(super) struct Ended {
    /// By END_STREAM.
    pub(super) over: Vec<u32>,
    /// By RST_STREAM.
    pub(super) reset: Vec<u32>,
}

impl StreamEnds {
    pub(super) fn lock(&self) -> MutexGuard<'_, Ended> {
        lock(&self.0)
    }
}

/// How far a connection is with its first GOAWAY. After that `h2` opens no stream, so
/// there is nothing to pause for a second time.
enum Stage {
    Before(Frames),
    /// It is taken in; what came behind it is for later.
    Announced(Bytes),
    /// A read has brought nothing, and what `h2` does next is to write.
    Writing(Bytes),
    /// All that could be written is; what came behind the GOAWAY is next.
    After(Bytes),
}

impl<T> WireIo<T> {
    pub(super) fn new(io: T, ends: StreamEnds) -> Self {
        Self {
            io,
            stage: Stage::Before(Frames::default()),
            ends,
        }
    }

    /// The pass of writing is over. If that is because the peer takes no more, it is
    /// over as well: two sides that wait for each other wait for ever.
    fn has_written(&mut self, cx: &Context<'_>) {
        if let Stage::Writing(rest) = &mut self.stage {
            self.stage = Stage::After(std::mem::take(rest));
            cx.waker().wake_by_ref();
        }
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for WireIo<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        match &mut this.stage {
            Stage::Before(frames) => {
                let before = buf.filled().len();
                let outcome = Pin::new(&mut this.io).poll_read(cx, buf);
                let came = &buf.filled()[before..];
                if let Some(end) = frames.end_of_goaway(came, &mut this.ends.lock()) {
                    this.stage = Stage::Announced(Bytes::copy_from_slice(&came[end..]));
                    buf.set_filled(before + end);
                }
                outcome
            }
            Stage::Announced(rest) | Stage::Writing(rest) => {
                this.stage = Stage::Writing(std::mem::take(rest));
                Poll::Pending
            }
            Stage::After(rest) if !rest.is_empty() => {
                buf.put_slice(&rest.split_to(rest.len().min(buf.remaining())));
                Poll::Ready(Ok(()))
            }
            Stage::After(_) => Pin::new(&mut this.io).poll_read(cx, buf),
        }
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for WireIo<T> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let outcome = Pin::new(&mut self.io).poll_write(cx, buf);
        if outcome.is_pending() {
            self.has_written(cx);
        }
        outcome
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let outcome = Pin::new(&mut self.io).poll_write_vectored(cx, bufs);
        if outcome.is_pending() {
            self.has_written(cx);
        }
        outcome
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let outcome = Pin::new(&mut self.io).poll_flush(cx);
        self.has_written(cx);
        outcome
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}

/// Where frames begin and end in what a peer sends (RFC 9113 §4.1).
#[derive(Default)]
struct Frames {
    head: [u8; Frames::HEAD],
    /// How much of the head is there.
    read: usize,
    /// How much of the payload is not, once the head is.
    left: usize,
    /// Headers that end their stream go on in another frame.
    ends_with_headers: bool,
}

impl Frames {
    const HEAD: usize = 9;
    const DATA: u8 = 0;
    const HEADERS: u8 = 1;
    const RST_STREAM: u8 = 3;
    const GOAWAY: u8 = 7;
    const CONTINUATION: u8 = 9;
    const END_STREAM: u8 = 1;
    const END_HEADERS: u8 = 4;

    /// Where in `bytes`, which come next, a GOAWAY ends. Notes the streams that end before
    /// that.
    fn end_of_goaway(&mut self, bytes: &[u8], ends: &mut Ended) -> Option<usize> {
        let mut at = 0;
        while at < bytes.len() {
            let next = &bytes[at..];
            if self.read < Self::HEAD {
                let part = next.len().min(Self::HEAD - self.read);
                self.head[self.read..self.read + part].copy_from_slice(&next[..part]);
                self.read += part;
                at += part;
                let [a, b, c, ..] = self.head;
                self.left = u32::from_be_bytes([0, a, b, c]) as usize;
            } else {
                let part = next.len().min(self.left);
                self.left -= part;
                at += part;
            }
            if self.is_at_end() {
                self.read = 0;
                if self.head[3] == Self::GOAWAY {
                    return Some(at);
                }
                self.note_end(ends);
            }
        }
        None
    }

    /// A frame is there whole. Notes its stream if it ends that.
    fn note_end(&mut self, ends: &mut Ended) {
        let [_, _, _, kind, flags, a, b, c, d] = self.head;
        let stream = u32::from_be_bytes([a & 0x7f, b, c, d]);
        let has = |flag| flags & flag != 0;
        match kind {
            Self::DATA if has(Self::END_STREAM) => ends.over.push(stream),
            Self::HEADERS if has(Self::END_STREAM) => match has(Self::END_HEADERS) {
                true => ends.over.push(stream),
                // `h2` waits for the rest of the headers.
                false => self.ends_with_headers = true,
            },
            Self::CONTINUATION if has(Self::END_HEADERS) && self.ends_with_headers => {
                self.ends_with_headers = false;
                ends.over.push(stream);
            }
            Self::RST_STREAM => ends.reset.push(stream),
            _ => {}
        }
    }

    fn is_at_end(&self) -> bool {
        self.read == Self::HEAD && self.left == 0
    }
}

#[cfg(test)]
mod tests {
    use super::{Ended, Frames};

    /// A frame of a kind with so much payload, all of which reads as GOAWAY does.
    fn frame(kind: u8, payload: u8) -> Vec<u8> {
        let head = [0, 0, payload, kind, 0, 0, 0, 0, 0];
        head.into_iter().chain(vec![7; payload.into()]).collect()
    }

    #[test]
    fn a_goaway_is_found_however_its_bytes_come() {
        let before = [frame(4, 0), frame(1, 20), frame(0, 255), frame(6, 8)].concat();
        let to_its_end = [before, frame(7, 15)].concat();
        let all = [to_its_end.clone(), frame(6, 8)].concat();
        let mut ends = Ended::default();
        for cut in 0..=all.len() {
            let (first, second) = all.split_at(cut);
            let mut frames = Frames::default();
            let found = frames.end_of_goaway(first, &mut ends);
            let found = found.or_else(|| Some(cut + frames.end_of_goaway(second, &mut ends)?));
            assert_eq!(found, Some(to_its_end.len()), "cut at {cut}");
        }
        let mut frames = Frames::default();
        let found = all
            .chunks(1)
            .position(|byte| frames.end_of_goaway(byte, &mut ends) == Some(1));
        assert_eq!(found, Some(to_its_end.len() - 1), "byte by byte");
    }

    #[test]
    fn a_goaway_without_payload_ends_with_its_head() {
        let mut frames = Frames::default();
        assert_eq!(
            frames.end_of_goaway(&frame(7, 0), &mut Ended::default()),
            Some(9)
        );
    }

    #[test]
    fn ends_of_streams_are_noted_however_their_bytes_come() {
        let of = |kind, flags, stream: u8, payload: u8| {
            let mut frame = frame(kind, payload);
            (frame[4], frame[8]) = (flags, stream);
            frame
        };
        let (data, headers, reset, continuation) = (0, 1, 3, 9);
        let bytes = [
            of(headers, 4, 1, 20),
            of(data, 0, 1, 7),
            of(data, 1, 1, 0),
            of(headers, 5, 3, 9),
            of(headers, 1, 5, 30),
            of(continuation, 0, 5, 2),
            of(continuation, 4, 5, 2),
            of(headers, 0, 7, 30),
            of(continuation, 4, 7, 2),
            of(reset, 0, 9, 4),
        ]
        .concat();
        for size in 1..=bytes.len() {
            let mut ends = Ended::default();
            let mut frames = Frames::default();
            for piece in bytes.chunks(size) {
                assert_eq!(frames.end_of_goaway(piece, &mut ends), None);
            }
            assert_eq!(ends.over, [1, 3, 5], "in pieces of {size}");
            assert_eq!(ends.reset, [9], "in pieces of {size}");
        }
    }
}
