//! The READY backends of a channel, for balancers that are not ours.
//!
//! ```text
//!   Board ──status rings──► View: what is READY, less what was announced already
//!     ▲ weakly                 │ Insert(id, BackendConnection) · Remove(id)
//!     └────────────────────────┘      ▼
//!                              tower's Balance, or yours
//!                                     │ poll_ready: a slot   call: a stream
//!                                     ▼
//!                              transport::Connection
//! ```
//!
//! A view holds neither the channel nor, between two polls, any connection: it
//! remembers names. Two connections of one backend have different names, so one
//! that was lost and replaced between two polls is announced too.

use std::{
    collections::{BTreeMap, VecDeque},
    convert::Infallible,
    fmt, mem,
    pin::Pin,
    sync::{Arc, Weak},
    task::{Context, Poll},
};

use futures_util::{Stream, StreamExt, stream};
use http::{Request, Response};
use tokio::sync::watch;
use tonic::body::Body;
use tower::{discover::Change, load::Load};
use tower_service::Service;

use super::{Channel, ResponseFuture};
use crate::{
    connectivity::ConnectivityState,
    error::{Cause, Error, ErrorKind},
    routing::{BackendId, Board, ChannelStatus},
    transport::{
        self, CallSlot, ConnectionGroup, Deadline, Failed, OutgoingRequest, Reserved, SendError,
        Ticket, WeakConnection,
    },
};

/// A stream of what becomes READY and what no longer is. Made by
/// [`Channel::ready_backends`].
#[must_use = "a source names no backend until it is polled, such as by a channel"]
pub struct ReadyBackends(Pin<Box<dyn Stream<Item = Item> + Send>>);

type Item = Result<Change<BackendId, BackendConnection>, Infallible>;

/// A connection to one READY backend. Clones share it.
///
/// [`poll_ready`](Service::poll_ready) means what it says: it takes one of the streams
/// that the server allows and keeps it until the call, or until this is dropped. It
/// waits, first come first served,
///
/// - while the server allows no more streams than are open,
/// - while the backend is unhealthy or [silent](crate::status::BackendStatus::silence),
///
/// and fails for good once the connection takes no new streams: it was lost, or the
/// server said GOAWAY, or the channel has let go of it. A stream that is kept for a
/// backend that turns unhealthy is given back by the next `poll_ready`.
///
/// A clone has to get ready by itself. One that is and does not call keeps a stream
/// from others, the channel's own calls among them; a `Balance` keeps one at each
/// backend.
///
/// The [load](Load) is the number of calls on the backend, as in
/// [`BackendStatus::calls_in_flight`](crate::status::BackendStatus::calls_in_flight). The
/// connection stays open for as long as somebody holds a clone.
pub struct BackendConnection {
    inner: transport::Connection,
    /// That of its channel, to mark that there are calls.
    board: Weak<Board>,
    turn: Turn,
}

/// How far a handle is on its way to a stream.
#[derive(Default)]
enum Turn {
    #[default]
    Unasked,
    Waiting(Ticket<Reserved>),
    Ready(CallSlot),
}

/// What was announced to a user, and what there is.
struct View {
    board: Weak<Board>,
    status: watch::Receiver<Arc<ChannelStatus>>,
    announced: BTreeMap<BackendId, WeakConnection>,
    /// What is to be announced, as of the last refresh.
    ahead: VecDeque<(BackendId, Option<WeakConnection>)>,
    /// The channel is closed, as of the last look: nothing comes after what is ahead.
    ended: bool,
}

/// The way to balancers that are not ours.
impl Channel {
    /// The backends that can take calls, as a tower
    /// [`Discover`](tower::discover::Discover) of their connections: for a balancer of
    /// tower's, or of your own, over what this crate keeps connected and
    /// health-checked.
    ///
    /// A backend that becomes READY is an `Insert`, one that leaves READY a `Remove`.
    /// A READY backend with another connection than before is an `Insert` too; the old
    /// one takes no new calls. The first poll tells of those that are READY then.
    ///
    /// ```no_run
    /// # use http::{Request, Response};
    /// # use tonic::body::Body;
    /// # struct GreeterClient(BoxCloneService<Request<Body>, Response<Body>, Status>);
    /// # impl GreeterClient {
    /// #     fn new(channel: BoxCloneService<Request<Body>, Response<Body>, Status>) -> Self {
    /// #         Self(channel)
    /// #     }
    /// # }
    /// use tonic::Status;
    /// use tonic_health_channel::Channel;
    /// use tower::{ServiceExt, balance::p2c::Balance, buffer::Buffer, util::BoxCloneService};
    ///
    /// # fn example(channel: Channel) {
    /// let balance = Balance::new(channel.ready_backends());
    /// // A balancer has one caller; a buffer before it has any number.
    /// let shared = Buffer::new(balance, 1024).map_err(Status::from_error);
    /// // Boxed, for the compiler cannot see that a client's calls on the bare type are `Send`.
    /// let client = GreeterClient::new(BoxCloneService::new(shared));
    /// # }
    /// ```
    ///
    /// # Whose rules apply
    ///
    /// Those for backends: source, connection backoff, health checks, call credentials, and
    /// the service config as far as it is about them. Those for calls do not, as the
    /// channel does not see them: `timeout`, `waitForReady` and message sizes of the service
    /// config,
    /// [`Endpoint::timeout`](crate::Endpoint::timeout), and transparent retry. A
    /// `grpc-timeout` goes to the server as it is, and nobody here keeps to it; tower has
    /// layers for all of these.
    ///
    /// # How long it lasts
    ///
    /// It does not keep the channel alive: hold a clone. When the channel closes, every
    /// backend is removed and the stream ends. tower's `Balance` takes no notice of an
    /// end, and has its callers wait for backends for ever.
    ///
    /// To wait for a change is to need the channel, which leaves IDLE for it, as for a
    /// call. Calls count as use of it.
    pub fn ready_backends(&self) -> ReadyBackends {
        let mut view = View {
            board: Arc::downgrade(self.board()),
            status: self.board().status(),
            announced: BTreeMap::new(),
            ahead: VecDeque::new(),
            ended: false,
        };
        view.status.mark_changed();
        let changes = stream::unfold(view, async |mut view| {
            let change = view.next().await?;
            Some((Ok(change), view))
        });
        // A balancer polls on after the end.
        ReadyBackends(Box::pin(changes.fuse()))
    }
}

impl View {
    async fn next(&mut self) -> Option<Change<BackendId, BackendConnection>> {
        loop {
            // A newer status may have overtaken what is ahead.
            if self.status.has_changed().unwrap_or(true) {
                self.refresh();
            }
            while let Some((id, connection)) = self.ahead.pop_front() {
                if let Some(change) = self.announce(id, connection) {
                    return Some(change);
                }
            }
            if self.ended {
                return None;
            }
            // It fails if the channel is gone, which the look sees.
            let _ = self.status.changed().await;
            self.refresh();
        }
    }

    /// Finds out what to tell; wakes a channel that rests.
    fn refresh(&mut self) {
        // First the status: routing is published before it.
        let state = self.status.borrow_and_update().state();
        let board = self.board.upgrade();
        self.ended = board.is_none() || state == ConnectivityState::Shutdown;
        if let (Some(board), ConnectivityState::Idle) = (&board, state) {
            board.wake();
        }
        let routing = board.as_ref().map(|board| board.routing());
        let backends = routing.as_ref().map(|routing| routing.picker.backends());
        let ready: BTreeMap<_, _> = backends
            .unwrap_or_default()
            .iter()
            .map(ConnectionGroup::first)
            .map(|connection| (BackendId(connection.backend()), connection))
            .collect();
        let announced = &self.announced;
        let gone = announced.keys().filter(|id| !ready.contains_key(id));
        let is_new = |(id, connection): &(&BackendId, &&transport::Connection)| {
            announced
                .get(id)
                .is_none_or(|announced| !announced.is(connection))
        };
        let new = ready.iter().filter(is_new);
        self.ahead = gone
            .map(|id| (*id, None))
            .chain(new.map(|(id, connection)| (*id, Some(connection.downgrade()))))
            .collect();
    }

    /// The change, unless its connection is gone already: then so is what it was
    /// published by, and there is more to look at.
    fn announce(
        &mut self,
        id: BackendId,
        connection: Option<WeakConnection>,
    ) -> Option<Change<BackendId, BackendConnection>> {
        let Some(weak) = connection else {
            self.announced.remove(&id);
            return Some(Change::Remove(id));
        };
        let inner = weak.upgrade()?;
        self.announced.insert(id, weak);
        Some(Change::Insert(
            id,
            BackendConnection::new(inner, self.board.clone()),
        ))
    }
}

impl Stream for ReadyBackends {
    type Item = Item;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Item>> {
        self.0.as_mut().poll_next(cx)
    }
}

impl fmt::Debug for ReadyBackends {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ReadyBackends").finish_non_exhaustive()
    }
}

impl BackendConnection {
    fn new(inner: transport::Connection, board: Weak<Board>) -> Self {
        Self {
            inner,
            board,
            turn: Turn::Unasked,
        }
    }

    /// `host:port` of the backend.
    pub fn address(&self) -> &str {
        self.inner.address()
    }

    fn unavailable(&self, why: &Cause) -> Error {
        let address = self.address();
        let error = Error::new(
            ErrorKind::Unavailable,
            format!("the connection to {address} accepts no new calls: {why}"),
        );
        error.caused_by(why.origin().cloned()).outside_calls()
    }
}

impl Service<Request<Body>> for BackendConnection {
    type Response = Response<Body>;
    type Error = Error;
    type Future = ResponseFuture;

    /// Takes a stream of the connection and keeps it.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Unavailable`] if there will never be one again.
    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        loop {
            self.turn = match mem::take(&mut self.turn) {
                Turn::Ready(slot) if slot.is_good() => {
                    self.turn = Turn::Ready(slot);
                    return Poll::Ready(Ok(()));
                }
                Turn::Unasked | Turn::Ready(_) => Turn::Waiting(self.inner.reserve_call()),
                Turn::Waiting(mut ticket) => match self.inner.poll_reserved(&mut ticket, cx) {
                    Poll::Ready(Ok(slot)) => Turn::Ready(slot),
                    Poll::Ready(Err(why)) => return Poll::Ready(Err(self.unavailable(&why))),
                    Poll::Pending => {
                        self.turn = Turn::Waiting(ticket);
                        return Poll::Pending;
                    }
                },
            }
        }
    }

    /// # Panics
    ///
    /// If it is not ready.
    fn call(&mut self, request: Request<Body>) -> ResponseFuture {
        let Turn::Ready(slot) = mem::take(&mut self.turn) else {
            panic!("called before ready");
        };
        if let Some(board) = self.board.upgrade() {
            board.mark_active();
        }
        let slot = slot.into_call();
        ResponseFuture::new(send(OutgoingRequest::new(request), slot))
    }
}

async fn send(mut request: OutgoingRequest, slot: CallSlot) -> Result<Response<Body>, Error> {
    let connection = slot.connection().clone();
    // Its caller keeps to deadlines.
    let mut deadline = Deadline::none();
    let response = slot.send(&mut request, &mut deadline, |body, _| Body::new(body));
    response.await.map_err(|error| match error {
        SendError::Refused(error) | SendError::Failed(Failed { error, .. }) => error,
        SendError::Unsent => Error::new(
            ErrorKind::Unavailable,
            format!(
                "the call was not sent: the connection is draining or closed ({})",
                connection.address()
            ),
        ),
    })
}

impl Load for BackendConnection {
    type Metric = usize;

    fn load(&self) -> usize {
        self.inner.calls_in_flight()
    }
}

/// A clone has no stream yet.
impl Clone for BackendConnection {
    fn clone(&self) -> Self {
        Self::new(self.inner.clone(), self.board.clone())
    }
}

impl fmt::Debug for BackendConnection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BackendConnection")
            .field("address", &self.address())
            .field("is_ready", &matches!(self.turn, Turn::Ready(_)))
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::{future::pending, time::Duration};

    use futures_util::StreamExt;
    use tokio::time::timeout;
    use tower::ServiceExt;

    use super::*;
    use crate::{
        discover,
        transport::tests::{Peer, dialled_endpoint, soon},
    };

    /// Lets time pass.
    async fn pass(seconds: u64) {
        let passed = timeout(Duration::from_secs(seconds), pending::<()>());
        assert!(passed.await.is_err());
    }

    // D28
    #[tokio::test(start_paused = true)]
    async fn a_call_now_and_then_keeps_the_channel_from_resting() {
        let (endpoint, mut dials) = dialled_endpoint();
        let source = discover::list([endpoint]).expect("a list of one");
        let builder = Channel::balance(source).idle_timeout(Duration::from_secs(60));
        let channel = builder.build();
        let io = soon(dials.recv()).await.expect("a dial");
        let server = soon(h2::server::handshake(io)).await.expect("a client");
        let _peer = Peer::spawn(server);
        let mut backends = channel.ready_backends();
        let Some(Ok(Change::Insert(_, mut connection))) = soon(backends.next()).await else {
            panic!("it is READY");
        };

        for _ in 0..10 {
            pass(40).await;
            let ready = soon(connection.ready()).await.expect("a stream");
            drop(ready.call(Request::new(Body::empty())));
        }
        assert_eq!(channel.state(), ConnectivityState::Ready);
        soon(connection.ready()).await.expect("a stream");
        pass(90).await;
        assert_eq!(
            channel.state(),
            ConnectivityState::Idle,
            "a stream that is kept is no call"
        );
        let Some(Ok(Change::Remove(_))) = soon(backends.next()).await else {
            panic!("it rests");
        };
    }
}
