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
use tokio::sync::mpsc;
use tonic::body::Body;
use tower_service::Service;

use super::watch::{BackendWatch, StateWatch, StatusWatch};
use crate::{
    call::{Call, CallRecord, CallRecorder, Defaults, wait_within},
    connectivity::ConnectivityState,
    error::Error,
    routing::{Backends, Board, ChannelStatus, Command},
};

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
/// for backend in channel.backends() {
///     println!("{backend}");
/// }
/// # Ok(())
/// # }
/// ```
///
/// # What a call does
///
/// By the channel's state, as in every gRPC implementation:
///
/// | state | a call |
/// |---|---|
/// | READY | goes to the next healthy backend in turn |
/// | CONNECTING | waits: for the first word of the source, a connection, a health check |
/// | IDLE | wakes the channel, then waits |
/// | TRANSIENT_FAILURE | lets the channel's tasks run and fails, or waits if it is wait-for-ready |
/// | SHUTDOWN | fails |
///
/// **Waiting.** A call that waits holds its request and sits in its caller's task. It
/// also waits, first come first served, while every healthy backend has as many streams
/// open as it allows. The wait ends with the call's deadline: `grpc-timeout`, which
/// `tonic::Request::set_timeout` sets, or the `timeout` of its method in the service
/// config, whichever is shorter. Both bound the whole call, its response included, and
/// the server is told the time that is left, to three digits. A call that runs out of
/// time fails with DEADLINE_EXCEEDED, and says what it waited for.
///
/// ```no_run
/// # #[derive(Clone)] struct GreeterClient<T>(T);
/// # impl<T> GreeterClient<T> {
/// #     fn new(channel: T) -> Self { Self(channel) }
/// #     async fn say_hello(&mut self, _: tonic::Request<()>)
/// #         -> Result<tonic::Response<()>, tonic::Status> { Ok(tonic::Response::new(())) }
/// # }
/// # async fn example(channel: tonic_health_channel::Channel) {
/// let mut request = tonic::Request::new(());
/// request.set_timeout(std::time::Duration::from_secs(2));
/// match GreeterClient::new(channel).say_hello(request).await {
///     Err(status) if status.code() == tonic::Code::DeadlineExceeded => {
///         // deadline exceeded after 2s, waiting for a backend: no healthy backend:
///         // 10.0.0.1:50051 CONNECTING, health check: no answer yet (2s)
///         eprintln!("{}", status.message());
///     }
///     answer => println!("{answer:?}"),
/// }
/// # }
/// ```
///
/// **Failing fast.** In TRANSIENT_FAILURE, which lasts from the failure of the last
/// backend until one is READY, a call fails with UNAVAILABLE, naming every backend and
/// its reason. One that should rather wait says so: for itself with [`WaitForReady`],
/// by its method with `waitForReady` in the service config, or for the channel with
/// [`ChannelBuilder::wait_for_ready`]; in this order. Give it a deadline.
///
/// ```
/// use tonic_health_channel::WaitForReady;
///
/// let mut request = tonic::Request::new(());
/// request.set_timeout(std::time::Duration::from_secs(30));
/// request.extensions_mut().insert(WaitForReady(true));
/// ```
///
/// On a runtime of one thread that runs for the length of each call (`block_on`), nothing
/// tries to connect between two calls. There the call itself has the next attempt made, and
/// waits for it for a second at most, before it fails.
///
/// **What is sent again** (gRFC A6). Without a policy, that is only a call that no backend
/// has acted on. A call that never reached a stream is picked again, as often as it takes. A
/// unary request is sent again once, if its backend guarantees not to have looked at it. That is
/// so where the backend refused the stream, or left it out of its GOAWAY. Any other call that
/// fails is handed to its caller. [`Error::may_have_been_sent`] says whether a backend may have
/// acted on it.
///
/// With a policy, the channel sends more. A `retryPolicy` in the service config repeats a call
/// that failed with a listed code, after a pause, on a backend that was not tried yet. A
/// `hedgingPolicy` sends it to a second backend before the first has answered. Both end with the
/// first response headers, and with the deadline of the call. `retryThrottling` stops them while
/// too many calls fail. List only methods that may run twice.
///
/// ```
/// use tonic_health_channel::{Channel, ServiceConfig, discover};
///
/// # fn example() -> Result<(), Box<dyn std::error::Error>> {
/// let config: ServiceConfig = r#"{
///     "methodConfig": [{
///         "name": [{"service": "demo.v1.Greeter", "method": "SayHello"}],
///         "timeout": "2s",
///         "retryPolicy": {
///             "maxAttempts": 3, "initialBackoff": "0.05s", "maxBackoff": "1s",
///             "backoffMultiplier": 2, "retryableStatusCodes": ["UNAVAILABLE"]
///         }
///     }],
///     "retryThrottling": {"maxTokens": 10, "tokenRatio": 0.1}
/// }"#.parse()?;
/// let backends = discover::list(["http://10.0.0.1:50051", "http://10.0.0.2:50051"])?;
/// let builder = Channel::balance(backends).service_config(config);
/// # Ok(())
/// # }
/// # example().unwrap();
/// ```
///
/// A call that fails after several attempts names each of them in its text, and has them as
/// values in [`Error::attempts`]. A response has those before it as
/// [`CallAttempts`](super::CallAttempts), if [`ChannelBuilder::tell_attempts`] asks for that.
/// [`ChannelBuilder::max_call_attempts`] bounds the attempts of each call, or switches policies
/// off. `docs/failures.md` is the guide.
///
/// [`poll_ready`](Service::poll_ready) is always ready and reserves nothing: a
/// generated client would turn its error into UNKNOWN, and a clone that reserves
/// and does not call would hold others up.
///
/// [`WaitForReady`]: crate::WaitForReady
/// [`ChannelBuilder::wait_for_ready`]: crate::ChannelBuilder::wait_for_ready
/// [`ChannelBuilder::tell_attempts`]: crate::ChannelBuilder::tell_attempts
/// [`ChannelBuilder::max_call_attempts`]: crate::ChannelBuilder::max_call_attempts
#[derive(Clone)]
pub struct Channel {
    alive: Arc<Alive>,
    defaults: Defaults,
}

/// Ends the channel when the last one who needs it is gone: a handle, or a call
/// that waits.
struct Alive {
    board: Arc<Board>,
    commands: mpsc::UnboundedSender<Command>,
    /// By what its calls are recorded, if they are.
    recorder: Option<Arc<CallRecorder>>,
}

impl Channel {
    pub(crate) fn new_on(
        board: Arc<Board>,
        commands: mpsc::UnboundedSender<Command>,
        defaults: Defaults,
        recorder: Option<Arc<CallRecorder>>,
    ) -> Self {
        Self {
            alive: Arc::new(Alive {
                board,
                commands,
                recorder,
            }),
            defaults,
        }
    }

    /// The channel's connectivity state, now. Does not connect.
    pub fn state(&self) -> ConnectivityState {
        self.status().state()
    }

    /// Every backend, in the order in which the source named them.
    pub fn backends(&self) -> Backends {
        self.status().backends().clone()
    }

    /// The channel and its backends, as of one moment.
    pub fn status(&self) -> Arc<ChannelStatus> {
        self.alive.board.routing().status.clone()
    }

    /// Follows the channel's state and its backends. Does not keep the channel
    /// alive: it ends with SHUTDOWN when the channel does.
    pub fn watch_status(&self) -> StatusWatch {
        StatusWatch::new(self.alive.board.status())
    }

    /// Follows the channel's state alone. Does not keep the channel alive.
    pub fn watch_state(&self) -> StateWatch {
        StateWatch::new(self.watch_status())
    }

    /// Follows the backends one by one: those there are, then what becomes of each.
    /// Does not keep the channel alive.
    ///
    /// ```no_run
    /// # async fn example(channel: tonic_health_channel::Channel) {
    /// use tonic_health_channel::status::BackendEvent;
    ///
    /// let mut backends = channel.watch_backends();
    /// while let Some(event) = backends.next().await {
    ///     match event {
    ///         BackendEvent::Added(backend) => println!("new: {backend}"),
    ///         BackendEvent::Changed { before, now } => println!("{}: {now}", before.state()),
    ///         BackendEvent::Removed(backend) => println!("gone: {}", backend.label()),
    ///         _ => {}
    ///     }
    /// }
    /// # }
    /// ```
    pub fn watch_backends(&self) -> BackendWatch {
        BackendWatch::new(self.watch_status())
    }

    /// Waits for the channel to be READY, through failures if need be, and for as long as that
    /// takes; [`wait_until_ready_within`](Self::wait_until_ready_within) has a bound. Connects
    /// whenever the channel is IDLE.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Closed`](crate::ErrorKind::Closed) if the channel is closed first.
    ///
    /// # Cancel safety
    ///
    /// Nothing is lost, and a connect that has begun goes on.
    pub async fn wait_until_ready(&self) -> Result<(), Error> {
        let mut watch = self.watch_status();
        let mut status = Some(watch.status());
        while let Some(now) = status {
            match now.state() {
                ConnectivityState::Ready => return Ok(()),
                // From the start, or again: by a timeout, as to wait is no call, or with
                // `pick_first` after a connection.
                ConnectivityState::Idle => self.request_connection(),
                ConnectivityState::Shutdown => break,
                ConnectivityState::Connecting | ConnectivityState::TransientFailure => {}
            }
            status = watch.changed().await;
        }
        Err(self.alive.board.closed())
    }

    /// The same for this long at most. 0 is a look at the state.
    ///
    /// # Errors
    ///
    /// Those of a call that waits for a backend with this deadline:
    /// [`ErrorKind::DeadlineExceeded`](crate::ErrorKind::DeadlineExceeded), which names up to
    /// 3 backends and their reasons, or [`ErrorKind::Closed`](crate::ErrorKind::Closed).
    ///
    /// # Cancel safety
    ///
    /// Nothing is lost, and a connect that has begun goes on.
    pub async fn wait_until_ready_within(&self, timeout: Duration) -> Result<(), Error> {
        wait_within(&self.alive.board, timeout, self.wait_until_ready()).await?
    }

    /// Waits for the state to be another than `last`, and returns it: at once, if it
    /// is another already. States that pass quickly may be skipped; none comes out
    /// of order. `None` if `last` is SHUTDOWN, which no other state follows.
    ///
    /// Does not connect. As in gRPC for Go and C++, with the new state for a result.
    ///
    /// # Cancel safety
    ///
    /// Nothing is lost.
    pub async fn wait_for_state_change(
        &self,
        last: ConnectivityState,
    ) -> Option<ConnectivityState> {
        if last == ConnectivityState::Shutdown {
            return None;
        }
        let changed = |status: &ChannelStatus| status.state() != last;
        Some(self.watch_status().wait_for(changed).await.state())
    }

    /// Connects, if the channel is IDLE, as a call would. Nothing else happens in any
    /// other state.
    pub fn request_connection(&self) {
        self.command(Command::Connect);
    }

    /// Puts the channel in IDLE: it lets go of every connection and every `Watch`,
    /// until the next call, or [`request_connection`](Self::request_connection).
    ///
    /// Calls in flight go on to their end on the connections they have. Calls that
    /// wait are calls, and wake the channel again at once.
    pub fn enter_idle(&self) {
        self.command(Command::EnterIdle);
    }

    /// Dials every backend at once that waits for its next attempt to connect, and
    /// lets the pauses between attempts begin with the first again: for an
    /// application that knows that the network is back.
    pub fn reset_connect_backoff(&self) {
        self.command(Command::ResetConnectBackoff);
    }

    /// Closes the channel for every clone of it. When this returns its state is
    /// SHUTDOWN, for good: new calls fail, and calls that wait have been told
    /// ([`ErrorKind::Closed`](crate::ErrorKind::Closed)).
    ///
    /// Calls in flight go on to their end; their connections say GOAWAY and close
    /// after the last. To abort one, drop its future or its response.
    ///
    /// # Cancel safety
    ///
    /// Once polled, the channel closes, waited for or not.
    pub async fn close(&self) {
        self.command(Command::Close);
        let closed = |status: &ChannelStatus| status.state() == ConnectivityState::Shutdown;
        self.watch_status().wait_for(closed).await;
    }

    /// What it has published. Whoever is to outlive no channel holds it weakly.
    pub(crate) fn board(&self) -> &Arc<Board> {
        &self.alive.board
    }

    /// A balancer that is gone needs no command: the channel is closed.
    fn command(&self, command: Command) {
        let _ = self.alive.commands.send(command);
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
        if let Some(recorder) = &self.alive.recorder {
            let record = recorder.begin(request.uri().path(), request.extensions());
            if !record.is_empty() {
                return recorded(alive, Call::new(request, self.defaults), record);
            }
        }
        let mut call = Call::new(request, self.defaults);
        // The call is borrowed where it stands: passed on by value, the future
        // would have room for it twice.
        ResponseFuture::new(async move { call.send(&alive.board).await })
    }
}

/// A future of its own, so that calls without a record have no room for one.
fn recorded(alive: Arc<Alive>, mut call: Call, mut record: CallRecord) -> ResponseFuture {
    ResponseFuture::new(async move { call.send_and_record(&alive.board, &mut record).await })
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
#[must_use = "a call does nothing until it is polled"]
pub struct ResponseFuture(Pin<Box<dyn Future<Output = Result<Response<Body>, Error>> + Send>>);

impl ResponseFuture {
    pub(crate) fn new(
        call: impl Future<Output = Result<Response<Body>, Error>> + Send + 'static,
    ) -> Self {
        Self(Box::pin(call))
    }
}

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
