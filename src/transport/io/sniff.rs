//! What a peer says first: it tells what it speaks, where that is not HTTP/2.

use std::{
    io,
    pin::Pin,
    sync::{
        Arc, Mutex, MutexGuard,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    task::{Context, Poll},
};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::connector::BoxIo;
use crate::{
    transport::words::h2_error::{describe_h2, is_from_peer},
    util::lock::lock,
};

/// The first bytes that came from the peer, shared with the IO that reads them.
#[derive(Clone, Default)]
pub(in crate::transport) struct FirstBytes(Arc<Mutex<Vec<u8>>>);

impl FirstBytes {
    /// How many are enough to know who is talking.
    const KEPT: usize = 16;

    /// Keeps what is still needed; a read may bring as little as one byte.
    fn keep(&self, read: &[u8]) {
        let mut kept = self.lock();
        let needed = Self::KEPT - kept.len();
        kept.extend_from_slice(&read[..read.len().min(needed)]);
    }

    /// Why no SETTINGS came. `h2` sees the wrong protocol as a malformed frame;
    /// the bytes tell more.
    pub(in crate::transport) fn blame(&self, error: Option<&h2::Error>) -> String {
        match (self.lock().as_slice(), error) {
            (bytes, _) if is_http1(bytes) => "the peer speaks HTTP/1, not HTTP/2".to_owned(),
            // A TLS record: an alert or a handshake, version 3.x.
            ([0x15 | 0x16, 0x03, ..], _) => {
                "the peer speaks TLS, and this endpoint is plaintext".to_owned()
            }
            ([_, ..], Some(error)) if !error.is_io() && !is_from_peer(error) => {
                format!("the peer does not speak HTTP/2: {error}")
            }
            (_, Some(error)) if !is_end_of_file(error) => {
                format!("closed without SETTINGS: {}", describe_h2(error))
            }
            _ => "closed without SETTINGS".to_owned(),
        }
    }

    /// What a peer speaks that was expected to speak TLS, if we know it.
    #[cfg(feature = "_tls-any")]
    pub(super) fn protocol(&self) -> Option<&'static str> {
        match self.lock().as_slice() {
            bytes if is_http1(bytes) => Some("HTTP/1"),
            // The header of a SETTINGS frame on stream 0, as every server begins.
            [0, _, _, 4, 0, 0, 0, 0, 0, ..] => Some("HTTP/2"),
            [0x14..=0x17, 3, ..] => Some("TLS"),
            _ => None,
        }
    }

    fn lock(&self) -> MutexGuard<'_, Vec<u8>> {
        lock(&self.0)
    }
}

/// `h2` gives up at the third byte.
fn is_http1(bytes: &[u8]) -> bool {
    bytes.len() > 2 && bytes.iter().zip(b"HTTP/").all(|(a, b)| a == b)
}

fn is_end_of_file(error: &h2::Error) -> bool {
    error.get_io().is_some_and(|io| {
        matches!(
            io.kind(),
            io::ErrorKind::BrokenPipe | io::ErrorKind::UnexpectedEof
        )
    })
}

/// Whether something was read since this was last asked. The IO sets it.
#[derive(Clone, Default)]
pub(in crate::transport) struct ReadActivity(Arc<AtomicBool>);

impl ReadActivity {
    fn set(&self) {
        self.0.store(true, Relaxed);
    }

    pub(in crate::transport) fn take(&self) -> bool {
        self.0.swap(false, Relaxed)
    }
}

/// An IO that keeps the first bytes it reads.
pub(in crate::transport) struct SniffedIo {
    io: BoxIo,
    first_bytes: FirstBytes,
    /// Bytes read so far, as far as they matter.
    read: usize,
    pub(in crate::transport) read_activity: ReadActivity,
}

impl SniffedIo {
    pub(in crate::transport) fn new(io: BoxIo) -> (Self, FirstBytes) {
        let first_bytes = FirstBytes::default();
        let sniffed = Self {
            io,
            first_bytes: first_bytes.clone(),
            read: 0,
            read_activity: ReadActivity::default(),
        };
        (sniffed, first_bytes)
    }
}

impl AsyncRead for SniffedIo {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let outcome = Pin::new(&mut self.io).poll_read(cx, buf);
        if buf.filled().len() > before {
            self.read_activity.set();
        }
        if self.read < FirstBytes::KEPT {
            let read = &buf.filled()[before..];
            self.first_bytes.keep(read);
            self.read += read.len();
        }
        outcome
    }
}

impl AsyncWrite for SniffedIo {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write_vectored(cx, bufs)
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
