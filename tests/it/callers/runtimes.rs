//! A channel belongs to the runtime on which it was built. Calls may be polled anywhere: outside
//! any runtime, on one without timers, on one that ends before they do.

use std::{
    future::Future,
    panic::{AssertUnwindSafe, catch_unwind},
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::SeqCst},
        mpsc::{self, RecvTimeoutError},
    },
    task::{Context, Poll, Wake, Waker},
    thread::{self, Thread},
    time::Duration,
};

use futures_util::{FutureExt, future::BoxFuture};
use http::{Request, Response};
use hyper_util::rt::TokioIo;
use testing::{
    Answer, Backend, H2Peer, PATIENCE, by_hand, greeter::greeter_client::GreeterClient, request,
    request_within,
};
use tokio::{
    io::DuplexStream,
    runtime::{Builder, Handle, Runtime},
    sync::mpsc as feed,
};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Status, body::Body};
use tonic_health_channel::{Channel, Endpoint, WaitForReady, discover};
use tower::{ServiceExt, discover::Change, util::BoxCloneService};

use super::side::Side;

/// A channel of either kind, whose error is what a client makes of it.
type AnyChannel = BoxCloneService<Request<Body>, Response<Body>, Status>;

/// A deadline that passes while a test looks on.
const SHORT: Duration = Duration::from_millis(50);

/// One that does not pass.
const LONG: Duration = Duration::from_secs(60);

/// How a call ended: a fact for a table.
type Outcome = Result<(), Status>;

/// What a caller does with a client. It is polled wherever the test says.
type Job = fn(GreeterClient<AnyChannel>) -> BoxFuture<'static, Outcome>;

/// A backend, and the runtime of a channel, each on threads of its own.
struct Scene {
    backend: Backend,
    home: Runtime,
    servers: Runtime,
}

impl Scene {
    fn new() -> Self {
        let servers = threads();
        Self {
            backend: servers.block_on(Backend::start()),
            home: threads(),
            servers,
        }
    }

    /// A channel that is built on `home`.
    fn channel(&self, endpoint: impl FnOnce(Endpoint) -> Endpoint) -> AnyChannel {
        let _context = self.home.enter();
        let ours = testing::endpoint(self.backend.uri());
        any(endpoint(ours).connect_lazy())
    }
}

/// A runtime with one thread of its own.
fn threads() -> Runtime {
    let mut builder = Builder::new_multi_thread();
    let builder = builder.worker_threads(1).enable_all();
    builder.build().expect("a runtime")
}

/// A runtime that runs while somebody waits for it, and keeps no time.
fn bare() -> Runtime {
    let built = Builder::new_current_thread().build();
    built.expect("a runtime")
}

fn any(channel: Channel) -> AnyChannel {
    BoxCloneService::new(channel.map_err(Status::from))
}

/// A channel to one backend, built on the runtime in context.
fn one(side: Side, scene: &Scene) -> AnyChannel {
    let channel = side.channel(&scene.backend.uri());
    BoxCloneService::new(channel.map_err(Status::from_error))
}

fn of_tonic(error: tonic::transport::Error) -> Status {
    Status::from_error(error.into())
}

struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

/// Polls `future` on this thread, without a runtime.
fn park_on<T>(future: impl Future<Output = T>) -> T {
    let waker = Waker::from(Arc::new(Unpark(thread::current())));
    let mut future = pin!(future);
    loop {
        if let Poll::Ready(output) = future.as_mut().poll(&mut Context::from_waker(&waker)) {
            return output;
        }
        thread::park();
    }
}

/// What `work` returns, on a thread of its own.
///
/// # Panics
///
/// If it panics, or does not end in time.
fn on_a_thread<T: Send + 'static>(what: &str, work: impl FnOnce() -> T + Send + 'static) -> T {
    let (tell, told) = mpsc::channel();
    thread::spawn(move || tell.send(work()));
    match told.recv_timeout(PATIENCE) {
        Ok(output) => output,
        Err(RecvTimeoutError::Timeout) => panic!("{what}: it has not ended in {PATIENCE:?}"),
        Err(RecvTimeoutError::Disconnected) => panic!("{what}: it panicked"),
    }
}

/// Where a future is polled that belongs to a channel of another runtime.
#[derive(Clone, Copy, Debug)]
enum Place {
    Nowhere,
    WithoutTime,
}

impl Place {
    const ALL: [Self; 2] = [Self::Nowhere, Self::WithoutTime];

    fn run(self, what: &str, job: BoxFuture<'static, Outcome>) -> Outcome {
        on_a_thread(&format!("{what} ({self:?})"), move || match self {
            Self::Nowhere => park_on(job),
            Self::WithoutTime => bare().block_on(job),
        })
    }
}

fn plain(mut client: GreeterClient<AnyChannel>) -> BoxFuture<'static, Outcome> {
    async move { client.say_hello(request("you")).await.map(drop) }.boxed()
}

fn three(mut client: GreeterClient<AnyChannel>) -> BoxFuture<'static, Outcome> {
    async move {
        for _ in 0..3 {
            client.say_hello(request("you")).await?;
        }
        Ok(())
    }
    .boxed()
}

fn in_time(mut client: GreeterClient<AnyChannel>) -> BoxFuture<'static, Outcome> {
    async move {
        client
            .say_hello(request_within("you", LONG))
            .await
            .map(drop)
    }
    .boxed()
}

fn held(mut client: GreeterClient<AnyChannel>) -> BoxFuture<'static, Outcome> {
    async move { client.say_hello(request("hold")).await.map(drop) }.boxed()
}

fn held_in_time(mut client: GreeterClient<AnyChannel>) -> BoxFuture<'static, Outcome> {
    let request = request_within("hold", SHORT);
    async move { client.say_hello(request).await.map(drop) }.boxed()
}

fn patient_in_time(mut client: GreeterClient<AnyChannel>) -> BoxFuture<'static, Outcome> {
    let mut request = request_within("you", SHORT);
    request.extensions_mut().insert(WaitForReady(true));
    async move { client.say_hello(request).await.map(drop) }.boxed()
}

/// Reads a stream that falls silent after its only message.
fn stream_in_time(mut client: GreeterClient<AnyChannel>) -> BoxFuture<'static, Outcome> {
    let mut request = request_within("hold", SHORT * 4);
    request.get_mut().count = 1;
    async move {
        let mut replies = client.say_hello_many(request).await?.into_inner();
        while replies.message().await?.is_some() {}
        Ok(())
    }
    .boxed()
}

/// Says two things, one after the answer to the other.
fn chat(mut client: GreeterClient<AnyChannel>) -> BoxFuture<'static, Outcome> {
    async move {
        let (say, names) = feed::channel(1);
        say.send(request("one")).await.expect("it is read");
        let call = client.chat(ReceiverStream::new(names)).await?;
        let mut replies = call.into_inner();
        for name in ["two", "three"] {
            replies.message().await?.expect("a reply");
            say.send(request(name)).await.expect("it is read");
        }
        replies.message().await?.expect("a reply");
        drop(say);
        assert!(replies.message().await?.is_none());
        Ok(())
    }
    .boxed()
}

// D226
#[test]
fn calls_are_polled_anywhere() {
    let scene = Scene::new();
    let same = |endpoint: Endpoint| endpoint;
    let limited = |endpoint: Endpoint| endpoint.rate_limit(1, SHORT);
    let impatient = |endpoint: Endpoint| endpoint.timeout(SHORT);
    let credentials = || {
        let _context = scene.home.enter();
        let list = discover::list([scene.backend.uri()]).expect("a list of one");
        let builder = Channel::balance(list).call_credentials(|_| std::future::pending());
        any(builder.allow_plaintext_credentials(true).build())
    };
    let (_silent, unknown) = {
        let _context = scene.home.enter();
        let (silent, builder) = by_hand(None);
        (silent, any(builder.build()))
    };
    // A server of tonic's would end the call at the same moment, by a status of its own.
    let silent = {
        let peer = scene.servers.block_on(H2Peer::start());
        peer.answer_calls(Answer::KeepOpen);
        let _context = scene.home.enter();
        let channel = testing::endpoint(peer.uri()).connect_lazy();
        (peer, any(channel))
    };
    let none = Code::Ok;
    let late = Code::DeadlineExceeded;
    let table: [(&str, AnyChannel, Job, Code); 11] = [
        ("no deadline", scene.channel(same), plain, none),
        ("a deadline", scene.channel(same), in_time, none),
        ("one that passes", silent.1.clone(), held_in_time, late),
        (
            "the endpoint's timeout",
            scene.channel(impatient),
            held,
            late,
        ),
        ("a wait for a backend", unknown, patient_in_time, late),
        (
            "a wait for credentials",
            credentials(),
            patient_in_time,
            late,
        ),
        ("a silent stream", scene.channel(same), stream_in_time, late),
        ("both ways", scene.channel(same), chat, none),
        ("a rate limit", scene.channel(limited), three, none),
        ("with a deadline", scene.channel(limited), in_time, none),
        ("after that", scene.channel(same), plain, none),
    ];
    for (what, channel, job, expected) in table {
        for place in Place::ALL {
            let outcome = place.run(what, job(GreeterClient::new(channel.clone())));
            let code = outcome.as_ref().err().map_or(Code::Ok, Status::code);
            assert_eq!(code, expected, "{what} ({place:?}): {outcome:?}");
        }
    }
    // Tonic's timers belong to the caller, so only calls without one can be its.
    for (what, job) in [("no deadline", plain as Job), ("both ways", chat)] {
        for place in Place::ALL {
            let channel = {
                let _context = scene.home.enter();
                one(Side::Tonic, &scene)
            };
            let outcome = place.run(what, job(GreeterClient::new(channel)));
            assert!(outcome.is_ok(), "tonic, {what} ({place:?}): {outcome:?}");
        }
    }
}

// D227
#[test]
fn a_caller_whose_runtime_ends_takes_no_timer_along() {
    let scene = Scene::new();
    let long_enough = Duration::from_secs(1);
    for side in Side::BOTH {
        let channel = match side {
            Side::Ours => scene.channel(|endpoint| endpoint.rate_limit(1, long_enough)),
            Side::Tonic => {
                let _context = scene.home.enter();
                let endpoint = tonic::transport::Endpoint::from_shared(scene.backend.uri());
                let endpoint = endpoint.expect("a URI").rate_limit(1, long_enough);
                BoxCloneService::new(endpoint.connect_lazy().map_err(of_tonic))
            }
        };
        let client = GreeterClient::new(channel);
        let first = client.clone();
        on_a_thread("a short life", move || {
            let short = Builder::new_current_thread().enable_all().build();
            short.expect("a runtime").block_on(async {
                plain(first.clone()).await.expect("an answer");
                assert!(plain(first).now_or_never().is_none(), "it is beyond");
            });
        });
        let next = on_a_thread("the next call", move || park_on(plain(client)));
        assert!(next.is_ok(), "{side}: {next:?}");
    }
}

// D227
#[test]
fn a_bidirectional_call_goes_on_after_the_runtime_it_began_on() {
    let scene = Scene::new();
    for side in Side::BOTH {
        let channel = {
            let _context = scene.home.enter();
            one(side, &scene)
        };
        let mut client = GreeterClient::new(channel);
        let (say, mut replies) = on_a_thread("a short life", move || {
            let short = Builder::new_current_thread().enable_all().build();
            short.expect("a runtime").block_on(async {
                let (say, names) = feed::channel(1);
                say.send(request("one")).await.expect("it is read");
                let call = client.chat(ReceiverStream::new(names)).await;
                let mut replies = call.expect("a stream").into_inner();
                replies.message().await.expect("no error").expect("a reply");
                (say, replies)
            })
        });
        let reply = on_a_thread("the next message", move || {
            park_on(async {
                say.send(request("two")).await.expect("it is read");
                replies.message().await
            })
        });
        let reply = reply.expect("no error").expect("a reply");
        assert_eq!(reply.message, "Hello two!", "{side}");
    }
}

// D228
#[test]
fn calls_of_a_channel_whose_runtime_has_ended_fail_at_once_and_say_so() {
    let Scene {
        backend,
        home,
        servers,
    } = Scene::new();
    let connect = |limit: bool| {
        let _context = home.enter();
        let endpoint = testing::endpoint(backend.uri());
        any(match limit {
            true => endpoint.concurrency_limit(1).connect_lazy(),
            false => endpoint.connect_lazy(),
        })
    };
    let (_silent, unknown) = {
        let _context = home.enter();
        let (silent, builder) = by_hand(None);
        (silent, any(builder.build()))
    };
    let (open, full) = (connect(false), connect(true));
    let client = |channel: &AnyChannel| GreeterClient::new(channel.clone());
    let long = |mut client: GreeterClient<AnyChannel>| {
        let mut request = request_within("hold", LONG);
        request.extensions_mut().insert(WaitForReady(true));
        async move { client.say_hello(request).await.map(drop) }.boxed()
    };
    // Each has begun when the runtime ends, and is polled on one of its own.
    let (_say, names) = feed::channel(1);
    let both_ways = {
        let mut client = client(&open);
        async move {
            let call = client.chat(ReceiverStream::new(names)).await?;
            call.into_inner().message().await.map(drop)
        }
        .boxed()
    };
    let silent_stream = {
        let mut client = client(&open);
        let mut request = request_within("hold", LONG);
        request.get_mut().count = 1;
        async move {
            let mut replies = client.say_hello_many(request).await?.into_inner();
            while replies.message().await?.is_some() {}
            Ok(())
        }
        .boxed()
    };
    let begun = [
        ("a call", held(client(&open))),
        ("with a deadline", long(client(&open))),
        ("both ways", both_ways),
        ("a silent stream", silent_stream),
        ("full", held(client(&full))),
        ("a wait for a stream", long(client(&full))),
        ("a wait for a backend", long(client(&unknown))),
    ];
    let (tell, told) = mpsc::channel();
    let callers: Vec<_> = begun
        .into_iter()
        .map(|(what, mut call)| {
            let tell = tell.clone();
            thread::spawn(move || {
                let polled = park_on(async {
                    let pending = (&mut call).now_or_never().is_none();
                    tell.send(pending).expect("it is heard");
                    call.await
                });
                (what, polled)
            })
        })
        .collect();
    for _ in &callers {
        assert!(told.recv_timeout(PATIENCE).expect("a poll"), "it waits");
    }
    // The call, its sibling with a deadline, the stream, and one of the two that may have one.
    servers.block_on(backend.until_held(4));
    drop(home);

    let mut outcomes: Vec<_> = callers
        .into_iter()
        .map(|caller| on_a_thread("the end", move || caller.join().expect("no panic")))
        .collect();
    for (what, channel) in [("a new call", &open), ("where none came", &unknown)] {
        let call = long(client(channel));
        outcomes.push((what, on_a_thread(what, move || park_on(call))));
    }
    for (what, outcome) in outcomes {
        let status = outcome.expect_err(what);
        assert_eq!(status.code(), Code::Unavailable, "{what}: {status}");
        let text = status.message();
        assert!(text.contains("runtime has ended"), "{what}: {text}");
    }
}

/// The text of a panic.
fn panics(work: impl FnOnce()) -> String {
    let panic = catch_unwind(AssertUnwindSafe(work)).expect_err("it panics");
    let text = panic.downcast_ref::<String>().map(String::as_str);
    let text = text.or_else(|| panic.downcast_ref::<&str>().copied());
    text.expect("a text").to_owned()
}

// D229
#[test]
fn a_connector_needs_no_io_of_the_runtime() {
    let timed = Builder::new_current_thread().enable_time().build();
    let timed = timed.expect("a runtime");
    let nowhere = || tower::service_fn(async |_| Err::<TokioIo<DuplexStream>, _>("nowhere"));
    let status = timed.block_on(async {
        let endpoint = Endpoint::from_static("http://127.0.0.1:1");
        let channel = endpoint.connect_with_connector_lazy(nowhere());
        plain(GreeterClient::new(any(channel))).await
    });
    let status = status.expect_err("the connector fails");
    assert!(status.message().contains("nowhere"), "{status}");
    let status = timed.block_on(async {
        let endpoint = tonic::transport::Endpoint::from_static("http://127.0.0.1:1");
        let channel = endpoint.connect_with_connector_lazy(nowhere());
        let channel = BoxCloneService::new(channel.map_err(of_tonic));
        plain(GreeterClient::new(channel)).await
    });
    assert!(format!("{status:?}").contains("nowhere"), "{status:?}");
}

// D229
#[test]
fn a_runtime_that_lacks_a_part_is_named_by_the_panic_of_build() {
    let build = || drop(by_hand(None).1.build());
    let lazily = || drop(Endpoint::from_static("http://127.0.0.1:1").connect_lazy());
    let list = || drop(Channel::balance_list(std::iter::empty()));
    let constructors: [(&str, &dyn Fn()); 3] = [
        ("build", &build),
        ("connect_lazy", &lazily),
        ("balance_list", &list),
    ];
    let timed = Builder::new_current_thread().enable_time().build();
    let wired = Builder::new_current_thread().enable_io().build();
    let (timed, wired) = (timed.expect("a runtime"), wired.expect("a runtime"));
    for (what, construct) in constructors {
        let text = panics(construct);
        assert!(
            text.contains("the context of a tokio runtime"),
            "{what}: {text}"
        );
        let _context = bare().enter();
        for (runtime, lacks) in [
            (&bare(), "enable_time"),
            (&wired, "enable_time"),
            (&timed, "enable_io"),
        ] {
            let _context = runtime.enter();
            let text = panics(construct);
            assert!(
                text.contains("its tokio runtime has none"),
                "{what}: {text}"
            );
            assert!(text.contains(lacks), "{what}: {text}");
        }
    }
}

/// Runs each task on a thread of its own, without a runtime.
#[derive(Clone)]
struct Threads;

/// Runs tasks on a runtime, unless it is to panic.
#[derive(Clone)]
struct Fragile(Handle, Arc<AtomicBool>);

type Task = std::pin::Pin<Box<dyn Future<Output = ()> + Send>>;

impl hyper::rt::Executor<Task> for Threads {
    fn execute(&self, task: Task) {
        thread::spawn(|| park_on(task));
    }
}

impl hyper::rt::Executor<Task> for Fragile {
    fn execute(&self, task: Task) {
        assert!(!self.1.load(SeqCst), "no more tasks");
        self.0.spawn(task);
    }
}

// D230
#[test]
fn an_executor_that_has_no_runtime_borrows_the_channels() {
    let scene = Scene::new();
    let channel = scene.channel(|endpoint| endpoint.executor(Threads));
    for job in [plain as Job, in_time, chat] {
        let call = job(GreeterClient::new(channel.clone()));
        let outcome = on_a_thread("a call", move || park_on(call));
        assert!(outcome.is_ok(), "{outcome:?}");
    }
}

// D230
#[test]
fn an_executor_brings_its_own_runtime_where_there_is_none_to_build_on() {
    let scene = Scene::new();
    let executor = Fragile(scene.home.handle().clone(), Arc::default());
    let endpoint = testing::endpoint(scene.backend.uri()).executor(executor.clone());
    let lazy = any(endpoint.connect_lazy());
    let (pushed, changes) = Channel::balance_channel_with_executor::<u8, _>(1, executor);
    let pushed = any(pushed);
    let call = patient_in_time(GreeterClient::new(pushed.clone()));
    let waited = on_a_thread("a wait", move || park_on(call));
    assert_eq!(
        waited.expect_err("no backend").code(),
        Code::DeadlineExceeded
    );
    let insert = Change::Insert(1, testing::endpoint(scene.backend.uri()));
    park_on(changes.send(insert)).expect("it is read");
    for channel in [lazy, pushed] {
        for job in [in_time as Job, chat] {
            let call = job(GreeterClient::new(channel.clone()));
            let outcome = on_a_thread("a call", move || park_on(call));
            assert!(outcome.is_ok(), "{outcome:?}");
        }
    }
}

// D231
#[test]
fn an_executor_that_panics_harms_no_other_call() {
    let scene = Scene::new();
    let panics = Arc::new(AtomicBool::new(false));
    let executor = Fragile(scene.home.handle().clone(), panics.clone());
    let channel = scene.channel(|endpoint| endpoint.executor(executor).rate_limit(1, SHORT));
    let client = GreeterClient::new(channel);
    let first = plain(client.clone());
    on_a_thread("a call", move || park_on(first)).expect("an answer");

    panics.store(true, SeqCst);
    let (second, third) = (plain(client.clone()), chat(client.clone()));
    let ended = thread::spawn(move || drop(catch_unwind(AssertUnwindSafe(|| park_on(second)))));
    ended.join().expect("whatever it is, it is caught");
    let ended = thread::spawn(move || drop(catch_unwind(AssertUnwindSafe(|| park_on(third)))));
    ended.join().expect("whatever it is, it is caught");
    panics.store(false, SeqCst);
    for job in [three as Job, chat] {
        let call = job(client.clone());
        let outcome = on_a_thread("a call after that", move || park_on(call));
        assert!(outcome.is_ok(), "{outcome:?}");
    }
}
