//! A peer that follows a script of frames, or of any other bytes.
//!
//! A script is an async closure over one connection. Nothing happens that it does
//! not do: no acknowledgement, no answer, no limit. When it returns, the connection
//! closes; an error in it is the client's leaving, and ends it as well.

use std::{future::Future, io, time::Duration};

use bytes::BytesMut;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::{
    http2::{self, Frame},
    listening::{Listening, listens},
    port::ReservedPort,
    wire::Wire,
};

/// How long a write may make no progress before its reader counts as stuck.
const STUCK: Duration = Duration::from_millis(1000);

/// Stops, and closes its connections, when dropped.
#[derive(Debug)]
pub struct RawPeer {
    listening: Listening,
}

listens!(RawPeer);

/// One connection, in the hands of a script.
pub struct RawConnection {
    wire: Wire,
    /// How many connections the peer had before this one.
    pub before: usize,
    /// Bytes that were read and not yet cut into frames.
    bytes: BytesMut,
}

impl RawPeer {
    /// A peer that plays `script` on each connection.
    pub async fn start<S, F>(script: S) -> Self
    where
        S: Fn(RawConnection) -> F + Send + 'static,
        F: Future<Output = io::Result<()>> + Send + 'static,
    {
        let mut before = 0;
        let listening = Listening::start(ReservedPort::any().listen(), move |wire| {
            let play = script(RawConnection {
                wire,
                before,
                bytes: BytesMut::new(),
            });
            before += 1;
            async move {
                let _ = play.await;
            }
        });
        Self { listening }
    }
}

impl RawConnection {
    /// Begins as any server does: reads the preface, sends SETTINGS, and
    /// acknowledges the client's.
    pub async fn open(&mut self) -> io::Result<()> {
        self.open_with(&http2::settings(None)).await
    }

    /// The same with these bytes in the place of SETTINGS.
    pub async fn open_with(&mut self, settings: &[u8]) -> io::Result<()> {
        self.read_preface().await?;
        self.write(settings).await?;
        self.next(http2::SETTINGS).await?;
        self.write(&http2::settings_ack()).await
    }

    pub async fn read_preface(&mut self) -> io::Result<()> {
        let preface = &mut [0; http2::PREFACE.len()];
        self.wire.read_exact(preface).await.map(drop)
    }

    pub async fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.wire.write_all(bytes).await
    }

    /// The next frame. The end of the connection is an error.
    pub async fn read(&mut self) -> io::Result<Frame> {
        loop {
            if let Some(frame) = Frame::cut(&mut self.bytes) {
                return Ok(frame);
            }
            if self.wire.read_buf(&mut self.bytes).await? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
    }

    /// The next frame of a kind.
    pub async fn next(&mut self, kind: u8) -> io::Result<Frame> {
        loop {
            let frame = self.read().await?;
            if frame.kind == kind {
                return Ok(frame);
            }
        }
    }

    /// The stream of the next request.
    pub async fn request(&mut self) -> io::Result<u32> {
        self.next(http2::HEADERS).await.map(|frame| frame.stream)
    }

    /// The same for a request without further frames, the last of which has come.
    pub async fn whole_request(&mut self) -> io::Result<u32> {
        loop {
            let frame = self.read().await?;
            if frame.ends_stream() {
                return Ok(frame.stream);
            }
        }
    }

    /// Makes the coming close a reset.
    pub fn reset_on_close(&self) {
        self.wire.reset_on_close();
    }

    /// Reads, and says nothing, until the client leaves.
    pub async fn listen(&mut self) -> io::Result<()> {
        while self.read().await.is_ok() {}
        Ok(())
    }

    /// Answers every request as a good server would, until the client leaves.
    pub async fn behave(&mut self) -> io::Result<()> {
        loop {
            let stream = self.whole_request().await?;
            self.write(&http2::answer(stream, b"")).await?;
        }
    }

    /// Writes `times` times what `bytes` makes of the number of the time, reading
    /// whatever comes meanwhile.
    pub async fn flood(
        &mut self,
        times: u32,
        mut bytes: impl FnMut(u32) -> Vec<u8>,
    ) -> io::Result<()> {
        let (mut reader, mut writer) = tokio::io::split(&mut self.wire);
        let mut read = [0; 4096];
        let write = async {
            for time in 0..times {
                writer.write_all(&bytes(time)).await?;
            }
            Ok(())
        };
        let read_on = async {
            while reader.read(&mut read).await? > 0 {}
            Ok(())
        };
        tokio::select! {
            written = write => written,
            left = read_on => left,
        }
    }

    /// The same, reading nothing at all, for as long as the client takes it in.
    /// The bytes that went out before it did not any more.
    pub async fn flood_deaf(
        &mut self,
        times: u32,
        mut bytes: impl FnMut(u32) -> Vec<u8>,
    ) -> io::Result<usize> {
        let mut written = 0;
        for time in 0..times {
            let chunk = bytes(time);
            match tokio::time::timeout(STUCK, self.wire.write_all(&chunk)).await {
                Ok(wrote) => wrote?,
                Err(_) => return Ok(written),
            }
            written += chunk.len();
        }
        Ok(written)
    }
}
