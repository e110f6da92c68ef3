//! Hedges and retries against 1 slow backend of 4: their latencies and their cost.
//!
//! `cargo bench --bench hedging -- [--quick] [--csv FILE] [--rounds N] [--rate N]`
//!
//! ```text
//!   client ── so many calls a second, whatever comes back ──► 4 tonic servers in memory
//!   a call takes 5 ms and an exponential time of 10 ms; at the slow one 10 times as long
//! ```
//!
//! The slow backend fails 1 of 20 of its calls with UNAVAILABLE, after their time. The channel's
//! policy is `round_robin`, so 1 call of 4 meets the slow backend. The sides take turns:
//!
//! | side | policy |
//! |---|---|
//! | `none` | none |
//! | `retry` | a retry policy on UNAVAILABLE, up to 3 attempts |
//! | `hedge_p95` | 2 attempts, the second after 35 ms: the p95 of a well backend |
//! | `hedge_p50` | 2 attempts, the second after 12 ms: the p50 of a well backend |
//!
//! - A latency counts from the time at which the call was due, and only for answered calls.
//! - `attempts_per_call` counts at the servers. Attempts that the client takes back count, too.
//! - Time is simulated, so a latency is the time that servers and policies take. The machine and
//!   its other work have no part in it.

use std::{
    io,
    process::ExitCode,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use fastrand::Rng;
use hdrhistogram::Histogram;
use hyper_util::rt::TokioIo;
use tokio::{
    io::{DuplexStream, duplex},
    runtime::Builder,
    sync::mpsc,
    task::JoinSet,
    time::{Instant, interval, sleep},
};
use tokio_stream::{Pending, StreamExt, wrappers::UnboundedReceiverStream};
use tonic::{Request, Response, Status, Streaming, transport::Server};
use tonic_health_channel::{Channel, ConnectivityState::Ready, Endpoint, discover};
use tower::service_fn;

mod support;

use support::{
    Result,
    arguments::{Arguments, exit_code},
    greeter::{
        HelloReply, HelloRequest,
        greeter_client::GreeterClient,
        greeter_server::{Greeter, GreeterServer},
    },
    table::Table,
};

const USAGE: &str = "\
usage: cargo bench --bench hedging -- [options]
  --quick        1 short round
  --csv FILE     writes every round to FILE
  --rounds N     rounds, 1 to 100 (default 5)
  --slice N      milliseconds of one turn, 100 to 60000 (default 10000)
  --rate N       calls a second, 10 to 5000 (default 300)
";

const BACKENDS: usize = 4;
const DEADLINE: Duration = Duration::from_secs(5);

struct Side {
    name: &'static str,
    /// Part of the method's rules.
    policy: &'static str,
}

const SIDES: [Side; 4] = [
    Side {
        name: "none",
        policy: "",
    },
    Side {
        name: "retry",
        policy: r#", "retryPolicy": {"maxAttempts": 3, "initialBackoff": "0.01s",
            "maxBackoff": "0.1s", "backoffMultiplier": 2,
            "retryableStatusCodes": ["UNAVAILABLE"]}"#,
    },
    Side {
        name: "hedge_p95",
        policy: r#", "hedgingPolicy": {"maxAttempts": 2, "hedgingDelay": "0.035s",
            "nonFatalStatusCodes": ["UNAVAILABLE"]}"#,
    },
    Side {
        name: "hedge_p50",
        policy: r#", "hedgingPolicy": {"maxAttempts": 2, "hedgingDelay": "0.012s",
            "nonFatalStatusCodes": ["UNAVAILABLE"]}"#,
    },
];

fn main() -> ExitCode {
    exit_code(run(), USAGE)
}

fn run() -> Result<()> {
    let arguments = Arguments::parse(&[
        ("--rounds", 1..=100),
        ("--slice", 100..=60_000),
        ("--rate", 10..=5_000),
    ])?;
    let (rounds, slice) = if arguments.quick {
        (1, 1_000)
    } else {
        (5, 10_000)
    };
    let rounds = arguments.number("--rounds").unwrap_or(rounds);
    let slice = Duration::from_millis(arguments.number("--slice").unwrap_or(slice) as u64);
    let rate = arguments.number("--rate").unwrap_or(300) as u32;
    let mut table = Table::new(&[
        "round",
        "side",
        "calls",
        "failed_percent",
        "p50_ms",
        "p90_ms",
        "p99_ms",
        "p999_ms",
        "attempts_per_call",
        "slow_percent",
    ]);
    let runtime = Builder::new_current_thread()
        .enable_all()
        .start_paused(true)
        .build()?;
    runtime.block_on(async {
        let servers = Servers::start();
        for round in 1..=rounds {
            for side in &SIDES {
                let mut row = vec![round.to_string(), side.name.to_owned()];
                row.extend(measure(&servers, side, rate, slice).await?);
                table.row(row);
            }
        }
        Ok::<_, support::Error>(())
    })?;
    println!("{BACKENDS} backends, the first one is slow; {rate} calls a second for {slice:?}");
    table.print();
    table.write_csv(arguments.csv.as_deref())
}

/// One turn: the columns behind its name.
async fn measure(
    servers: &Servers,
    side: &Side,
    rate: u32,
    slice: Duration,
) -> Result<Vec<String>> {
    let client = GreeterClient::new(servers.connect(side).await?);
    let before = servers.calls();
    let mut latency = Histogram::<u64>::new_with_bounds(1_000, 60_000_000_000, 3)?;
    let mut failed = 0_u32;
    let mut calls = JoinSet::new();
    let mut due = interval(Duration::from_secs(1) / rate);
    let began = due.tick().await;
    loop {
        let at = due.tick().await;
        if at - began > slice {
            break;
        }
        calls.spawn(call(client.clone(), at));
    }
    let all = calls.len();
    for took in calls.join_all().await {
        match took {
            Some(took) => latency.record(u64::try_from(took.as_nanos())?)?,
            None => failed += 1,
        }
    }
    let seen: Vec<_> = servers
        .calls()
        .iter()
        .zip(before)
        .map(|(n, b)| n - b)
        .collect();
    let attempts: u64 = seen.iter().sum();
    let percent = |part: f64, of: f64| format!("{:.2}", 100.0 * part / of);
    let mut row = vec![all.to_string(), percent(failed.into(), all as f64)];
    row.extend([0.5, 0.9, 0.99, 0.999].map(|part| {
        let nanoseconds = latency.value_at_quantile(part);
        format!("{:.1}", nanoseconds as f64 / 1e6)
    }));
    row.push(format!("{:.3}", attempts as f64 / all as f64));
    row.push(percent(seen[0] as f64, attempts as f64));
    Ok(row)
}

/// How long it took until its answer, since it was due. `None` is a failure.
async fn call(mut client: GreeterClient<Channel>, due: Instant) -> Option<Duration> {
    let mut request = Request::new(HelloRequest::default());
    request.set_timeout(DEADLINE);
    client.say_hello(request).await.ok()?;
    Some(due.elapsed())
}

/// All of them on this thread.
struct Servers {
    /// Each has its connections from here.
    connections: Vec<mpsc::UnboundedSender<DuplexStream>>,
    calls: Vec<Arc<AtomicU64>>,
}

impl Servers {
    fn start() -> Self {
        let mut servers = Self {
            connections: Vec::new(),
            calls: Vec::new(),
        };
        for number in 0..BACKENDS {
            let calls = Arc::<AtomicU64>::default();
            let greeter = GreeterServer::new(Paced {
                is_slow: number == 0,
                calls: calls.clone(),
                rng: Mutex::new(Rng::with_seed(number as u64)),
            });
            let (connect, connections) = mpsc::unbounded_channel();
            let incoming = UnboundedReceiverStream::new(connections).map(Ok::<_, io::Error>);
            let server = Server::builder().add_service(greeter);
            tokio::spawn(server.serve_with_incoming(incoming));
            servers.connections.push(connect);
            servers.calls.push(calls);
        }
        servers
    }

    fn calls(&self) -> Vec<u64> {
        self.calls.iter().map(|calls| calls.load(Relaxed)).collect()
    }

    /// A channel whose backends are all READY.
    async fn connect(&self, side: &Side) -> Result<Channel> {
        let mut endpoints = Vec::new();
        for (number, server) in self.connections.iter().enumerate() {
            let server = server.clone();
            let connect = service_fn(move |_| {
                let (client, end) = duplex(64 << 10);
                let sent = server.send(end).map_err(io::Error::other);
                async move { sent.map(|()| TokioIo::new(client)) }
            });
            let endpoint = Endpoint::from_shared(format!("http://10.0.0.{}:80", number + 1))?;
            endpoints.push(endpoint.connector(connect));
        }
        let config = format!(
            r#"{{"methodConfig": [{{"name": [{{"service": "demo.v1.Greeter"}}]{}}}]}}"#,
            side.policy
        );
        let channel = Channel::balance(discover::list(endpoints)?)
            .service_config(config.parse()?)
            .build();
        let mut status = channel.watch_status();
        status
            .wait_for(|status| {
                let backends = status.backends();
                backends.len() == BACKENDS && backends.iter().all(|b| b.state() == Ready)
            })
            .await;
        Ok(channel)
    }
}

/// Takes time for each call.
struct Paced {
    is_slow: bool,
    calls: Arc<AtomicU64>,
    rng: Mutex<Rng>,
}

impl Paced {
    /// How long a call takes, and whether it fails.
    fn draw(&self) -> (Duration, bool) {
        let mut rng = self.rng.lock().expect("no holder panics");
        let millis = 5.0 - 10.0 * (1.0 - rng.f64()).ln();
        let fails = rng.u8(..20) == 0;
        match self.is_slow {
            true => (Duration::from_secs_f64(10.0 * millis / 1e3), fails),
            false => (Duration::from_secs_f64(millis / 1e3), false),
        }
    }
}

#[tonic::async_trait]
impl Greeter for Paced {
    type SayHelloManyStream = Pending<std::result::Result<HelloReply, Status>>;
    type ChatStream = Self::SayHelloManyStream;

    async fn say_hello(
        &self,
        _: Request<HelloRequest>,
    ) -> std::result::Result<Response<HelloReply>, Status> {
        self.calls.fetch_add(1, Relaxed);
        let (time, fails) = self.draw();
        sleep(time).await;
        match fails {
            true => Err(Status::unavailable("too much to do")),
            false => Ok(Response::new(HelloReply::default())),
        }
    }

    async fn say_hello_many(
        &self,
        _: Request<HelloRequest>,
    ) -> std::result::Result<Response<Self::SayHelloManyStream>, Status> {
        Err(Status::unimplemented("not called"))
    }

    async fn greet_all(
        &self,
        _: Request<Streaming<HelloRequest>>,
    ) -> std::result::Result<Response<HelloReply>, Status> {
        Err(Status::unimplemented("not called"))
    }

    async fn chat(
        &self,
        _: Request<Streaming<HelloRequest>>,
    ) -> std::result::Result<Response<Self::ChatStream>, Status> {
        Err(Status::unimplemented("not called"))
    }
}
