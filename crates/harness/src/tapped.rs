//! Bytes that a test looks at, or stops, on their way.

use std::{
    io::{self, IoSlice},
    net::SocketAddr,
    pin::Pin,
    task::{Context, Poll, ready},
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
};
use tonic::transport::server::Connected;

/// Sees the bytes of a `T`, and may refuse them.
pub trait Tap<T>: Unpin {
    fn before_read(&mut self, _: &T, _: &mut Context<'_>) -> io::Result<()> {
        Ok(())
    }

    fn on_read(&mut self, _: &[u8]) -> io::Result<()> {
        Ok(())
    }

    fn before_write(&mut self) -> io::Result<()> {
        Ok(())
    }

    fn on_written(&mut self) {}
}

#[derive(Debug)]
pub struct Tapped<T, K> {
    pub io: T,
    pub tap: K,
}

impl<T: Unpin, K: Tap<T>> Tapped<T, K> {
    fn write(
        &mut self,
        write: impl FnOnce(Pin<&mut T>) -> Poll<io::Result<usize>>,
    ) -> Poll<io::Result<usize>> {
        self.tap.before_write()?;
        let written = ready!(write(Pin::new(&mut self.io)));
        self.tap.on_written();
        Poll::Ready(written)
    }
}

impl<T: AsyncRead + Unpin, K: Tap<T>> AsyncRead for Tapped<T, K> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let Self { io, tap } = &mut *self;
        tap.before_read(io, cx)?;
        let before = buf.filled().len();
        ready!(Pin::new(io).poll_read(cx, buf))?;
        Poll::Ready(tap.on_read(&buf.filled()[before..]))
    }
}

impl<T: AsyncWrite + Unpin, K: Tap<T>> AsyncWrite for Tapped<T, K> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.write(|io| io.poll_write(cx, buf))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.write(|io| io.poll_write_vectored(cx, bufs))
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}

impl<K> Connected for Tapped<TcpStream, K> {
    /// Where a call came from, if the connection could still tell.
    type ConnectInfo = Option<SocketAddr>;

    fn connect_info(&self) -> Self::ConnectInfo {
        self.io.peer_addr().ok()
    }
}
