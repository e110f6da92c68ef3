//! What a peer sends and what is done about it, read off the bytes of an input.

use super::{super::frames::Head, socket::size_of};

pub(super) const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// What a peer sends at most: more than ten thousand PINGs.
const MOST_BYTES: usize = 256 << 10;

/// Decisions, read off bytes. Where they end, each is the first of its choices.
pub(super) struct Input<'a>(pub(super) &'a [u8]);

impl<'a> Input<'a> {
    fn bytes(&mut self, n: usize) -> &'a [u8] {
        let (given, rest) = self.0.split_at(n.min(self.0.len()));
        self.0 = rest;
        given
    }

    fn byte(&mut self) -> u8 {
        self.bytes(1).first().copied().unwrap_or_default()
    }

    /// A few.
    pub(super) fn some(&mut self) -> &'a [u8] {
        let n = usize::from(self.byte() % 16);
        self.bytes(n)
    }

    fn number(&mut self) -> u32 {
        (0..4).fold(0, |number, _| number << 8 | u32::from(self.byte()))
    }

    fn size(&mut self) -> usize {
        size_of(self.byte())
    }
}

pub(super) enum Step {
    /// The peer has sent this.
    Come(Vec<u8>),
    /// And nothing more.
    End,
    /// `h2` writes this. The socket takes none of it at first, or all.
    Write { bytes: Vec<u8>, is_blocked: bool },
    /// A call begins, with so much to be written.
    Open(usize),
    /// The call of a stream lets go of it.
    Leave(u32),
    /// The driver looks after the streams, and asks its peer if it reads, where it can.
    Follow { asks: bool },
}

/// What happens, one step after another.
pub(super) struct Script {
    /// The size of the peer's largest frame.
    pub(super) most: usize,
    pub(super) steps: Vec<Step>,
}

/// Bytes of one direction that no step has yet.
#[derive(Default)]
struct Pending(Vec<u8>);

impl Pending {
    /// All, or all but a few.
    fn take(&mut self, input: &mut Input<'_>) -> Vec<u8> {
        let kept = match input.byte() {
            some @ 0..100 => usize::from(some % 20).min(self.0.len()),
            _ => 0,
        };
        let rest = self.0.split_off(self.0.len() - kept);
        std::mem::replace(&mut self.0, rest)
    }
}

impl Script {
    pub(super) fn read(input: &mut Input<'_>) -> Self {
        let most = match input.byte() {
            0..192 => 16 << 10,
            192..224 => 20 << 10,
            _ => 64 << 10,
        };
        let mut theirs = Theirs {
            most,
            ..Theirs::default()
        };
        let mut ours = Pending(PREFACE.to_vec());
        let mut steps = Vec::new();
        while !input.0.is_empty() {
            let step = match input.byte() % 16 {
                0..5 => {
                    theirs.add(input);
                    continue;
                }
                5..7 => {
                    ours.0.extend(our_frame(input));
                    continue;
                }
                7..10 => Step::Come(theirs.pending.take(input)),
                10 | 11 => Step::Write {
                    bytes: ours.take(input),
                    is_blocked: input.byte() >= 200,
                },
                12 | 13 => Step::Open(input.size()),
                14 => Step::Leave(stream(input)),
                _ => Step::Follow {
                    asks: input.byte() < 200,
                },
            };
            steps.push(step);
        }
        let rest = Step::Write {
            bytes: ours.0,
            is_blocked: false,
        };
        steps.extend([Step::Come(theirs.pending.0), rest, Step::End]);
        Self { most, steps }
    }
}

/// What the peer sends.
#[derive(Default)]
struct Theirs {
    most: usize,
    pending: Pending,
    bytes: usize,
    /// The frame that has begun.
    frames: Vec<u8>,
    /// It has begun a frame over which `h2` ends the connection: what is behind it is never
    /// looked at.
    is_over: bool,
}

impl Theirs {
    fn add(&mut self, input: &mut Input<'_>) {
        let frame = their_frame(input, self.most);
        let times = match input.byte() {
            0..240 => 1,
            often => (usize::from(often) - 239) * 64,
        };
        for _ in 0..times {
            self.push(&frame);
        }
    }

    fn push(&mut self, bytes: &[u8]) {
        self.bytes += bytes.len();
        if self.is_over || self.bytes > MOST_BYTES {
            return;
        }
        let before = self.frames.len();
        self.frames.extend_from_slice(bytes);
        let mut at = 0;
        while let Some(length) = length_at(&self.frames[at..]) {
            if length > self.most {
                self.is_over = true;
                self.frames.truncate((at + 40).max(before));
                break;
            }
            if self.frames.len() - at < Head::SIZE + length {
                break;
            }
            at += Head::SIZE + length;
        }
        self.pending.0.extend_from_slice(&self.frames[before..]);
        self.frames.drain(..at);
    }
}

/// What the first bytes of a frame say of its payload.
pub(super) fn length_at(bytes: &[u8]) -> Option<usize> {
    let [a, b, c] = *bytes.first_chunk()?;
    Some(u32::from_be_bytes([0, a, b, c]) as usize)
}

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).expect("a short payload");
    let head = [&length.to_be_bytes()[1..], &[kind, flags]].concat();
    [&head, &stream.to_be_bytes()[..], payload].concat()
}

/// Mostly one that was opened.
fn stream(input: &mut Input<'_>) -> u32 {
    match input.byte() {
        low @ 0..240 => 1 + 2 * u32::from(low % 32),
        240..248 => 0,
        _ => input.number(),
    }
}

fn their_frame(input: &mut Input<'_>, most: usize) -> Vec<u8> {
    let on = stream(input);
    match input.byte() % 20 {
        0 | 1 => frame(Head::DATA, 0, on, &[]),
        2 | 3 => frame(Head::DATA, input.byte(), on, input.some()),
        4 => {
            let size = input.size().min(most);
            frame(Head::DATA, input.byte(), on, &vec![7; size])
        }
        5..7 => frame(Head::HEADERS, input.byte(), on, input.some()),
        7 => frame(
            Head::HEADERS,
            input.byte() & 0x2d,
            on,
            &[0x88 + input.byte() % 8; 7],
        ),
        8 => frame(Head::CONTINUATION, input.byte(), on, input.some()),
        9 | 10 => frame(Head::RST_STREAM, 0, on, &[0, 0, 0, input.byte()]),
        11 => {
            let payload = (0..input.byte() % 4).map(|_| {
                let kind = [3, 4, 6, 6][usize::from(input.byte() % 4)];
                [&[0, kind], &input.number().to_be_bytes()[..]].concat()
            });
            frame(Head::SETTINGS, 0, 0, &payload.collect::<Vec<_>>().concat())
        }
        12 => {
            let size = input.size().min(most);
            let setting = [&[0, 6], &input.number().to_be_bytes()[..]].concat();
            let payload: Vec<_> = setting.into_iter().cycle().take(size).collect();
            frame(Head::SETTINGS, 0, 0, &payload)
        }
        13 => frame(Head::SETTINGS, Head::ACK, 0, &[]),
        14 => frame(Head::PING, input.byte() & Head::ACK, 0, &[9; 8]),
        15 => frame(Head::GOAWAY, 0, 0, &[0, 0, 0, 1, 0, 0, 0, 0]),
        16 => frame(8, 0, on, &input.number().to_be_bytes()),
        17 | 18 => frame(input.byte(), input.byte(), on, input.some()),
        _ => input.some().to_vec(),
    }
}

fn our_frame(input: &mut Input<'_>) -> Vec<u8> {
    let on = stream(input);
    match input.byte() % 8 {
        0..3 => frame(Head::HEADERS, input.byte(), on, input.some()),
        3 => frame(Head::DATA, input.byte(), on, input.some()),
        4 => {
            let size = input.size().min(16 << 10);
            frame(Head::DATA, input.byte(), on, &vec![7; size])
        }
        5 => frame(Head::RST_STREAM, 0, on, &[0; 4]),
        6 => frame(Head::SETTINGS, 0, 0, &[]),
        _ => frame(input.byte(), input.byte(), on, input.some()),
    }
}
