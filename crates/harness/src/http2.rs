//! As much of HTTP/2 as it takes to play a server by hand.
//!
//! Frames are cut out of a byte buffer and built as byte vectors. Nothing is
//! checked: the peer that uses this is there to be told what to send, also when
//! that is wrong. Request headers are not decoded; only whether they carry the
//! path of Watch is found out, by looking for its bytes.

use bytes::{Buf, Bytes, BytesMut};

pub const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

pub const DATA: u8 = 0;
pub const HEADERS: u8 = 1;
pub const PRIORITY: u8 = 2;
pub const RST_STREAM: u8 = 3;
pub const SETTINGS: u8 = 4;
pub const PUSH_PROMISE: u8 = 5;
pub const PING: u8 = 6;
pub const GOAWAY: u8 = 7;
pub const WINDOW_UPDATE: u8 = 8;
pub const CONTINUATION: u8 = 9;

/// The flag of DATA and HEADERS that ends the sender's half of the stream.
pub const END_STREAM: u8 = 1;
/// The flag of SETTINGS and PING; the same bit.
const ACK: u8 = 1;
pub const END_HEADERS: u8 = 4;
pub const PADDED: u8 = 8;

pub const MAX_CONCURRENT_STREAMS: u16 = 3;
pub const INITIAL_WINDOW_SIZE: u16 = 4;
pub const MAX_FRAME_SIZE: u16 = 5;
const HEADER_LEN: usize = 9;

/// `/grpc.health.v1.Health/Watch` in the Huffman code of HPACK. The h2 crate, on
/// which every Rust client stands, always sends a path in full and in this code.
const WATCH_PATH: &[u8] = &[
    0x62, 0x6b, 0x2b, 0x22, 0xf3, 0x94, 0x74, 0x26, 0x75, 0xfb, 0x85, 0x7c, 0x65, 0x1d, 0x09, 0x9d,
    0x8e, 0x43, 0x49, 0x27,
];

#[derive(Debug)]
pub struct Frame {
    pub kind: u8,
    flags: u8,
    pub stream: u32,
    pub payload: Bytes,
}

impl Frame {
    /// Cuts the next frame off `bytes`, if it is there whole.
    pub fn cut(bytes: &mut BytesMut) -> Option<Self> {
        let header = bytes.first_chunk::<HEADER_LEN>()?;
        let [a, b, c, kind, flags, stream @ ..] = *header;
        let len = usize::try_from(u32::from_be_bytes([0, a, b, c])).expect("24 bits fit");
        if bytes.len() < HEADER_LEN + len {
            return None;
        }
        bytes.advance(HEADER_LEN);
        Some(Self {
            kind,
            flags,
            // The first bit is reserved.
            stream: u32::from_be_bytes(stream) & (u32::MAX >> 1),
            payload: bytes.split_to(len).freeze(),
        })
    }

    pub fn ends_stream(&self) -> bool {
        matches!(self.kind, DATA | HEADERS) && self.flags & END_STREAM != 0
    }

    pub fn is_ack(&self) -> bool {
        matches!(self.kind, SETTINGS | PING) && self.flags & ACK != 0
    }

    pub fn asks_for_watch(&self) -> bool {
        self.kind == HEADERS
            && self
                .payload
                .windows(WATCH_PATH.len())
                .any(|window| window == WATCH_PATH)
    }
}

pub fn settings(max_concurrent_streams: Option<u32>) -> Vec<u8> {
    let max = max_concurrent_streams.map(|max| (MAX_CONCURRENT_STREAMS, max));
    settings_of(max.as_slice())
}

pub fn settings_of(values: &[(u16, u32)]) -> Vec<u8> {
    let one = |(name, value): &(u16, u32)| {
        let (name, value) = (name.to_be_bytes(), value.to_be_bytes());
        [&name[..], &value[..]].concat()
    };
    let payload: Vec<u8> = values.iter().flat_map(one).collect();
    frame(SETTINGS, 0, 0, &payload)
}

/// SETTINGS and a WINDOW_UPDATE by which a client may send 2 GiB on each stream, and
/// in all.
pub fn largest_windows() -> Vec<u8> {
    const LARGEST: u32 = (1 << 31) - 1;
    const FIRST: u32 = (1 << 16) - 1;
    let mut payload = Vec::new();
    payload.extend(INITIAL_WINDOW_SIZE.to_be_bytes());
    payload.extend(LARGEST.to_be_bytes());
    [
        frame(SETTINGS, 0, 0, &payload),
        window_update(0, LARGEST - FIRST),
    ]
    .concat()
}

pub fn settings_ack() -> Vec<u8> {
    frame(SETTINGS, ACK, 0, &[])
}

pub fn ping(payload: &[u8; 8]) -> Vec<u8> {
    frame(PING, 0, 0, payload)
}

pub fn ping_ack(payload: &[u8]) -> Vec<u8> {
    frame(PING, ACK, 0, payload)
}

pub fn window_update(stream: u32, increment: u32) -> Vec<u8> {
    frame(WINDOW_UPDATE, 0, stream, &increment.to_be_bytes())
}

pub fn reset(stream: u32, reason: h2::Reason) -> Vec<u8> {
    frame(RST_STREAM, 0, stream, &u32::from(reason).to_be_bytes())
}

pub fn go_away(last_stream: u32, reason: h2::Reason, debug: &str) -> Vec<u8> {
    let numbers = [last_stream.to_be_bytes(), u32::from(reason).to_be_bytes()].concat();
    let payload = [&numbers, debug.as_bytes()].concat();
    frame(GOAWAY, 0, 0, &payload)
}

/// The response headers of a gRPC call.
pub fn response(stream: u32) -> Vec<u8> {
    frame(HEADERS, END_HEADERS, stream, &response_headers())
}

pub fn message(stream: u32, message: &[u8]) -> Vec<u8> {
    let len = u32::try_from(message.len()).expect("the messages of a peer are tiny");
    let data = [&[0], &len.to_be_bytes()[..], message].concat();
    frame(DATA, 0, stream, &data)
}

/// The end of a call after `message`.
pub fn trailers(stream: u32, code: tonic::Code) -> Vec<u8> {
    let block = grpc_status(code);
    frame(HEADERS, END_HEADERS | END_STREAM, stream, &block)
}

/// A call that ends with a status and no message.
pub fn status_only(stream: u32, code: tonic::Code) -> Vec<u8> {
    let block = [response_headers(), grpc_status(code)].concat();
    frame(HEADERS, END_HEADERS | END_STREAM, stream, &block)
}

/// A message and OK.
pub fn answer(stream: u32, body: &[u8]) -> Vec<u8> {
    let end = trailers(stream, tonic::Code::Ok);
    [response(stream), message(stream, body), end].concat()
}

/// HEADERS with these fields, which begin with a `:status` if it is a response.
pub fn headers(stream: u32, flags: u8, fields: &[(&str, &str)]) -> Vec<u8> {
    let block: Vec<u8> = fields
        .iter()
        .flat_map(|(name, value)| field(name.as_bytes(), value.as_bytes()))
        .collect();
    frame(HEADERS, flags | END_HEADERS, stream, &block)
}

/// `:status: 200` is entry 8 of the static table, `content-type` is entry 31.
fn response_headers() -> Vec<u8> {
    let value = b"application/grpc";
    let mut block = vec![0x88, 0x0f, 0x10];
    block.extend(string(value));
    block
}

fn grpc_status(code: tonic::Code) -> Vec<u8> {
    field(b"grpc-status", i32::from(code).to_string().as_bytes())
}

/// A literal with a new name, which no table remembers.
pub fn field(name: &[u8], value: &[u8]) -> Vec<u8> {
    [&[0], &string(name)[..], &string(value)].concat()
}

/// A string of HPACK without the Huffman code. Its length has seven bits in the
/// first byte, and seven more in each that follows (RFC 7541 §5.1).
fn string(bytes: &[u8]) -> Vec<u8> {
    let mut coded = Vec::new();
    match bytes.len().checked_sub(127) {
        None => coded.push(bytes.len() as u8),
        Some(mut rest) => {
            coded.push(127);
            while rest >= 128 {
                coded.push((rest % 128) as u8 | 128);
                rest /= 128;
            }
            coded.push(rest as u8);
        }
    }
    coded.extend(bytes);
    coded
}

pub fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let len = u32::try_from(payload.len()).expect("the frames of a peer are short");
    [
        &len.to_be_bytes()[1..],
        &[kind, flags],
        &stream.to_be_bytes(),
        payload,
    ]
    .concat()
}
