//! Plays a script twice, and compares.

use std::{
    collections::BTreeSet,
    io::IoSlice,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, Wake, Waker},
};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::{
    super::{
        frames::Head,
        io::WireIo,
        machine::{FORBIDDEN, STATUS},
    },
    script::{Input, PREFACE, Script, Step, length_at},
    socket::{LARGEST, Sizes, Socket},
};
use crate::transport::connection::{Left, Streams};

/// The most that `h2` is shown in a turn, besides what it has asked for at once.
const TURN: usize = 64 << 10;

/// Reads a script off these bytes and plays it twice.
///
/// # Panics
///
/// If something does not hold.
pub(crate) fn check(data: &[u8]) {
    let mut input = Input(data);
    let sizes = [input.some(), input.some()];
    let script = Script::read(&mut input);
    let [first, second] = sizes.map(|sizes| Run::new(&script, sizes).play(&script));
    for (at, (first, second)) in first.iter().zip(&second).enumerate() {
        assert_eq!(first, second, "at {at}");
    }
    assert_eq!(first.len(), second.len());
}

/// What `h2` is to be shown of `bytes`, which is all that has come.
fn shown_of(bytes: &[u8], most: usize, has_ended: bool) -> Vec<u8> {
    let (mut rest, mut shown) = (bytes, Vec::new());
    loop {
        let Some((head, behind)) = rest.split_first_chunk() else {
            let is_garbage = length_at(rest).is_some_and(|length| length > most);
            if is_garbage || has_ended {
                shown.extend_from_slice(rest);
            }
            return shown;
        };
        let head = Head::of(head);
        if behind.len() < head.length {
            let is_read = matches!(head.kind, Head::SETTINGS | Head::HEADERS);
            if !is_read || head.length > most || has_ended {
                shown.extend_from_slice(rest);
            }
            return shown;
        }
        let (frame, behind) = rest.split_at(Head::SIZE + head.length);
        let changes_nothing = head.kind == Head::DATA && head.length == 0;
        if !changes_nothing || head.has(Head::END_STREAM) {
            shown.extend_from_slice(frame);
        }
        rest = behind;
    }
}

/// Whether `h2` is shown all of `whole`, or its beginning: with [`FORBIDDEN`] or without where
/// a `:status` may stand in trailers.
fn is_shown(whole: &[u8], shown: &[u8]) -> bool {
    let is_same = |(whole, shown): (&u8, &u8)| {
        whole == shown || (STATUS.contains(whole) && *shown == FORBIDDEN)
    };
    shown.len() <= whole.len() && whole.iter().zip(shown).all(is_same)
}

/// What came of one step.
#[derive(Debug, PartialEq)]
enum Outcome {
    /// How much `h2` has been shown by then, and its sum: the same where nothing is malformed.
    Shown(usize, u64),
    /// The peer has broken the connection.
    Broken(String),
    Table {
        slots: usize,
        calls: usize,
        came: usize,
        unread: Vec<(u32, usize)>,
        unparked: usize,
        hold: Option<bool>,
        question: bool,
        has_stuck: bool,
        is_blocked: bool,
        dead: usize,
        header_list: Option<u32>,
    },
    Left(Left),
}

struct Run {
    io: WireIo<Socket>,
    socket: Socket,
    streams: Streams,
    awake: Arc<Awake>,
    asked: Sizes,
    most: usize,
    come: Vec<u8>,
    shown: Vec<u8>,
    has_ended: bool,
    /// How much of ours the socket has taken.
    written: usize,
    opened: usize,
    /// Streams of which the calls have let go.
    left: BTreeSet<u32>,
    freed: usize,
    /// Calls that were over when their streams were, or that have left before.
    calls: usize,
}

impl Run {
    fn new(script: &Script, sizes: &[u8]) -> Self {
        let (pieces, asked) = sizes.split_at(sizes.len() / 2);
        let streams = Streams::default();
        let socket = Socket::new(Sizes::new(pieces));
        let most = u32::try_from(script.most).expect("24 bits");
        Self {
            io: WireIo::new(socket.clone(), streams.clone(), most),
            socket,
            streams,
            awake: Arc::default(),
            asked: Sizes::new(asked),
            most: script.most,
            come: Vec::new(),
            shown: Vec::new(),
            has_ended: false,
            written: 0,
            opened: 0,
            left: BTreeSet::new(),
            freed: 0,
            calls: 0,
        }
    }

    fn play(mut self, script: &Script) -> Vec<Outcome> {
        let mut outcomes = Vec::new();
        for step in &script.steps {
            let outcome = match step {
                Step::Come(bytes) => {
                    self.come.extend_from_slice(bytes);
                    self.socket.state().come.extend_from_slice(bytes);
                    self.read()
                }
                Step::End => {
                    self.has_ended = true;
                    self.socket.state().has_ended = true;
                    self.read()
                }
                Step::Write { bytes, is_blocked } => self.write(bytes, *is_blocked),
                Step::Open(bytes) => {
                    let number = u32::try_from(2 * self.opened + 1).expect("few");
                    self.streams.lock().open(number, *bytes);
                    self.opened += 1;
                    continue;
                }
                Step::Leave(stream) => self.leave(*stream),
                Step::Follow { asks } => {
                    let table = self.follow();
                    if matches!(table, Outcome::Table { question: true, .. }) {
                        self.streams.lock().on_question(*asks);
                    }
                    table
                }
            };
            let is_broken = matches!(outcome, Outcome::Broken(_));
            outcomes.push(outcome);
            if is_broken {
                break;
            }
        }
        self.streams.lock().end_all();
        outcomes.push(self.follow());
        assert_eq!(self.freed, self.opened, "every slot is freed once");
        assert_eq!(self.calls, self.opened, "every call leaves once");
        outcomes
    }

    /// A call lets go of its stream once.
    fn leave(&mut self, stream: u32) -> Outcome {
        let is_open = stream % 2 == 1 && stream as usize <= 2 * self.opened;
        if !is_open || !self.left.insert(stream) {
            return Outcome::Left(Left::Over);
        }
        let mut streams = self.streams.lock();
        let left = streams.leave(stream);
        self.calls += usize::from(left != Left::Over);
        if left == Left::EndsLater {
            streams.park(stream, Box::new(()));
        }
        Outcome::Left(left)
    }

    fn follow(&mut self) -> Outcome {
        let mut streams = self.streams.lock();
        let freed = streams.take_freed();
        self.freed += freed.slots;
        self.calls += freed.calls;
        assert!(self.freed <= self.opened, "{} slots", self.freed);
        assert!(freed.calls <= freed.slots);
        let unread = streams.received().into_iter();
        Outcome::Table {
            slots: freed.slots,
            calls: freed.calls,
            came: streams.take_came(),
            unread: unread.map(|one| (one.stream, one.came.cost())).collect(),
            unparked: streams.take_parked().len(),
            hold: streams.take_hold(),
            question: streams.has_question(),
            has_stuck: streams.has_stuck(),
            is_blocked: streams.blocked_since().is_some(),
            dead: streams.dead(),
            header_list: streams.header_list(),
        }
    }

    /// Reads all there is, as `h2` does: when nothing comes, it writes.
    fn read(&mut self) -> Outcome {
        let waker = Waker::from(self.awake.clone());
        let mut cx = Context::from_waker(&waker);
        let mut space = vec![0; LARGEST];
        let mut turn = 0;
        let mut patience = 1_000 + 4 * self.come.len();
        loop {
            patience -= 1;
            assert!(patience > 0, "the IO wakes itself for ever");
            let asked = self.asked.next().max(self.come.len() >> 10);
            let mut asked = ReadBuf::new(&mut space[..asked]);
            match Pin::new(&mut self.io).poll_read(&mut cx, &mut asked) {
                Poll::Ready(Ok(())) if asked.filled().is_empty() => break,
                Poll::Ready(Ok(())) => {
                    turn += asked.filled().len();
                    self.shown.extend_from_slice(asked.filled());
                }
                Poll::Ready(Err(error)) => {
                    let possible = shown_of(&self.come, self.most, true);
                    let is_shown = is_shown(&possible, &self.shown);
                    assert!(is_shown, "before it is broken off");
                    self.assert_goaway();
                    return Outcome::Broken(error.to_string());
                }
                Poll::Pending => {
                    assert!(turn <= TURN + LARGEST, "{turn} bytes in one turn");
                    turn = 0;
                    let _ = Pin::new(&mut self.io).poll_flush(&mut cx);
                    if !self.awake.0.swap(false, Ordering::Relaxed) {
                        break;
                    }
                }
            }
        }
        let whole = shown_of(&self.come, self.most, self.has_ended);
        let same = self.shown.iter().zip(&whole).take_while(|(a, b)| a == b);
        assert!(
            self.shown.len() == whole.len() && is_shown(&whole, &self.shown),
            "{} of {} bytes are shown, of which {} are the same",
            self.shown.len(),
            whole.len(),
            same.count()
        );
        self.outcome()
    }

    fn outcome(&self) -> Outcome {
        let sum = self.shown.iter().map(|byte| u64::from(*byte)).sum();
        Outcome::Shown(self.shown.len(), sum)
    }

    /// Nothing is said within another frame.
    fn assert_goaway(&self) {
        let taken = &self.socket.state().taken;
        let (written, said) = taken.split_at(self.written);
        let Some(frames) = written.get(PREFACE.len()..) else {
            return assert!(said.is_empty(), "within the preface");
        };
        let mut rest = frames;
        while let Some(length) = length_at(rest)
            && let Some(behind) = rest.get(Head::SIZE + length..)
        {
            rest = behind;
        }
        match rest.is_empty() {
            // Or as much of it as the socket takes.
            true => assert!(said.get(3).is_none_or(|kind| *kind == Head::GOAWAY)),
            false => assert!(said.is_empty(), "{said:?} within a frame"),
        }
    }

    fn write(&mut self, bytes: &[u8], is_blocked: bool) -> Outcome {
        let waker = Waker::from(self.awake.clone());
        let mut cx = Context::from_waker(&waker);
        let mut rest = bytes;
        self.socket.state().is_blocked = is_blocked && !bytes.is_empty();
        while !rest.is_empty() {
            // Larger than what the socket takes, or smaller.
            let (first, second) = rest.split_at(self.asked.next().min(rest.len()));
            let second = &second[..second.len().min(self.asked.next())];
            let io = Pin::new(&mut self.io);
            let written = match first.len() % 2 {
                0 => io.poll_write(&mut cx, first),
                _ => {
                    let bufs = [first, second].map(IoSlice::new);
                    io.poll_write_vectored(&mut cx, &bufs)
                }
            };
            match written {
                Poll::Ready(Ok(written)) => {
                    assert!(written > 0 && written <= rest.len());
                    self.written += written;
                    rest = &rest[written..];
                }
                Poll::Ready(Err(error)) => return Outcome::Broken(error.to_string()),
                Poll::Pending => self.socket.state().is_blocked = false,
            }
        }
        self.outcome()
    }
}

#[derive(Default)]
struct Awake(AtomicBool);

impl Wake for Awake {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, io::Read, path::Path};

    use super::check;

    #[test]
    fn no_cut_changes_anything() {
        let mut random = fastrand::Rng::with_seed(7);
        for _ in 0..1_500 {
            let input: Vec<u8> = (0..random.usize(..200)).map(|_| random.u8(..)).collect();
            check(&input);
        }
    }

    #[test]
    fn the_corpus_of_the_fuzz_target_holds() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus/wire");
        // A package has neither an archive nor a folder, and mostly there is no folder.
        let packed = fs::read(folder.with_extension("tar")).unwrap_or_default();
        for entry in tar::Archive::new(&*packed).entries().expect("an archive") {
            let mut input = Vec::new();
            let mut entry = entry.expect("a whole entry");
            entry.read_to_end(&mut input).expect("a whole input");
            check(&input);
        }
        for file in fs::read_dir(folder).into_iter().flatten() {
            let path = file.expect("an entry of the folder").path();
            check(&fs::read(path).expect("an input"));
        }
    }
}
