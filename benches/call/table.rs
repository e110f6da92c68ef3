//! What was measured: medians over the rounds, their spread, and ratios.

use std::{fs::File, io::Write, path::PathBuf, time::Duration};

use crate::{
    Subject,
    common::{Result, load::Sample},
    options::Options,
};

/// One subject under one load.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Cell {
    subject: Subject,
    concurrency: usize,
}

impl Cell {
    pub(crate) fn of(subject: Subject, concurrency: usize) -> Self {
        Self {
            subject,
            concurrency,
        }
    }
}

/// What one round was.
#[derive(Clone, Copy, Debug)]
struct Round {
    cell: Cell,
    calls_per_second: f64,
    /// The rest in microseconds.
    cpu: f64,
    p50: f64,
    p99: f64,
    max: f64,
    /// Of one core, by the servers, in percent.
    servers: f64,
}

/// Every round of every cell.
pub(crate) struct Table {
    rounds: Vec<Round>,
    subjects: Vec<Subject>,
    label: String,
    csv: Option<PathBuf>,
}

impl Table {
    pub(crate) fn new(options: &Options) -> Self {
        Self {
            rounds: Vec::new(),
            subjects: options.subjects.clone(),
            label: format!("{},{}", options.server.name(), options.threads.name()),
            csv: options.csv.clone(),
        }
    }

    pub(crate) fn add(&mut self, cell: Cell, sample: &Sample, servers: Option<Duration>) {
        let micros = |nanoseconds: u64| nanoseconds as f64 / 1e3;
        let calls = sample.calls as f64;
        self.rounds.push(Round {
            cell,
            calls_per_second: calls / sample.elapsed.as_secs_f64(),
            cpu: sample.cpu.as_secs_f64() * 1e6 / calls,
            p50: micros(sample.latency.value_at_quantile(0.5)),
            p99: micros(sample.latency.value_at_quantile(0.99)),
            max: micros(sample.latency.max()),
            servers: servers.map_or(f64::NAN, |busy| {
                100.0 * busy.as_secs_f64() / sample.elapsed.as_secs_f64()
            }),
        });
    }

    /// The table of one concurrency.
    pub(crate) fn print(&self, concurrency: usize) {
        println!("\n{} concurrent, {}", concurrency, self.label);
        println!(
            "{:21} {:>9} {:>19} {:>7} {:>7} {:>9} {:>7} {:>9} {:>9} {:>8}",
            "channel",
            "calls/s",
            "CPU µs (min..max)",
            "/bal.",
            "/h2",
            "calls/bal",
            "p50 µs",
            "p99 µs",
            "max µs",
            "servers%",
        );
        let of = |subject| Cell::of(subject, concurrency);
        let [balance_list, h2] = [Subject::BalanceList, Subject::H2].map(of);
        for &subject in &self.subjects {
            let cell = of(subject);
            let [least, cpu, most] = self.spread(cell, |round| round.cpu);
            let median = |what: fn(&Round) -> f64| self.spread(cell, what)[1];
            let ratio = |to: Cell, what: fn(&Round) -> f64| {
                let ratio = median(what) / self.spread(to, what)[1];
                match ratio.is_finite() {
                    true => format!("{ratio:.2}"),
                    false => "-".to_owned(),
                }
            };
            println!(
                "{:21} {:>9.0} {:>6.2} ({:.2}..{:.2}) {:>7} {:>7} {:>9} {:>7.0} {:>9.0} {:>9.0} {:>8.0}",
                subject.name(),
                median(|round| round.calls_per_second),
                cpu,
                least,
                most,
                ratio(balance_list, |round| round.cpu),
                ratio(h2, |round| round.cpu),
                ratio(balance_list, |round| round.calls_per_second),
                median(|round| round.p50),
                median(|round| round.p99),
                median(|round| round.max),
                median(|round| round.servers),
            );
        }
    }

    /// Smallest, median and largest over the rounds of a cell.
    fn spread(&self, cell: Cell, what: impl Fn(&Round) -> f64) -> [f64; 3] {
        let rounds = self.rounds.iter().filter(|round| round.cell == cell);
        let mut values: Vec<_> = rounds.map(what).collect();
        values.sort_by(f64::total_cmp);
        match values[..] {
            [] => [f64::NAN; 3],
            [first, ..] => [first, values[values.len() / 2], values[values.len() - 1]],
        }
    }

    /// Writes every round to the file that was asked for.
    pub(crate) fn finish(&self) -> Result<()> {
        let Some(path) = &self.csv else {
            return Ok(());
        };
        let mut file = File::create(path)?;
        writeln!(
            file,
            "server,runtime,channel,concurrency,calls_per_second,cpu_us,p50_us,p99_us,max_us,servers_percent"
        )?;
        for round in &self.rounds {
            writeln!(
                file,
                "{},{},{},{:.0},{:.3},{:.1},{:.1},{:.1},{:.0}",
                self.label,
                round.cell.subject.name(),
                round.cell.concurrency,
                round.calls_per_second,
                round.cpu,
                round.p50,
                round.p99,
                round.max,
                round.servers,
            )?;
        }
        Ok(())
    }
}
