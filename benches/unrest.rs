//! What flips of health cost the calls on a channel of a thousand backends.
//!
//! `cargo bench --bench unrest -- [--quick] [--csv FILE] [--workers N] [--flips N]`
//!
//! A thousand lean servers on ports of their own, in one other process, each with a
//! connection and a `Watch`. Of them 25 are NOT_SERVING at any time, and a thousand times
//! a second one goes out of service or comes back, spread evenly: no two flips are
//! gathered unless the client makes them wait. Each round has four turns, the order
//! reversed in every second one:
//!
//! | state | meaning |
//! |---|---|
//! | `calm` | 64 callers in a closed loop |
//! | `flips` | the same, and the flips |
//! | `flips_alone` | the flips, and nobody calls |
//! | `nothing` | neither |
//!
//! - **CPU** is of the client process alone. `flips_alone` less `nothing` is what the
//!   flips cost by themselves, wake-ups and system calls included, which calls on a busy
//!   channel share with them.
//! - With one worker the client is pinned to the first core, the servers to the second,
//!   so that what a flip costs the server takes nothing from the client. With more they
//!   share the cores, and calls a second pay for both.

use std::{process::ExitCode, time::Duration};

use tokio::time::{Instant, sleep};
use tonic_health_channel::{Channel, ConnectivityState};

#[path = "common/mod.rs"]
mod common;
mod support;

use common::{
    Result,
    channels::connect_ours,
    flips::DOWN,
    greeter::greeter_client::GreeterClient,
    load::{Deadlines, Load, closed_loop, cpu_time},
    process::{Kind, Servers, pin, take_role},
};
use support::{
    arguments::{Arguments, exit_code},
    resources::allow_connections,
    runtime,
    table::Table,
};

const USAGE: &str = "\
usage: cargo bench --bench unrest -- [options]
  --quick        two short rounds
  --csv FILE     writes every round to FILE
  --workers N    threads of the client's runtime, 1 to 64 (default 1)
  --rounds N     rounds, 1 to 100 (default 7)
  --slice N      milliseconds of one turn, 10 to 60000 (default 1000)
  --backends N   how many, 50 to 10000 (default 1000)
  --flips N      flips a second, 1 to 100000 (default 1000)
";

const CALLERS: usize = 64;
/// What the servers take to notice what they are told, and a little more.
const SETTLE: Duration = Duration::from_millis(150);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Calm,
    Flips,
    FlipsAlone,
    Nothing,
}

impl State {
    const ALL: [Self; 4] = [Self::Calm, Self::Flips, Self::FlipsAlone, Self::Nothing];

    fn name(self) -> &'static str {
        match self {
            Self::Calm => "calm",
            Self::Flips => "flips",
            Self::FlipsAlone => "flips_alone",
            Self::Nothing => "nothing",
        }
    }

    fn has_flips(self) -> bool {
        matches!(self, Self::Flips | Self::FlipsAlone)
    }

    fn has_calls(self) -> bool {
        matches!(self, Self::Calm | Self::Flips)
    }
}

fn main() -> ExitCode {
    exit_code(run(), USAGE)
}

fn run() -> Result<()> {
    take_role()?;
    let arguments = Arguments::parse(&[
        ("--workers", 1..=64),
        ("--rounds", 1..=100),
        ("--slice", 10..=60_000),
        ("--backends", 50..=10_000),
        ("--flips", 1..=100_000),
    ])?;
    let (rounds, slice) = if arguments.quick {
        (2, 100)
    } else {
        (7, 1_000)
    };
    let rounds = arguments.number("--rounds").unwrap_or(rounds);
    let slice = Duration::from_millis(arguments.number("--slice").unwrap_or(slice) as u64);
    let backends = arguments.number("--backends").unwrap_or(1_000);
    let flips = arguments.number("--flips").unwrap_or(1_000) as u32;
    let workers = arguments.number("--workers").unwrap_or(1);
    // The servers have as many ports as connections.
    allow_connections(2 * backends)?;
    if workers == 1 {
        pin(0)?;
    }
    let mut servers = Servers::start(Kind::Lean, backends, (workers == 1).then_some(1))?;
    let mut table = Table::new(&[
        "workers",
        "state",
        "calls_per_second",
        "cpu_us_per_call",
        "cpu_percent",
        "p50_us",
        "p99_us",
        "servers_percent",
        "publications_per_second",
    ]);
    runtime(workers)?.block_on(async {
        let channel = connect_ours(&servers.uris(), 1).await?;
        for round in 0..rounds {
            let mut turn = State::ALL;
            if round % 2 == 1 {
                turn.reverse();
            }
            for state in turn {
                servers.flip(if state.has_flips() { flips } else { 0 })?;
                let mut row = vec![workers.to_string(), state.name().to_owned()];
                row.extend(measure(&channel, &servers, state, slice).await?);
                table.row(row);
            }
        }
        Ok::<_, common::Error>(())
    })?;
    println!("{backends} backends");
    table.print();
    table.write_csv(arguments.csv.as_deref())
}

/// One turn: the columns behind its name.
async fn measure(
    channel: &Channel,
    servers: &Servers,
    state: State,
    slice: Duration,
) -> Result<Vec<String>> {
    pass(channel, state, SETTLE).await?;
    let out = out_of_service(channel);
    // One may be on its way.
    if state.has_flips() != (out + 5 >= DOWN) || (!state.has_flips() && out > 0) {
        return Err(format!("{}: {out} backends are out of service", state.name()).into());
    }
    let mut status = channel.watch_status();
    let generation = status.status().generation();
    let (began, cpu, busy) = (Instant::now(), cpu_time(), servers.cpu_time());
    let sample = pass(channel, state, slice).await?;
    let (elapsed, cpu) = (began.elapsed().as_secs_f64(), cpu_time() - cpu);
    let published = (status.status().generation() - generation) as f64 / elapsed;
    let busy = busy.zip(servers.cpu_time()).map(|(was, is)| is - was);
    let percent = |time: Duration| format!("{:.2}", 100.0 * time.as_secs_f64() / elapsed);
    let [calls, each, p50, p99] = match sample {
        Some(sample) => {
            let quantile = |part| sample.latency.value_at_quantile(part) as f64 / 1e3;
            let calls = sample.calls as f64;
            [
                format!("{:.0}", calls / elapsed),
                format!("{:.3}", cpu.as_secs_f64() * 1e6 / calls),
                format!("{:.1}", quantile(0.5)),
                format!("{:.1}", quantile(0.99)),
            ]
        }
        None => Default::default(),
    };
    let busy = busy.map(percent).unwrap_or_default();
    let published = format!("{published:.0}");
    Ok(vec![calls, each, percent(cpu), p50, p99, busy, published])
}

/// Lets time pass, with calls or without.
async fn pass(
    channel: &Channel,
    state: State,
    slice: Duration,
) -> Result<Option<common::load::Sample>> {
    if !state.has_calls() {
        sleep(slice).await;
        return Ok(None);
    }
    let load = Load {
        concurrency: CALLERS,
        slice,
        deadlines: Deadlines::None,
    };
    let client = GreeterClient::new(channel.clone());
    closed_loop(client, load).await.map(Some)
}

fn out_of_service(channel: &Channel) -> usize {
    let is_out = |state| state != ConnectivityState::Ready;
    let backends = channel.backends();
    backends.iter().filter(|b| is_out(b.state())).count()
}
