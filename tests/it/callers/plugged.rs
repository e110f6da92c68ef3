//! What is plugged into a channel may panic, may be asked for ever, or may be refused by the
//! system. A control task survives it, and the reason can be read.

use std::{
    error::Error,
    fmt,
    future::{Future, poll_fn, ready},
    io, mem,
    pin::Pin,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering::Relaxed},
        mpsc,
    },
    task::{Context, Poll},
    thread,
    time::Duration,
};

use bytes::Bytes;
use futures_util::{Stream, StreamExt, future::BoxFuture, stream};
use http::Request;
use http_body::Frame;
use hyper_util::rt::TokioIo;
use testing::{
    Backend, GREETER, Logs, Tap, Tapped, balanced, by_hand, endpoint, hello, quick_backoff,
    refusal, until, until_that, within,
};
use tokio::{net::TcpStream, runtime::Builder, task::yield_now};
use tonic::{Code, body::Body, metadata::MetadataMap};
use tonic_health_channel::{
    Channel, ConnectivityState::Ready, Endpoint, ServiceConfig, Uri, channel::Change,
};
use tower::{BoxError, Service, ServiceExt};
use tracing::Subscriber;
use tracing_subscriber::{Layer, layer::SubscriberExt, registry};

/// Panics in each test are meant. The text is looked for in what callers and users see.
const PANIC: &str = "a bug\nof the application";
const TOLD: &str = r"a bug\nof the application";

/// Counts down the panics that are left.
#[derive(Clone)]
struct Fuse(Arc<AtomicUsize>);

impl Fuse {
    fn of(panics: usize) -> Self {
        Self(Arc::new(AtomicUsize::new(panics)))
    }

    fn burn(&self) {
        let left = self.0.fetch_update(Relaxed, Relaxed, |n| n.checked_sub(1));
        assert!(left.is_err(), "{PANIC}");
    }
}

/// Where a connector panics.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum At {
    Ready,
    Call,
    Connecting,
    Reading,
    /// In the text of an error of reading.
    Telling,
}

#[derive(Debug)]
struct Untold;

impl fmt::Display for Untold {
    fn fmt(&self, _: &mut fmt::Formatter<'_>) -> fmt::Result {
        panic!("{PANIC}")
    }
}

impl Error for Untold {}

#[derive(Clone)]
struct Connector {
    at: At,
    fuse: Fuse,
}

impl Connector {
    fn burn(&self, at: At) {
        if self.at == at {
            self.fuse.burn();
        }
    }
}

impl Service<Uri> for Connector {
    type Response = TokioIo<Pipe>;
    type Error = io::Error;
    type Future = BoxFuture<'static, io::Result<TokioIo<Pipe>>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.burn(At::Ready);
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        self.burn(At::Call);
        let connector = self.clone();
        Box::pin(async move {
            connector.burn(At::Connecting);
            let io = TcpStream::connect(uri.authority().expect("set").as_str()).await?;
            let tap = connector;
            Ok(TokioIo::new(Tapped { io, tap }))
        })
    }
}

/// Its bytes panic when the peer's third piece is read: the connection is up by then.
type Pipe = Tapped<TcpStream, Connector>;

impl Tap<TcpStream> for Connector {
    fn on_read(&mut self, news: &[u8]) -> io::Result<()> {
        if news.windows(GREETING.len()).any(|part| part == GREETING) {
            self.burn(At::Reading);
            if self.at == At::Telling && self.fuse.0.swap(0, Relaxed) > 0 {
                return Err(io::Error::other(Untold));
            }
        }
        Ok(())
    }
}

/// Only an answer of the greeter has it.
const GREETING: &[u8] = b"Hello";

/// A channel to one endpoint, with quick backoffs.
fn over(there: Endpoint) -> Channel {
    let named = stream::iter([Ok::<_, BoxError>(Change::Insert("A", there))]);
    Channel::balance(named)
        .connect_backoff(quick_backoff())
        .build()
}

// D248
#[tokio::test]
async fn a_connector_that_panics_is_a_failed_attempt() {
    for at in [At::Ready, At::Call, At::Connecting] {
        let backend = Backend::start().await;
        let connector = Connector {
            at,
            fuse: Fuse::of(2),
        };
        let there = endpoint(backend.uri()).connector(connector);
        let channel = over(there);
        let told = format!("connector panicked: {TOLD}");
        until_that(&channel, &format!("{at:?}: a failed attempt"), |status| {
            let error = status.backends().first().and_then(|b| b.last_error());
            error.is_some_and(|(cause, _)| cause.text().contains(&told))
        })
        .await;
        until(&channel, Ready).await;
        hello(&channel).await.expect("the connector is well again");
    }
}

// D248
#[tokio::test]
async fn bytes_that_panic_end_their_connection_and_no_more() {
    for at in [At::Reading, At::Telling] {
        let backend = Backend::start().await;
        let connector = Connector {
            at,
            fuse: Fuse::of(1),
        };
        let there = endpoint(backend.uri()).connector(connector);
        let channel = over(there);
        let status = hello(&channel).await.expect_err("its bytes are lost");
        assert!(status.message().contains(TOLD), "{at:?}: {status}");
        until(&channel, Ready).await;
        hello(&channel).await.expect("the next connection is well");
    }
}

// D249
#[tokio::test]
async fn call_credentials_that_panic_fail_the_call() {
    for at_once in [true, false] {
        let backend = Backend::start().await;
        let fuse = Fuse::of(1);
        let channel = balanced(&[&backend], None)
            .allow_plaintext_credentials(true)
            .call_credentials(move |_| {
                let fuse = fuse.clone();
                if at_once {
                    fuse.burn();
                }
                async move {
                    fuse.burn();
                    Ok(MetadataMap::new())
                }
            })
            .build();
        let failed = hello(&channel).await.expect_err("there are no credentials");
        assert_eq!(failed.code(), Code::Internal, "{failed}");
        let told = format!("call credentials panicked: {TOLD}");
        assert!(failed.message().contains(&told), "{failed}");
        hello(&channel).await.expect("now there are");
    }
}

// D249
#[tokio::test]
async fn a_health_check_survives_call_credentials_that_panic() {
    let backend = Backend::start().await;
    let fuse = Fuse::of(1);
    let channel = balanced(&[&backend], Some(GREETER))
        .allow_plaintext_credentials(true)
        .call_credentials(move |_| {
            fuse.burn();
            ready(Ok(MetadataMap::new()))
        })
        .build();
    until_that(&channel, "a Watch without credentials", |status| {
        let error = status.backends().first().and_then(|b| b.last_error());
        error.is_some_and(|(cause, _)| cause.text().contains("call credentials panicked"))
    })
    .await;
    until(&channel, Ready).await;
}

/// What comes before a panic.
fn then_panics<T: Send + 'static>(items: Vec<T>) -> impl Stream<Item = T> + Send + 'static {
    let mut items = items.into_iter();
    stream::poll_fn(move |_| match items.next() {
        Some(item) => Poll::Ready(Some(item)),
        None => panic!("{PANIC}"),
    })
}

// D250
#[tokio::test]
async fn a_source_that_panics_is_over_and_its_backends_stay() {
    let backend = Backend::start().await;
    let there = Change::Insert("A", endpoint(backend.uri()));
    let channel = Channel::balance(then_panics(vec![Ok::<_, BoxError>(there)])).build();
    until(&channel, Ready).await;
    let status = until_that(&channel, "what became of the source", |status| {
        status.cause().is_some()
    })
    .await;
    let cause = status.cause().expect("awaited").to_string();
    let told = format!("name resolver error: the source panicked: {TOLD}");
    assert!(cause.contains(&told), "{cause}");
    hello(&channel).await.expect("the backend stays");

    let nothing = Vec::<Result<Change<u8, Endpoint>, BoxError>>::new();
    let channel = Channel::balance(then_panics(nothing)).build();
    let text = refusal(&channel).await;
    assert!(text.contains(&told), "{text}");
}

// D250
#[tokio::test]
async fn a_stream_of_configs_that_panics_is_over_and_its_config_stays() {
    let backend = Backend::start().await;
    let config: ServiceConfig = r#"{"loadBalancingConfig": [{"round_robin": {}}]}"#
        .parse()
        .expect("valid");
    let configs = then_panics(vec![Ok::<_, BoxError>(Some(config))]);
    let channel = balanced(&[&backend], None)
        .service_config_updates(configs)
        .build();
    hello(&channel).await.expect("a config is in force");

    let configs = then_panics(Vec::<Result<_, BoxError>>::new());
    let channel = balanced(&[&backend], None)
        .service_config_updates(configs)
        .build();
    let text = refusal(&channel).await;
    let told = format!("service config error: the source panicked: {TOLD}");
    assert!(text.contains(&told), "{text}");
}

/// A request body: frames of data, of which some are late, and a panic.
struct Panicking {
    frames: usize,
    late: bool,
}

impl http_body::Body for Panicking {
    type Data = Bytes;
    type Error = tonic::Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, tonic::Status>>> {
        if self.late {
            self.late = false;
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        assert!(self.frames > 0, "{PANIC}");
        self.frames -= 1;
        self.late = true;
        let message = Bytes::from_static(&[0, 0, 0, 0, 0]);
        Poll::Ready(Some(Ok(Frame::data(message))))
    }
}

fn posted(
    method: &str,
    body: impl http_body::Body<Data = Bytes, Error = tonic::Status> + Send + 'static,
) -> Request<Body> {
    Request::post(format!("/demo.v1.Greeter/{method}"))
        .header("content-type", "application/grpc")
        .body(Body::new(body))
        .expect("a request")
}

// D251
#[tokio::test]
async fn a_call_whose_body_panics_is_reset_and_ends() {
    let backend = Backend::start().await;
    let channel = balanced(&[&backend], None).build();
    until(&channel, Ready).await;
    for frames in [0, 1, 3] {
        let call = channel.clone().oneshot(posted(
            "Chat",
            Panicking {
                frames,
                late: false,
            },
        ));
        let status = match within("the end of the call", call).await {
            Err(error) => tonic::Status::from_error(error.into()),
            Ok(response) => within("the end of the stream", ended(response)).await,
        };
        assert_eq!(status.code(), Code::Internal, "{frames}: {status}");
        let told = format!("the request body panicked: {TOLD}");
        assert!(status.message().contains(&told), "{frames}: {status}");
        let in_flight = channel.status().backends()[0].calls_in_flight();
        assert_eq!(in_flight, 0, "{frames} frames");
    }
    hello(&channel).await.expect("nothing else has ended");
}

/// The status at the end of a response.
async fn ended(response: http::Response<Body>) -> tonic::Status {
    let mut body = response.into_body();
    loop {
        let frame = poll_fn(|cx| http_body::Body::poll_frame(Pin::new(&mut body), cx)).await;
        match frame {
            Some(Err(status)) => return status,
            Some(Ok(_)) => {}
            None => return tonic::Status::ok("the end"),
        }
    }
}

type Task = Pin<Box<dyn Future<Output = ()> + Send>>;

/// An executor that loses some of its tasks, or panics over them.
#[derive(Clone)]
struct Loses {
    these: &'static [usize],
    taken: Arc<AtomicUsize>,
    silently: bool,
}

impl hyper::rt::Executor<Task> for Loses {
    fn execute(&self, task: Task) {
        match self.these.contains(&self.taken.fetch_add(1, Relaxed)) {
            false => drop(tokio::spawn(task)),
            true => assert!(self.silently, "{PANIC}"),
        }
    }
}

// D252
#[tokio::test]
async fn a_control_task_that_is_lost_is_started_again() {
    // The first is a subchannel, and where that lives the next is a connection's driver.
    const LOST: [&[usize]; 3] = [&[0], &[1], &[0, 1, 2]];
    for silently in [true, false] {
        for these in LOST {
            let backend = Backend::start().await;
            let executor = Loses {
                these,
                taken: Arc::default(),
                silently,
            };
            let channel = over(endpoint(backend.uri()).executor(executor.clone()));
            until(&channel, Ready).await;
            hello(&channel).await.expect("all tasks run now");
            assert!(executor.taken.load(Relaxed) > these.len(), "{these:?}");
        }
    }
}

/// Panics at the first event of a target.
struct Panics {
    target: &'static str,
    fuse: Fuse,
}

impl<S: Subscriber> Layer<S> for Panics {
    fn on_event(&self, event: &tracing::Event<'_>, _: tracing_subscriber::layer::Context<'_, S>) {
        if event.metadata().target() == self.target {
            self.fuse.burn();
        }
    }
}

// D252
#[tokio::test]
async fn a_control_task_that_dies_by_a_subscriber_is_started_again() {
    // Keeps what other threads log from switching the events off for this one.
    let _logs = Logs::capture();
    for target in ["channel", "backend"] {
        let target = match target {
            "channel" => "tonic_health_channel::channel",
            _ => "tonic_health_channel::backend",
        };
        let fuse = Fuse::of(1);
        let left = fuse.clone();
        let subscriber = registry().with(Panics { target, fuse });
        let _default = tracing::subscriber::set_default(subscriber);
        let backend = Backend::start().await;
        let (backends, builder) = by_hand(None);
        let channel = builder.build();
        backends.insert("A", backend.uri()).await;
        until(&channel, Ready).await;
        assert_eq!(left.0.load(Relaxed), 0, "{target}: it has panicked");
        hello(&channel).await.expect("the channel lives");
    }
}

/// What is always ready, in a thread of its own that is left behind if it never ends.
#[track_caller]
fn ends(what: &str, workers: usize, work: impl Future<Output = ()> + Send + 'static) {
    let (tell, told) = mpsc::channel();
    thread::spawn(move || {
        let runtime = match workers {
            0 => Builder::new_current_thread().enable_all().build(),
            n => Builder::new_multi_thread()
                .worker_threads(n)
                .enable_all()
                .build(),
        };
        let runtime = runtime.expect("a runtime");
        runtime.block_on(work);
        let _ = tell.send(());
        runtime.shutdown_background();
    });
    let told = told.recv_timeout(Duration::from_secs(20));
    assert!(told.is_ok(), "{what}, {workers} workers: no end in 20 s");
}

/// Says these again and again, until the test is over: then it is silent.
fn for_ever<T: Clone + Send + 'static>(items: Vec<T>) -> (Arc<AtomicUsize>, BoxStream<T>) {
    let over = Arc::new(AtomicUsize::new(0));
    let stops = over.clone();
    let mut items = items.into_iter().cycle();
    let all = stream::poll_fn(move |_| match stops.load(Relaxed) {
        0 => Poll::Ready(items.next()),
        _ => Poll::Pending,
    });
    (over, Box::pin(all))
}

type BoxStream<T> = Pin<Box<dyn Stream<Item = T> + Send>>;

/// The changes of sources that are always ready.
fn tireless(uri: &str) -> Vec<(&'static str, Vec<Change<u8, Endpoint>>)> {
    let there = || Change::Insert(1, endpoint(uri));
    let dead = || Change::Insert(2, endpoint("http://127.0.0.1:1"));
    vec![
        ("the same again", vec![there()]),
        ("unknown keys", vec![there(), Change::Remove(3)]),
        ("flips", vec![there(), dead(), Change::Remove(2)]),
        (
            "endpoints in turn",
            vec![there(), dead(), Change::Insert(2, endpoint(uri))],
        ),
    ]
}

// D253
#[test]
fn a_source_that_is_always_ready_leaves_time_for_calls() {
    for workers in [0, 2] {
        for at in 0..4 {
            ends("a source", workers, async move {
                let backend = Backend::start().await;
                let (what, changes) = tireless(&backend.uri()).swap_remove(at);
                let mut changes = changes.into_iter();
                let first = changes.next().expect("the backend");
                let rest = changes.collect::<Vec<_>>();
                let rest = if rest.is_empty() {
                    vec![first.clone()]
                } else {
                    rest
                };
                let (over, rest) = for_ever(rest);
                let source = stream::iter([first]).chain(rest).map(Ok::<_, BoxError>);
                let channel = Channel::balance(source)
                    .connect_backoff(quick_backoff())
                    .build();
                for _ in 0..20 {
                    let answer = hello(&channel).await;
                    let is_of_the_dead = answer
                        .as_ref()
                        .is_err_and(|s| s.message().contains("127.0.0.1:1"));
                    assert!(answer.is_ok() || is_of_the_dead, "{what}: {answer:?}");
                }
                over.store(1, Relaxed);
            });
        }
    }
}

/// An executor that holds its tasks back until they are released.
#[derive(Clone, Default)]
struct Holds(Arc<Mutex<Vec<Task>>>);

impl Holds {
    fn held(&self) -> usize {
        self.0.lock().expect("no holder panics").len()
    }

    fn release(&self) -> Vec<Task> {
        mem::take(&mut *self.0.lock().expect("no holder panics"))
    }
}

impl hyper::rt::Executor<Task> for Holds {
    fn execute(&self, task: Task) {
        self.0.lock().expect("no holder panics").push(task);
    }
}

// D253
#[tokio::test]
async fn a_source_stops_no_more_than_has_time_to_end() {
    const FLIPS: usize = 2_000;
    let backend = Backend::start().await;
    let holds = Holds::default();
    let there = Change::Insert(1, endpoint(backend.uri()));
    let flips = (0..FLIPS).flat_map({
        let dead = endpoint("http://127.0.0.1:1").executor(holds.clone());
        move |_| [Change::Insert(2, dead.clone()), Change::Remove(2)]
    });
    let said = Arc::new(AtomicUsize::new(0));
    let all = stream::iter([there].into_iter().chain(flips)).inspect({
        let said = said.clone();
        move |_| {
            said.fetch_add(1, Relaxed);
        }
    });
    // A backend that is taken back in the turn in which it was named does not start.
    let one_by_one = all.then(async |change| {
        yield_now().await;
        Ok::<_, BoxError>(change)
    });
    let channel = Channel::balance(Box::pin(one_by_one)).build();
    until(&channel, Ready).await;
    // Nothing that was stopped has ended.
    let many = async {
        while holds.held() < 256 {
            hello(&channel).await.expect("an answer");
        }
    };
    within("many stops", many).await;
    for _ in 0..20 {
        hello(&channel).await.expect("an answer");
    }
    let held = holds.held();
    assert!((256..300).contains(&held), "{held} tasks are held");

    let all_said = async {
        while said.load(Relaxed) <= 2 * FLIPS {
            holds
                .release()
                .into_iter()
                .for_each(|task| drop(tokio::spawn(task)));
            yield_now().await;
        }
    };
    within("the source to go on", all_said).await;
}

// D253
#[test]
fn a_stream_of_configs_that_is_always_ready_leaves_time_for_calls() {
    for workers in [0, 2] {
        for flips in [false, true] {
            ends("configs", workers, async move {
                let backend = Backend::start().await;
                let config = |json: &str| json.parse::<ServiceConfig>().map(Some);
                let one = config(r#"{"loadBalancingConfig": [{"round_robin": {}}]}"#);
                let one = one.expect("valid");
                let other = config(r#"{"methodConfig": [{"name": [{}], "timeout": "9s"}]}"#);
                let other = other.expect("valid");
                let all = if flips { vec![one, other] } else { vec![one] };
                let (over, configs) = for_ever(all);
                let channel = balanced(&[&backend], None)
                    .service_config_updates(configs.map(Ok::<_, BoxError>))
                    .build();
                for _ in 0..20 {
                    hello(&channel).await.expect("an answer");
                }
                over.store(1, Relaxed);
            });
        }
    }
}

/// A body of empty frames that are always ready, until the test is over.
struct Empty(Arc<AtomicUsize>);

impl http_body::Body for Empty {
    type Data = Bytes;
    type Error = tonic::Status;

    fn poll_frame(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, tonic::Status>>> {
        match self.0.load(Relaxed) {
            0 => Poll::Ready(Some(Ok(Frame::data(Bytes::new())))),
            _ => Poll::Ready(None),
        }
    }
}

// D254
#[test]
fn a_body_of_empty_frames_leaves_time_for_other_calls() {
    for workers in [0, 2] {
        ends("empty frames", workers, async move {
            let backend = Backend::start().await;
            let channel = balanced(&[&backend], None).build();
            let over = Arc::new(AtomicUsize::new(0));
            let bodies = 2;
            let mut streams = Vec::new();
            for _ in 0..bodies {
                let call = channel.clone().oneshot(posted("Chat", Empty(over.clone())));
                streams.push(tokio::spawn(call));
            }
            for _ in 0..20 {
                hello(&channel).await.expect("an answer");
            }
            over.store(1, Relaxed);
            for stream in streams {
                stream.await.expect("no panic").expect("a response");
            }
        });
    }
}
