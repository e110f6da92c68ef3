//! Peers that break the protocol, by mistake or by intent.
//!
//! One channel has a good backend, with a call under way, and a hostile one that
//! follows a script of raw frames. Whatever the script does costs that backend
//! alone: its calls fail with a code and a text, and `backends()` says why it is not
//! used. The call under way goes on, new calls find the good one, no task panics,
//! the peer is not dialled in a hurry, and what it sends does not add up in our
//! memory.
//!
//! - [`handshakes`]: what comes in the place of SETTINGS.
//! - [`framing`]: frames that end the connection.
//! - [`streams`]: frames that end their stream, and no other.
//! - [`harmless`]: frames that are wrong, or odd, and change nothing.
//! - [`endings`]: connections that end too early, or should and do not.
//! - [`grpc`]: good HTTP/2 that is bad gRPC.
//! - [`http_errors`]: answers of HTTP that have no gRPC status.
//! - [`statuses`]: statuses in frames that carry none.
//! - [`settings`]: SETTINGS and windows that move under calls.
//! - [`floods`]: too much of anything.
//! - [`deaf`]: peers that stop reading.
//! - [`unread`]: responses that nothing reads.

mod deaf;
mod endings;
mod floods;
mod framing;
mod grpc;
mod handshakes;
mod harmless;
mod http_errors;
mod settings;
mod statuses;
mod streams;
mod unread;

use std::{cell::Cell, future::Future, io, panic, sync::Once};

use testing::{
    Backend, Backends, Chat, RawConnection, RawPeer, by_hand, endpoint, greeter,
    greeter::HelloReply, hello, http2, outcome, request, start, until_that, within,
};
use tokio::time::Instant;
use tonic::{Code, Status, Streaming};
use tonic_health_channel::{
    Channel,
    ConnectivityState::Ready,
    Endpoint,
    status::{BackendStatus, Cause, CauseKind},
};

/// Two dials of one backend are at least this far apart, in milliseconds.
const BETWEEN_DIALS: u128 = 100;

/// A channel over a good backend and a hostile one.
struct Stage {
    channel: Channel,
    good: Backend,
    hostile: RawPeer,
    /// Open on the good one from before the other was there.
    chat: Chat,
    since: Instant,
    _backends: Backends,
}

impl Stage {
    /// The hostile backend plays `script` on each connection.
    async fn with<S, F>(script: S) -> Self
    where
        S: Fn(RawConnection) -> F + Send + 'static,
        F: Future<Output = io::Result<()>> + Send + 'static,
    {
        Self::set(None, |endpoint| endpoint, script).await
    }

    /// The same in a channel that checks the health of `service`, with options for
    /// the hostile endpoint.
    async fn set<S, F>(
        service: Option<&str>,
        options: impl FnOnce(Endpoint) -> Endpoint,
        script: S,
    ) -> Self
    where
        S: Fn(RawConnection) -> F + Send + 'static,
        F: Future<Output = io::Result<()>> + Send + 'static,
    {
        count_panics();
        let good = Backend::builder().name("good").start().await;
        let hostile = RawPeer::start(script).await;
        let (backends, channel) = by_hand(service);
        let channel = channel.build();
        backends.insert("good", good.uri()).await;
        let mut chat = Chat::start(&channel).await;
        chat.greet("before").await.expect("the good one greets");
        let since = Instant::now();
        backends
            .insert_as("hostile", options(endpoint(hostile.uri())))
            .await;
        Self {
            channel,
            good,
            hostile,
            chat,
            since,
            _backends: backends,
        }
    }

    /// Two calls are on the first connection when the peer writes what `bytes`
    /// makes of the stream of the second, and then answers the first. After that,
    /// and on later connections, it behaves.
    async fn with_frames(bytes: impl Fn(u32) -> Vec<u8> + Clone + Send + Sync + 'static) -> Self {
        Self::with(move |mut wire| {
            let bytes = bytes.clone();
            async move {
                wire.open().await?;
                if wire.before == 0 {
                    let first = wire.whole_request().await?;
                    let second = wire.whole_request().await?;
                    let answer = http2::answer(first, b"");
                    wire.write(&[bytes(second), answer].concat()).await?;
                }
                wire.behave().await
            }
        })
        .await
    }

    /// The hostile backend answers the first request of a connection with what `bytes` makes of
    /// it. After that it behaves.
    async fn answering(bytes: impl Fn(u32) -> Vec<u8> + Clone + Send + Sync + 'static) -> Self {
        Self::with(move |mut wire| {
            let bytes = bytes.clone();
            async move {
                wire.open().await?;
                let stream = wire.whole_request().await?;
                wire.write(&bytes(stream)).await?;
                wire.behave().await
            }
        })
        .await
    }

    async fn until_connected(&self) {
        self.until_backend("READY", |backend| backend.state() == Ready)
            .await;
    }

    /// 2 calls on the hostile backend, both at once and on one connection, while
    /// as many on the good one are answered. How each of them ended.
    async fn two_calls(&self) -> [Result<HelloReply, Status>; 2] {
        self.until_connected().await;
        let calls: Vec<_> = (0..4).map(|_| start(&self.channel, "you")).collect();
        let mut hostile = Vec::new();
        for call in calls {
            match outcome(call).await {
                Ok(reply) if reply.backend == self.good.name() => {}
                other => hostile.push(other),
            }
        }
        hostile.try_into().expect("the backends take turns")
    }

    /// A call on the hostile backend, as soon as it takes one, while those on the
    /// good one are answered. How it ended.
    async fn call(&self) -> Result<HelloReply, Status> {
        within("a call on the hostile backend", async {
            loop {
                self.until_connected().await;
                match hello(&self.channel).await {
                    Ok(reply) if reply.backend == self.good.name() => {}
                    other => return other,
                }
            }
        })
        .await
    }

    /// The same for one that fails.
    async fn failure(&self) -> Status {
        let outcome = self.call().await;
        outcome.expect_err("a hostile backend has no answer")
    }

    /// The same for one that is answered.
    async fn success(&self) {
        self.call().await.expect("it behaves by now");
    }

    /// The messages of a call on the hostile backend, whose headers have to have an
    /// `x-hostile`.
    async fn stream_of_hostile(&self) -> Streaming<HelloReply> {
        self.until_connected().await;
        let mut client = greeter(&self.channel);
        loop {
            let replies = client.say_hello_many(request("you"));
            let replies = within("headers", replies).await.expect("headers");
            if replies.metadata().contains_key("x-hostile") {
                return replies.into_inner();
            }
        }
    }

    /// What `status`, which has this code, says after the name of its backend.
    #[track_caller]
    fn stream_failed(&self, status: &Status, code: Code) -> String {
        assert_eq!(status.code(), code, "{status}");
        let start = format!("stream to {}: ", self.hostile.addr());
        let text = status.message().strip_prefix(&start);
        text.unwrap_or_else(|| panic!("{status} does not begin with {start:?}"))
            .to_owned()
    }

    /// Awaits something of the hostile backend.
    async fn until_backend(&self, what: &str, condition: impl Fn(&BackendStatus) -> bool) {
        let what = format!("the hostile backend to be {what}");
        let address = self.hostile.addr().to_string();
        until_that(&self.channel, &what, |status| {
            let mut backends = status.backends().iter();
            let hostile = backends.find(|backend| backend.address() == address);
            hostile.is_some_and(|backend| condition(backend))
        })
        .await;
    }

    /// Awaits that the channel says this of the hostile backend's last failure.
    async fn until_blamed(&self, kind: impl Into<Option<CauseKind>>, text: &str) {
        let kind = kind.into();
        self.until_backend(&format!("blamed for {text:?}"), |backend| {
            let is_blamed = |cause: &Cause| {
                kind.is_none_or(|kind| cause.kind() == kind) && cause.text().contains(text)
            };
            backend
                .last_error()
                .is_some_and(|(cause, _)| is_blamed(cause))
        })
        .await;
    }

    /// Nobody else was hurt.
    async fn close(mut self) {
        let address = self.hostile.addr().to_string();
        for _ in 0..4 {
            // The hostile one may be connected, and fail every second.
            if let Err(status) = hello(&self.channel).await {
                assert!(status.message().contains(&address), "{status}");
            }
        }
        let after = self.chat.greet("after").await;
        assert_eq!(after.expect("the call goes on").message, "Hello after!");
        self.chat.end().await;
        assert_eq!(self.good.connections(), 1, "the good one is left in peace");
        let dials = self.since.elapsed().as_millis() / BETWEEN_DIALS + 1;
        let dialled = self.hostile.connections() as u128;
        assert!(dialled <= dials, "dialled {dialled} times, not {dials}");
        drop(self.channel);
        self.hostile.until_open_connections(0).await;
        assert_eq!(PANICS.get(), 0, "no task has panicked");
    }
}

thread_local! {
    /// Panics on this thread, on which everything runs that a test spawns.
    static PANICS: Cell<usize> = const { Cell::new(0) };
}

/// A task that panics would else only be missing.
fn count_panics() {
    PANICS.set(0);
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let usual = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            PANICS.set(PANICS.get() + 1);
            usual(info);
        }));
    });
}
