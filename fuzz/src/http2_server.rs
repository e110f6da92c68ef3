//! The server of `http2_driver`, which says what its input has, and reads as it likes.

use std::time::Duration;

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, DuplexStream, ReadHalf, WriteHalf, split},
    sync::Mutex,
    time::{Instant, sleep},
};

use super::{
    http2_driver::Plan,
    input::Input,
    rig::{Dials, settle},
};

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PUSH_PROMISE: u8 = 5;
const PING: u8 = 6;
const GOAWAY: u8 = 7;
const WINDOW_UPDATE: u8 = 8;
const CONTINUATION: u8 = 9;

/// What a client says before its first frame.
const PREFACE: usize = 24;
const HEAD_SIZE: usize = 9;

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

/// How often a server that does not read looks whether the client has closed.
const LOOK: Duration = Duration::from_millis(50);

type Writer = Mutex<WriteHalf<DuplexStream>>;

/// Takes one dial after another: to the first few it says what the input has for
/// them, to all others nothing.
pub(crate) async fn serve(mut dials: Dials, data: Vec<u8>) {
    let mut input = Input::new(&data);
    let plan = Plan::read(&mut input);
    while let Some(io) = dials.recv().await {
        let (reader, writer) = split(io);
        let writer = Mutex::new(writer);
        let reads = Reads::new(plan);
        let says = async {
            if !input.is_empty() {
                let said = speak(&mut input, plan, &reads, &writer).await;
                if said.is_none() {
                    // The client has closed, or the input wants it closed.
                    let _ = writer.lock().await.shutdown().await;
                }
            }
        };
        // Whether or not there is an end of it.
        tokio::join!(read(reader, plan, &reads, &writer), says);
    }
}

/// How much the server reads.
struct Reads(std::sync::Mutex<State>);

#[derive(Clone, Copy)]
struct State {
    /// Bytes that it reads before it stops.
    left: usize,
    /// How long it stops then, if not for ever.
    pause: Option<Duration>,
}

impl Reads {
    fn new(plan: Plan) -> Self {
        let (left, pause) = plan.reads().unwrap_or((usize::MAX, None));
        Self(std::sync::Mutex::new(State { left, pause }))
    }

    fn state(&self) -> State {
        *self.0.lock().expect("no panic")
    }

    fn change(&self, change: impl FnOnce(usize) -> usize) {
        let mut state = self.0.lock().expect("no panic");
        state.left = change(state.left);
    }
}

async fn read(mut reader: ReadHalf<DuplexStream>, plan: Plan, reads: &Reads, writer: &Writer) {
    let mut bytes = vec![0; 16 << 10];
    let mut answers = Answers::default();
    let mut read_on = None;
    loop {
        let State { left, pause } = reads.state();
        if left == 0 {
            let at = *read_on.get_or_insert_with(|| Instant::now() + pause.unwrap_or_default());
            sleep(LOOK).await;
            if has_closed(writer).await {
                return;
            }
            if pause.is_some() && at <= Instant::now() {
                reads.change(|_| usize::MAX);
            }
            continue;
        }
        let size = left.min(bytes.len());
        let Ok(read @ 1..) = reader.read(&mut bytes[..size]).await else {
            return;
        };
        reads.change(|left| match left {
            usize::MAX => left,
            _ => left - read,
        });
        if plan.answers() {
            let answers = answers.to(&bytes[..read]);
            // Fails where the client has closed, which is seen by the next read.
            let _ = writer.lock().await.write_all(&answers).await;
        }
    }
}

/// Whether the client has closed. While something is being written that says it as well.
async fn has_closed(writer: &Writer) -> bool {
    match writer.try_lock() {
        Ok(mut writer) => writer.write(&[]).await.is_err(),
        Err(_) => false,
    }
}

/// What a sound server answers by itself.
#[derive(Default)]
struct Answers {
    unread: Vec<u8>,
    is_past_preface: bool,
}

impl Answers {
    fn to(&mut self, bytes: &[u8]) -> Vec<u8> {
        self.unread.extend_from_slice(bytes);
        let (mut at, mut answers) = (0, Vec::new());
        if !self.is_past_preface {
            if self.unread.len() < PREFACE {
                return answers;
            }
            self.is_past_preface = true;
            at = PREFACE;
        }
        while let Some(rest) = self.unread.get(at..)
            && let Some(([l1, l2, l3, kind, flags, ..], _)) = rest.split_first_chunk::<HEAD_SIZE>()
            && let length = u32::from_be_bytes([0, *l1, *l2, *l3]) as usize
            && let Some(payload) = rest.get(HEAD_SIZE..HEAD_SIZE + length)
        {
            match (*kind, flags & ACK) {
                (SETTINGS, 0) => answers.extend(frame(SETTINGS, ACK, 0, &[])),
                (PING, 0) => answers.extend(frame(PING, ACK, 0, payload)),
                _ => {}
            }
            at += HEAD_SIZE + length;
        }
        self.unread.drain(..at);
        answers
    }
}

/// `None` if the connection is to be closed.
async fn speak(input: &mut Input<'_>, plan: Plan, reads: &Reads, writer: &Writer) -> Option<()> {
    if plan.has_preamble() {
        let mut sound = frame(SETTINGS, 0, 0, &[]);
        if !plan.answers() {
            sound.extend(frame(SETTINGS, ACK, 0, &[]));
        }
        write(&sound, writer).await?;
        settle().await;
        if plan.checks_health() {
            let mut serving = frame(HEADERS, END_HEADERS, 1, HEAD);
            serving.extend(frame(DATA, 0, 1, SERVING));
            write(&serving, writer).await?;
            settle().await;
        }
    }
    while !input.is_empty() {
        let action = input.byte();
        match action & 0x1f {
            30 => sleep(Duration::from_millis(u64::from(input.byte()) * 16)).await,
            31 => return None,
            29 => reads.change(|left| left.saturating_add(usize::from(input.byte()) * 64)),
            kind => {
                let said = next_frame(kind, input);
                match action & 0x20 {
                    0 => write(&said, writer).await?,
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

async fn write(bytes: &[u8], writer: &Writer) -> Option<()> {
    writer.lock().await.write_all(bytes).await.ok()
}

async fn write_in_parts(bytes: &[u8], input: &mut Input<'_>, writer: &Writer) -> Option<()> {
    let mut writer = writer.lock().await;
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
        // A burst: of SETTINGS, of their acknowledgements, or of DATA.
        _ => {
            let burst = input.byte();
            let times = 1 + usize::from(burst % 32);
            match burst >> 5 {
                0..=3 => (0..times).for_each(|_| out.extend(setting(input))),
                4 => (0..times).for_each(|_| out.extend(frame(SETTINGS, ACK, 0, &[]))),
                5 => {
                    for _ in 0..times {
                        out.extend(setting(input));
                        out.extend(frame(PING, 0, 0, &[0; 8]));
                    }
                }
                6 => {
                    let size = input.one_of(&[1, 100, 1 << 10, 4 << 10, 16 << 10]);
                    let data = frame(DATA, 0, stream, &vec![0; size]);
                    let most = (1 << 16) / size;
                    out.extend(data.repeat(times.min(most)));
                }
                // Heads of several streams, each with some of its answer.
                _ => {
                    let many = u32::from(burst % 8);
                    for stream in (0..many).map(|n| stream.wrapping_add(2 * n)) {
                        out.extend(frame(HEADERS, END_HEADERS, stream, HEAD));
                        out.extend(frame(DATA, 0, stream, &[0; 15 << 10]).repeat(4));
                    }
                }
            }
        }
    }
    out
}

/// One of those that a client has to follow while streams are open.
fn setting(input: &mut Input<'_>) -> Vec<u8> {
    const MAX_CONCURRENT_STREAMS: u16 = 3;
    const INITIAL_WINDOW_SIZE: u16 = 4;
    const MAX_HEADER_LIST_SIZE: u16 = 6;
    let kinds = [
        INITIAL_WINDOW_SIZE,
        MAX_CONCURRENT_STREAMS,
        MAX_HEADER_LIST_SIZE,
    ];
    let kind: u16 = input.one_of(&kinds);
    let payload = [&kind.to_be_bytes()[..], &number(input).to_be_bytes()].concat();
    frame(SETTINGS, 0, 0, &payload)
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
