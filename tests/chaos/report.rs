//! What a run looked like over time.

use std::{fmt::Write as _, fs, path::Path, time::Duration};

use testing::fleet::{Notes, Result};

/// Rows of the table that is printed; the file has all samples.
const ROWS: usize = 24;

/// One interval of a run.
#[derive(Clone, Debug)]
pub(crate) struct Sample {
    /// Since the start, at the end of the interval.
    pub(crate) at: Duration,
    pub(crate) calls: usize,
    pub(crate) failed: u64,
    pub(crate) p50_us: u64,
    pub(crate) p99_us: u64,
    /// Resident memory of this process, in KiB; 0 where the system does not tell.
    pub(crate) rss_kib: u64,
    /// Of the channel and its callers.
    pub(crate) tasks: usize,
    pub(crate) ready: usize,
}

/// The samples so far, and what is to be subtracted from the next.
#[derive(Debug, Default)]
pub(crate) struct Samples {
    all: Vec<Sample>,
    calls: usize,
    failed: u64,
}

impl Samples {
    pub(crate) fn take(&mut self, at: Duration, notes: &mut Notes, tasks: usize, ready: usize) {
        let (calls, failed) = (notes.ends.len(), notes.reasons.values().sum());
        self.all.push(Sample {
            at,
            calls: calls - self.calls,
            failed: failed - self.failed,
            p50_us: notes.took.value_at_quantile(0.5),
            p99_us: notes.took.value_at_quantile(0.99),
            rss_kib: resident_kib(),
            tasks,
            ready,
        });
        notes.took.reset();
        (self.calls, self.failed) = (calls, failed);
    }

    pub(crate) fn write_csv(&self, path: &Path) -> Result<()> {
        let mut text = "seconds,calls,failed,p50_us,p99_us,rss_kib,tasks,ready\n".to_owned();
        for s in &self.all {
            let seconds = s.at.as_secs_f64();
            let (p50, p99) = (s.p50_us, s.p99_us);
            writeln!(
                text,
                "{seconds:.1},{},{},{p50},{p99},{},{},{}",
                s.calls, s.failed, s.rss_kib, s.tasks, s.ready
            )?;
        }
        Ok(fs::write(path, text)?)
    }

    pub(crate) fn print(&self) {
        println!("  time   calls  failed  p50 ms  p99 ms  RSS MiB  tasks  ready");
        let every = self.all.len().div_ceil(ROWS).max(1);
        for few in self.all.chunks(every) {
            let last = &few[few.len() - 1];
            let millis = |us: u64| us as f64 / 1e3;
            let p99 = few.iter().map(|s| s.p99_us).max().unwrap_or_default();
            println!(
                "{:>5}s {:>7} {:>7} {:>7.1} {:>7.0} {:>8.1} {:>6} {:>6}",
                last.at.as_secs(),
                few.iter().map(|s| s.calls).sum::<usize>(),
                few.iter().map(|s| s.failed).sum::<u64>(),
                millis(last.p50_us),
                millis(p99),
                mib(last.rss_kib),
                last.tasks,
                last.ready
            );
        }
    }
}

/// Of this process, by Linux.
pub(crate) fn resident_kib() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find(|line| line.starts_with("VmRSS:"));
    let number = line.and_then(|line| line.split_whitespace().nth(1)?.parse().ok());
    number.unwrap_or_default()
}

pub(crate) fn mib(kib: u64) -> f64 {
    kib as f64 / 1024.0
}
