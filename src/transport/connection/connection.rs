//! The handle to one HTTP/2 connection, and a place on it for one call.

use std::{
    fmt,
    sync::{Arc, Mutex, MutexGuard, Weak},
    task::{Context, Poll, Waker},
    time::Duration,
};

use bytes::Bytes;
use h2::client::SendRequest;
use http::HeaderMap;
use tokio::{runtime::Handle, sync::watch};
use tracing::debug;

use super::{
    answered_by::AnsweredBy,
    backend_calls::{Attempt, BackendCalls, CallOutcome},
    call_limits::CallLimits,
    credentials::CallCredentials,
    deadlines::Deadlines,
    held_body::HeldBody,
    keepalive_throttle::KeepaliveThrottle,
    last_use::LastUse,
    queue::{Queue, Ticket},
    silence::{Silence, SilenceRule},
    slots::Slots,
    stage::Stage,
    streams::{Left, Parked, Streams},
};
use crate::{
    error::Cause,
    metrics::BackendMeter,
    transport::{
        endpoint::{BoundExecutor, ConnectionConfig},
        words::h2_error,
    },
    util::{clock::now, lock::lock},
};

/// A handle to one HTTP/2 connection. When the last one is gone, and the last
/// stream has ended, the connection says GOAWAY and closes.
///
/// Held by the routing in force, by the subchannel, and by every call on it.
#[derive(Clone)]
pub(crate) struct Connection(pub(super) Arc<Shared>);

/// Names a connection without keeping it.
pub(crate) struct WeakConnection(Weak<Shared>);

/// What a connection has of its channel and of its backend. It outlives the
/// connection, and the next one to the same backend gets it too.
#[derive(Clone)]
pub(crate) struct BackendContext {
    /// What the log calls the channel.
    pub(crate) channel: Arc<str>,
    /// The number of its backend.
    pub(crate) backend: u64,
    /// Calls of the channel that wait for a slot, here or elsewhere.
    pub(crate) queue: Arc<Queue<CallSlot>>,
    /// Calls of the backend.
    pub(crate) calls: BackendCalls,
    /// What each response says of the backend, if it is to say so.
    pub(crate) answered_by: Option<AnsweredBy>,
    /// What every request on the connection has to bring, a `Watch` too.
    pub(crate) credentials: Option<CallCredentials>,
    /// How many calls its endpoint wants, if it has a bound.
    pub(crate) limits: Option<Arc<CallLimits>>,
    /// How much less often it is sent PINGs than its endpoint says.
    pub(crate) keepalive_throttle: KeepaliveThrottle,
    /// When its connections are silent, if that is asked for.
    pub(crate) silence: Option<Arc<SilenceRule>>,
    /// By what it is recorded; each connection has a clone of its own.
    pub(crate) meter: BackendMeter,
}

pub(super) struct Shared {
    pub(super) send: SendRequest<Bytes>,
    pub(super) slots: Slots,
    pub(super) streams: Streams,
    pub(super) deadlines: Deadlines,
    /// Who waits for a slot here and nowhere else: [`Connection::reserve_call`].
    pub(super) door: Arc<Queue<Reserved>>,
    pub(super) context: BackendContext,
    pub(super) stage: watch::Sender<Stage>,
    /// Wakes the task that drives the connection.
    pub(super) driver: Mutex<Option<Waker>>,
    pub(super) last_use: LastUse,
    pub(super) config: ConnectionConfig,
    /// While it is silent.
    pub(super) silence: Mutex<Option<Silence>>,
}

/// `h2` closes when no handle of its own is left either, and those that are parked wait for a
/// peer that may say nothing more.
///
/// The driver may have seen the ends of streams, and have no connection any more to tell of them.
impl Drop for Shared {
    fn drop(&mut self) {
        let mut streams = self.streams.lock();
        let parked = streams.take_all_parked();
        let freed = streams.take_freed();
        drop(streams);
        drop(parked);
        self.leave_calls(freed.calls);
    }
}

impl Shared {
    fn leave_calls(&self, calls: usize) {
        self.context.calls.leave(calls);
        if let Some(limits) = &self.context.limits {
            (0..calls).for_each(|_| limits.leave());
        }
    }
}

/// A slot on a connection: the right to open one stream. Dropping it gives the
/// slot to the call that has waited longest.
pub(crate) struct CallSlot {
    connection: Connection,
    owner: SlotOwner,
    /// The number of the stream that was opened on it.
    stream: Option<u32>,
    attempt: Attempt,
}

/// What an [`CallSlot`] has to give back.
#[derive(Clone, Copy, PartialEq, Eq)]
enum SlotOwner {
    /// Nothing: a [`Reservation`] holds the slot, and what runs on it is no call.
    Watch,
    /// The slot alone: there is no call yet.
    Held,
    /// The slot, and its place among the calls in flight.
    Call,
}

/// A slot for a call that is yet to be made, or why there is none any more.
pub(crate) type Reserved = Result<CallSlot, Cause>;

impl Connection {
    pub(in crate::transport) fn new(
        send: SendRequest<Bytes>,
        limit: usize,
        streams: Streams,
        config: ConnectionConfig,
        context: BackendContext,
    ) -> Self {
        let slots = Slots::default();
        slots.set_limit(limit);
        Self(Arc::new(Shared {
            send,
            slots,
            streams,
            deadlines: Deadlines::default(),
            door: Queue::new(),
            context,
            stage: watch::Sender::new(Stage::Open { limit }),
            driver: Mutex::default(),
            last_use: LastUse::start(now()),
            config,
            silence: Mutex::default(),
        }))
    }

    /// Follows the connection's life. The stream ends only when every handle is
    /// gone.
    pub(crate) fn stage(&self) -> watch::Receiver<Stage> {
        self.0.stage.subscribe()
    }

    /// A slot for a call, if there is one now.
    pub(crate) fn admit(&self) -> Option<CallSlot> {
        self.admit_held().map(CallSlot::into_call)
    }

    /// A slot for a call that is yet to be made: at once, or when there is one, or
    /// word that there will be none. First come first served. Only once the
    /// connection is pickable; to calls that can go elsewhere it comes first.
    pub(crate) fn reserve_call(&self) -> Ticket<Reserved> {
        let place = self.0.door.join();
        self.serve_queue();
        place
    }

    /// Polls what [`reserve_call`](Self::reserve_call) gave.
    pub(crate) fn poll_reserved(
        &self,
        ticket: &mut Ticket<Reserved>,
        cx: &mut Context<'_>,
    ) -> Poll<Reserved> {
        ticket.poll_and_serve(cx, || self.serve_queue())
    }

    fn admit_held(&self) -> Option<CallSlot> {
        let taken = match &self.0.context.limits {
            None => self.0.slots.take(),
            Some(limits) => limits.take(&self.0.slots, self),
        };
        taken.map(|attempt| CallSlot {
            connection: self.clone(),
            owner: SlotOwner::Held,
            stream: None,
            attempt,
        })
    }

    /// Gives free slots to calls that wait. That of a probe is not for another balancer, which
    /// would keep it without a call.
    pub(crate) fn serve_queue(&self) {
        let held = || (!self.0.slots.is_silent()).then(|| self.admit_held())?;
        let reserved = self.0.door.serve(|| match held() {
            Some(slot) => Some(Ok(slot)),
            None => self.0.stage.borrow().ended().cloned().map(Err),
        });
        // What is offered and not taken by the driver's next poll goes to the next call.
        if self.0.context.queue.serve(|| self.admit()) || reserved {
            self.wake_driver();
        }
    }

    /// Has this task polled again when a slot is offered, or a deadline is earlier.
    pub(in crate::transport) fn set_driver(&self, driver: Waker) {
        *self.lock_driver() = Some(driver);
    }

    pub(super) fn wake_driver(&self) {
        if let Some(driver) = &*self.lock_driver() {
            driver.wake_by_ref();
        }
    }

    fn lock_driver(&self) -> MutexGuard<'_, Option<Waker>> {
        lock(&self.0.driver)
    }

    /// Lets calls use the connection, or not. What runs on it goes on.
    pub(crate) fn set_pickable(&self, pickable: bool) {
        self.0.slots.set_pickable(pickable);
        if pickable {
            if let Some(limits) = &self.0.context.limits {
                limits.on_pickable(self);
            }
            self.serve_queue();
        }
    }

    /// The bound on the time to response headers from the endpoint's options.
    pub(crate) fn call_timeout(&self) -> Option<Duration> {
        self.0.config.call_timeout
    }

    /// What the log calls the channel.
    pub(in crate::transport) fn channel(&self) -> &str {
        &self.0.context.channel
    }

    /// `host:port` of the endpoint.
    pub(crate) fn address(&self) -> &str {
        &self.0.config.address
    }

    /// The largest headers or trailers of a response, in bytes.
    pub(in crate::transport) fn header_list(&self) -> u32 {
        self.0.config.header_list
    }

    /// The number of its backend.
    pub(crate) fn backend(&self) -> u64 {
        self.0.context.backend
    }

    /// How many calls its backend has, on this connection and on others.
    pub(crate) fn calls_in_flight(&self) -> usize {
        self.0.context.calls.in_flight()
    }

    /// Whether the call that asks is the first for a second or more, and the only one of
    /// its backend.
    pub(crate) fn has_rested(&self) -> bool {
        self.calls_in_flight() == 1 && self.0.last_use.renew(now())
    }

    /// Whether anything is going on: a call, or what has a slot reserved.
    pub(in crate::transport) fn has_streams(&self) -> bool {
        self.0.slots.taken() > 0
    }

    /// Whether one more stream could be opened now.
    pub(crate) fn has_free_stream(&self) -> bool {
        self.0.slots.has_free()
    }

    pub(in crate::transport) fn answered_by(&self) -> Option<&AnsweredBy> {
        self.0.context.answered_by.as_ref()
    }

    /// How many streams are open, the reserved one included.
    #[cfg(test)]
    pub(crate) fn streams(&self) -> usize {
        self.0.slots.taken()
    }

    pub(in crate::transport) fn executor(&self) -> &BoundExecutor {
        &self.0.config.executor
    }

    /// The runtime that keeps the time of its calls.
    pub(crate) fn runtime(&self) -> &Handle {
        self.executor().runtime()
    }

    /// Takes no new streams from now on, for the reason in `stage`.
    pub(in crate::transport) fn close_to_new_streams(&self, stage: Stage) {
        self.0.slots.close_to_new_streams();
        self.0.context.meter.on_ended(stage.ended());
        self.0.stage.send_if_modified(|current| {
            let moves_down = matches!(
                (&*current, &stage),
                (Stage::Open { .. }, _) | (Stage::Draining(_), Stage::Closed(_))
            );
            if moves_down {
                *current = stage;
            }
            moves_down
        });
        self.serve_queue();
    }

    /// The status of a call whose stream failed with `error`.
    ///
    /// If that is the end of the whole connection, no new stream is opened on it before anyone
    /// can act upon the status: `h2` wakes its streams first, and the driver may
    /// still be on its way to say so.
    pub(in crate::transport) fn on_stream_failed(&self, error: &h2::Error) -> tonic::Status {
        let end =
            h2_error::end_behind(error, self.send()).map(|end| match &*self.0.stage.borrow() {
                // Whoever closed it knows why.
                Stage::Closed(why) => why.clone(),
                Stage::Open { .. } | Stage::Draining(_) => end,
            });
        let status = h2_error::status(error, end.as_ref(), self.address(), self.header_list());
        if let Some(why) = end {
            self.close_to_new_streams(Stage::Draining(why));
        }
        status
    }

    /// Takes over the peer's limit; the driver calls this after each poll.
    pub(in crate::transport) fn set_limit(&self, limit: usize) {
        if self.0.slots.set_limit(limit) {
            self.0.stage.send_if_modified(|stage| match stage {
                Stage::Open { limit: current } => {
                    *current = limit;
                    true
                }
                Stage::Draining(_) | Stage::Closed(_) => false,
            });
            self.serve_queue();
        }
    }

    pub(in crate::transport) fn send(&self) -> &SendRequest<Bytes> {
        &self.0.send
    }

    /// What it has of its endpoint.
    pub(in crate::transport) fn config(&self) -> &ConnectionConfig {
        &self.0.config
    }

    /// What every request on it has to bring, if there is such.
    pub(in crate::transport) fn credentials(&self) -> Option<&CallCredentials> {
        self.0.context.credentials.as_ref()
    }

    pub(crate) fn downgrade(&self) -> WeakConnection {
        WeakConnection(Arc::downgrade(&self.0))
    }

    /// So many calls fewer.
    pub(super) fn leave_calls(&self, calls: usize) {
        self.0.leave_calls(calls);
    }

    pub(super) fn release_slot(&self) {
        self.0.slots.release(1);
        self.serve_queue();
    }
}

impl WeakConnection {
    /// The connection, if somebody else holds it.
    pub(crate) fn upgrade(&self) -> Option<Connection> {
        self.0.upgrade().map(Connection)
    }

    /// Whether somebody else holds it.
    pub(crate) fn is_alive(&self) -> bool {
        self.0.strong_count() > 0
    }

    /// Whether it is this one. No other is ever taken for it, as what is named
    /// here is not freed before the name.
    pub(crate) fn is(&self, connection: &Connection) -> bool {
        std::ptr::eq(self.0.as_ptr(), Arc::as_ptr(&connection.0))
    }
}

/// Two handles are equal if they are to the same connection.
impl PartialEq for Connection {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connection")
            .field("address", &self.0.config.address)
            .field("slots", &self.0.slots)
            .finish()
    }
}

impl CallSlot {
    /// A slot that its connection has reserved.
    pub(super) fn lent_by(connection: Connection) -> Self {
        Self {
            connection,
            owner: SlotOwner::Watch,
            stream: None,
            attempt: Attempt::NONE,
        }
    }

    pub(crate) fn connection(&self) -> &Connection {
        &self.connection
    }

    /// Counts among the calls in flight from now on.
    pub(crate) fn into_call(mut self) -> Self {
        if self.owner == SlotOwner::Held {
            self.owner = SlotOwner::Call;
            self.connection.0.context.calls.enter();
        }
        self
    }

    /// Whether requests have to be authorized before they go out.
    pub(crate) fn needs_credentials(&self) -> bool {
        self.connection.credentials().is_some()
    }

    /// Whether its stream is a call's. A `Watch` has the slot of its connection.
    pub(in crate::transport) fn is_for_call(&self) -> bool {
        self.owner != SlotOwner::Watch
    }

    /// Its stream is open. From now on the wire says when the slot is free.
    pub(in crate::transport) fn set_stream(&mut self, stream: u32) {
        self.stream = Some(stream);
        self.attempt.add(self.connection.0.context.calls.start());
    }

    /// Whether it is asked how its attempt ends, and does not know yet.
    #[inline]
    pub(in crate::transport) fn wants_outcome(&self) -> bool {
        self.attempt.is_recorded()
    }

    /// Its attempt has ended so. The first word counts.
    #[inline]
    pub(in crate::transport) fn end(&mut self, outcome: CallOutcome) {
        let attempt = std::mem::take(&mut self.attempt);
        if attempt != Attempt::NONE {
            self.end_attempt(attempt, outcome);
        }
    }

    #[cold]
    fn end_attempt(&self, attempt: Attempt, outcome: CallOutcome) {
        let Shared { context, slots, .. } = &*self.connection.0;
        if attempt.has_any_of(Attempt::OPEN) {
            context.calls.record(outcome);
        }
        if attempt.has_any_of(Attempt::PROBE) && slots.end_probe() {
            self.connection.serve_queue();
        }
    }

    /// Its attempt has ended with this frame.
    #[cold]
    pub(in crate::transport) fn end_by(&mut self, last: &HeaderMap) {
        let connection = &self.connection;
        if self.wants_outcome()
            && let Err(why) = connection.0.context.calls.record_load(now(), last)
        {
            debug!(
                target: "tonic_health_channel::backend",
                channel = connection.channel(),
                backend = connection.address(),
                "a report of load is ignored, and so are others: {}",
                why.text(),
            );
        }
        self.end(CallOutcome::of_last(last));
    }

    /// Its call lets go of the stream before it is over. `handle` gives what keeps `h2` from
    /// resetting it, where that has to wait.
    pub(in crate::transport) fn cancel(mut self, handle: impl FnOnce() -> Parked) {
        self.end(CallOutcome::Cancelled);
        if let Some(stream) = self.stream.take() {
            self.leave(stream, Some(handle));
            // It has nothing more to give back.
            self.owner = SlotOwner::Watch;
        }
    }

    fn leave(&self, stream: u32, handle: Option<impl FnOnce() -> Parked>) {
        let connection = &self.connection;
        let mut streams = connection.lock_streams();
        let left = streams.leave(stream);
        if left == Left::Over {
            return;
        }
        if left == Left::EndsLater
            && let Some(handle) = handle
        {
            streams.park(stream, handle());
        }
        connection.unlock_streams(streams);
        connection.leave_calls(1);
        connection.wake_driver();
    }

    /// How many DATA frames its response has, if it is whole and small: there is nothing for
    /// the driver to look after.
    pub(in crate::transport) fn settled(&self) -> Option<u32> {
        self.connection.lock_streams().settled(self.stream?)
    }

    /// Its response is looked after by the driver.
    pub(in crate::transport) fn set_body(&self, body: Weak<dyn HeldBody>) {
        if let Some(stream) = self.stream {
            self.connection.lock_streams().set_body(stream, body);
        }
    }

    /// Whether a call may still begin with it: the connection is pickable,
    /// and takes new streams.
    pub(crate) fn is_good(&self) -> bool {
        self.connection.0.slots.is_open()
    }
}

impl Drop for CallSlot {
    fn drop(&mut self) {
        self.end(CallOutcome::Cancelled);
        let connection = &self.connection;
        match (self.stream, self.owner) {
            // The wire says when its slot is free, and when it is it has said so.
            (Some(stream), _) => self.leave(stream, None::<fn() -> Parked>),
            (None, SlotOwner::Watch) => {}
            (None, SlotOwner::Call) => {
                connection.leave_calls(1);
                connection.release_slot();
            }
            (None, SlotOwner::Held) => {
                connection.release_slot();
                if let Some(limits) = &connection.0.context.limits {
                    limits.leave();
                }
            }
        }
    }
}
