//! A socket that gives and takes bytes in pieces of any size.

use std::{
    io::{self, IoSlice},
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard},
    task::{Context, Poll},
};

use bytes::{Buf, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::util::lock::lock;

/// Of pieces and of frames, mostly those at which something changes.
const SIZES: [usize; 16] = [
    1, 2, 3, 4, 8, 9, 10, 17, 18, 64, 100, 1_024, 4_096, 16_384, 16_393, LARGEST,
];
pub(super) const LARGEST: usize = 65_536;

/// The size that a byte stands for.
pub(super) fn size_of(byte: u8) -> usize {
    SIZES[usize::from(byte % 16)]
}

/// Sizes of pieces, over and over.
#[derive(Default)]
pub(super) struct Sizes {
    sizes: Vec<usize>,
    at: usize,
}

impl Sizes {
    pub(super) fn new(bytes: &[u8]) -> Self {
        let sizes = bytes.iter().map(|byte| size_of(*byte));
        Self {
            sizes: sizes.collect(),
            at: 0,
        }
    }

    pub(super) fn next(&mut self) -> usize {
        self.at += 1;
        match self.sizes.len() {
            0 => LARGEST,
            n => self.sizes[self.at % n],
        }
    }
}

/// Gives what has come in pieces, and takes what is written in pieces.
#[derive(Clone, Default)]
pub(super) struct Socket(Arc<Mutex<State>>);

#[derive(Default)]
pub(super) struct State {
    /// And is not read.
    pub(super) come: BytesMut,
    pub(super) has_ended: bool,
    pieces: Sizes,
    /// Of reads, to have one wait now and then.
    reads: usize,
    pub(super) taken: Vec<u8>,
    pub(super) is_blocked: bool,
}

impl Socket {
    pub(super) fn new(pieces: Sizes) -> Self {
        let state = State {
            pieces,
            ..State::default()
        };
        Self(Arc::new(Mutex::new(state)))
    }

    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        lock(&self.0)
    }

    fn take(&self, bytes: impl Iterator<Item = u8>) -> Poll<io::Result<usize>> {
        let mut state = self.state();
        if state.is_blocked {
            return Poll::Pending;
        }
        let piece = state.pieces.next();
        let before = state.taken.len();
        state.taken.extend(bytes.take(piece));
        Poll::Ready(Ok(state.taken.len() - before))
    }
}

impl AsyncRead for Socket {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let mut state = self.state();
        if state.come.is_empty() {
            return match state.has_ended {
                true => Poll::Ready(Ok(())),
                false => Poll::Pending,
            };
        }
        state.reads += 1;
        let piece = state.pieces.next();
        if piece.is_multiple_of(2) && state.reads.is_multiple_of(2) {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        // Not a million of them.
        let piece = piece.max(state.come.len() >> 10);
        let piece = piece.min(state.come.len()).min(buf.remaining());
        buf.put_slice(&state.come[..piece]);
        state.come.advance(piece);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Socket {
    fn poll_write(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.take(buf.iter().copied())
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.take(bufs.iter().flat_map(|buf| buf.iter().copied()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}
