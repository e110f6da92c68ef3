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

use super::{
    frames::Frames,
    machine::{Incoming, Verdict, on_written},
};
use crate::{
    transport::connection::{MAX_CANCELLED, Streams},
    util::clock::now,
};

/// What a client says before its first frame (RFC 9113 §3.4).
const PREFACE: usize = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".len();

/// The IO under `h2`. Tells the streams of the connection what goes over it, and pauses
/// reading after the first GOAWAY, for one pass of writing.
pub(in crate::transport::h2) struct WireIo<T> {
    io: T,
    streams: Streams,
    read: Frames,
    incoming: Incoming,
    written: Frames,
    stage: Stage,
}

/// How far a connection is with its first GOAWAY. After that `h2` opens no stream, so
/// there is nothing to pause for a second time.
enum Stage {
    Before,
    /// It is taken in; what came behind it is for later.
    Announced(Bytes),
    /// A read has brought nothing, and what `h2` does next is to write.
    Writing(Bytes),
    /// All that could be written is; what came behind the GOAWAY is next.
    After(Bytes),
}

impl<T> WireIo<T> {
    pub(in crate::transport::h2) fn new(io: T, streams: Streams) -> Self {
        Self {
            io,
            streams,
            read: Frames::default(),
            incoming: Incoming::default(),
            written: Frames::after(PREFACE),
            stage: Stage::Before,
        }
    }

    /// These bytes of the peer's have come. Where in them its first GOAWAY ends.
    fn on_read(&mut self, bytes: &[u8]) -> Option<usize> {
        let mut streams = self.streams.lock();
        streams.on_bytes();
        let mut rest = bytes;
        while let Some(head) = self.read.next(&mut rest) {
            let verdict = self.incoming.on_frame(head, &mut streams);
            if verdict == Verdict::GoAway && matches!(self.stage, Stage::Before) {
                return Some(bytes.len() - rest.len());
            }
        }
        None
    }

    /// What comes of a write of these.
    ///
    /// # Errors
    ///
    /// If the peer reads again, and would find more cancelled calls than its server puts up
    /// with: that ends the connection in an orderly way, before the peer does.
    fn on_write(
        &mut self,
        outcome: Poll<io::Result<usize>>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let mut streams = self.streams.lock();
        let mut written = match outcome {
            Poll::Ready(Ok(written)) => written,
            Poll::Ready(Err(_)) => return outcome,
            Poll::Pending => {
                streams.on_blocked(now);
                return outcome;
            }
        };
        let dead = streams.dead();
        if dead > MAX_CANCELLED && streams.blocked_since().is_some() {
            let why = format!("{dead} calls were cancelled while the peer read nothing");
            return Poll::Ready(Err(io::Error::other(why)));
        }
        streams.on_written();
        for buf in bufs {
            let mut bytes = &buf[..written.min(buf.len())];
            written -= bytes.len();
            while let Some(head) = self.written.next(&mut bytes) {
                on_written(head, &mut streams);
            }
            if written == 0 {
                break;
            }
        }
        outcome
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
        let before = buf.filled().len();
        let outcome = match &mut this.stage {
            Stage::Announced(rest) | Stage::Writing(rest) => {
                this.stage = Stage::Writing(std::mem::take(rest));
                return Poll::Pending;
            }
            Stage::After(rest) if !rest.is_empty() => {
                buf.put_slice(&rest.split_to(rest.len().min(buf.remaining())));
                Poll::Ready(Ok(()))
            }
            Stage::Before | Stage::After(_) => Pin::new(&mut this.io).poll_read(cx, buf),
        };
        let came = &buf.filled()[before..];
        if !came.is_empty()
            && let Some(end) = this.on_read(came)
        {
            this.stage = Stage::Announced(Bytes::copy_from_slice(&came[end..]));
            buf.set_filled(before + end);
        }
        outcome
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for WireIo<T> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let outcome = Pin::new(&mut self.io).poll_write(cx, buf);
        let outcome = self.on_write(outcome, &[IoSlice::new(buf)]);
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
        let outcome = self.on_write(outcome, bufs);
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
