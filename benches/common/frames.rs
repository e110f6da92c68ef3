//! As much of HTTP/2 as it takes to answer a client that makes no mistakes.
//!
//! Frames are read in place and replies are copied from ready-made bytes. Request
//! headers are not decoded; only whether the first of a connection carry the path of
//! Watch is found out, by looking for its bytes.

pub(super) const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Length of the text in a reply. The benches send names as long.
pub(crate) const PAYLOAD: usize = 64;

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const WINDOW_UPDATE: u8 = 8;

/// The flag of DATA and HEADERS that ends the sender's half of the stream.
const END_STREAM: u8 = 1;
/// The flag of SETTINGS and PING; the same bit.
const ACK: u8 = 1;
const END_HEADERS: u8 = 4;

const HEADER_LEN: usize = 9;
/// The connection's window, in both the size and the step of its updates.
const WINDOW: u32 = 1 << 30;

/// The path of Watch as it is, as C-core and grpc-java send it.
const WATCH_PATH: &[u8] = b"/grpc.health.v1.Health/Watch";
/// The same in the Huffman code of HPACK, as clients in Rust and Go send it.
const WATCH_PATH_CODED: &[u8] = &[
    0x62, 0x6b, 0x2b, 0x22, 0xf3, 0x94, 0x74, 0x26, 0x75, 0xfb, 0x85, 0x7c, 0x65, 0x1d, 0x09, 0x9d,
    0x8e, 0x43, 0x49, 0x27,
];
/// `HealthCheckResponse { status: SERVING }`, framed by gRPC.
const SERVING: &[u8] = &[0, 0, 0, 0, 2, 0x08, 0x01];
const NOT_SERVING: &[u8] = &[0, 0, 0, 0, 2, 0x08, 0x02];

/// One client's connection: what it still owes us, and how to answer it.
pub(super) struct Session {
    greeted: bool,
    /// Whether the first call has come.
    called: bool,
    /// Bytes of DATA since the last update of the connection's window.
    received: u32,
    /// The stream of the Watch, while it is open.
    watch: Option<u32>,
    /// What the Watch is told.
    serving: bool,
    /// Greetings since they were last asked for.
    greetings: u64,
    replies: Replies,
}

impl Session {
    /// Writes our SETTINGS into `out`, with a window that is as good as open.
    pub(super) fn start(serving: bool, out: &mut Vec<u8>) -> Self {
        frame(out, SETTINGS, 0, 0, &[]);
        frame(out, WINDOW_UPDATE, 0, 0, &WINDOW.to_be_bytes());
        Self {
            greeted: false,
            called: false,
            received: 0,
            watch: None,
            serving,
            greetings: 0,
            replies: Replies::new(),
        }
    }

    pub(super) fn has_watch(&self) -> bool {
        self.watch.is_some()
    }

    /// Greetings since the last time.
    pub(super) fn take_greetings(&mut self) -> u64 {
        std::mem::take(&mut self.greetings)
    }

    /// Tells the Watch, and whoever begins one.
    pub(super) fn set_serving(&mut self, serving: bool, out: &mut Vec<u8>) {
        self.serving = serving;
        if let Some(stream) = self.watch {
            frame(out, DATA, 0, stream, self.health());
        }
    }

    fn health(&self) -> &'static [u8] {
        match self.serving {
            true => SERVING,
            false => NOT_SERVING,
        }
    }

    /// Answers every whole frame of `bytes` into `out`; the number of bytes used.
    pub(super) fn answer(&mut self, bytes: &[u8], out: &mut Vec<u8>) -> usize {
        let mut used = 0;
        if !self.greeted {
            if bytes.len() < PREFACE.len() {
                return 0;
            }
            self.greeted = true;
            used = PREFACE.len();
        }
        while let Some(header) = bytes[used..].first_chunk::<HEADER_LEN>() {
            let [a, b, c, kind, flags, stream @ ..] = *header;
            let len = usize::try_from(u32::from_be_bytes([0, a, b, c])).expect("24 bits fit");
            let Some(payload) = bytes[used + HEADER_LEN..].get(..len) else {
                break;
            };
            // The first bit is reserved.
            let stream = u32::from_be_bytes(stream) & (u32::MAX >> 1);
            self.on_frame(kind, flags, stream, payload, out);
            used += HEADER_LEN + len;
        }
        used
    }

    fn on_frame(&mut self, kind: u8, flags: u8, stream: u32, payload: &[u8], out: &mut Vec<u8>) {
        match kind {
            // Who checks health does nothing before it, and later paths may be known
            // by a number. So all others need not be searched.
            HEADERS if !self.called => {
                self.called = true;
                self.watch = is_watch(payload).then_some(stream);
            }
            RST_STREAM if self.watch == Some(stream) => self.watch = None,
            DATA => self.count(payload.len(), out),
            SETTINGS if flags & ACK == 0 => frame(out, SETTINGS, ACK, 0, &[]),
            PING if flags & ACK == 0 => frame(out, PING, ACK, 0, payload),
            _ => {}
        }
        if matches!(kind, DATA | HEADERS) && flags & END_STREAM != 0 {
            if self.watch == Some(stream) {
                self.replies.head(stream, out);
                frame(out, DATA, 0, stream, self.health());
            } else {
                self.greetings += 1;
                self.replies.greeting(stream, out);
            }
        }
    }

    fn count(&mut self, len: usize, out: &mut Vec<u8>) {
        self.received += u32::try_from(len).expect("the length of a frame has 24 bits");
        if self.received > WINDOW / 2 {
            frame(out, WINDOW_UPDATE, 0, 0, &self.received.to_be_bytes());
            self.received = 0;
        }
    }
}

fn is_watch(block: &[u8]) -> bool {
    let has = |path: &[u8]| block.windows(path.len()).any(|window| window == path);
    has(WATCH_PATH) || has(WATCH_PATH_CODED)
}

/// Responses in the shortest form that HPACK has: a field that was sent before is
/// one byte, as it is from a real server.
struct Replies {
    /// Whether `content-type` and `grpc-status` are in the client's table.
    known: (bool, bool),
    /// A whole reply once both are. The stream's number is at `STREAMS` in it.
    ready_made: Vec<u8>,
}

impl Replies {
    fn new() -> Self {
        let mut replies = Self {
            known: (true, true),
            ready_made: Vec::new(),
        };
        let mut out = Vec::new();
        replies.write_greeting(0, &mut out);
        Self {
            known: (false, false),
            ready_made: out,
        }
    }

    fn greeting(&mut self, stream: u32, out: &mut Vec<u8>) {
        if self.known != (true, true) {
            return self.write_greeting(stream, out);
        }
        const HEAD: usize = HEADER_LEN + 2;
        const MESSAGE: usize = HEADER_LEN + 5 + 2 + PAYLOAD;
        let start = out.len();
        out.extend_from_slice(&self.ready_made);
        for frame in [0, HEAD, HEAD + MESSAGE] {
            let at = start + frame + HEADER_LEN - 4;
            out[at..at + 4].copy_from_slice(&stream.to_be_bytes());
        }
    }

    fn write_greeting(&mut self, stream: u32, out: &mut Vec<u8>) {
        self.head(stream, out);
        let text = u8::try_from(PAYLOAD).expect("the payload is short");
        // gRPC's prefix, then field 1 of the message.
        let mut message = vec![0, 0, 0, 0, text + 2, 0x0a, text];
        message.resize(message.len() + PAYLOAD, b'x');
        frame(out, DATA, 0, stream, &message);
        // A literal for the table at first, then its newest entry.
        let status: &[u8] = match self.known.1 {
            false => b"\x40\x0bgrpc-status\x010",
            true => &[0xbe],
        };
        self.known.1 = true;
        frame(out, HEADERS, END_HEADERS | END_STREAM, stream, status);
    }

    /// `:status: 200` is entry 8 of the static table, `content-type` is entry 31;
    /// what the client has learnt begins at 62 with what is newest.
    fn head(&mut self, stream: u32, out: &mut Vec<u8>) {
        let block: &[u8] = match self.known {
            (false, _) => b"\x88\x5f\x10application/grpc",
            (true, false) => &[0x88, 0xbe],
            (true, true) => &[0x88, 0xbf],
        };
        self.known.0 = true;
        frame(out, HEADERS, END_HEADERS, stream, block);
    }
}

fn frame(out: &mut Vec<u8>, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
    let len = u32::try_from(payload.len()).expect("the frames of this server are short");
    out.extend_from_slice(&len.to_be_bytes()[1..]);
    out.extend_from_slice(&[kind, flags]);
    out.extend_from_slice(&stream.to_be_bytes());
    out.extend_from_slice(payload);
}
