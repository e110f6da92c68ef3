//! Whatever a server may send over its connection, while calls of every kind and a
//! `Watch` run on it: sound frames in any order, broken ones, and bytes that are none.

use std::{convert::Infallible, time::Duration};

use bytes::Bytes;
use futures_util::{StreamExt, stream};
use http_body::Frame;
use http_body_util::{Full, StreamBody};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, DuplexStream, ReadHalf, WriteHalf, split},
    time::{sleep, timeout},
};
use tonic::body::Body;

use super::{
    input::Input,
    rig::{Dials, call, channel, dialled, play, settle},
};

/// The most time that a call is given.
const LONGEST: Duration = Duration::from_secs(3);

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PUSH_PROMISE: u8 = 5;
const PING: u8 = 6;
const GOAWAY: u8 = 7;
const WINDOW_UPDATE: u8 = 8;
const CONTINUATION: u8 = 9;

const END_STREAM: u8 = 1;
const ACK: u8 = 1;
const END_HEADERS: u8 = 4;

/// `:status: 200` and `content-type: application/grpc`.
const HEAD: &[u8] = b"\x88\x0f\x10\x10application/grpc";
/// `grpc-status: 0`, as trailers.
const OK: &[u8] = b"\x00\x0bgrpc-status\x010";
/// A health message SERVING, in its frame of gRPC.
const SERVING: &[u8] = &[0, 0, 0, 0, 2, 8, 1];
/// Blocks of HPACK, the sound ones first.
const BLOCKS: [&[u8]; 12] = [
    HEAD,
    OK,
    b"\x88\x0f\x10\x10application/grpc\x00\x0bgrpc-status\x0214",
    b"\x00\x0bgrpc-status\x0214\x00\x0cgrpc-message\x03%zz",
    // An interim head, another code, and one of a proxy.
    b"\x08\x03100",
    b"\x8d",
    b"\x08\x03502\x0f\x10\x09text/html",
    // Remembered, and then asked for by its number.
    b"\x88\x40\x05x-any\x05value",
    b"\xbe",
    // Not remembered by anybody; a size that was not agreed on; cut off.
    b"\xff\xff\xff\x07",
    b"\x3f\xe1\xff\x03",
    b"\x00\x0bgrpc-sta",
];

pub fn check(data: &[u8]) {
    let data = data.to_vec();
    play(scene(data));
}

async fn scene(data: Vec<u8>) {
    let flags = data.first().copied().unwrap_or_default();
    let (endpoint, dials) = dialled();
    let endpoint = match flags & 4 {
        0 => endpoint,
        // Windows that one frame can fill.
        _ => endpoint
            .initial_stream_window_size(256)
            .initial_connection_window_size(1 << 16)
            .concurrency_limit(2),
    };
    let channel = channel(endpoint, flags & 1 != 0).build();
    let server = tokio::spawn(serve(dials, data));
    let given_up = timeout(Duration::from_millis(20), call(&channel, endless(), 3));
    let (_, _, _, _, _) = tokio::join!(
        call(&channel, message(), 1),
        call(&channel, Body::empty(), 2),
        call(&channel, endless(), 2),
        call(&channel, a_few(), 3),
        given_up,
    );
    // Whatever happened to those before.
    let _ = call(&channel, message(), 1).await;
    let backends = channel.backends();
    drop(channel);
    // A request whose answer has ended goes on until the deadline of its call.
    sleep(LONGEST).await;
    settle().await;
    let in_flight = backends[0].calls_in_flight();
    assert_eq!(in_flight, 0, "calls hold slots that have ended");
    server.await.expect("a server does not panic");
}

fn message() -> Body {
    Body::new(Full::from(&[0, 0, 0, 0, 1, b'x'][..]))
}

fn a_few() -> Body {
    let frames = stream::iter(0..8).then(async |_| {
        sleep(Duration::from_millis(3)).await;
        Ok::<_, Infallible>(Frame::data(Bytes::from_static(&[0; 5])))
    });
    Body::new(StreamBody::new(Box::pin(frames)))
}

/// As fast as anybody takes it. Time stands still while something can be done, so that
/// there are pauses, or no deadline would ever come.
fn endless() -> Body {
    let frames = stream::iter(0_u64..).then(async |n| {
        if n % 32 == 31 {
            sleep(Duration::from_millis(10)).await;
        }
        Ok::<_, Infallible>(Frame::data(Bytes::from_static(&[0; 4 << 10])))
    });
    Body::new(StreamBody::new(Box::pin(frames)))
}

/// Takes one dial after another: to the first few it says what the input has for
/// them, to all others nothing.
async fn serve(mut dials: Dials, data: Vec<u8>) {
    let mut input = Input::new(&data);
    let flags = input.byte();
    while let Some(io) = dials.recv().await {
        let (reader, mut writer) = split(io);
        // Whether or not there is an end of it.
        let reading = tokio::spawn(read(reader));
        if !input.is_empty() {
            let said = speak(&mut input, flags, &mut writer).await;
            if said.is_none() {
                // The client has closed, or the input wants it closed.
                let _ = writer.shutdown().await;
            }
        }
        let _ = reading.await;
    }
}

async fn read(mut reader: ReadHalf<DuplexStream>) {
    let mut bytes = vec![0; 16 << 10];
    while matches!(reader.read(&mut bytes).await, Ok(1..)) {}
}

/// `None` if the connection is to be closed.
async fn speak(
    input: &mut Input<'_>,
    flags: u8,
    writer: &mut WriteHalf<DuplexStream>,
) -> Option<()> {
    if flags & 2 == 0 {
        let mut sound = frame(SETTINGS, 0, 0, &[]);
        sound.extend(frame(SETTINGS, ACK, 0, &[]));
        writer.write_all(&sound).await.ok()?;
        settle().await;
        if flags & 1 != 0 {
            let mut serving = frame(HEADERS, END_HEADERS, 1, HEAD);
            serving.extend(frame(DATA, 0, 1, SERVING));
            writer.write_all(&serving).await.ok()?;
            settle().await;
        }
    }
    while !input.is_empty() {
        let action = input.byte();
        match action & 0x1f {
            30 => sleep(Duration::from_millis(u64::from(input.byte()) * 16)).await,
            31 => return None,
            kind => {
                let said = next_frame(kind, input);
                match action & 0x20 {
                    0 => writer.write_all(&said).await.ok()?,
                    _ => write_in_parts(&said, input, writer).await?,
                }
            }
        }
        if action & 0xc0 != 0 {
            settle().await;
        }
    }
    Some(())
}

async fn write_in_parts(
    bytes: &[u8],
    input: &mut Input<'_>,
    writer: &mut WriteHalf<DuplexStream>,
) -> Option<()> {
    let at = usize::from(input.byte()).min(bytes.len());
    let (first, rest) = bytes.split_at(at);
    writer.write_all(first).await.ok()?;
    settle().await;
    writer.write_all(rest).await.ok()
}

fn next_frame(kind: u8, input: &mut Input<'_>) -> Vec<u8> {
    let stream = stream(input);
    let mut out = Vec::new();
    match kind {
        // A response in one go.
        0..=3 => {
            out.extend(frame(HEADERS, END_HEADERS, stream, HEAD));
            out.extend(frame(DATA, 0, stream, SERVING));
            out.extend(frame(HEADERS, END_HEADERS | END_STREAM, stream, OK));
        }
        4..=6 => out.extend(frame(HEADERS, END_HEADERS, stream, input.one_of(&BLOCKS))),
        7 | 8 => {
            let flags = END_HEADERS | END_STREAM;
            out.extend(frame(HEADERS, flags, stream, input.one_of(&BLOCKS)));
        }
        9..=11 => {
            let end = input.byte() & END_STREAM;
            out.extend(frame(DATA, end, stream, input.some_bytes()));
        }
        // Zeros are empty messages.
        12 => {
            let many = usize::from(input.byte()) * 64;
            out.extend(frame(DATA, 0, stream, &vec![0; many]));
        }
        13 => {
            for _ in 0..input.byte() {
                out.extend(frame(DATA, 0, stream, &[]));
            }
        }
        14 | 15 => {
            let reason = u32::from(input.byte() % 16);
            out.extend(frame(RST_STREAM, 0, stream, &reason.to_be_bytes()));
        }
        16 | 17 => {
            let mut payload = stream.to_be_bytes().to_vec();
            payload.extend(u32::from(input.byte() % 16).to_be_bytes());
            payload.extend(input.some_bytes());
            out.extend(frame(GOAWAY, 0, 0, &payload));
        }
        18 | 19 => {
            let mut payload = Vec::new();
            for _ in 0..input.byte() % 8 {
                payload.extend(u16::from(input.byte() % 10).to_be_bytes());
                payload.extend(number(input).to_be_bytes());
            }
            out.extend(frame(SETTINGS, 0, 0, &payload));
        }
        20 | 21 => {
            let on = input.one_of(&[0, stream]);
            let more = number(input);
            out.extend(frame(WINDOW_UPDATE, 0, on, &more.to_be_bytes()));
        }
        22 => {
            let ack = input.byte() & ACK;
            out.extend(frame(PING, ack, 0, input.bytes(8)));
        }
        23 => {
            let mut payload = 2_u32.to_be_bytes().to_vec();
            payload.extend_from_slice(input.one_of(&BLOCKS));
            out.extend(frame(PUSH_PROMISE, END_HEADERS, stream, &payload));
        }
        // Headers in pieces, with or without an end.
        24 => {
            let end = input.byte() & END_STREAM;
            let block = input.one_of(&BLOCKS);
            let (first, rest) = block.split_at(block.len() / 2);
            out.extend(frame(HEADERS, end, stream, first));
            let flags = input.one_of(&[END_HEADERS, 0]);
            out.extend(frame(CONTINUATION, flags, stream, rest));
        }
        25 => out.extend(frame(HEADERS, input.byte(), stream, input.some_bytes())),
        26 | 27 => out.extend(frame(
            input.byte(),
            input.byte(),
            stream,
            input.some_bytes(),
        )),
        _ => out.extend_from_slice(input.some_bytes()),
    }
    out
}

/// Mostly one that the client has opened.
fn stream(input: &mut Input<'_>) -> u32 {
    match input.byte() {
        low @ 0..240 => 1 + 2 * u32::from(low % 8),
        240..248 => 0,
        _ => input.number(),
    }
}

/// Mostly at a limit of something.
fn number(input: &mut Input<'_>) -> u32 {
    const LIMITS: [u32; 9] = [
        0,
        1,
        100,
        4_096,
        (1 << 14) - 1,
        1 << 16,
        (1 << 24) - 1,
        (1 << 31) - 1,
        u32::MAX,
    ];
    match input.byte() {
        choice @ 0..200 => LIMITS[usize::from(choice) % LIMITS.len()],
        _ => input.number(),
    }
}

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).expect("a short payload");
    let mut frame = length.to_be_bytes()[1..].to_vec();
    frame.extend([kind, flags]);
    frame.extend(stream.to_be_bytes());
    frame.extend_from_slice(payload);
    frame
}
