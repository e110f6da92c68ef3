//! How long calls still go to a backend that has said it is NOT_SERVING.
//!
//! `cargo bench --bench flip -- [--quick] [--csv FILE] [--workers N] [--flips N]`
//!
//! ```text
//!   server, another process      client
//!   told ── set NOT_SERVING        callers: call, answer, call, answer, …
//!   sent ── Watch message written
//!                         ───────► start of the last call that this backend answered
//!                                  known: the status says so
//! ```
//!
//! Four backends, at first each a tonic server with tonic's health service in a process
//! of its own. One after the other is flipped under 1, 16 and 64 callers that
//! call in a closed loop, and flipped back once every caller has made some more
//! calls. Every caller notes when it started a call and which backend answered.
//! The **latency** of a flip is the start of the last call that the flipped
//! backend answered, less the time at which the server's socket had taken the
//! message: the wire, the wait until the client reads, and what it makes of it.
//! Zero means that no call was sent to it any more. All times are of Linux's
//! `CLOCK_MONOTONIC`, which is one clock for all processes.
//!
//! The baseline, `hand_made`, is what one writes without the library: a tonic
//! `Channel` and a Watch task for each backend, round robin over a flag each.
//! The sides take turns of a few flips, in the same process and against the same
//! servers, each on connections of its own that are closed before the next turn.
//!
//! Then the same against lean servers in one process, on a core of their own, with the
//! client on one thread and the other core: what the client makes of it, and nothing else.
//!
//! What is to be known of the figures:
//!
//! - A call's start is read in the same poll as the pick, a microsecond before
//!   it. A caller that the kernel interrupts in between adds its pause.
//! - With one caller there is a pick every hundred microseconds or so, and every
//!   fourth is of the flipped backend; latencies are then mostly zero.
//! - `told_sent` is the server's own time, from the application's word to the
//!   write; it batches the message with the answers it is at work on. Add it for
//!   "application says so → last pick".
//! - `known` is when a task of the client that awaits the status runs. It waits
//!   for its turn behind the callers, so this bounds from above when the status
//!   was published. Calls may learn of the flip earlier than the status does.
//! - The client, tonic's four servers and whatever else runs share the cores. On two
//!   of them much of a latency is waiting for one.

use std::{
    process::ExitCode,
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use tokio::{task::JoinSet, time::timeout};

use common::process::take_role;
use lean::Lean;
use support::{
    Result,
    arguments::{Arguments, exit_code},
    child, clock, runtime,
    server::{self, Flipped, ServerProcess},
    sides::{HandMade, Ours, Side},
    table::{Table, quantile},
};

#[path = "../common/mod.rs"]
mod common;
mod lean;
#[path = "../support/mod.rs"]
mod support;

const USAGE: &str = "\
usage: cargo bench --bench flip -- [options]
  --quick       20 flips each
  --csv FILE    writes the table to FILE as well
  --workers N   threads of the client's runtime beside tonic's servers, 1 to 64
                (default 2)
  --flips N     flips for each number of callers, 1 to 10000 (default 400)
";

const BACKENDS: usize = 4;
const CALLERS: [usize; 3] = [1, 16, 64];
/// Flips of one side before it is the other's turn.
const TURN: usize = 20;
/// Calls that every caller makes after a flip is known, before the flip back.
const AFTERWARDS: usize = 10;
/// Calls that every caller makes before the first flip.
const WARM_UP: usize = 50;
/// How long one flip and its return may take.
const PATIENCE: Duration = Duration::from_secs(10);

fn main() -> ExitCode {
    exit_code(run(), USAGE)
}

fn run() -> Result<()> {
    take_role()?;
    if let Some(role) = child::role() {
        return match role.split_first() {
            Some((role, arguments)) if role == server::ROLE => server::be_server(arguments),
            _ => Err(format!("no child has the role {role:?}").into()),
        };
    }
    let arguments = Arguments::parse(&[("--workers", 1..=64), ("--flips", 1..=10_000)])?;
    let default_flips = if arguments.quick { 20 } else { 400 };
    let flips = arguments.number("--flips").unwrap_or(default_flips);
    let workers = arguments.number("--workers").unwrap_or(2);
    println!("tonic: {BACKENDS} servers of one thread each, client of {workers};");
    println!("lean: one thread for all servers, client of one, a core for each; µs");
    let mut table = Table::new(&[
        "servers",
        "side",
        "callers",
        "flips",
        "p50",
        "p90",
        "p99",
        "max",
        "zero",
        "known_p50",
        "told_sent_p50",
    ]);
    runtime(workers)?.block_on(async {
        let mut servers = Vec::new();
        for backend in 0..BACKENDS {
            servers.push(ServerProcess::start(&backend.to_string(), 1, 1).await?);
        }
        let uris: Vec<_> = servers.iter().map(|one| one.uris[0].clone()).collect();
        compare("tonic", servers, &uris, flips, &mut table).await
    })?;
    let (servers, uris) = Lean::start()?;
    runtime(1)?.block_on(compare("lean", servers, &uris, flips, &mut table))?;
    table.print();
    table.write_csv(arguments.csv.as_deref())
}

async fn compare(
    kind: &str,
    mut servers: impl Flippable,
    uris: &[String],
    flips: usize,
    table: &mut Table,
) -> Result<()> {
    for callers in CALLERS {
        let (mut of_ours, mut of_hand_made) = (Vec::new(), Vec::new());
        while of_ours.len() < flips {
            let turn = TURN.min(flips - of_ours.len());
            let side = Ours::connect(uris).await?;
            of_ours.extend(flip(side, &mut servers, callers, turn).await?);
            let side = HandMade::connect(uris).await?;
            of_hand_made.extend(flip(side, &mut servers, callers, turn).await?);
        }
        table.row(row(kind, "ours", callers, &of_ours));
        table.row(row(kind, "hand_made", callers, &of_hand_made));
    }
    Ok(())
}

/// Servers that change their health.
trait Flippable {
    async fn flip(&mut self, backend: usize, serving: bool) -> Result<Flipped>;
}

impl Flippable for Vec<ServerProcess> {
    async fn flip(&mut self, backend: usize, serving: bool) -> Result<Flipped> {
        self[backend].flip(serving).await
    }
}

/// One flip, in nanoseconds.
struct Flip {
    told_sent: u64,
    known: u64,
    latency: u64,
}

fn row(servers: &str, side: &str, callers: usize, flips: &[Flip]) -> Vec<String> {
    let micros = |of: fn(&Flip) -> u64, part| {
        let mut all: Vec<_> = flips.iter().map(|flip| of(flip) as f64 / 1e3).collect();
        format!("{:.0}", quantile(&mut all, part))
    };
    let zero = flips.iter().filter(|flip| flip.latency == 0).count();
    let mut row = vec![
        servers.to_owned(),
        side.to_owned(),
        callers.to_string(),
        flips.len().to_string(),
    ];
    row.extend([0.5, 0.9, 0.99, 1.0].map(|part| micros(|flip| flip.latency, part)));
    row.push(zero.to_string());
    row.push(micros(|flip| flip.known, 0.5));
    row.push(micros(|flip| flip.told_sent, 0.5));
    row
}

/// Flips the servers in turn, `flips` times, while `callers` call.
async fn flip<S: Side>(
    mut side: S,
    servers: &mut impl Flippable,
    callers: usize,
    flips: usize,
) -> Result<Vec<Flip>> {
    let tally = Arc::new(Tally::new(callers));
    let mut calling = JoinSet::new();
    for caller in 0..callers {
        calling.spawn(call_in_a_loop(side.clone(), caller, tally.clone()));
    }
    let flips = async {
        // The other side's connections are gone by then, too.
        tally.until_everybody_called(WARM_UP).await;
        let mut all = Vec::new();
        for backend in (0..BACKENDS).cycle().take(flips) {
            let once = flip_once(&mut side, servers, backend, &tally);
            let stuck = |_| format!("a flip under {callers} callers took over {PATIENCE:?}");
            all.push(timeout(PATIENCE, once).await.map_err(stuck)??);
        }
        Ok(all)
    };
    tokio::select! {
        flips = flips => flips,
        // Callers never end but by an error.
        Some(ended) = calling.join_next() => Err(ended?.unwrap_err()),
    }
}

async fn flip_once<S: Side>(
    side: &mut S,
    servers: &mut impl Flippable,
    backend: usize,
    tally: &Tally,
) -> Result<Flip> {
    let order = servers.flip(backend, false);
    let known = async {
        side.until(backend, false).await;
        clock::now()
    };
    let (flipped, known) = tokio::join!(order, known);
    let flipped = flipped?;
    tally.until_everybody_called(AFTERWARDS).await;
    let last = tally.last_start[backend].load(Relaxed);

    let back = servers.flip(backend, true).await?;
    side.until(backend, true).await;
    tally.until_called(backend, back.sent).await;
    Ok(Flip {
        told_sent: flipped.sent - flipped.told,
        known: known.saturating_sub(flipped.sent),
        latency: last.saturating_sub(flipped.sent),
    })
}

async fn call_in_a_loop<S: Side>(mut side: S, caller: usize, tally: Arc<Tally>) -> Result<()> {
    loop {
        let started = clock::now();
        let backend = side.call().await?;
        tally.last_start[backend].fetch_max(started, Relaxed);
        tally.calls[caller].fetch_add(1, Relaxed);
    }
}

/// What the callers noted.
struct Tally {
    /// By backend: the latest start of a call that it answered.
    last_start: [AtomicU64; BACKENDS],
    /// By caller: how many calls it has ended.
    calls: Vec<AtomicUsize>,
}

impl Tally {
    const LOOK_EVERY: Duration = Duration::from_millis(1);

    fn new(callers: usize) -> Self {
        Self {
            last_start: Default::default(),
            calls: (0..callers).map(|_| AtomicUsize::new(0)).collect(),
        }
    }

    /// Every caller has ended `more` calls. From the first of them on, whatever
    /// it had started before has been noted.
    async fn until_everybody_called(&self, more: usize) {
        let counts = || self.calls.iter().map(|calls| calls.load(Relaxed));
        let before: Vec<_> = counts().collect();
        while counts()
            .zip(&before)
            .any(|(now, before)| now < before + more)
        {
            tokio::time::sleep(Self::LOOK_EVERY).await;
        }
    }

    /// The backend has answered a call that was started after `time`.
    async fn until_called(&self, backend: usize, time: u64) {
        while self.last_start[backend].load(Relaxed) <= time {
            tokio::time::sleep(Self::LOOK_EVERY).await;
        }
    }
}
