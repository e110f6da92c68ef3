//! What a peer says first: it tells what it speaks, where that is not HTTP/2. And what the
//! bytes fail with, where `h2` keeps no more of it than its kind and its text.

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
    error::Origin,
    transport::words::{
        failure::Failure,
        h2_error::{describe_h2, is_from_peer, reduced_io},
    },
    util::{
        contained::{Contained, contained},
        lock::lock,
    },
};

/// The first bytes that came from the peer, and the first error, shared with the IO that reads
/// them.
#[derive(Clone, Default)]
pub(in crate::transport) struct FirstBytes(Arc<Mutex<Heard>>);

#[derive(Default)]
struct Heard {
    bytes: Vec<u8>,
    /// Only under `h2`.
    error: Option<(io::ErrorKind, Origin)>,
}

impl FirstBytes {
    /// How many are enough to know who is talking.
    const KEPT: usize = 16;

    /// Keeps what is still needed; a read may bring as little as one byte.
    fn keep(&self, read: &[u8]) {
        let kept = &mut self.lock().bytes;
        let needed = Self::KEPT - kept.len();
        kept.extend_from_slice(&read[..read.len().min(needed)]);
    }

    /// Keeps the first error as it is. The same in what `h2` keeps of it.
    fn keep_error(&self, error: io::Error) -> io::Error {
        let kind = error.kind();
        // `h2` would ask a connector's own error for its text in the middle of its work.
        let reduced = contained(|| reduced_io(&error))
            .unwrap_or_else(|text| io::Error::new(kind, format!("the IO error panicked: {text}")));
        let origin = Origin::of(Contained::new(error.into()));
        let mut heard = self.lock();
        if heard.error.is_none() {
            heard.error = Some((kind, origin));
        }
        reduced
    }

    /// Why no SETTINGS came. `h2` sees the wrong protocol as a malformed frame;
    /// the bytes tell more.
    pub(in crate::transport) fn blame(&self, error: Option<&h2::Error>) -> Failure {
        match (self.lock().bytes.as_slice(), error) {
            (bytes, _) if is_http1(bytes) => return "the peer speaks HTTP/1, not HTTP/2".into(),
            // A TLS record: an alert or a handshake, version 3.x.
            ([0x15 | 0x16, 0x03, ..], _) => {
                return "the peer speaks TLS, and this endpoint is plaintext".into();
            }
            ([_, ..], Some(error)) if !error.is_io() && !is_from_peer(error) => {
                return format!("the peer does not speak HTTP/2: {error}").into();
            }
            _ => {}
        }
        let Some(error) = error else {
            return CLOSED.into();
        };
        self.failure(error).told(|why| match is_end_of_file(error) {
            true => CLOSED.to_owned(),
            false => format!("{CLOSED}: {why}"),
        })
    }

    /// An error of `h2`, and what came of it from the bytes.
    pub(in crate::transport) fn failure(&self, error: &h2::Error) -> Failure {
        let text = describe_h2(error);
        let Some(io) = error.get_io() else {
            return text.into();
        };
        let heard = self.lock().error.clone();
        let origin = heard.filter(|(kind, _)| *kind == io.kind());
        let origin = origin.map(|(_, origin)| origin);
        Failure::new(text, origin.unwrap_or_else(|| Origin::new(reduced_io(io))))
    }

    /// What a peer speaks that was expected to speak TLS, if we know it.
    #[cfg(feature = "_tls-any")]
    pub(super) fn protocol(&self) -> Option<&'static str> {
        match self.lock().bytes.as_slice() {
            bytes if is_http1(bytes) => Some("HTTP/1"),
            // The header of a SETTINGS frame on stream 0, as every server begins.
            [0, _, _, 4, 0, 0, 0, 0, 0, ..] => Some("HTTP/2"),
            [0x14..=0x17, 3, ..] => Some("TLS"),
            _ => None,
        }
    }

    fn lock(&self) -> MutexGuard<'_, Heard> {
        lock(&self.0)
    }
}

const CLOSED: &str = "connection closed before server preface received (no SETTINGS)";

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
    keeps_error: bool,
    pub(in crate::transport) read_activity: ReadActivity,
}

impl SniffedIo {
    pub(in crate::transport) fn new(io: BoxIo) -> (Self, FirstBytes) {
        let first_bytes = FirstBytes::default();
        let sniffed = Self {
            io,
            first_bytes: first_bytes.clone(),
            read: 0,
            keeps_error: false,
            read_activity: ReadActivity::default(),
        };
        (sniffed, first_bytes)
    }

    /// For `h2`, which makes an error of its own of each that it is given.
    pub(in crate::transport) fn under_h2(io: BoxIo) -> (Self, FirstBytes) {
        let (mut sniffed, first_bytes) = Self::new(io);
        sniffed.keeps_error = true;
        (sniffed, first_bytes)
    }

    #[inline]
    fn kept<T>(&self, outcome: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        match outcome {
            Poll::Ready(Err(error)) if self.keeps_error => {
                Poll::Ready(Err(self.first_bytes.keep_error(error)))
            }
            outcome => outcome,
        }
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
        self.kept(outcome)
    }
}

impl AsyncWrite for SniffedIo {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let outcome = Pin::new(&mut self.io).poll_write(cx, buf);
        self.kept(outcome)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let outcome = Pin::new(&mut self.io).poll_write_vectored(cx, bufs);
        self.kept(outcome)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let outcome = Pin::new(&mut self.io).poll_flush(cx);
        self.kept(outcome)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let outcome = Pin::new(&mut self.io).poll_shutdown(cx);
        self.kept(outcome)
    }
}
