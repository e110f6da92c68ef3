//! Whether memory is flat over a million calls through this crate's channel.
//!
//! ```sh
//! cargo bench --bench memory
//! ```
//!
//! Two kinds of load, 64 in flight over four lean servers: plain calls; and a mix in
//! which of ten calls one is dropped after its first poll, one has a deadline that
//! has passed before the answer can come, and one a deadline far off. What lives on
//! the heap, and what is resident, after every so many calls and a rest of
//! twelve seconds, for HTTP/2 remembers a stream that was reset for ten. The first
//! million may grow tables up to their bounds; the second may not.
//!
//! The mix comes a second time with room for a hundred reset streams in place of ten
//! thousand, for that table alone goes on to grow: towards its bound, and slowly.

#[path = "../common/mod.rs"]
mod common;
#[path = "../support/mod.rs"]
mod support;

use std::{
    alloc::System,
    process::ExitCode,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use futures_util::FutureExt;
use stats_alloc::{INSTRUMENTED_SYSTEM, StatsAlloc};
use tokio::task::JoinSet;
use tonic::{Code, Request};
use tonic_health_channel::Channel;

use common::{
    Result,
    channels::connect_ours_with,
    frames::PAYLOAD,
    greeter::{HelloRequest, greeter_client::GreeterClient},
    process::{Kind, Servers, take_role},
};
use support::{
    arguments::{Arguments, exit_code},
    resources::resident_kib,
    runtime,
    table::Table,
};

#[global_allocator]
static COUNTED: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

const USAGE: &str = "\
usage: cargo bench --bench memory -- [options]
  --quick       few calls, and no rest
  --csv FILE    writes the table to FILE as well
";

const CALLERS: u64 = 64;
const REST: Duration = Duration::from_secs(12);
/// How much more may live after the last million of calls than before it, in KiB: less
/// than a byte for each ten.
const MARGIN: f64 = 64.0;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Calls {
    Plain,
    Mixed,
    /// Connections remember few of the streams that were reset.
    MixedWithFewResets,
}

impl Calls {
    fn name(self) -> &'static str {
        match self {
            Self::Plain => "plain",
            Self::Mixed => "mixed",
            Self::MixedWithFewResets => "mixed with 100 resets",
        }
    }

    /// What may not grow.
    fn is_bounded(self) -> bool {
        self != Self::Mixed
    }
}

fn main() -> ExitCode {
    exit_code(run(), USAGE)
}

fn run() -> Result<()> {
    take_role()?;
    let arguments = Arguments::parse(&[])?;
    let (points, rest) = match arguments.quick {
        true => ([5_000, 25_000, 50_000], Duration::ZERO),
        false => ([100_000, 1_100_000, 2_100_000], REST),
    };
    let servers = Servers::start(Kind::Lean, 4, None)?;
    let mut table = Table::new(&["calls", "made", "live_kib", "live_blocks", "resident_kib"]);
    let mut failures = String::new();
    runtime(1)?.block_on(async {
        for calls in [Calls::Plain, Calls::Mixed, Calls::MixedWithFewResets] {
            let resets = (calls == Calls::MixedWithFewResets).then_some(100);
            let channel = connect_ours_with(&servers.uris(), 1, |endpoint| match resets {
                Some(most) => endpoint.http2_max_concurrent_reset_streams(most),
                None => endpoint,
            })
            .await?;
            let (mut made, mut before) = (0, f64::NAN);
            let mut grown = 0.0;
            for point in points {
                make(&channel, calls, point - made).await?;
                made = point;
                tokio::time::sleep(rest).await;
                let live = live_kib();
                table.row(vec![
                    calls.name().to_owned(),
                    made.to_string(),
                    format!("{live:.1}"),
                    live_blocks().to_string(),
                    format!("{:.0}", resident_kib()?),
                ]);
                grown = live - before;
                before = live;
            }
            if calls.is_bounded() && grown > MARGIN && !arguments.quick {
                failures += &format!("{}: {grown:.1} KiB more live; ", calls.name());
            }
        }
        Ok::<_, common::Error>(())
    })?;
    table.print();
    table.write_csv(arguments.csv.as_deref())?;
    match failures.is_empty() {
        true => Ok(()),
        false => Err(failures.into()),
    }
}

fn live_kib() -> f64 {
    let stats = COUNTED.stats();
    // What was reallocated is counted as allocated or as freed, by the difference.
    (stats.bytes_allocated - stats.bytes_deallocated) as f64 / 1024.0
}

fn live_blocks() -> usize {
    let stats = COUNTED.stats();
    stats.allocations - stats.deallocations
}

/// Makes so many calls, numbered through.
async fn make(channel: &Channel, calls: Calls, count: u64) -> Result<()> {
    let next = Arc::new(AtomicU64::new(0));
    let mut callers = JoinSet::new();
    for _ in 0..CALLERS {
        let client = GreeterClient::new(channel.clone());
        let next = next.clone();
        callers.spawn(async move {
            let mut client = client;
            loop {
                let number = next.fetch_add(1, Relaxed);
                if number >= count {
                    return Ok::<_, common::Error>(());
                }
                match calls {
                    Calls::Plain => call(&mut client, None).await?,
                    Calls::Mixed | Calls::MixedWithFewResets => mixed(&mut client, number).await?,
                }
            }
        });
    }
    while let Some(ended) = callers.join_next().await {
        ended??;
    }
    Ok(())
}

async fn mixed(client: &mut GreeterClient<Channel>, number: u64) -> Result<()> {
    match number % 10 {
        0 => {
            let dropped = call(client, None).now_or_never();
            // Or it never lets another have its turn.
            tokio::task::yield_now().await;
            dropped.unwrap_or(Ok(()))
        }
        1 => match call(client, Some(Duration::from_micros(10))).await {
            Err(error) if is_deadline(&error) => Ok(()),
            outcome => outcome,
        },
        2 => call(client, Some(Duration::from_secs(10))).await,
        _ => call(client, None).await,
    }
}

fn is_deadline(error: &common::Error) -> bool {
    let status = error.downcast_ref::<tonic::Status>();
    status.is_some_and(|status| status.code() == Code::DeadlineExceeded)
}

async fn call(client: &mut GreeterClient<Channel>, timeout: Option<Duration>) -> Result<()> {
    let mut request = Request::new(HelloRequest {
        name: "x".repeat(PAYLOAD),
        count: 0,
    });
    if let Some(timeout) = timeout {
        request.set_timeout(timeout);
    }
    client.say_hello(request).await?;
    Ok(())
}
