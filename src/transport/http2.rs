//! The `h2` client: its limits, its handshake, its driver.

use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use h2::Reason;
use tracing::warn;

use super::{
    connection::{Attached, Connection, Stage, WeakConnection},
    endpoint::{Endpoint, Http2Options},
    farewell::Farewell,
    io::{BoxIo, Sniffed},
    keepalive::Keepalive,
    requests_first::RequestsFirst,
    words::h2_error::{disconnected, end_of, is_from_peer, say, why_ended},
};
use crate::error::{Cause, CauseKind};

/// The target of what is logged here; see the crate's documentation.
const BACKEND: &str = "tonic_health_channel::backend";

/// What a server says in the GOAWAY for it (gRFC A8).
const TOO_MANY_PINGS: &str = "too_many_pings";

/// What `h2` may hold and tolerate. Its own guards are made for servers that
/// face anyone; two of them end a whole connection over traffic that is legal
/// for a client, so every limit is set here, with its reason.
mod limits {
    use std::time::Duration;

    /// Bytes one response may send ahead of its reader; hyper's default.
    pub(super) const STREAM_WINDOW: u32 = 2 << 20;
    /// Bytes all responses may send ahead of their readers; hyper's default.
    pub(super) const CONNECTION_WINDOW: u32 = 5 << 20;
    /// What small DATA frames may cost before the connection counts as attacked:
    /// no bound. At the default of half a connection window, a reader who takes
    /// his time over a stream of 20-byte messages loses the connection. Nor is any
    /// other bound safe: frames that come for a cancelled stream are charged and
    /// never credited, so a connection that lives long enough comes to it. What is
    /// unread stays bounded by the windows, at a quarter of a kilobyte for each frame.
    pub(super) const DATA_BUDGET: usize = usize::MAX;
    /// Streams we reset and still remember. Each cancelled call is one until the
    /// peer has noticed; at the default of fifty, 1,500 calls cancelled together
    /// end the connection for everybody else.
    pub(super) const RESET_STREAMS: usize = 10_000;
    /// How long a reset stream is remembered, so that frames which the peer sent
    /// before it knew are not taken for an error.
    pub(super) const RESET_REMEMBERED: Duration = Duration::from_secs(10);
    /// Streams that an error of the peer's has ended, over the life of a connection.
    /// It can name as many streams as it likes that we never opened, each of which
    /// is half a kilobyte for as long as it does not read that they are reset. The
    /// default of a thousand is too few: what comes late for a cancelled stream that
    /// is no longer remembered is such an error too.
    pub(super) const ERRORS: usize = 50_000;
    /// What HTTP/2 knows of windows: a connection begins with the first, and
    /// nothing has more than the second (RFC 9113 §6.9). `h2` panics beyond it,
    /// and below the first never lets a connection's window open again.
    pub(super) const LEAST_CONNECTION_WINDOW: u32 = (1 << 16) - 1;
    pub(super) const LARGEST_WINDOW: u32 = (1 << 31) - 1;
    /// What [`Endpoint::http2_adaptive_window`] asks for: how far hyper's windows
    /// grow.
    pub(super) const ADAPTIVE_WINDOW: u32 = 16 << 20;
    /// What HTTP/2 knows of frame sizes (RFC 9113 §4.2). `h2` panics beyond.
    pub(super) const LEAST_FRAME: u32 = 1 << 14;
    pub(super) const LARGEST_FRAME: u32 = (1 << 24) - 1;
    /// Bytes of one request body that may wait inside `h2`, besides its last chunk.
    pub(super) const SEND_BUFFER: usize = 1 << 20;
    /// Never a limit that a peer would send: while it stands, no SETTINGS came.
    pub(super) const NO_SETTINGS_YET: usize = usize::MAX - 1;
}

/// Speaks HTTP/2 on `io`, and hands out the connection once the peer's SETTINGS
/// have come. From then on the endpoint's executor drives it.
pub(super) async fn handshake(
    io: BoxIo,
    endpoint: &Endpoint,
    attached: Attached,
) -> Result<Connection, String> {
    let (io, first_bytes) = Sniffed::new(io);
    let heard = io.heard.clone();
    let (send, mut h2) = builder(&endpoint.http2)
        .handshake::<_, Bytes>(RequestsFirst::new(io))
        .await
        .map_err(|error| first_bytes.blame(Some(&error)))?;
    let ended = std::future::poll_fn(|cx| match Pin::new(&mut h2).poll(cx) {
        Poll::Ready(outcome) => Poll::Ready(Some(outcome)),
        Poll::Pending if has_settings(&h2) => Poll::Ready(None),
        Poll::Pending => Poll::Pending,
    })
    .await;
    if let Some(outcome) = ended {
        return Err(match why_ended(outcome, &send) {
            Some(error) if has_settings(&h2) => say(&error),
            error => first_bytes.blame(error.as_ref()),
        });
    }
    let keepalive = Keepalive::new(
        &endpoint.keepalive,
        &attached.restraint,
        heard,
        h2.ping_pong(),
    );
    let connection = Connection::new(
        send,
        h2.max_concurrent_send_streams(),
        endpoint.connection_config(),
        attached,
    );
    let driver = Driver {
        h2: Some(h2),
        keepalive,
        farewell: Farewell::default(),
        handle: connection.downgrade(),
        has_waited: false,
    };
    connection.executor().spawn(driver);
    Ok(connection)
}

fn builder(options: &Http2Options) -> h2::client::Builder {
    let (stream_window, connection_window) = match options.adaptive_window {
        true => (limits::ADAPTIVE_WINDOW, limits::ADAPTIVE_WINDOW),
        false => (
            options.stream_window.unwrap_or(limits::STREAM_WINDOW),
            options
                .connection_window
                .unwrap_or(limits::CONNECTION_WINDOW),
        ),
    };
    let connection_window =
        connection_window.clamp(limits::LEAST_CONNECTION_WINDOW, limits::LARGEST_WINDOW);
    let mut builder = h2::client::Builder::new();
    builder
        .initial_max_send_streams(limits::NO_SETTINGS_YET)
        .initial_window_size(stream_window.min(limits::LARGEST_WINDOW))
        .initial_connection_window_size(connection_window)
        .data_frame_budget(limits::DATA_BUDGET)
        .max_concurrent_reset_streams(
            options
                .max_concurrent_reset_streams
                .unwrap_or(limits::RESET_STREAMS),
        )
        .reset_stream_duration(
            options
                .reset_stream_duration
                .unwrap_or(limits::RESET_REMEMBERED),
        )
        .max_local_error_reset_streams(
            options
                .max_local_error_reset_streams
                .unwrap_or(Some(limits::ERRORS)),
        )
        .max_send_buffer_size(limits::SEND_BUFFER)
        .max_header_list_size(options.header_list())
        .enable_push(false);
    if let Some(size) = options.max_frame_size {
        builder.max_frame_size(size.clamp(limits::LEAST_FRAME, limits::LARGEST_FRAME));
    }
    if let Some(size) = options.header_table_size {
        builder.header_table_size(size);
    }
    builder
}

fn has_settings(h2: &Http2Connection) -> bool {
    h2.max_concurrent_send_streams() != limits::NO_SETTINGS_YET
}

type Http2Connection = h2::client::Connection<RequestsFirst<Sniffed>, Bytes>;

/// Drives one connection until it closes.
///
/// It holds no handle, because `h2` closes gracefully only when none is left;
/// it borrows one after each poll to tell what the poll brought.
struct Driver {
    /// None once it has resolved: dropped at once, so that its socket closes.
    h2: Option<Http2Connection>,
    /// None once it has been told of too many PINGs, too.
    keepalive: Option<Keepalive>,
    farewell: Farewell,
    handle: WeakConnection,
    /// The last poll was spent on waiting for callers.
    has_waited: bool,
}

impl Future for Driver {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        if self.waits_for_callers() {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        let Some(h2) = &mut self.h2 else {
            return Poll::Ready(());
        };
        let outcome = Pin::new(&mut *h2).poll(cx);
        let limit = h2.max_concurrent_send_streams();
        let handle = self.handle.upgrade();
        let why = match outcome {
            Poll::Pending => {
                let Some(connection) = &handle else {
                    ready!(self.farewell.poll(cx));
                    self.h2 = None;
                    return Poll::Ready(());
                };
                match end_of(connection.send()) {
                    None => connection.set_limit(limit),
                    Some(error) => {
                        self.calm_down(&error, connection);
                        let why = disconnected(&error);
                        // The peer broke the protocol and every stream has failed. If
                        // the GOAWAY has to wait, it is for one who does not read.
                        if error.is_library() {
                            connection.retire(Stage::Closed(why));
                            self.h2 = None;
                            return Poll::Ready(());
                        }
                        connection.retire(Stage::Draining(why));
                    }
                }
                let Some(keepalive) = &mut self.keepalive else {
                    return Poll::Pending;
                };
                let why = ready!(keepalive.poll(cx, connection.has_streams()));
                Cause::new(CauseKind::Disconnected, why)
            }
            Poll::Ready(outcome) => {
                let ended = handle.as_ref().map(|connection| {
                    let error = why_ended(outcome, connection.send())?;
                    self.calm_down(&error, connection);
                    Some(disconnected(&error))
                });
                let by_peer = || Cause::new(CauseKind::Disconnected, "closed by the peer");
                ended.flatten().unwrap_or_else(by_peer)
            }
        };
        if let Some(connection) = handle {
            connection.retire(Stage::Closed(why));
        }
        // Last, for it fails the streams: the slots that they leave are not to be
        // handed to calls that wait.
        self.h2 = None;
        Poll::Ready(())
    }
}

impl Driver {
    /// Whether this poll is left to tasks that are ready to run, once after each wake-up.
    ///
    /// On a runtime of several threads a task that is woken runs next, so the first of
    /// many callers would have its request written alone. At the end of the queue the
    /// driver comes to find the requests of all of them, and writes them together. A
    /// single call has nobody to wait for.
    fn waits_for_callers(&mut self) -> bool {
        self.has_waited = !self.has_waited
            && self
                .handle
                .upgrade()
                .is_some_and(|connection| connection.calls_in_flight() > 1);
        self.has_waited
    }

    /// A server that is sent too many PINGs ends the connection (gRFC A8); so do the
    /// next ones to its backend not get as many.
    fn calm_down(&mut self, error: &h2::Error, connection: &Connection) {
        let is_about_pings = is_from_peer(error)
            && error.reason() == Some(Reason::ENHANCE_YOUR_CALM)
            && error.to_string().contains(TOO_MANY_PINGS);
        // The keepalive of a connection that takes no new streams is not missed.
        if let Some(keepalive) = self.keepalive.take_if(|_| is_about_pings)
            && keepalive.calm_down()
        {
            warn!(
                target: BACKEND,
                backend = connection.address(),
                interval = ?keepalive.interval(),
                "the server ends connections for too many keepalive PINGs; the next ones are \
                 sent half as many"
            );
        }
    }
}

/// A driver whose runtime goes away takes its connection with it.
impl Drop for Driver {
    fn drop(&mut self) {
        if let (Some(_), Some(connection)) = (self.h2.take(), self.handle.upgrade()) {
            let why = "the task that drove it was dropped";
            connection.retire(Stage::Closed(Cause::new(CauseKind::Disconnected, why)));
        }
    }
}
