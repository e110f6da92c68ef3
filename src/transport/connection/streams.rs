//! The streams of calls on one connection, by what has been on the wire.
//!
//! A stream is free at the peer when both its sides are over on the wire: END_STREAM of each,
//! or one RST_STREAM. Its slot is free here at the same moment, not before: a peer that stops
//! reading is then given no more streams than its limit, however many calls are cancelled.
//!
//! A stream stays in the table until its call lets go of it, for what has come may not be read.

use std::{
    any::Any,
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard, Weak},
    time::Instant,
};

use super::{held_body::HeldBody, unread::Came};
use crate::util::lock::lock;

/// Calls that may be cancelled on a connection before the peer is seen to read: it takes no
/// call then, and resets no more streams. The servers of tonic and `h2` end a connection over 21
/// streams that are reset before they have looked at them, and a peer that was busy or has
/// stopped would find them all at once.
pub(in crate::transport) const MAX_CANCELLED: usize = 16;
/// Bytes of requests that may wait to be written before a connection takes no more calls.
const MAX_WAITING: usize = 1 << 20;
/// What one request counts at most: a large message is to hold back no other call, and 16 are.
const MAX_WAITING_OF_CALL: usize = MAX_WAITING / 16;
/// What a request counts at least.
const WAITING_HEAD: usize = 512;
/// An answer that is whole and no larger than this is its caller's: the driver does not look
/// after it.
const SMALL_ANSWER: usize = 64 << 10;

/// Shared by the handles of a connection and the IO under its `h2`.
#[derive(Clone, Default)]
pub(in crate::transport) struct Streams(Arc<Mutex<StreamTable>>);

impl Streams {
    pub(in crate::transport) fn lock(&self) -> MutexGuard<'_, StreamTable> {
        lock(&self.0)
    }
}

#[derive(Default)]
pub(in crate::transport) struct StreamTable {
    /// In the order of their numbers (RFC 9113 §5.1.1), in which they are opened.
    streams: VecDeque<Stream>,
    freed: Freed,
    /// How often [`take_freed`](Self::take_freed) has been called.
    turn: u32,
    /// Streams that have a `stuck_in`.
    stuck: usize,
    /// Since when the socket takes nothing of what is written to it.
    blocked_since: Option<Instant>,
    /// Bytes of requests that `h2` could not write yet.
    waiting: usize,
    /// How often what waits has begun anew.
    epoch: u32,
    /// Calls cancelled since the peer was last seen to read.
    cancelled: usize,
    question: Question,
    /// What keeps streams of cancelled calls from being reset, until the peer's next byte.
    parked: VecDeque<(u32, Parked)>,
    /// The last stream of which HEADERS are written; they are written in order.
    known: u32,
    /// Streams of cancelled calls above that.
    dead: usize,
    /// The largest header list that the peer takes, if it has said so.
    header_list: Option<u32>,
    /// Where the last stream that was looked for stands.
    last: usize,
    /// Whether the connection takes no calls.
    is_held: bool,
    /// What DATA has come since the driver's last poll.
    came: usize,
}

/// What has an end since the driver's last poll.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in crate::transport) struct Freed {
    /// Slots to be given back.
    pub(in crate::transport) slots: usize,
    /// Calls among them that are still counted as in flight.
    pub(in crate::transport) calls: usize,
}

/// What a call has of the peer's DATA, read or not.
pub(in crate::transport) struct Received {
    pub(in crate::transport) stream: u32,
    pub(in crate::transport) came: Came,
    /// Its response, if the driver looks after it.
    pub(in crate::transport) body: Option<Weak<dyn HeldBody>>,
}

/// A handle of `h2` to a stream, which is reset when it is dropped.
pub(in crate::transport) type Parked = Box<dyn Any + Send>;

/// What comes of a stream that its call lets go of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::transport) enum Left {
    /// It was over.
    Over,
    /// `h2` ends it.
    Ends,
    /// The same, but later: its handle is to be parked.
    EndsLater,
}

/// Whether the peer is asked if it reads.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
enum Question {
    #[default]
    None,
    /// By SETTINGS behind the last of what was cancelled.
    Asked,
    /// It has not acknowledged others, which may stand before that.
    Impossible,
}

struct Stream {
    number: u32,
    /// What it has in the table's `waiting`, in that epoch.
    waiting: usize,
    epoch: u32,
    /// Header blocks of the peer's.
    headers: u8,
    /// One of them is known to be the response's.
    is_answered: bool,
    /// END_STREAM was written.
    request_over: bool,
    /// END_STREAM has come.
    response_over: bool,
    /// Both, or RST_STREAM.
    is_over: bool,
    /// Its call has let go of it.
    is_left: bool,
    /// DATA of the peer's.
    came: Came,
    body: Option<Weak<dyn HeldBody>>,
    /// The turn in which its call let go of it, where `h2` may have nothing more to write: the
    /// answer is whole, and the end of the request waits for a window.
    stuck_in: Option<u32>,
}

impl StreamTable {
    /// A stream is open, and `bytes` of its request wait to be written. Under the lock that was
    /// held while `h2` opened it: numbers are then in order here, and its end is not seen
    /// before it.
    pub(in crate::transport) fn open(&mut self, number: u32, bytes: usize) {
        let waiting = WAITING_HEAD + bytes.min(MAX_WAITING_OF_CALL);
        self.waiting += waiting;
        self.streams.push_back(Stream {
            number,
            waiting,
            epoch: self.epoch,
            headers: 0,
            is_answered: false,
            request_over: false,
            response_over: false,
            is_over: false,
            is_left: false,
            came: Came::default(),
            body: None,
            stuck_in: None,
        });
    }

    /// The largest header list that the peer takes is this, by its SETTINGS.
    pub(in crate::transport) fn set_header_list(&mut self, bytes: u32) {
        self.header_list = Some(bytes);
    }

    /// The largest header list that the peer takes, if it has said so.
    pub(in crate::transport) fn header_list(&self) -> Option<u32> {
        self.header_list
    }

    /// Our HEADERS are on the wire.
    pub(in crate::transport) fn on_head(&mut self, number: u32) {
        self.known = self.known.max(number);
        if self.dead > 0 {
            let dead = |stream: &&Stream| stream.is_left && stream.number > self.known;
            self.dead = self.streams.iter().filter(dead).count();
        }
    }

    /// Our END_STREAM is on the wire.
    pub(in crate::transport) fn on_request_over(&mut self, number: u32) {
        if let Some(at) = self.position(number) {
            let stream = &mut self.streams[at];
            stream.request_over = true;
            if stream.response_over {
                self.end(at);
            } else if stream.epoch == self.epoch {
                self.waiting -= std::mem::take(&mut stream.waiting);
            }
        }
    }

    /// The peer's END_STREAM is here.
    pub(in crate::transport) fn on_response_over(&mut self, number: u32) {
        if let Some(at) = self.position(number) {
            self.end_response(at);
        }
    }

    #[inline(always)]
    fn end_response(&mut self, at: usize) {
        let stream = &mut self.streams[at];
        stream.response_over = true;
        if stream.request_over {
            self.end(at);
        }
    }

    /// RST_STREAM is on the wire, of either side. Whether the stream was open until now.
    pub(in crate::transport) fn on_reset(&mut self, number: u32) -> bool {
        let at = self.position(number);
        at.into_iter().for_each(|at| self.end(at));
        at.is_some()
    }

    /// Headers of the peer's that do not end the stream, known to be the response's or not. How
    /// many there were by now, if it is open.
    pub(in crate::transport) fn on_headers(&mut self, number: u32, is_answer: bool) -> Option<u8> {
        let at = self.position(number)?;
        let stream = &mut self.streams[at];
        stream.is_answered |= is_answer;
        stream.headers = stream.headers.saturating_add(1);
        Some(stream.headers)
    }

    /// Headers of the peer's that end the stream, all of them or the first frame. Whether they
    /// are trailers, as far as that is known.
    pub(in crate::transport) fn on_last_headers(&mut self, number: u32, all: bool) -> bool {
        let Some(at) = self.position(number) else {
            return false;
        };
        let stream = &self.streams[at];
        let are_trailers = stream.is_answered || stream.came.cost() > 0;
        if all {
            self.end_response(at);
        }
        are_trailers
    }

    /// DATA of the peer's, which ends its side or does not.
    pub(in crate::transport) fn on_data(&mut self, number: u32, came: Came, is_last: bool) {
        if let Some(at) = self.position(number) {
            self.streams[at].came += came;
            self.came += came.cost();
            if is_last {
                self.end_response(at);
            }
        }
    }

    /// The response of a stream is looked after by the driver.
    pub(in crate::transport) fn set_body(&mut self, number: u32, body: Weak<dyn HeldBody>) {
        if let Some(at) = self.find(number) {
            self.streams[at].body = Some(body);
        }
    }

    /// How many DATA frames the response of a stream has, if it is whole and small.
    pub(in crate::transport) fn settled(&mut self, number: u32) -> Option<u32> {
        let at = self.find(number)?;
        let stream = &self.streams[at];
        let is_settled = stream.response_over && stream.came.cost() <= SMALL_ANSWER;
        is_settled.then(|| stream.came.frames())
    }

    /// Whether a call waits for the end of its stream.
    pub(in crate::transport) fn has_open(&self) -> bool {
        let mut streams = self.streams.iter();
        streams.any(|stream| !stream.is_over && !stream.is_left)
    }

    /// What calls have of the peer's DATA.
    pub(in crate::transport) fn received(&self) -> Vec<Received> {
        let streams = self.streams.iter();
        let with_data = streams.filter(|stream| !stream.is_left && stream.came.cost() > 0);
        let received = |stream: &Stream| Received {
            stream: stream.number,
            came: stream.came,
            body: stream.body.clone(),
        };
        with_data.map(received).collect()
    }

    /// What DATA has come since this was last asked.
    pub(in crate::transport) fn take_came(&mut self) -> usize {
        std::mem::take(&mut self.came)
    }

    /// Its call lets go of a stream.
    pub(in crate::transport) fn leave(&mut self, number: u32) -> Left {
        let Some(at) = self.find(number) else {
            return Left::Over;
        };
        let stream = &mut self.streams[at];
        if stream.is_over {
            self.remove(at);
            return Left::Over;
        }
        stream.is_left = true;
        self.dead += usize::from(number > self.known);
        if stream.response_over {
            stream.stuck_in = Some(self.turn);
            self.stuck += 1;
        } else if self.cancelled < MAX_CANCELLED {
            self.cancelled += 1;
        } else {
            return Left::EndsLater;
        }
        Left::Ends
    }

    /// Keeps a stream from being reset until the peer says something.
    pub(in crate::transport) fn park(&mut self, number: u32, handle: Parked) {
        self.parked.push_back((number, handle));
    }

    /// What is parked no longer. To be dropped without the lock.
    pub(in crate::transport) fn take_parked(&mut self) -> Vec<Parked> {
        let mut taken = Vec::new();
        while let Some((number, _)) = self.parked.front() {
            // A stream that is over meanwhile is not reset.
            let is_reset = self.position(*number).is_some();
            if is_reset && self.cancelled >= MAX_CANCELLED {
                break;
            }
            self.cancelled += usize::from(is_reset);
            taken.extend(self.parked.pop_front().map(|(_, handle)| handle));
        }
        taken
    }

    /// All that is parked, of a connection that nothing holds any more.
    pub(in crate::transport) fn take_all_parked(&mut self) -> Vec<Parked> {
        let parked = self.parked.drain(..);
        parked.map(|(_, handle)| handle).collect()
    }

    /// Something of the peer's is here. After 16 calls it may have been on its way before
    /// those were cancelled, and is no answer.
    pub(in crate::transport) fn on_bytes(&mut self) {
        if self.cancelled < MAX_CANCELLED || self.question == Question::Impossible {
            self.on_peer_reads();
        }
    }

    /// The peer has acknowledged SETTINGS.
    pub(in crate::transport) fn on_settings_ack(&mut self) {
        if self.question == Question::Asked {
            self.on_peer_reads();
        }
    }

    fn on_peer_reads(&mut self) {
        self.cancelled = 0;
        self.question = Question::None;
    }

    /// The peer was asked whether it reads, if that was possible.
    pub(in crate::transport) fn on_question(&mut self, is_asked: bool) {
        self.question = match is_asked {
            true => Question::Asked,
            false => Question::Impossible,
        };
    }

    /// The socket took some of what was written to it, or all.
    pub(in crate::transport) fn on_written(&mut self) {
        self.blocked_since = None;
    }

    /// The socket took nothing of what was written to it.
    pub(in crate::transport) fn on_blocked(&mut self, now: impl FnOnce() -> Instant) {
        self.blocked_since.get_or_insert_with(now);
    }

    /// Since when the socket takes nothing.
    pub(in crate::transport) fn blocked_since(&self) -> Option<Instant> {
        self.blocked_since
    }

    /// Streams of cancelled calls that a peer would find which knows nothing of them.
    pub(in crate::transport) fn dead(&self) -> usize {
        self.dead
    }

    /// What the last poll of `h2` has freed.
    pub(in crate::transport) fn take_freed(&mut self) -> Freed {
        // `h2` has written all it could since then, and was not hindered. What still waits
        // waits for a window, which the peer opens to each stream as it likes.
        if self.blocked_since.is_none() {
            if self.stuck > 0 {
                self.give_up_stuck();
            }
            if self.waiting > 0 {
                self.waiting = 0;
                self.epoch = self.epoch.wrapping_add(1);
            }
        }
        self.turn = self.turn.wrapping_add(1);
        std::mem::take(&mut self.freed)
    }

    fn give_up_stuck(&mut self) {
        let now = self.turn;
        while let Some(at) = self
            .streams
            .iter()
            .position(|stream| stream.stuck_in.is_some_and(|turn| turn != now))
        {
            self.end(at);
        }
    }

    /// Whether the driver's next poll frees streams, though nothing comes.
    pub(in crate::transport) fn has_stuck(&self) -> bool {
        self.stuck > 0 && self.blocked_since.is_none()
    }

    /// Whether the connection takes no calls, if that is new.
    pub(in crate::transport) fn take_hold(&mut self) -> Option<bool> {
        let holds = self.cancelled >= MAX_CANCELLED || self.waiting >= MAX_WAITING;
        (holds != self.is_held).then(|| {
            self.is_held = holds;
            holds
        })
    }

    /// Whether the peer is to be asked if it reads.
    pub(in crate::transport) fn has_question(&self) -> bool {
        self.cancelled >= MAX_CANCELLED && self.question != Question::Asked
    }

    /// The connection is over, and all streams with it.
    pub(in crate::transport) fn end_all(&mut self) {
        self.cancelled = 0;
        for at in (0..self.streams.len()).rev() {
            if !self.streams[at].is_over {
                self.end(at);
            }
        }
    }

    fn end(&mut self, at: usize) {
        let stream = &mut self.streams[at];
        stream.is_over = true;
        stream.response_over = true;
        self.stuck -= usize::from(stream.stuck_in.is_some());
        self.dead -= usize::from(stream.is_left && stream.number > self.known);
        if stream.epoch == self.epoch {
            self.waiting -= std::mem::take(&mut stream.waiting);
        }
        self.freed.slots += 1;
        self.freed.calls += usize::from(!stream.is_left);
        if stream.is_left {
            self.remove(at);
        }
    }

    fn remove(&mut self, at: usize) {
        match at {
            // Mostly it is the oldest.
            0 => self.streams.pop_front(),
            _ => self.streams.remove(at),
        };
    }

    /// Where a stream is that is not over.
    #[inline(always)]
    fn position(&mut self, number: u32) -> Option<usize> {
        let at = self.find(number)?;
        (!self.streams[at].is_over).then_some(at)
    }

    #[inline(always)]
    fn find(&mut self, number: u32) -> Option<usize> {
        match self.streams.get(self.last) {
            Some(stream) if stream.number == number => Some(self.last),
            _ => {
                let at = self.look_for(number)?;
                self.last = at;
                Some(at)
            }
        }
    }

    #[inline(never)]
    fn look_for(&self, number: u32) -> Option<usize> {
        let behind = self.streams.back()?.number.checked_sub(number)? as usize / 2;
        // Mostly all that were opened after it are still there.
        let at = self.streams.len().wrapping_sub(behind + 1);
        match self.streams.get(at) {
            Some(stream) if stream.number == number => Some(at),
            _ => self.search(number),
        }
    }

    #[inline(never)]
    fn search(&self, number: u32) -> Option<usize> {
        self.streams
            .binary_search_by_key(&number, |stream| stream.number)
            .ok()
    }
}
