//! How often, and how much, a unary call allocates: this crate's channel beside
//! tonic's and beside the bare `h2` crate, under the same generated client.
//!
//! ```sh
//! cargo bench --bench allocations -- --quick
//! ```
//!
//! Not part of `call`: counting costs each call up to a fifth of its CPU. Here
//! nothing is timed.

#[path = "../common/mod.rs"]
mod common;
#[allow(dead_code, reason = "not every bench names a sink")]
mod sinks;

use std::{alloc::System, fs, time::Duration};

use common::{
    Result,
    channels::{Channels, Subject},
    greeter::greeter_client::GreeterClient,
    load::{Deadlines, Load, Sample, closed_loop},
    process::{Kind, Servers, take_role},
};
use sinks::Sink;
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};
use tokio::runtime::Builder;

#[global_allocator]
static COUNTED: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

/// More than this is a mistake, on any machine: the check of `--quick`.
const AT_MOST: f64 = 40.0;

const USAGE: &str = "options: --quick --csv FILE";

fn main() -> Result<()> {
    take_role()?;
    let mut csv = None;
    let mut quick = false;
    // Cargo says --bench to every bench.
    let mut words = std::env::args().skip(1).filter(|word| word != "--bench");
    while let Some(word) = words.next() {
        match word.as_str() {
            "--quick" => quick = true,
            "--csv" => csv = Some(words.next().ok_or(USAGE)?),
            _ => return Err(USAGE.into()),
        }
    }
    let servers = Servers::start(Kind::Lean, 4, None)?;
    let runtime = Builder::new_current_thread().enable_all().build()?;
    let channels = runtime.block_on(Channels::connect(&servers, 1))?;
    let load = Load {
        concurrency: 16,
        slice: Duration::from_millis(200),
        deadlines: Deadlines::None,
    };
    let mut table = "channel,allocations,bytes\n".to_owned();
    println!("\nallocations of a call, {} concurrent", load.concurrency);
    println!("{:21} {:>6} {:>8}", "channel", "count", "bytes");
    let mut row = |name: &str, [count, bytes]: [f64; 2]| {
        println!("{name:21} {count:>6.1} {bytes:>8.0}");
        table += &format!("{name},{count:.1},{bytes:.0}\n");
    };
    for subject in Subject::ALL {
        let measure = || runtime.block_on(channels.measure(subject, load));
        let [count, bytes] = counted(measure)?;
        row(subject.name(), [count, bytes]);
        if quick && subject == Subject::Ours && count > AT_MOST {
            return Err(format!("{count:.1} allocations per call; at most {AT_MOST}").into());
        }
    }
    for sink in Sink::ALL.into_iter().filter(|sink| *sink != Sink::Nothing) {
        let sinking = runtime.block_on(sink.connect(&servers.uris(), 1))?;
        let client = GreeterClient::new(sinking.channel.clone());
        let of = counted(|| runtime.block_on(closed_loop(client.clone(), load)))?;
        row(&format!("ours_{}", sink.name()), of);
    }
    if let Some(path) = csv {
        fs::write(path, table)?;
    }
    Ok(())
}

/// Allocations and bytes of a call.
fn counted(measure: impl Fn() -> Result<Sample>) -> Result<[f64; 2]> {
    // Tables, pools and buffers grow first.
    measure()?;
    let counted = Region::new(COUNTED);
    let sample = measure()?;
    let counted = counted.change();
    let each = |count: usize| count as f64 / sample.calls as f64;
    Ok([
        each(counted.allocations + counted.reallocations),
        each(counted.bytes_allocated),
    ])
}
