//! Peers that listen on a port and do not speak HTTP/2.

use std::future::pending;

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::{
    http2,
    listening::{Listening, listens},
    port::{ReservedPort, small_receive_buffer},
    wire::Wire,
};

/// Length of the HTTP/2 client preface.
const PREFACE: usize = 24;

const HTTP1: &[u8] = b"HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain\r\n\
    Content-Length: 11\r\nConnection: close\r\n\r\nBad Request";

/// A fatal `protocol_version` alert in a TLS 1.0 record.
const TLS_ALERT: &[u8] = &[0x15, 0x03, 0x01, 0x00, 0x02, 0x02, 0x46];

/// Nine bytes make a frame header: this one claims an absurd length and type.
const GARBAGE: &[u8] = &[0xff; 64];

/// What the peer does with each connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PeerScript {
    /// Answers the first bytes with an HTTP/1.1 400 and closes.
    SpeaksHttp1,
    /// Answers the first bytes with a TLS alert and closes.
    SpeaksTls,
    /// Reads and never writes.
    Silent,
    /// Closes before anything is said.
    ClosesAtOnce,
    /// Reads the HTTP/2 preface, then closes.
    ClosesAfterPreface,
    /// Writes bytes that are no frame, then stays silent.
    SendsGarbage,
    /// Says that it takes whatever HTTP/2 can count, and reads nothing.
    NeverReads,
}

/// Stops, and closes its connections, when dropped.
#[derive(Debug)]
pub struct Peer {
    listening: Listening,
}

listens!(Peer);

impl Peer {
    pub async fn start(script: PeerScript) -> Self {
        Self::start_on(ReservedPort::any(), script)
    }

    pub(crate) fn start_on(port: ReservedPort, script: PeerScript) -> Self {
        let listener = port.listen();
        if script == PeerScript::NeverReads {
            small_receive_buffer(&listener);
        }
        let listening = Listening::start(listener, move |wire| play(script, wire));
        Self { listening }
    }
}

async fn play(script: PeerScript, mut wire: Wire) {
    let mut bytes = [0; 1024];
    // An error anywhere means the client is gone, which ends the play as well.
    let _ = match script {
        PeerScript::SpeaksHttp1 => answer(&mut wire, HTTP1).await,
        PeerScript::SpeaksTls => answer(&mut wire, TLS_ALERT).await,
        PeerScript::Silent => read_on(&mut wire).await,
        PeerScript::ClosesAtOnce => Ok(()),
        PeerScript::ClosesAfterPreface => wire.read_exact(&mut bytes[..PREFACE]).await.map(drop),
        PeerScript::SendsGarbage => match wire.write_all(GARBAGE).await {
            Ok(()) => read_on(&mut wire).await,
            Err(error) => Err(error),
        },
        PeerScript::NeverReads => match wire.write_all(&http2::largest_windows()).await {
            Ok(()) => pending().await,
            Err(error) => Err(error),
        },
    };
}

async fn answer(wire: &mut Wire, bytes: &[u8]) -> std::io::Result<()> {
    // One byte is enough to know that the client has begun to talk.
    wire.read_u8().await?;
    wire.write_all(bytes).await?;
    wire.shutdown().await?;
    // Closing with unread bytes would reset the answer away.
    read_on(wire).await
}

async fn read_on(wire: &mut Wire) -> std::io::Result<()> {
    let mut bytes = [0; 1024];
    while wire.read(&mut bytes).await? > 0 {}
    Ok(())
}
