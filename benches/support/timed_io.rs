//! When a server wrote what.

use std::{
    io,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
    task::{Context, Poll, ready},
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
    sync::watch,
};
use tonic::transport::server::Connected;

use super::clock;

/// Tells when the message that was marked has been written. Right for a server
/// of one thread that has one Watch: what it hands over is in its next write.
#[derive(Clone, Debug, Default)]
pub(crate) struct Stamp {
    marked: Arc<AtomicBool>,
    written: watch::Sender<u64>,
}

impl Stamp {
    /// A message was handed over, and is in the next write.
    pub(crate) fn mark(&self) {
        self.marked.store(true, SeqCst);
    }

    /// The times of the writes, by [`clock::now`].
    pub(crate) fn written(&self) -> watch::Receiver<u64> {
        self.written.subscribe()
    }

    fn on_write(&self) {
        if self.marked.swap(false, SeqCst) {
            self.written.send_replace(clock::now());
        }
    }
}

/// A server's end of a connection.
#[derive(Debug)]
pub(crate) struct TimedIo {
    io: TcpStream,
    stamp: Stamp,
}

impl TimedIo {
    pub(crate) fn new(io: TcpStream, stamp: Stamp) -> Self {
        Self { io, stamp }
    }
}

impl Connected for TimedIo {
    type ConnectInfo = ();

    fn connect_info(&self) {}
}

impl AsyncRead for TimedIo {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_read(cx, buf)
    }
}

impl AsyncWrite for TimedIo {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = ready!(Pin::new(&mut self.io).poll_write(cx, buf));
        self.stamp.on_write();
        Poll::Ready(written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = ready!(Pin::new(&mut self.io).poll_write_vectored(cx, bufs));
        self.stamp.on_write();
        Poll::Ready(written)
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
