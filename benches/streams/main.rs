//! What streams and large messages cost: throughput and CPU of this crate's channel
//! beside tonic's, under the same generated client; and what calls lose beside a stream
//! that nobody reads.
//!
//! ```sh
//! cargo bench --bench streams -- --quick
//! ```
//!
//! One tonic server for each of four backends, all on one thread in another process,
//! which repeats what it is told. A closed loop of 1 and of 8 in flight, in every shape
//! of [`shapes::Shape`]: 1 MiB there and back in one call, and streams of messages of
//! 100 bytes in each direction. Sides take turns of a slice, the order reversed in every
//! second round, all in one process and against the same servers.
//!
//! - A unit is a call of 1 MiB, or one message; of a bidirectional stream one there and
//!   its echo.
//! - With one worker the client is pinned to the first core, the servers to the second;
//!   with more nothing is pinned.
//! - The server encodes and decodes each message too, and batches as it does. Where the
//!   column says that it is busy all the time, throughput is its own, and only CPU per
//!   unit says something of the client.
//!
//! `docs/benchmarks.md` tells the results.

#[path = "../common/mod.rs"]
mod common;
mod shapes;
#[path = "../support/mod.rs"]
mod support;
mod unread;

use std::{process::ExitCode, time::Duration};

use tonic::transport;
use tonic_health_channel::Channel;

use common::{
    Result,
    channels::connect_ours,
    load::cpu_time,
    process::{Kind, Servers, pin, take_role},
};
use shapes::{Measured, Shape};
use support::{
    arguments::{Arguments, exit_code},
    runtime,
    table::Table,
};

const USAGE: &str = "\
usage: cargo bench --bench streams -- [options]
  --quick       one short round
  --csv FILE    writes every round to FILE
  --workers N   threads of the client's runtime, 1 to 64 (default 1)
  --rounds N    rounds, 1 to 100 (default 5)
  --slice N     milliseconds of one turn, 10 to 60000 (default 250)
";

const BACKENDS: usize = 4;
const IN_FLIGHT: [usize; 2] = [1, 8];

fn main() -> ExitCode {
    exit_code(run(), USAGE)
}

fn run() -> Result<()> {
    take_role()?;
    let arguments = Arguments::parse(&[
        ("--workers", 1..=64),
        ("--rounds", 1..=100),
        ("--slice", 10..=60_000),
    ])?;
    let (rounds, slice) = if arguments.quick { (1, 30) } else { (5, 250) };
    let rounds = arguments.number("--rounds").unwrap_or(rounds);
    let slice = arguments.number("--slice").unwrap_or(slice);
    let slice = Duration::from_millis(slice as u64);
    let workers = arguments.number("--workers").unwrap_or(1);
    if workers == 1 {
        pin(0)?;
    }
    let servers = Servers::start(Kind::Tonic, BACKENDS, (workers == 1).then_some(1))?;
    let mut table = Table::new(&[
        "workers",
        "shape",
        "side",
        "in_flight",
        "units_per_second",
        "cpu_us",
        "p99_us",
        "servers_percent",
    ]);
    runtime(workers)?.block_on(async {
        let sides = Sides::connect(&servers.uris()).await?;
        for round in 0..rounds {
            for shape in Shape::ALL {
                for in_flight in IN_FLIGHT {
                    for side in in_turn(&Side::ALL, round) {
                        let before = servers.cpu_time();
                        let measured = sides.measure(side, shape, in_flight, slice).await?;
                        let busy = before.zip(servers.cpu_time()).map(|(was, is)| is - was);
                        let words = [shape.name(), side.name()].map(str::to_owned);
                        table.row(measured.row(workers, words, in_flight, busy));
                    }
                }
            }
            unread::round(&sides, &servers, round, slice, workers, &mut table).await?;
        }
        Ok::<_, common::Error>(())
    })?;
    table.print();
    table.write_csv(arguments.csv.as_deref())
}

/// Every second round in reverse order.
fn in_turn<T: Copy>(all: &[T], round: usize) -> Vec<T> {
    match round % 2 {
        0 => all.to_vec(),
        _ => all.iter().rev().copied().collect(),
    }
}

/// A channel under test.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Side {
    /// This crate's over four backends, each with a `Watch`.
    Ours,
    /// And over one.
    OursOne,
    BalanceList,
    /// tonic's channel to one backend.
    Tonic,
}

impl Side {
    const ALL: [Self; 4] = [Self::Ours, Self::OursOne, Self::BalanceList, Self::Tonic];

    fn name(self) -> &'static str {
        match self {
            Self::Ours => "ours",
            Self::OursOne => "ours_one",
            Self::BalanceList => "balance_list",
            Self::Tonic => "tonic",
        }
    }
}

/// All of them, connected.
struct Sides {
    ours: Channel,
    ours_one: Channel,
    balance_list: transport::Channel,
    tonic: transport::Channel,
}

impl Sides {
    async fn connect(uris: &[String]) -> Result<Self> {
        let endpoint = |uri: &String| transport::Endpoint::from_shared(uri.clone());
        let endpoints = uris.iter().map(endpoint);
        let endpoints: Vec<_> = endpoints.collect::<std::result::Result<_, _>>()?;
        Ok(Self {
            ours: connect_ours(uris, 1).await?,
            ours_one: connect_ours(&uris[..1], 1).await?,
            tonic: endpoints[0].connect().await?,
            balance_list: transport::Channel::balance_list(endpoints.into_iter()),
        })
    }

    async fn measure(
        &self,
        side: Side,
        shape: Shape,
        in_flight: usize,
        slice: Duration,
    ) -> Result<Measured> {
        match side {
            Side::Ours => shapes::measure(&self.ours, shape, in_flight, slice).await,
            Side::OursOne => shapes::measure(&self.ours_one, shape, in_flight, slice).await,
            Side::BalanceList => shapes::measure(&self.balance_list, shape, in_flight, slice).await,
            Side::Tonic => shapes::measure(&self.tonic, shape, in_flight, slice).await,
        }
    }
}
