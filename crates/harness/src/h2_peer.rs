//! A peer that speaks HTTP/2 by hand, and does with a call what it is told.
//!
//! It can do what no well-behaved server lets a test do: change
//! MAX_CONCURRENT_STREAMS while connected, refuse a stream, send any GOAWAY, leave
//! PINGs unanswered. It tells calls of Watch from all others and counts both.
//! Orders go to all connections that are open when they are given.

mod connection;

use std::sync::{
    Arc, Mutex,
    atomic::{AtomicBool, AtomicUsize, Ordering},
};

use h2::Reason;
use tokio::sync::broadcast;
use tonic::Code;

use super::{
    Counter,
    listening::{Listening, listens},
    port::ReservedPort,
    scripts::Plan,
};
use connection::Connection;

/// More orders than any test gives before a connection has taken them.
const ORDERS: usize = 64;

/// What becomes of one call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// An empty message and OK. An empty `HelloReply` is just that.
    Ok,
    /// A health message SERVING; the stream stays open.
    Serving,
    /// Response headers; the stream stays open.
    Headers,
    /// No message and this status.
    Status(Code),
    /// Nothing, until an order ends it.
    KeepOpen,
    /// RST_STREAM as soon as the headers are in.
    Reset(Reason),
}

/// Stops, and closes its connections, when dropped.
#[derive(Debug)]
pub struct H2Peer {
    listening: Listening,
    shared: Arc<Shared>,
}

listens!(H2Peer);

/// What the peer and its connections have in common.
#[derive(Debug)]
struct Shared {
    max_concurrent_streams: Mutex<Option<u32>>,
    calls: Plan<Answer>,
    watches: Plan<Answer>,
    /// Whether PINGs are left unanswered.
    ignores_pings: AtomicBool,
    orders: broadcast::Sender<Order>,
    seen: Seen,
}

#[derive(Debug)]
struct Seen {
    calls: Counter,
    open_calls: Counter,
    /// The most calls that one connection had open at a time.
    peak: AtomicUsize,
    watches: Counter,
    open_watches: Counter,
    settings_acks: Counter,
    pings: Counter,
    client_resets: Counter,
    client_goaways: Counter,
}

#[derive(Clone, Copy, Debug)]
enum Order {
    SendSettings,
    /// GOAWAY that covers every stream seen so far.
    GoAway(Reason),
    /// The same on one connection, by its number among all that were accepted.
    GoAwayOn(usize),
    /// GOAWAY(NO_ERROR) that covers streams up to this one, and forgets the rest.
    GoAwayCounting(u32),
    /// GOAWAY that covers every stream seen, with debug data; then close.
    GoAwayAndClose(Reason, &'static str),
    /// GOAWAY that covers no stream; then close.
    GoAwayFromAll(Reason),
    AnswerCalls(Answer),
    EndWatches(Answer),
    Close,
}

impl H2Peer {
    /// A peer that answers calls `Ok` and Watches `Serving`, without a limit.
    pub async fn start() -> Self {
        Self::start_with(None).await
    }

    /// As `start`, with SETTINGS_MAX_CONCURRENT_STREAMS in the first SETTINGS.
    pub async fn limited_to(max_concurrent_streams: u32) -> Self {
        Self::start_with(Some(max_concurrent_streams)).await
    }

    async fn start_with(max_concurrent_streams: Option<u32>) -> Self {
        let shared = Arc::new(Shared {
            max_concurrent_streams: Mutex::new(max_concurrent_streams),
            calls: Plan::always(Answer::Ok),
            watches: Plan::always(Answer::Serving),
            ignores_pings: AtomicBool::new(false),
            orders: broadcast::Sender::new(ORDERS),
            seen: Seen::nothing(),
        });
        let of_each = Arc::clone(&shared);
        let listening = Listening::start(ReservedPort::any().listen(), move |wire| {
            Connection::new(wire, Arc::clone(&of_each)).run()
        });
        Self { listening, shared }
    }
}

/// Orders.
impl H2Peer {
    /// What becomes of calls, other than Watch, that start from now on.
    pub fn answer_calls(&self, answer: Answer) {
        self.shared.calls.set(answer);
    }

    /// What becomes of the next `times` calls, before what holds anyway.
    pub fn answer_next_calls(&self, times: usize, answer: Answer) {
        self.shared.calls.next(times, answer);
    }

    pub fn answer_watches(&self, answer: Answer) {
        self.shared.watches.set(answer);
    }

    pub fn answer_next_watches(&self, times: usize, answer: Answer) {
        self.shared.watches.next(times, answer);
    }

    /// Ends the calls that are kept open now.
    pub fn end_open_calls(&self, answer: Answer) {
        self.order(Order::AnswerCalls(answer));
    }

    /// Ends the Watches that are open now.
    pub fn end_open_watches(&self, answer: Answer) {
        self.order(Order::EndWatches(answer));
    }

    /// Sends SETTINGS on open connections and later ones. The client has taken
    /// them in once `until_settings_acks` counts one more for each connection.
    pub fn set_max_concurrent_streams(&self, n: u32) {
        *self
            .shared
            .max_concurrent_streams
            .lock()
            .expect("no holder of the limit panics") = Some(n);
        self.order(Order::SendSettings);
    }

    /// GOAWAY(NO_ERROR) after the last stream seen: those go on, no new ones.
    pub fn go_away(&self) {
        self.order(Order::GoAway(Reason::NO_ERROR));
    }

    /// The same on one connection, by its number among all that were accepted, from 0.
    pub fn go_away_on(&self, number: usize) {
        self.order(Order::GoAwayOn(number));
    }

    /// The same for a reason such as ENHANCE_YOUR_CALM.
    pub fn go_away_because(&self, reason: Reason) {
        self.order(Order::GoAway(reason));
    }

    /// GOAWAY(NO_ERROR) after this stream: it and those before go on, and those
    /// that came after it were not looked at.
    pub fn go_away_counting(&self, last_stream: u32) {
        self.order(Order::GoAwayCounting(last_stream));
    }

    /// GOAWAY that counts every stream seen, and debug data. Then the end of the
    /// connection, whatever was still to be answered.
    pub fn go_away_and_close(&self, reason: Reason, debug: &'static str) {
        self.order(Order::GoAwayAndClose(reason, debug));
    }

    /// GOAWAY that says no stream was processed, then the end of the connection.
    pub fn go_away_from_all(&self, reason: Reason) {
        self.order(Order::GoAwayFromAll(reason));
    }

    /// Closes the connections without a word.
    pub fn close_connections(&self) {
        self.order(Order::Close);
    }

    /// Leaves PINGs unanswered from now on, as a dead peer would.
    pub fn ignore_pings(&self) {
        self.shared.ignores_pings.store(true, Ordering::Relaxed);
    }

    fn order(&self, order: Order) {
        // An error only says that there is no connection to obey.
        let _ = self.shared.orders.send(order);
    }
}

/// A number and the future that awaits it: totals at least, gauges exactly.
macro_rules! observe {
    ($($(#[$doc:meta])* $get:ident, $until:ident: $how:ident($counter:ident);)+) => {
        /// What happened.
        impl H2Peer {
            $($(#[$doc])*
            pub fn $get(&self) -> usize {
                self.shared.seen.$counter.get()
            }

            #[track_caller]
            pub fn $until(&self, n: usize) -> impl Future<Output = ()> + Send + use<> {
                self.shared.seen.$counter.$how(n)
            })+
        }
    };
}

observe! {
    /// Calls other than Watch.
    calls, until_calls: until_at_least(calls);
    open_calls, until_open_calls: until_exactly(open_calls);
    watches, until_watches: until_at_least(watches);
    open_watches, until_open_watches: until_exactly(open_watches);
    settings_acks, until_settings_acks: until_at_least(settings_acks);
    /// PINGs from the client, answered or not.
    pings, until_pings: until_at_least(pings);
    /// RST_STREAM frames from the client: calls that it cancelled.
    client_resets, until_client_resets: until_at_least(client_resets);
    client_goaways, until_client_goaways: until_at_least(client_goaways);
}

impl H2Peer {
    /// Waits until some client has said GOAWAY.
    #[track_caller]
    pub fn until_client_goaway(&self) -> impl Future<Output = ()> + Send + use<> {
        self.until_client_goaways(1)
    }

    /// The most streams, Watch included, that one connection had open at a time.
    pub fn most_open_streams(&self) -> usize {
        self.shared.seen.peak.load(Ordering::Relaxed)
    }
}

impl Seen {
    fn nothing() -> Self {
        Self {
            calls: Counter::new("calls"),
            open_calls: Counter::new("open calls"),
            peak: AtomicUsize::new(0),
            watches: Counter::new("Watch calls"),
            open_watches: Counter::new("open Watch calls"),
            settings_acks: Counter::new("acknowledged SETTINGS"),
            pings: Counter::new("PINGs"),
            client_resets: Counter::new("RST_STREAM frames from the client"),
            client_goaways: Counter::new("GOAWAY frames from the client"),
        }
    }
}
