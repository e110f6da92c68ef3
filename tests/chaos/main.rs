//! Chaos: a fleet of backends in processes of their own, under load, and everything that
//! can happen to it. Processes are killed, paused and replaced, connections cut, silent,
//! slow or open one way only, health flaps, and the whole fleet is rolled, gracefully,
//! one after another. `crates/harness/src/fleet` says what has to hold, and here that memory
//! comes back to what it was, too.
//!
//! ```text
//!   backend  what one is: this program once more
//!   node     a backend's process, and the line to it
//!   netns    a network of its own, in which packets are lost
//!   report   calls, failures, latency, memory and tasks over time
//!   retries  kills alone, and a retry policy
//!   outliers  one backend that fails half of its calls, and outlier detection
//!   silence  backends that are paused, and a channel that looks for silence
//! ```
//!
//! ```sh
//! cargo test --test chaos                              # 20 backends, a minute
//! cargo test --test chaos -- --quick                   # 6 backends, half a minute
//! cargo test --test chaos -- --seed 17                 # what has failed, again
//! cargo test --test chaos -- --netns                   # Linux: trouble for packets
//! cargo test --test chaos -- --retries                 # SIGKILL and a retry policy
//! cargo test --test chaos -- --outliers                # a sick backend and outlier detection
//! cargo test --test chaos -- --silence                 # SIGSTOP, with `silence` and without
//! cargo test --test chaos -- --seconds 1200 --csv f    # a soak, with a table to plot
//! ```
//!
//! Exits with 1 if something did not hold, and tells seed and steps; with 77 where
//! `--netns` has not what it takes, and tells what.

#![allow(
    clippy::disallowed_methods,
    reason = "processes and sockets have real time"
)]

mod backend;
mod netns;
mod node;
mod outliers;
mod report;
mod retries;
mod run;
mod silence;

use std::{
    path::{Path, PathBuf},
    process::ExitCode,
    sync::mpsc,
    thread,
    time::Duration,
};

use testing::fleet::Result;

/// What may be asked for.
#[derive(Clone, Debug)]
struct Options {
    seed: u64,
    backends: usize,
    /// For how long rounds begin.
    lasts: Duration,
    /// Calls a second.
    rate: u32,
    csv: Option<PathBuf>,
    /// The kernel makes the lines bad, in a namespace of the network.
    netns: bool,
    /// Kills alone, and a retry policy.
    retries: bool,
    /// One backend that fails half of its calls, and outlier detection.
    outliers: bool,
    /// Backends that are paused, and a channel that looks for silence.
    silence: bool,
}

const USAGE: &str = "\
--seed N       what happens; by chance if it is not given, and told
--backends N   3 to 60 (20)
--seconds N    how long it goes on (60)
--rate N       calls a second (300)
--csv FILE     writes the samples there
--quick        6 backends, 20 seconds
--netns        packets are lost, late and refused, in a network of its own (Linux; root, or
               namespaces for users; unshare, ip, tc and nft)
--retries      one backend at a time is killed, and the channel has a retry policy; callers
               do not pause, and --rate, --csv and --netns have no effect
--outliers     one backend says SERVING and fails half of its calls, and the channel detects
               outliers; --quick keeps 20 backends and takes 12 seconds, and --rate and --netns
               have no effect
--silence      one backend at a time is paused, for a channel that looks for silence and for one
               that does not; --quick keeps 20 backends and takes 12 seconds. The figures are in
               FILE.summary.csv, too; --netns has no effect
";

/// The exit code for what cannot be tried here; that of a test that is left out.
const CANNOT: u8 = 77;

/// A run that takes so much longer than it was to is stuck.
const OVERTIME: Duration = Duration::from_secs(90);

fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1);
    if arguments.next().as_deref() == Some(backend::ROLE) {
        let ledger = arguments.next().unwrap_or_default();
        let address = arguments.next().unwrap_or_default();
        let unit = arguments.next().unwrap_or_default();
        return told(block_on(backend::be(Path::new(&ledger), &address, &unit)));
    }
    let options = match Options::parse(std::env::args().skip(1)) {
        Ok(options) => options,
        Err(error) => {
            eprint!("{error}\n\n{USAGE}");
            return ExitCode::from(2);
        }
    };
    if options.netns
        && !options.retries
        && !options.outliers
        && !options.silence
        && let Err(error) = netns::enter()
    {
        return told(Err(error));
    }
    let (_running, ended) = mpsc::channel::<()>();
    let most = options.lasts + OVERTIME;
    let seed = options.seed;
    thread::spawn(move || {
        if ended.recv_timeout(most) == Err(mpsc::RecvTimeoutError::Timeout) {
            eprintln!("seed {seed} is stuck: it takes more than {most:?}");
            // The backends end with their stdin.
            std::process::exit(1);
        }
    });
    told(match options {
        Options { retries: true, .. } => block_on(retries::run(&options)),
        Options { outliers: true, .. } => block_on(outliers::run(&options)),
        Options { silence: true, .. } => block_on(silence::run(&options)),
        _ => block_on(run::run(&options)),
    })
}

fn told(outcome: Result<()>) -> ExitCode {
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            match error.is::<netns::Lack>() {
                true => ExitCode::from(CANNOT),
                false => ExitCode::FAILURE,
            }
        }
    }
}

/// On this thread: a backend ends, on Linux, with the thread that started it.
fn block_on(what: impl Future<Output = Result<()>>) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let outcome = runtime.block_on(what);
    // A backend's stdin is still being read.
    runtime.shutdown_background();
    outcome
}

impl Options {
    fn parse(mut arguments: impl Iterator<Item = String>) -> Result<Self> {
        let mut options = Self {
            seed: fastrand::u64(..1_000_000),
            backends: 20,
            lasts: Duration::from_secs(60),
            rate: 300,
            csv: None,
            netns: false,
            retries: false,
            outliers: false,
            silence: false,
        };
        let mut is_quick = false;
        while let Some(argument) = arguments.next() {
            if argument == "--quick" {
                options.backends = 6;
                options.lasts = Duration::from_secs(20);
                is_quick = true;
                continue;
            }
            if argument == "--outliers" {
                options.outliers = true;
                continue;
            }
            if argument == "--silence" {
                options.silence = true;
                continue;
            }
            if argument == "--netns" {
                options.netns = true;
                continue;
            }
            if argument == "--retries" {
                options.retries = true;
                continue;
            }
            let value = arguments.next();
            let value = value.ok_or_else(|| format!("{argument} needs a value"))?;
            let number = || {
                let wrong = |_| format!("{argument} `{value}`: not a number");
                value.parse::<u32>().map_err(wrong)
            };
            match argument.as_str() {
                "--seed" => options.seed = number()?.into(),
                "--backends" => options.backends = usize::try_from(number()?)?,
                "--seconds" => options.lasts = Duration::from_secs(number()?.into()),
                "--rate" => options.rate = number()?,
                "--csv" => options.csv = Some(value.into()),
                _ => return Err(format!("there is no option `{argument}`").into()),
            }
        }
        if is_quick && (options.outliers || options.silence) {
            options.backends = 20;
            options.lasts = Duration::from_secs(12);
        }
        // A bit for each, and a majority that is well.
        if !(3..=60).contains(&options.backends) || options.rate == 0 {
            return Err("out of range".into());
        }
        Ok(options)
    }
}
