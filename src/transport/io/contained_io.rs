//! Bytes of the application's, whose panic is an error of the connection.
//!
//! `h2` polls them under its lock, which all streams of the connection share: a panic would
//! poison it, and every call on the connection would panic too.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll},
};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::util::contained::{Contained, contained};

/// Never polled again once it has panicked.
pub(super) struct ContainedIo<T> {
    io: Contained<T>,
    panicked: Option<String>,
}

impl<T: Unpin> ContainedIo<T> {
    pub(super) fn new(io: T) -> Self {
        Self {
            io: Contained::new(io),
            panicked: None,
        }
    }

    fn poll<R>(
        &mut self,
        poll: impl FnOnce(Pin<&mut T>) -> Poll<io::Result<R>>,
    ) -> Poll<io::Result<R>> {
        let text = match &self.panicked {
            Some(text) => text.clone(),
            None => match contained(|| poll(Pin::new(&mut *self.io))) {
                Ok(outcome) => return outcome,
                Err(text) => self.panicked.insert(text).clone(),
            },
        };
        let why = format!("the connector's connection panicked: {text}");
        Poll::Ready(Err(io::Error::other(why)))
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for ContainedIo<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.poll(|io| io.poll_read(cx, buf))
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for ContainedIo<T> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.poll(|io| io.poll_write(cx, buf))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.poll(|io| io.poll_write_vectored(cx, bufs))
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll(|io| io.poll_flush(cx))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll(|io| io.poll_shutdown(cx))
    }
}
