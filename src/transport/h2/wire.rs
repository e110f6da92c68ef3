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
    task::{Context, Poll},
};

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// An IO under `h2` that pauses reading after the first GOAWAY, for one pass of writing.
pub(super) struct WireIo<T> {
    io: T,
    stage: Stage,
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
    pub(super) fn new(io: T) -> Self {
        Self {
            io,
            stage: Stage::Before(Frames::default()),
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
                if let Some(end) = frames.end_of_goaway(came) {
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
}

impl Frames {
    const HEAD: usize = 9;
    const GOAWAY: u8 = 7;

    /// Where in `bytes`, which come next, a GOAWAY ends.
    fn end_of_goaway(&mut self, bytes: &[u8]) -> Option<usize> {
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
            }
        }
        None
    }

    fn is_at_end(&self) -> bool {
        self.read == Self::HEAD && self.left == 0
    }
}

#[cfg(test)]
mod tests {
    use super::Frames;

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
        for cut in 0..=all.len() {
            let (first, second) = all.split_at(cut);
            let mut frames = Frames::default();
            let found = frames.end_of_goaway(first);
            let found = found.or_else(|| Some(cut + frames.end_of_goaway(second)?));
            assert_eq!(found, Some(to_its_end.len()), "cut at {cut}");
        }
        let mut frames = Frames::default();
        let found = all
            .chunks(1)
            .position(|byte| frames.end_of_goaway(byte) == Some(1));
        assert_eq!(found, Some(to_its_end.len() - 1), "byte by byte");
    }

    #[test]
    fn a_goaway_without_payload_ends_with_its_head() {
        let mut frames = Frames::default();
        assert_eq!(frames.end_of_goaway(&frame(7, 0)), Some(9));
    }
}
