//! Thousands of backends on one channel, each with a Watch.
//!
//! `cargo bench --bench scale -- [--quick] [--csv FILE] [--workers N] [--rounds N]`
//!
//! One tonic server, in a process of its own, listens on a few ports; a backend
//! is a key of the source whose endpoint is one of them, so that each has its own
//! connection and its own Watch. The client is another process, a fresh one for
//! every figure, because memory that one measurement has freed would flatter the
//! next. The median of the rounds, for each number of backends:
//!
//! | column | meaning |
//! |---|---|
//! | `ready_ms` | from before the channel is made until all backends are READY |
//! | `cpu_ms` | CPU of the client process in that time, all threads |
//! | `kib_each` | growth of its resident memory by then, per backend |
//! | `publications` | statuses that the channel published until then |
//! | `remove_p50_us`, `remove_min_us` | from taking one backend out of the source until a task that follows the status sees it gone, a hundred times |
//!
//! The baseline, `tonic_channels`, has a tonic `Channel` for each backend, all
//! connecting at the same time, and a Watch on it from a generated client; it is
//! ready when each has brought its first message. It has no list to publish.
//!
//! What is to be known of the figures:
//!
//! - The server shares the cores, and does more work for a connection than the
//!   client; `ready_ms` is the time of both. `cpu_ms` is the client's alone.
//! - Resident memory is what the allocator took from the system and touched,
//!   with what it keeps of what was freed. Socket buffers are the kernel's, and
//!   not in it.
//! - The time of one publication cannot be read from outside. A removal is
//!   the nearest thing: two wake-ups, stopping one subchannel, and one publication
//!   of all the others. What it takes with 10,000 backends more than with 100 is
//!   the publication's share; the smallest figure is the least disturbed.

use std::{process::ExitCode, time::Duration};

use tokio::{sync::mpsc, task::JoinSet, time::timeout};
use tonic_health::pb::{HealthCheckRequest, health_client::HealthClient};
use tonic_health_channel::{
    Channel, ConnectivityState, Endpoint, channel::Change, discover, status::ChannelStatus,
};

use support::{
    Result,
    arguments::{Arguments, exit_code},
    child::{self, Child},
    clock,
    resources::{allow_connections, cpu_ms, resident_kib},
    runtime,
    server::{self, CONFIG, GREETER, ServerProcess},
    table::{Table, quantile},
};

mod support;

const USAGE: &str = "\
usage: cargo bench --bench scale -- [options]
  --quick       100 and 1000 backends, one round
  --csv FILE    writes the table to FILE as well
  --workers N   threads of each client's runtime, 1 to 64 (default 2)
  --rounds N    rounds, 1 to 100 (default 5)
";

const BACKENDS: [usize; 4] = [100, 1_000, 5_000, 10_000];
const QUICK_BACKENDS: [usize; 2] = [100, 1_000];
/// Few enough connections on each that the kernel's queue of those that wait to
/// be accepted holds them all; a connection that finds it full comes a second
/// later.
const PORTS: usize = 8;
const SERVER_WORKERS: usize = 2;
/// How often one backend is removed.
const REMOVALS: usize = 100;
/// The pause after a removal in which its connection goes away.
const REST: Duration = Duration::from_millis(2);
/// How long one client may take.
const PATIENCE: Duration = Duration::from_secs(60);

const OURS: &str = "ours";
const TONIC: &str = "tonic_channels";

fn main() -> ExitCode {
    exit_code(run(), USAGE)
}

fn run() -> Result<()> {
    if let Some(role) = child::role() {
        return match role.split_first() {
            Some((role, arguments)) if role == server::ROLE => server::be_server(arguments),
            Some((side, arguments)) if [OURS, TONIC].contains(&side.as_str()) => {
                be_client(side, arguments)
            }
            _ => Err(format!("no child has the role {role:?}").into()),
        };
    }
    let arguments = Arguments::parse(&[("--workers", 1..=64), ("--rounds", 1..=100)])?;
    let (sizes, default_rounds) = match arguments.quick {
        true => (QUICK_BACKENDS.as_slice(), 1),
        false => (BACKENDS.as_slice(), 5),
    };
    let rounds = arguments.number("--rounds").unwrap_or(default_rounds);
    let workers = arguments.number("--workers").unwrap_or(2);
    println!("server of {SERVER_WORKERS} threads, clients of {workers}; {rounds} rounds");
    let table = runtime(1)?.block_on(compare(sizes, workers, rounds))?;
    table.print();
    table.write_csv(arguments.csv.as_deref())
}

/// What a client measured, in the order of the table.
type Figures = Vec<f64>;

async fn compare(sizes: &[usize], workers: usize, rounds: usize) -> Result<Table> {
    let mut table = Table::new(&[
        "backends",
        "side",
        "ready_ms",
        "cpu_ms",
        "kib_each",
        "publications",
        "remove_p50_us",
        "remove_min_us",
    ]);
    for &backends in sizes {
        if let Err(error) = allow_connections(backends) {
            println!("not measured: {error}");
            continue;
        }
        let server = ServerProcess::start("all", PORTS, SERVER_WORKERS).await?;
        let (mut ours, mut tonic) = (Vec::new(), Vec::new());
        for _ in 0..rounds {
            ours.push(measure(OURS, backends, workers, &server).await?);
            tonic.push(measure(TONIC, backends, workers, &server).await?);
        }
        for (side, figures) in [(OURS, ours), (TONIC, tonic)] {
            let mut row = vec![backends.to_string(), side.to_owned()];
            row.extend((0..figures[0].len()).map(|column| {
                let mut of_rounds: Vec<_> = figures.iter().map(|round| round[column]).collect();
                format!("{:.1}", quantile(&mut of_rounds, 0.5))
            }));
            // The baseline publishes nothing.
            row.resize(8, "-".to_owned());
            table.row(row);
        }
    }
    Ok(table)
}

/// One client, from its start to its end.
async fn measure(
    side: &str,
    backends: usize,
    workers: usize,
    server: &ServerProcess,
) -> Result<Figures> {
    let numbers = [backends, workers].map(|number| number.to_string());
    let mut role = vec![side, &numbers[0], &numbers[1]];
    role.extend(server.uris.iter().map(String::as_str));
    let mut client = Child::start(&role)?;
    let words = client.hear(PATIENCE).await?;
    let figures: std::result::Result<_, _> = words.iter().map(|word| word.parse()).collect();
    Ok(figures?)
}

/// The child's life, after the name of the side.
fn be_client(side: &str, arguments: &[String]) -> Result<()> {
    let [backends, workers, uris @ ..] = arguments else {
        return Err("a client takes a number of backends, one of workers, and URIs".into());
    };
    let (backends, workers) = (backends.parse()?, workers.parse()?);
    let figures = runtime(workers)?.block_on(async {
        let _ends_with_the_parent = child::orders();
        match side {
            OURS => one_channel(backends, uris).await,
            _ => tonic_channels(backends, uris).await,
        }
    })?;
    let words: Vec<_> = figures.iter().map(ToString::to_string).collect();
    println!("{}", words.join(" "));
    // Nobody waits for thousands of connections to say goodbye.
    std::process::exit(0);
}

/// What a process had used when its measurement began.
struct Began {
    time: u64,
    cpu_ms: f64,
    resident_kib: f64,
}

impl Began {
    fn now() -> Result<Self> {
        Ok(Self {
            resident_kib: resident_kib()?,
            cpu_ms: cpu_ms()?,
            time: clock::now(),
        })
    }

    /// The first three columns.
    fn until_now(self, backends: usize) -> Result<Figures> {
        let ready_ms = (clock::now() - self.time) as f64 / 1e6;
        let cpu_ms = cpu_ms()? - self.cpu_ms;
        let kib_each = (resident_kib()? - self.resident_kib) / backends as f64;
        Ok(vec![ready_ms, cpu_ms, kib_each])
    }
}

async fn one_channel(backends: usize, uris: &[String]) -> Result<Figures> {
    let config = CONFIG.parse()?;
    let endpoints = uris.iter().map(|uri| Endpoint::new(uri.clone()));
    let endpoints: Vec<_> = endpoints.collect::<Result<_, _>>()?;
    let (changes, source) = discover::push(backends);

    let began = Began::now()?;
    let channel = Channel::balance(source).service_config(config).build();
    for (key, endpoint) in (0..backends).zip(endpoints.iter().cycle()) {
        changes.send(Change::Insert(key, endpoint.clone())).await?;
    }
    let mut watch = channel.watch_status();
    let ready = watch.wait_for(|status| all_ready(status, backends));
    let ready = timeout(PATIENCE, ready).await?;
    let mut figures = began.until_now(backends)?;

    figures.push(ready.generation() as f64);
    drop(ready);
    let mut removals = remove(&channel, &changes, backends).await?;
    figures.extend([0.5, 0.0].map(|part| quantile(&mut removals, part)));
    Ok(figures)
}

/// Looks from the end, for the last to be named are the last to be READY: then
/// looking costs little while some are not.
fn all_ready(status: &ChannelStatus, backends: usize) -> bool {
    let ready = |state| state == ConnectivityState::Ready;
    let mut from_the_end = status.backends().iter().rev();
    status.backends().len() == backends && from_the_end.all(|backend| ready(backend.state()))
}

/// The time that each of many removals took to be seen, in microseconds.
async fn remove(
    channel: &Channel,
    changes: &mpsc::Sender<Change<usize, Endpoint>>,
    backends: usize,
) -> Result<Vec<f64>> {
    let mut watch = channel.watch_status();
    let count = REMOVALS.min(backends / 2);
    let mut times = Vec::new();
    for removed in 0..count {
        let began = clock::now();
        changes
            .send(Change::Remove(removed * backends / count))
            .await?;
        let left = backends - removed - 1;
        let gone = watch.wait_for(|status| status.backends().len() == left);
        timeout(PATIENCE, gone).await?;
        times.push((clock::now() - began) as f64 / 1e3);
        tokio::time::sleep(REST).await;
    }
    Ok(times)
}

async fn tonic_channels(backends: usize, uris: &[String]) -> Result<Figures> {
    let endpoints = uris
        .iter()
        .cloned()
        .map(tonic::transport::Endpoint::from_shared);
    let endpoints: Vec<_> = endpoints.collect::<Result<_, _>>()?;

    let began = Began::now()?;
    let mut connecting = JoinSet::new();
    for endpoint in endpoints.iter().cycle().take(backends) {
        let channel = endpoint.connect_lazy();
        connecting.spawn(async move {
            let mut client = HealthClient::new(channel);
            let request = HealthCheckRequest {
                service: GREETER.to_owned(),
            };
            let mut answers = client.watch(request).await?.into_inner();
            answers.message().await?;
            Ok::<_, tonic::Status>((client, answers))
        });
    }
    let mut watches = Vec::new();
    while let Some(connected) = timeout(PATIENCE, connecting.join_next()).await? {
        watches.push(connected??);
    }
    let figures = began.until_now(backends)?;
    drop(watches);
    Ok(figures)
}
