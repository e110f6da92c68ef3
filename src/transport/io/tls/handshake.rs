//! One handshake, and in plain words why it failed.

use std::{
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_rustls::{
    TlsConnector,
    client::TlsStream,
    rustls::{Error, HandshakeKind, pki_types::ServerName},
};

use super::prepared::{H2, Prepared};
use crate::{
    error::Origin,
    metrics::HandshakeRecord,
    transport::{
        io::{
            connector::BoxIo,
            sniff::{FirstBytes, SniffedIo},
        },
        words::{
            failure::Failure,
            io_error,
            tls::{error::describe_tls, handshake_result::handshake_result, offered::Offered},
        },
    },
    util::{contained::Contained, real_time::timeout_io},
};

/// What secures a connection.
#[derive(Clone)]
pub(in crate::transport) struct Client {
    pub(super) prepared: Arc<Prepared>,
    pub(super) name: ServerName<'static>,
}

impl Client {
    /// Speaks TLS on `plain` from now on, which is a socket or a connector's.
    ///
    /// # Errors
    ///
    /// Why not, in a sentence.
    pub(in crate::transport) async fn handshake(
        self,
        plain: BoxIo,
        is_socket: bool,
        record: HandshakeRecord<'_>,
    ) -> Result<BoxIo, Failure> {
        let (plain, first_bytes) = SniffedIo::new(plain);
        let connector = TlsConnector::from(self.prepared.rustls.clone());
        let handshake = connector.connect(self.name, plain);
        let config = &self.prepared.config;
        let outcome = match config.timeout {
            None => handshake.await,
            Some(timeout) => match timeout_io(timeout, is_socket, handshake).await {
                Some(outcome) => outcome,
                None => {
                    record.end("HANDSHAKE_TIMEOUT", "");
                    return Err(format!("the TLS handshake took longer than {timeout:?}").into());
                }
            },
        };
        let offered = self.prepared.offered;
        let stream = match outcome {
            Ok(stream) => stream,
            Err(error) => {
                record.end(handshake_result(&error), "");
                let text = blame(&error, &first_bytes, offered);
                let origin = Origin::of(Contained::new(error.into()));
                return Err(Failure::new(text, origin));
            }
        };
        let agreed = stream.get_ref().1.alpn_protocol() == Some(H2);
        let agreed = agreed || config.assume_http2;
        let resumed = match stream.get_ref().1.handshake_kind() {
            Some(HandshakeKind::Resumed) => "RESUMED_HANDSHAKE",
            _ => "FULL_HANDSHAKE",
        };
        match agreed {
            true => record.end("SUCCESS", resumed),
            false => record.end("NO_APPLICATION_PROTOCOL", resumed),
        }
        match agreed {
            true => Ok(Box::new(Secured { stream, offered })),
            false => Err(
                "TLS handshake failed: the server did not select HTTP/2 (missing selected ALPN \
                 property `h2`); `assume_http2` permits this"
                    .into(),
            ),
        }
    }
}

/// Why there is no TLS. rustls sees another protocol as a malformed message; the
/// bytes tell more.
fn blame(error: &io::Error, first_bytes: &FirstBytes, offered: Offered) -> String {
    match (reason(error), first_bytes.protocol()) {
        (Some(Error::InvalidMessage(_)), Some(protocol)) if protocol != "TLS" => {
            format!("the peer speaks {protocol}, not TLS")
        }
        (Some(error @ Error::InvalidMessage(_)), None) => {
            format!(
                "the peer does not speak TLS: {}",
                describe_tls(error, offered)
            )
        }
        (Some(error), _) => format!("TLS handshake failed: {}", describe_tls(error, offered)),
        (None, _) if error.kind() == io::ErrorKind::UnexpectedEof => {
            "TLS handshake failed: the server closed the connection".to_owned()
        }
        (None, _) => format!("TLS handshake failed: {}", io_error::describe_io(error)),
    }
}

/// What rustls has to say in an IO error.
fn reason(error: &io::Error) -> Option<&Error> {
    error.get_ref()?.downcast_ref()
}

/// A connection behind TLS, whose errors are in our words.
struct Secured {
    stream: TlsStream<SniffedIo>,
    offered: Offered,
}

impl Secured {
    /// With TLS 1.3 a client has done its part before the server has looked at its
    /// certificate. The alert may be there to be read when writing fails for it.
    fn why_unwritable(&mut self, cx: &mut Context<'_>, error: io::Error) -> io::Error {
        let mut unread = [0; 1];
        match Pin::new(&mut self.stream).poll_read(cx, &mut ReadBuf::new(&mut unread)) {
            Poll::Ready(Err(why)) if reason(&why).is_some() => self.in_words(why),
            _ => self.in_words(error),
        }
    }

    fn in_words(&self, error: io::Error) -> io::Error {
        let text = reason(&error).map(|why| describe_tls(why, self.offered));
        match text {
            Some(text) => io::Error::new(error.kind(), format!("TLS: {text}")),
            None => error,
        }
    }
}

impl AsyncRead for Secured {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match Pin::new(&mut self.stream).poll_read(cx, buf) {
            // Without the farewell of TLS. HTTP/2 knows by itself where a message
            // ends, so this is an end like any other.
            Poll::Ready(Err(error)) if error.kind() == io::ErrorKind::UnexpectedEof => {
                Poll::Ready(Ok(()))
            }
            outcome => outcome.map_err(|error| self.in_words(error)),
        }
    }
}

impl AsyncWrite for Secured {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let outcome = Pin::new(&mut self.stream).poll_write(cx, buf);
        outcome.map_err(|error| self.why_unwritable(cx, error))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let outcome = Pin::new(&mut self.stream).poll_write_vectored(cx, bufs);
        outcome.map_err(|error| self.why_unwritable(cx, error))
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let outcome = Pin::new(&mut self.stream).poll_flush(cx);
        outcome.map_err(|error| self.why_unwritable(cx, error))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let outcome = Pin::new(&mut self.stream).poll_shutdown(cx);
        outcome.map_err(|error| self.in_words(error))
    }
}
