//! The channel: a handle that sends calls and tells how its backends are.

use std::{
    fmt,
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use http::{Request, Response};
use tokio::sync::{oneshot, watch};
use tonic::body::Body;
use tower_service::Service;

use crate::{
    board::Board,
    call::Call,
    connectivity::ConnectivityState,
    error::{Error, ErrorKind},
    snapshot::{BackendStatus, Status},
};

#[doc(no_inline)]
pub use crate::transport::Endpoint;
#[doc(no_inline)]
pub use tower::discover::Change;

/// A gRPC channel over one or many backends, of which it uses those that are
/// healthy.
///
/// It stands where `tonic::transport::Channel` stands: hand it to a generated
/// client. Cloning is cheap, and all clones are one channel. When the last clone
/// is gone, and every call that waits has been sent, the channel closes: its
/// tasks end, its `Watch` streams are cancelled, and each connection says GOAWAY
/// and closes as soon as the calls on it have ended.
///
/// ```no_run
/// use tonic_health_channel::{Channel, ServiceConfig, discover};
///
/// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
/// let config: ServiceConfig =
///     r#"{"healthCheckConfig": {"serviceName": "demo.v1.Greeter"}}"#.parse()?;
/// let backends = discover::list(["http://10.0.0.1:50051", "http://10.0.0.2:50051"])?;
/// let channel = Channel::balance(backends).service_config(config).build();
/// channel.wait_until_ready().await?;
/// for backend in channel.backends().iter() {
///     println!("{backend}");
/// }
/// # Ok(())
/// # }
/// ```
///
/// # What a call does
///
/// By the channel's state, as in every gRPC implementation: in READY it goes to
/// the next healthy backend in turn; in CONNECTING it waits; in IDLE it wakes the
/// channel and waits; in TRANSIENT_FAILURE it fails at once with UNAVAILABLE,
/// naming every backend and its reason. A deadline (`grpc-timeout`, which
/// `tonic::Request::set_timeout` sets) covers the wait as well, and ends it with
/// DEADLINE_EXCEEDED.
///
/// [`poll_ready`](Service::poll_ready) is always ready and reserves nothing: a
/// generated client would turn its error into UNKNOWN, and a clone that reserves
/// and does not call would hold others up.
#[derive(Clone)]
pub struct Channel {
    alive: Arc<Alive>,
    header_timeout: Option<Duration>,
}

/// Ends the channel when the last one who needs it is gone: a handle, or a call
/// that waits.
struct Alive {
    board: Arc<Board>,
    _stop: oneshot::Sender<()>,
}

impl Channel {
    /// `header_timeout` bounds each call until its response headers.
    pub(crate) fn new_on(
        board: Arc<Board>,
        stop: oneshot::Sender<()>,
        header_timeout: Option<Duration>,
    ) -> Self {
        Self {
            alive: Arc::new(Alive { board, _stop: stop }),
            header_timeout,
        }
    }

    /// The channel's connectivity state, now. Does not connect.
    pub fn state(&self) -> ConnectivityState {
        self.status().state()
    }

    /// Every backend, in the order in which the source named them.
    pub fn backends(&self) -> Arc<[Arc<BackendStatus>]> {
        self.status().backends.clone()
    }

    /// The channel and its backends, as of one moment.
    pub fn status(&self) -> Arc<Status> {
        self.alive.board.routing().status.clone()
    }

    /// Follows the channel's state and its backends. Does not keep the channel
    /// alive: it ends with SHUTDOWN when the channel does.
    pub fn watch_status(&self) -> StatusWatch {
        StatusWatch(self.alive.board.status())
    }

    /// Waits for the channel to be READY, through failures if need be: put a
    /// timeout around it. Connects, if the channel is IDLE.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Closed`] if the channel is closed first, because its runtime
    /// went away.
    ///
    /// # Cancel safety
    ///
    /// Nothing is lost, and a connect that has begun goes on.
    pub async fn wait_until_ready(&self) -> Result<(), Error> {
        self.alive.board.wake();
        let ready = self
            .watch_status()
            .wait_for(|status| {
                matches!(
                    status.state(),
                    ConnectivityState::Ready | ConnectivityState::Shutdown
                )
            })
            .await;
        match ready.state() {
            ConnectivityState::Ready => Ok(()),
            _ => Err(Error::new(ErrorKind::Closed, "the channel is closed")),
        }
    }
}

impl Service<Request<Body>> for Channel {
    type Response = Response<Body>;
    type Error = Error;
    type Future = ResponseFuture;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> ResponseFuture {
        let alive = self.alive.clone();
        let mut call = Call::new(request, self.header_timeout);
        // The call is borrowed where it stands: passed on by value, the future
        // would have room for it twice.
        ResponseFuture(Box::pin(async move { call.send(&alive.board).await }))
    }
}

impl fmt::Debug for Channel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let status = self.status();
        f.debug_struct("Channel")
            .field("state", &status.state())
            .field("backends", &status.backends().len())
            .finish()
    }
}

/// A call on its way. Dropping it cancels the call.
pub struct ResponseFuture(Pin<Box<dyn Future<Output = Result<Response<Body>, Error>> + Send>>);

impl Future for ResponseFuture {
    type Output = Result<Response<Body>, Error>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.0.as_mut().poll(cx)
    }
}

impl fmt::Debug for ResponseFuture {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ResponseFuture").finish_non_exhaustive()
    }
}

/// Follows a channel's [`Status`]. It may skip some on the way to the newest,
/// never goes back, and does not keep the channel alive.
#[derive(Clone, Debug)]
pub struct StatusWatch(watch::Receiver<Arc<Status>>);

impl StatusWatch {
    /// The newest status, which [`changed`](Self::changed) then no longer counts
    /// as a change.
    pub fn status(&mut self) -> Arc<Status> {
        self.0.borrow_and_update().clone()
    }

    /// Waits for a status newer than the last one seen. `None` after SHUTDOWN,
    /// which is the last.
    ///
    /// # Cancel safety
    ///
    /// Nothing is lost.
    pub async fn changed(&mut self) -> Option<Arc<Status>> {
        self.0.changed().await.ok()?;
        Some(self.status())
    }

    /// The first status, from the newest on, of which `condition` is true; or the
    /// last there ever is, SHUTDOWN, if the channel closes before.
    ///
    /// # Cancel safety
    ///
    /// Nothing is lost.
    pub async fn wait_for(&mut self, mut condition: impl FnMut(&Status) -> bool) -> Arc<Status> {
        let found = self.0.wait_for(|status| condition(status)).await;
        let found = found.map(|status| status.clone());
        found.unwrap_or_else(|_| self.status())
    }
}
