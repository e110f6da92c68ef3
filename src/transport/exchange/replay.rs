//! A request body that streams, kept for attempts to come.
//!
//! ```text
//!   the caller's body ──► kept chunks  0 1 2 3 4 5 ──► next
//!                                 ▲           ▲
//!                        reader of a hedge   reader of the first attempt
//! ```
//!
//! Each attempt reads from the beginning. A reader that has read all kept chunks takes more from
//! the body. So the body moves as fast as the first of its attempts. Once the call is committed to
//! one attempt, only that attempt reads on, and nothing is kept. The same happens where more would
//! have to be kept than the [`ReplayBudget`] allows.

use std::{
    collections::VecDeque,
    future::Future,
    pin::Pin,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed},
    },
    task::{Context, Poll, Wake, Waker, ready},
};

use bytes::Bytes;
use http::HeaderMap;
use http_body::Frame;
use tokio::sync::Notify;
use tonic::{Status, body::Body};

use super::{
    counted_body::CountedBody, prefixes::MessageBytes, request_body::poll_contained,
    witnessed_body::WitnessedBody,
};
use crate::{
    trace::AttemptWitness,
    util::{contained::Contained, lock::lock},
};

/// A chunk up to this size is copied out of the buffer it came in. tonic's codec takes one of
/// 8 KiB for each message. It would be kept for as long as the call may be sent again. The task
/// that writes would free it, mostly on another thread, which `malloc` is slow at.
pub(super) const COPIED: usize = 1 << 10;

/// How much of requests a channel keeps for attempts to come, in bytes.
#[derive(Debug)]
pub(crate) struct ReplayBudget {
    per_call: usize,
    per_channel: usize,
    held: AtomicUsize,
}

/// The share of a budget that one call holds. Given back when this is dropped.
#[derive(Debug)]
pub(crate) struct Held {
    budget: Arc<ReplayBudget>,
    bytes: usize,
}

impl ReplayBudget {
    pub(crate) fn new(per_call: usize, per_channel: usize) -> Self {
        Self {
            per_call,
            per_channel,
            held: AtomicUsize::new(0),
        }
    }

    /// The bytes that all calls hold.
    #[cfg(test)]
    pub(crate) fn held(&self) -> usize {
        self.held.load(Relaxed)
    }
}

impl Held {
    pub(crate) fn none(budget: &Arc<ReplayBudget>) -> Self {
        Self {
            budget: Arc::clone(budget),
            bytes: 0,
        }
    }

    /// Holds so much more, if that is within both limits.
    pub(crate) fn grow(&mut self, by: usize) -> bool {
        let budget = &self.budget;
        let own = self.bytes.saturating_add(by);
        if own > budget.per_call {
            return false;
        }
        let grown = |held: usize| {
            let held = held.checked_add(by)?;
            (held <= budget.per_channel).then_some(held)
        };
        if budget.held.fetch_update(Relaxed, Relaxed, grown).is_err() {
            return false;
        }
        self.bytes = own;
        true
    }

    fn give_back(&mut self) {
        self.budget.held.fetch_sub(self.bytes, Relaxed);
        self.bytes = 0;
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.give_back();
    }
}

/// The number of the attempt that a body is kept for first.
const FIRST: u32 = 1;

/// The body of one call, for all its attempts. Each of these is one attempt's handle.
pub(super) struct Replay {
    shared: Arc<Shared>,
    attempt: u32,
    /// The number of the reader that this attempt has had last.
    reader: Option<u64>,
    /// Adds up what its readers read, where that is asked for.
    sent: Option<Arc<AtomicU64>>,
    /// Told of the messages of the next reader.
    witness: Option<AttemptWitness>,
}

struct Shared {
    kept: Mutex<Kept>,
    /// The body wakes them all, as any of them may be the one that reads on.
    readers: Arc<Readers>,
    /// The call is committed, as more would have to be kept than is allowed.
    overflown: Notify,
}

struct Kept {
    source: Source,
    chunks: VecDeque<Bytes>,
    /// The place of the first of `chunks` in the body.
    first: usize,
    held: Held,
    /// Those that may read.
    readers: Vec<Place>,
    next_reader: u64,
    /// The attempt that the call is committed to: nothing is kept for others.
    committed: Option<u32>,
}

/// How far one reader is.
struct Place {
    reader: u64,
    attempt: u32,
    /// The place of its next chunk in the body.
    next: usize,
}

/// Where chunks come from.
enum Source {
    Body(Contained<Body>),
    Ended(Option<HeaderMap>),
    /// The body has failed. An attempt has that error.
    Failed,
}

#[derive(Default)]
struct Readers(Mutex<Vec<Waker>>);

impl Wake for Readers {
    fn wake(self: Arc<Self>) {
        let wakers = std::mem::take(&mut *lock(&self.0));
        wakers.into_iter().for_each(Waker::wake);
    }
}

impl Readers {
    fn register(&self, waker: &Waker) {
        let mut wakers = lock(&self.0);
        if !wakers.iter().any(|registered| registered.will_wake(waker)) {
            wakers.push(waker.clone());
        }
    }
}

/// The body of one attempt.
struct Reader {
    shared: Arc<Shared>,
    number: u64,
}

impl Replay {
    /// Of a body whose first chunks are taken already. They are kept if that is allowed.
    pub(super) fn new(
        budget: &Arc<ReplayBudget>,
        chunks: impl IntoIterator<Item = Bytes>,
        trailers: Option<HeaderMap>,
        body: Contained<Body>,
    ) -> Self {
        let chunks: VecDeque<_> = chunks.into_iter().collect();
        let mut held = Held::none(budget);
        let is_kept = held.grow(chunks.iter().map(Bytes::len).sum());
        let source = match trailers {
            None => Source::Body(body),
            trailers => Source::Ended(trailers),
        };
        Self {
            shared: Arc::new(Shared {
                kept: Mutex::new(Kept {
                    source,
                    chunks,
                    first: 0,
                    held,
                    readers: Vec::new(),
                    next_reader: 0,
                    committed: (!is_kept).then_some(FIRST),
                }),
                readers: Arc::default(),
                overflown: Notify::new(),
            }),
            attempt: FIRST,
            reader: None,
            sent: None,
            witness: None,
        }
    }

    /// The same body, for the attempt with this number, beside this one.
    pub(super) fn fork(&self, attempt: u32) -> Self {
        Self {
            shared: Arc::clone(&self.shared),
            attempt,
            reader: None,
            sent: None,
            witness: None,
        }
    }

    /// The next reader adds up the bytes of its messages in `sent`.
    pub(super) fn count(&mut self, sent: &Arc<AtomicU64>) {
        self.sent = Some(Arc::clone(sent));
    }

    /// The next reader tells a trace of its messages.
    pub(super) fn set_witness(&mut self, witness: AttemptWitness) {
        self.witness = Some(witness);
    }

    /// The body from its beginning. The reader that this attempt had before reads no more.
    pub(super) fn read(&mut self) -> Contained<Body> {
        self.revoke();
        let mut kept = lock(&self.shared.kept);
        let number = kept.next_reader;
        kept.next_reader += 1;
        kept.readers.push(Place {
            reader: number,
            attempt: self.attempt,
            next: 0,
        });
        drop(kept);
        self.reader = Some(number);
        let body = Contained::new(Body::new(Reader {
            shared: Arc::clone(&self.shared),
            number,
        }));
        let mut body = match &self.sent {
            None => body,
            Some(sent) => CountedBody::of(body, MessageBytes::default(), Arc::clone(sent)),
        };
        if let Some(witness) = self.witness.take() {
            WitnessedBody::wrap(&mut body, MessageBytes::default(), witness);
        }
        body
    }

    /// The reader of this attempt reads no more, and its stream is reset if that is still open.
    pub(super) fn revoke(&mut self) {
        if let Some(reader) = self.reader.take() {
            let mut kept = lock(&self.shared.kept);
            kept.readers.retain(|place| place.reader != reader);
            drop(kept);
            self.shared.wake();
        }
    }

    /// Whether another attempt can have the body.
    pub(super) fn is_kept(&self) -> bool {
        self.committed().is_none()
    }

    /// The attempt that the call is committed to, if it is.
    pub(super) fn committed(&self) -> Option<u32> {
        lock(&self.shared.kept).committed
    }

    /// Whether the body has failed by itself.
    pub(super) fn has_failed(&self) -> bool {
        matches!(lock(&self.shared.kept).source, Source::Failed)
    }

    /// This attempt is the one: what it has read is dropped, and the other readers stop.
    pub(super) fn commit(&self) {
        if let Some(reader) = self.reader {
            lock(&self.shared.kept).commit(reader);
            self.shared.wake();
        }
    }

    /// Resolves once more would be kept than is allowed, and the call is committed by that.
    pub(super) fn overflown(&self) -> impl Future<Output = ()> + Send + 'static {
        let shared = Arc::clone(&self.shared);
        async move { shared.overflown.notified().await }
    }
}

impl Shared {
    fn wake(&self) {
        Arc::clone(&self.readers).wake();
    }
}

impl Kept {
    /// How far a reader is, if it may read.
    fn place(&mut self, reader: u64) -> Option<&mut Place> {
        self.readers.iter_mut().find(|place| place.reader == reader)
    }

    /// Only this reader is left.
    fn commit(&mut self, reader: u64) {
        self.readers.retain(|place| place.reader == reader);
        self.committed = self.readers.first().map(|place| place.attempt);
        self.held.give_back();
        self.drop_read();
    }

    /// Once committed: forgets what the one reader has read.
    fn drop_read(&mut self) {
        if let Some(place) = self.readers.first() {
            self.chunks.drain(..place.next - self.first);
            self.first = place.next;
        }
    }

    /// The next chunk for this reader, of those that are kept.
    fn read_kept(&mut self, reader: u64) -> Option<Bytes> {
        let (first, is_committed) = (self.first, self.committed.is_some());
        let place = self
            .readers
            .iter_mut()
            .find(|place| place.reader == reader)?;
        let chunk = self.chunks.get(place.next - first)?.clone();
        place.next += 1;
        if is_committed {
            self.drop_read();
        }
        Some(chunk)
    }

    /// Keeps a chunk that `reader` has read. False if that is too much: then it is the only
    /// reader.
    fn keep(&mut self, reader: u64, chunk: &Bytes) -> bool {
        if !self.held.grow(chunk.len()) {
            self.commit(reader);
            return false;
        }
        self.chunks.push_back(match chunk.len() {
            ..=COPIED => Bytes::copy_from_slice(chunk),
            _ => chunk.clone(),
        });
        if let Some(place) = self.place(reader) {
            place.next += 1;
        }
        true
    }

    /// The next frame of the body itself.
    fn poll_source(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let body = match &mut self.source {
            Source::Body(body) => body,
            Source::Ended(trailers) => {
                return Poll::Ready(
                    trailers
                        .clone()
                        .map(|trailers| Ok(Frame::trailers(trailers))),
                );
            }
            Source::Failed => return Poll::Ready(None),
        };
        let frame = ready!(poll_contained(body, cx));
        match &frame {
            Some(Ok(frame)) => {
                if let Some(trailers) = frame.trailers_ref() {
                    self.source = Source::Ended(Some(trailers.clone()));
                }
            }
            Some(Err(_)) => self.source = Source::Failed,
            None => self.source = Source::Ended(None),
        }
        Poll::Ready(frame)
    }
}

impl Reader {
    fn poll(
        &self,
        kept: &mut Kept,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        if kept.place(self.number).is_none() {
            let status = Status::cancelled("another attempt of the call goes on");
            return Poll::Ready(Some(Err(status)));
        }
        if let Some(chunk) = kept.read_kept(self.number) {
            return Poll::Ready(Some(Ok(Frame::data(chunk))));
        }
        self.shared.readers.register(cx.waker());
        let all = Waker::from(Arc::clone(&self.shared.readers));
        let frame = ready!(kept.poll_source(&mut Context::from_waker(&all)));
        let Some(Ok(frame)) = frame else {
            return Poll::Ready(frame);
        };
        if let Some(chunk) = frame.data_ref()
            && !chunk.is_empty()
            && kept.committed.is_none()
        {
            if !kept.keep(self.number, chunk) {
                self.shared.overflown.notify_one();
            }
            // Another attempt may wait for it, or reads no more.
            self.shared.wake();
        }
        Poll::Ready(Some(Ok(frame)))
    }
}

impl http_body::Body for Reader {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        self.poll(&mut lock(&self.shared.kept), cx)
    }
}
