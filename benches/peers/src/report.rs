//! What was measured: every round to a file, medians to the screen.

use std::{fs::File, io::Write, path::Path, time::Duration};

use crate::{
    common::Result,
    peer::{Peer, Slice, Threads},
};

const HEADER: &str = "runtime,channel,version,concurrency,round,calls_per_second,cpu_us,p50_us,\
    p99_us,servers_percent";

/// One slice of one client.
struct Row {
    threads: Threads,
    channel: String,
    version: String,
    concurrency: usize,
    round: usize,
    slice: Slice,
    /// Of one core, by the servers.
    servers_percent: f64,
}

/// Every round.
#[derive(Default)]
pub(crate) struct Report(Vec<Row>);

impl Report {
    pub(crate) fn add(
        &mut self,
        (threads, concurrency, round): (Threads, usize, usize),
        peer: &Peer,
        slice: Slice,
        servers: Option<Duration>,
    ) {
        self.0.push(Row {
            threads,
            channel: peer.subject.name.clone(),
            version: peer.version.clone(),
            concurrency,
            round,
            slice,
            servers_percent: servers.map_or(f64::NAN, |busy| {
                100.0 * busy.as_secs_f64() / slice.elapsed().as_secs_f64()
            }),
        });
    }

    /// The medians of one load, and how they are to the first client's.
    pub(crate) fn print(&self, threads: Threads, concurrency: usize) {
        let rows = || {
            let rows = self.0.iter();
            rows.filter(|row| (row.threads, row.concurrency) == (threads, concurrency))
        };
        let Some(base) = rows().next() else { return };
        println!("\n{concurrency} concurrent, {}", threads.name());
        println!(
            "{:13} {:>9} {:>12} {:>8} {:>8} {:>8} {:>8} {:>9}  version",
            "client", "calls/s", "CPU µs/call", "calls ×", "CPU ×", "p50 µs", "p99 µs", "servers %",
        );
        for first in rows().filter(|row| row.round == 0) {
            let median = |of: &Row, what: fn(&Row) -> f64| {
                let mut values: Vec<_> = rows()
                    .filter(|row| row.channel == of.channel)
                    .map(what)
                    .collect();
                values.sort_by(f64::total_cmp);
                values[values.len() / 2]
            };
            let calls = |row: &Row| row.slice.calls_per_second();
            let cpu = |row: &Row| row.slice.cpu_per_call_us();
            println!(
                "{:13} {:>9.0} {:>12.2} {:>8.2} {:>8.2} {:>8.0} {:>8.0} {:>9.0}  {}",
                first.channel,
                median(first, calls),
                median(first, cpu),
                median(first, calls) / median(base, calls),
                median(first, cpu) / median(base, cpu),
                median(first, |row| row.slice.p50_us),
                median(first, |row| row.slice.p99_us),
                median(first, |row| row.servers_percent),
                first.version,
            );
        }
    }

    pub(crate) fn write_csv(&self, path: &Path) -> Result<()> {
        let mut file = File::create(path)?;
        writeln!(file, "{HEADER}")?;
        for row in &self.0 {
            writeln!(
                file,
                "{},{},{},{},{},{:.0},{:.3},{:.1},{:.1},{:.0}",
                row.threads.name(),
                row.channel,
                row.version,
                row.concurrency,
                row.round,
                row.slice.calls_per_second(),
                row.slice.cpu_per_call_us(),
                row.slice.p50_us,
                row.slice.p99_us,
                row.servers_percent,
            )?;
        }
        Ok(())
    }
}
