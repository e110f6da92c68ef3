//! What a unary call costs: CPU, calls a second and latency of this crate's channel
//! beside tonic's and beside the bare `h2` crate, under the same generated client.
//!
//! ```sh
//! cargo bench --bench call -- --quick
//! ```
//!
//! With `--metrics own,otel,bound,spans,unsampled` it compares calls of this crate's channel with and
//! without these sinks of metrics and traces.
//!
//! `docs/benchmarks.md` tells the method and the results.

#[path = "../common/mod.rs"]
mod common;
mod options;
mod sinks;
mod table;
mod with_sinks;

use common::{
    Result,
    channels::{Channels, Subject},
    load::{Deadlines, Load},
    process::{Servers, pin, take_role},
};
use options::Options;
use table::{Cell, Table};

fn main() -> Result<()> {
    take_role()?;
    let options = Options::read()?;
    // The first core is the client's, the second the servers'.
    let servers_core = options.pin.then_some(1);
    if options.pin {
        pin(0)?;
    }
    let servers = Servers::start(options.server, options.backends, servers_core)?;
    let runtime = options.threads.runtime()?;
    if !options.sinks.is_empty() {
        return with_sinks::compare(&options, &servers, &runtime);
    }
    let channels = runtime.block_on(Channels::connect(&servers, options.connections))?;
    let mut table = Table::new(&options);
    for &concurrency in &options.concurrency {
        let load = Load {
            concurrency,
            slice: options.slice,
            deadlines: Deadlines::None,
        };
        let measure = |subject, load| runtime.block_on(channels.measure(subject, load));
        let warm_up = Load {
            slice: options.slice / 4,
            ..load
        };
        for &subject in &options.subjects {
            measure(subject, warm_up)?;
        }
        for round in 0..options.rounds {
            let mut turn = options.subjects.clone();
            if round % 2 == 1 {
                turn.reverse();
            }
            for subject in turn {
                let before = servers.cpu_time();
                let sample = measure(subject, load)?;
                let busy = before
                    .zip(servers.cpu_time())
                    .map(|(before, now)| now - before);
                table.add(Cell::of(subject, concurrency), &sample, busy);
            }
        }
        table.print(concurrency);
    }
    table.finish()
}
