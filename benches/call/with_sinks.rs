//! The cost of a call with metrics and traces, as a ratio to one without.

use std::{fs, time::Duration};

use tokio::runtime::Runtime;

use crate::{
    common::{
        Result,
        greeter::greeter_client::GreeterClient,
        load::{Deadlines, Load, closed_loop},
        process::Servers,
    },
    options::Options,
    sinks::{Sink, Sinking},
};

/// Calls with each sink and without, in turns. Prints the ratio of the medians of CPU time.
pub(crate) fn compare(options: &Options, servers: &Servers, runtime: &Runtime) -> Result<()> {
    let sinks = [&[Sink::Nothing], &*options.sinks].concat();
    let uris = servers.uris();
    let connect = |sink: &Sink| runtime.block_on(sink.connect(&uris, options.connections));
    let connected = sinks.iter().map(connect);
    let connected: Vec<_> = connected.collect::<Result<_>>()?;
    let label = format!("{},{}", options.server.name(), options.threads.name());
    let mut csv = "server,runtime,sink,concurrency,round,cpu_us,calls_per_second\n".to_owned();
    for &concurrency in &options.concurrency {
        let measure = |of: &Sinking, slice| {
            let load = Load {
                concurrency,
                slice,
                deadlines: Deadlines::None,
            };
            runtime.block_on(closed_loop(GreeterClient::new(of.channel.clone()), load))
        };
        for of in &connected {
            measure(of, options.slice / 4)?;
        }
        let mut cpu = vec![Vec::new(); sinks.len()];
        for round in 0..options.rounds {
            let mut turn: Vec<_> = (0..sinks.len()).collect();
            if round % 2 == 1 {
                turn.reverse();
            }
            for at in turn {
                let sample = measure(&connected[at], options.slice)?;
                let each = |time: Duration| time.as_secs_f64() * 1e6 / sample.calls as f64;
                let rate = sample.calls as f64 / sample.elapsed.as_secs_f64();
                cpu[at].push(each(sample.cpu));
                let (name, cpu) = (sinks[at].name(), each(sample.cpu));
                csv += &format!("{label},{name},{concurrency},{round},{cpu:.3},{rate:.0}\n");
            }
        }
        println!(
            "\n{concurrency} concurrent, {label}, {} rounds",
            options.rounds
        );
        println!("{:10} {:>19} {:>7}", "sink", "CPU µs (min..max)", "/none");
        let spreads: Vec<_> = cpu.into_iter().map(spread).collect();
        for (sink, [least, median, most]) in sinks.iter().zip(&spreads) {
            let name = sink.name();
            let ratio = median / spreads[0][1];
            println!("{name:10} {median:>6.2} ({least:.2}..{most:.2}) {ratio:>7.3}");
        }
    }
    if let Some(path) = &options.csv {
        fs::write(path, csv)?;
    }
    Ok(())
}

/// Smallest, median and largest.
fn spread(mut values: Vec<f64>) -> [f64; 3] {
    values.sort_by(f64::total_cmp);
    match values[..] {
        [] => [f64::NAN; 3],
        [first, ..] => [first, values[values.len() / 2], values[values.len() - 1]],
    }
}
