//! A peer made of bytes, for what `h2`'s server does not do.

use std::{sync::Arc, time::Duration};

use bytes::{BufMut, Bytes, BytesMut};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex},
    time::Instant,
};

use super::{
    BackendContext, CallSlot, Connection, Endpoint, PIPE, Queue, context, dial, endpoint_over, soon,
};

pub(super) const DATA: u8 = 0;
pub(super) const HEADERS: u8 = 1;
pub(super) const PRIORITY: u8 = 2;
pub(super) const RST_STREAM: u8 = 3;
pub(super) const SETTINGS: u8 = 4;
pub(super) const PING: u8 = 6;
pub(super) const GOAWAY: u8 = 7;
pub(super) const WINDOW_UPDATE: u8 = 8;

pub(super) const END_STREAM: u8 = 1;
pub(super) const ACK: u8 = 1;
const END_HEADERS: u8 = 4;

pub(super) const MAX_CONCURRENT_STREAMS: u16 = 3;

/// `:status: 200`, an entry of HPACK's static table.
const STATUS_200: &[u8] = &[0x88];
/// `grpc-status: 0`, spelt out.
const GRPC_STATUS_0: &[u8] = b"\x00\x0bgrpc-status\x010";

/// One end of the pipe, in frames.
pub(super) struct Wire(pub(super) DuplexStream);

#[derive(Debug)]
pub(super) struct WireFrame {
    pub(super) kind: u8,
    pub(super) flags: u8,
    pub(super) stream: u32,
    pub(super) payload: Bytes,
}

/// A connection that calls may use, to a peer that allows `limit` streams.
pub(super) async fn wired(limit: u32) -> (Connection, Wire) {
    wired_to(&Queue::new(), limit).await
}

/// The same for a channel with this queue.
pub(super) async fn wired_to(queue: &Arc<Queue<CallSlot>>, limit: u32) -> (Connection, Wire) {
    wired_by(|endpoint| endpoint, context(queue), limit).await
}

/// The same with options of the endpoint.
pub(super) async fn wired_by(
    options: impl FnOnce(Endpoint) -> Endpoint,
    context: BackendContext,
    limit: u32,
) -> (Connection, Wire) {
    let (ours, theirs) = duplex(PIPE);
    shake_hands(options(endpoint_over(ours)), theirs, context, limit).await
}

/// The same with a pipe that holds so many bytes of the one who does not read.
pub(super) async fn wired_through(pipe: usize, limit: u32) -> (Connection, Wire) {
    let (ours, theirs) = duplex(pipe);
    shake_hands(endpoint_over(ours), theirs, context(&Queue::new()), limit).await
}

pub(super) async fn shake_hands(
    endpoint: Endpoint,
    theirs: DuplexStream,
    context: BackendContext,
    limit: u32,
) -> (Connection, Wire) {
    let mut wire = Wire(theirs);
    wire.settings(&[(MAX_CONCURRENT_STREAMS, limit)]).await;
    let connection = soon(dial(endpoint, context)).await;
    let connection = connection.expect("connects");
    connection.set_pickable(true);
    wire.read_preface().await;
    wire.read_until(SETTINGS).await;
    // The windows that the client asked for hold from here.
    wire.write(&wire_frame(SETTINGS, ACK, 0, &[])).await;
    (connection, wire)
}

impl Wire {
    pub(super) async fn write(&mut self, bytes: &[u8]) {
        soon(self.0.write_all(bytes)).await.expect("a reader");
    }

    pub(super) async fn read_preface(&mut self) {
        let mut preface = [0; 24];
        soon(self.0.read_exact(&mut preface))
            .await
            .expect("a preface");
        assert_eq!(&preface, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");
    }

    /// The next frame; `None` at the end of the connection.
    pub(super) async fn read(&mut self) -> Option<WireFrame> {
        let mut head = [0; 9];
        soon(self.0.read_exact(&mut head)).await.ok()?;
        Some(self.read_payload(head).await.expect("a whole frame"))
    }

    /// The next frame; `None` at the end of the connection, also within a frame.
    pub(super) async fn read_or_cut(&mut self) -> Option<WireFrame> {
        let mut head = [0; 9];
        soon(self.0.read_exact(&mut head)).await.ok()?;
        self.read_payload(head).await
    }

    async fn read_payload(&mut self, head: [u8; 9]) -> Option<WireFrame> {
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
        let mut payload = vec![0; length as usize];
        soon(self.0.read_exact(&mut payload)).await.ok()?;
        Some(WireFrame {
            kind: head[3],
            flags: head[4],
            stream: u32::from_be_bytes([head[5] & 0x7f, head[6], head[7], head[8]]),
            payload: payload.into(),
        })
    }

    /// The next frame of a kind.
    pub(super) async fn read_until(&mut self, kind: u8) -> WireFrame {
        loop {
            let frame = self.read().await.expect("an open connection");
            if frame.kind == kind {
                return frame;
            }
        }
    }

    /// The stream of the next request. A peer that writes on a stream before
    /// its request has come breaks the protocol.
    pub(super) async fn next_request(&mut self) -> u32 {
        self.read_until(HEADERS).await.stream
    }

    pub(super) async fn settings(&mut self, values: &[(u16, u32)]) {
        let mut payload = BytesMut::new();
        for (name, value) in values {
            payload.put_u16(*name);
            payload.put_u32(*value);
        }
        self.write(&wire_frame(SETTINGS, 0, 0, &payload)).await;
    }

    /// Response headers.
    pub(super) async fn headers(&mut self, stream: u32) {
        let frame = wire_frame(HEADERS, END_HEADERS, stream, STATUS_200);
        self.write(&frame).await;
    }

    /// Response headers, and something else of HPACK before them.
    pub(super) async fn headers_behind(&mut self, stream: u32, before: &[u8]) {
        let block = [before, STATUS_200].concat();
        let frame = wire_frame(HEADERS, END_HEADERS, stream, &block);
        self.write(&frame).await;
    }

    /// Headers, `message` and trailers.
    pub(super) async fn answer(&mut self, stream: u32, message: &[u8]) {
        let frames = [
            wire_frame(HEADERS, END_HEADERS, stream, STATUS_200),
            wire_frame(DATA, 0, stream, message),
            trailers(stream),
        ];
        self.write(&frames.concat()).await;
    }

    pub(super) async fn reset(&mut self, stream: u32, code: u32) {
        let frame = wire_frame(RST_STREAM, 0, stream, &code.to_be_bytes());
        self.write(&frame).await;
    }

    /// The next PING that asks for an answer, and how long it took to come.
    pub(super) async fn next_ping(&mut self) -> (WireFrame, Duration) {
        let since = Instant::now();
        loop {
            let ping = self.read_until(PING).await;
            if ping.flags & ACK == 0 {
                return (ping, since.elapsed());
            }
        }
    }

    pub(super) async fn answer_ping(&mut self, ping: &WireFrame) {
        self.write(&wire_frame(PING, ACK, 0, &ping.payload)).await;
    }

    pub(super) async fn goaway(&mut self, last_stream: u32, code: u32, debug: &[u8]) {
        self.write(&goaway(last_stream, code, debug)).await;
    }
}

pub(super) fn trailers(stream: u32) -> Bytes {
    wire_frame(HEADERS, END_HEADERS | END_STREAM, stream, GRPC_STATUS_0)
}

pub(super) fn goaway(last_stream: u32, code: u32, debug: &[u8]) -> Bytes {
    let payload = [&last_stream.to_be_bytes(), &code.to_be_bytes(), debug].concat();
    wire_frame(GOAWAY, 0, 0, &payload)
}

pub(super) fn wire_frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Bytes {
    let length = u32::try_from(payload.len()).expect("a short payload");
    let mut frame = BytesMut::with_capacity(9 + payload.len());
    frame.put_slice(&length.to_be_bytes()[1..]);
    frame.put_u8(kind);
    frame.put_u8(flags);
    frame.put_u32(stream);
    frame.put_slice(payload);
    frame.freeze()
}
