//! Synchronous programs that have a runtime for the length of each call, as tokio's guide on
//! bridging with synchronous code has it: between two calls nothing of the channel runs.

use std::{
    convert::Infallible,
    fmt,
    future::pending,
    io,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
        mpsc,
    },
    thread,
    time::Duration,
};

use http::Uri;
use hyper_util::rt::TokioIo;
use testing::{
    Backend, GREETER, H2Peer, checking, greeter,
    greeter::{HelloReply, greeter_client::GreeterClient},
    hello, refusal, request, until, until_that, within,
};
use tokio::{
    net::TcpStream,
    runtime::{Builder, Runtime},
    task::{LocalSet, spawn_local},
    time::Instant,
};
use tonic::{Code, Response, Status};
use tonic_health_channel::{
    Channel,
    ConnectivityState::{Idle, Ready, TransientFailure},
    Endpoint, discover,
    status::ChannelStatus,
};
use tower::{BoxError, ServiceExt, service_fn, util::BoxCloneService};

use super::side::{AnyChannel, Side};

type Answer = Result<Response<HelloReply>, Status>;

/// A program without a runtime of its own but during its calls, and its client.
struct Program {
    runtime: Runtime,
    client: GreeterClient<AnyChannel>,
}

impl Program {
    fn new(channel: impl FnOnce() -> AnyChannel) -> Self {
        let runtime = Builder::new_current_thread().enable_all().build();
        let runtime = runtime.expect("a runtime");
        let client = {
            let _context = runtime.enter();
            GreeterClient::new(channel())
        };
        Self { runtime, client }
    }

    fn call(&mut self) -> Answer {
        let answer = self.client.say_hello(request("you"));
        self.runtime.block_on(within("the end of a call", answer))
    }
}

/// Where the servers run, whatever the program does.
fn servers() -> Runtime {
    Runtime::new().expect("a runtime")
}

/// The program does something else, and no runtime runs. The pause is what is tested: there is
/// no state to await.
fn pause_for(pause: Duration) {
    let (_open, silent) = mpsc::channel::<Infallible>();
    let over = silent.recv_timeout(pause);
    assert_eq!(over, Err(mpsc::RecvTimeoutError::Timeout));
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Single,
    Balanced,
    /// Balanced, with health checks. Tonic has none.
    Checked,
}

/// How a server goes away and comes back.
#[derive(Clone, Copy)]
struct Shape {
    side: Side,
    kind: Kind,
    /// The calls made while it is away.
    down: usize,
    pause: Duration,
}

impl fmt::Display for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            side,
            kind,
            down,
            pause,
        } = self;
        write!(
            f,
            "{side}, {kind:?}, down for {down} calls, {pause:?} apart"
        )
    }
}

/// As a program has it: with gRPC's backoff.
fn checked(backend: &Backend) -> AnyChannel {
    let endpoint = Endpoint::from_shared(backend.uri()).expect("a URI");
    let channel = Channel::balance(discover::list([endpoint]).expect("endpoints"))
        .service_config(checking(GREETER))
        .build();
    BoxCloneService::new(channel.map_err(BoxError::from))
}

/// The calls that have to succeed after that.
const AFTER: usize = 20;
/// So many of them are apart too, the others follow at once: a test has an end.
const APART: usize = 3;

impl Shape {
    fn all() -> impl Iterator<Item = Self> {
        let kinds = [
            (Side::Tonic, Kind::Single),
            (Side::Tonic, Kind::Balanced),
            (Side::Ours, Kind::Single),
            (Side::Ours, Kind::Balanced),
            (Side::Ours, Kind::Checked),
        ];
        kinds.into_iter().flat_map(|(side, kind)| {
            [1, 3, 5].into_iter().flat_map(move |down| {
                [0, 50, 200, 1_500].map(move |pause| Self {
                    side,
                    kind,
                    down,
                    pause: Duration::from_millis(pause),
                })
            })
        })
    }

    /// Which of the calls failed that had to succeed.
    fn failures(self) -> Vec<(usize, Status)> {
        let servers = servers();
        let backend = servers.block_on(Backend::start());
        let mut program = Program::new(|| match self.kind {
            Kind::Single => self.side.channel(&backend.uri()),
            Kind::Balanced => self.side.balanced(&[backend.uri()]),
            Kind::Checked => checked(&backend),
        });
        program.call().expect("a server that is up");
        servers.block_on(backend.kill());
        for _ in 0..self.down {
            pause_for(self.pause);
            let answer = program.call();
            assert!(answer.is_err(), "{self}: {answer:?}");
        }
        servers.block_on(backend.restart());
        let mut failures = Vec::new();
        for call in 0..AFTER {
            if call < APART {
                pause_for(self.pause);
            }
            failures.extend(program.call().err().map(|status| (call, status)));
        }
        failures
    }
}

// D236
#[test]
fn a_server_that_comes_back_answers_the_next_call() {
    let runs = Shape::all().map(|shape| (shape, thread::spawn(move || shape.failures())));
    let runs: Vec<_> = runs.collect();
    let mut complaints = Vec::new();
    for (shape, run) in runs {
        let failures = run.join().expect("no panic");
        if let Some((first, why)) = failures.first() {
            let failed = failures.len();
            complaints.push(format!(
                "{shape}: {failed} of {AFTER} failed, {first} first: {why}"
            ));
        }
    }
    assert!(complaints.is_empty(), "\n{}", complaints.join("\n"));
}

// D236
#[test]
fn health_that_changed_while_nothing_ran_counts_for_the_next_call() {
    let servers = servers();
    let backend = servers.block_on(Backend::start());
    let mut program = Program::new(|| checked(&backend));
    program.call().expect("a server that is healthy");
    servers.block_on(backend.set_not_serving(GREETER));
    while program.call().is_ok() {}
    for _ in 0..3 {
        let answer = program.call();
        assert!(answer.is_err(), "{answer:?}");
    }
    servers.block_on(backend.set_serving(GREETER));
    // Until the server's word is in the socket.
    pause_for(Duration::from_millis(100));
    program.call().expect("a server that is healthy again");
}

/// A server that comes up when it is told to, and goes when the sender does.
fn reserved() -> (String, mpsc::Sender<()>) {
    let (come, wanted) = mpsc::channel();
    let servers = servers();
    let backend = servers.block_on(Backend::builder().reserve());
    let uri = backend.uri();
    thread::spawn(move || {
        while let Ok(()) = wanted.recv() {
            servers.block_on(backend.restart());
        }
    });
    (uri, come)
}

// D237
#[test]
fn a_loop_of_calls_without_a_pause_does_not_keep_the_channel_from_recovering() {
    for side in Side::BOTH {
        for in_task in [false, true] {
            let (uri, come) = reserved();
            let Program {
                runtime,
                mut client,
            } = Program::new(|| side.channel(&uri));
            let calls = async move {
                let begun = Instant::now();
                let mut failures = 0;
                // No timer would end a loop that never yields.
                while client.say_hello(request("you")).await.is_err() {
                    failures += 1;
                    if failures == 3 {
                        come.send(()).expect("the server's thread");
                    }
                    let lasted = begun.elapsed();
                    assert!(lasted < testing::PATIENCE, "{side}: {failures} failures");
                }
            };
            match in_task {
                false => runtime.block_on(calls),
                true => LocalSet::new()
                    .block_on(&runtime, async { spawn_local(calls).await })
                    .expect("no panic"),
            }
        }
    }
}

/// An endpoint that refuses its first connection, and answers no other.
fn drops_packets() -> Endpoint {
    let is_first = Arc::new(AtomicBool::new(true));
    let connector = service_fn(move |_: Uri| {
        let is_first = is_first.swap(false, Relaxed);
        async move {
            match is_first {
                true => Err(io::Error::from(io::ErrorKind::ConnectionRefused)),
                false => pending::<io::Result<TokioIo<TcpStream>>>().await,
            }
        }
    });
    Endpoint::from_static("http://nowhere").connector(connector)
}

/// A channel of which the first attempt has failed, and the second is under way.
async fn hanging() -> Channel {
    let channel = drops_packets().connect_lazy();
    channel.request_connection();
    until(&channel, TransientFailure).await;
    let is_under_way = |status: &ChannelStatus| status.backends()[0].next_attempt().is_none();
    until_that(&channel, "the second attempt", is_under_way).await;
    channel
}

/// How long a hundred calls take to fail: half of them at most, and the last.
async fn failing_calls(channel: Channel) -> [Duration; 2] {
    let mut lasted = Vec::new();
    for _ in 0..100 {
        let begun = Instant::now();
        refusal(&channel).await;
        lasted.push(begun.elapsed());
    }
    lasted.sort_unstable();
    [lasted[50], lasted[99]]
}

// D236
#[test]
fn on_a_runtime_that_runs_by_itself_no_call_waits_for_an_attempt() {
    let threads = servers();
    let one = Builder::new_current_thread().enable_all().build();
    let one = one.expect("a runtime");
    let elsewhere = Builder::new_current_thread().enable_all().build();
    let elsewhere = elsewhere.expect("a runtime");

    let channel = threads.block_on(hanging());
    let mut lasted = vec![
        threads.block_on(failing_calls(channel.clone())),
        threads
            .block_on(threads.spawn(failing_calls(channel.clone())))
            .expect("no panic"),
        elsewhere.block_on(failing_calls(channel)),
    ];
    one.block_on(async {
        let channel = hanging().await;
        let calls = [(); 8].map(|()| tokio::spawn(failing_calls(channel.clone())));
        for calls in calls {
            lasted.push(calls.await.expect("no panic"));
        }
    });
    // One that waits for the attempt takes a second. The machine may take the thread of
    // others from them, for a while.
    for [half, longest] in &lasted {
        assert!(*half < Duration::from_millis(5), "{lasted:?}");
        assert!(*longest < Duration::from_millis(500), "{lasted:?}");
    }
}

// D236
#[test]
fn a_call_drives_an_attempt_for_a_second_or_its_deadline() {
    let runtime = Builder::new_current_thread().enable_all().build();
    let runtime = runtime.expect("a runtime");
    let channel = runtime.block_on(hanging());
    runtime.block_on(refusal(&channel));
    for (deadline, least, most) in [(None, 900, 1_500), (Some(200), 150, 500)] {
        let mut call = tonic::Request::new(request("you"));
        if let Some(deadline) = deadline {
            call.set_timeout(Duration::from_millis(deadline));
        }
        runtime.block_on(async {
            let begun = Instant::now();
            let answer = greeter(&channel).say_hello(call).await;
            let status = answer.expect_err("nothing answers");
            assert_eq!(status.code(), Code::Unavailable, "{status}");
            let lasted = begun.elapsed().as_millis();
            assert!((least..most).contains(&lasted), "{deadline:?}: {lasted} ms");
        });
    }
}

// D238
#[tokio::test]
async fn a_channel_of_one_endpoint_rests_when_its_connection_is_lost() {
    let backend = Backend::start().await;
    let endpoint = Endpoint::from_shared(backend.uri()).expect("a URI");
    let lazy = endpoint.connect_lazy();
    hello(&lazy).await.expect("an answer");
    let eager = endpoint.connect().await.expect("it is up");
    for (index, channel) in [lazy, eager].iter().enumerate() {
        let mut states = channel.watch_state();
        assert_eq!(states.state(), Ready);
        backend.cut_connection(index);
        assert_eq!(within("the loss", states.changed()).await, Some(Idle));
        let before = backend.connections();
        hello(channel).await.expect("a call connects");
        assert_eq!(backend.connections(), before + 1, "once");
    }
}

/// What a server does with a connection while the program does something else.
#[derive(Clone, Copy, Debug)]
enum End {
    Close,
    GoAway,
    Cut,
}

// D239
#[test]
fn a_connection_that_ended_while_it_rested_costs_no_call() {
    let servers = servers();
    for end in [End::Close, End::GoAway, End::Cut] {
        let peer = servers.block_on(H2Peer::start());
        let uri = peer.uri();
        let mut program = Program::new(|| Side::Ours.channel(&uri));
        program.call().expect("an answer");
        match end {
            End::Close => peer.close_connections(),
            End::GoAway => peer.go_away(),
            End::Cut => peer.go_away_and_close(h2::Reason::NO_ERROR, "idle"),
        }
        pause_for(Duration::from_millis(1_100));
        let answer = program.call();
        assert!(answer.is_ok(), "{end:?}: {answer:?}");
    }
}
