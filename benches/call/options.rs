//! The command line of the bench.

use std::{path::PathBuf, time::Duration};

use tokio::runtime::{Builder, Runtime};

use crate::{
    Subject,
    common::{Result, process::Kind},
    sinks::Sink,
};

const USAGE: &str = "options: --quick --runtime current|multi --concurrency 1,16,64,256 \
    --rounds 5 --slice 1s --server lean|tonic --csv FILE --only ours,h2 --pin \
    --backends 4 --connections 1 --metrics own,otel,bound,spans,unsampled";

/// The threads of the client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Threads {
    /// One, the caller's.
    Current,
    /// Two workers.
    Multi,
}

impl Threads {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Current => "current",
            Self::Multi => "multi",
        }
    }

    pub(crate) fn runtime(self) -> Result<Runtime> {
        let mut builder = match self {
            Self::Current => Builder::new_current_thread(),
            Self::Multi => Builder::new_multi_thread(),
        };
        if self == Self::Multi {
            builder.worker_threads(2);
        }
        Ok(builder.enable_all().build()?)
    }
}

/// What to measure, and how long.
#[derive(Debug)]
pub(crate) struct Options {
    /// A gate, not a measurement.
    pub(crate) quick: bool,
    pub(crate) threads: Threads,
    pub(crate) concurrency: Vec<usize>,
    pub(crate) rounds: usize,
    pub(crate) slice: Duration,
    pub(crate) server: Kind,
    pub(crate) csv: Option<PathBuf>,
    pub(crate) subjects: Vec<Subject>,
    /// If there are any, they are compared, and no subjects.
    pub(crate) sinks: Vec<Sink>,
    /// Of each channel that balances.
    pub(crate) backends: usize,
    /// Of ours to each backend.
    pub(crate) connections: usize,
    /// The client on the first core, the servers on the second.
    pub(crate) pin: bool,
}

impl Options {
    pub(crate) fn read() -> Result<Self> {
        // Cargo says --bench to every bench.
        let words: Vec<_> = std::env::args()
            .skip(1)
            .filter(|word| word != "--bench")
            .collect();
        let quick = words.iter().any(|word| word == "--quick");
        let mut options = match quick {
            true => Self {
                concurrency: vec![16],
                rounds: 3,
                slice: Duration::from_millis(200),
                ..Self::default()
            },
            false => Self::default(),
        };
        options.quick = quick;
        let has = |name: &str| words.iter().any(|word| word == name);
        if has("--metrics") && !has("--concurrency") {
            options.concurrency = vec![16];
        }
        let mut words = words.into_iter();
        while let Some(word) = words.next() {
            let mut value = || words.next().ok_or(format!("{word} takes a value; {USAGE}"));
            match word.as_str() {
                "--quick" => {}
                "--pin" => options.pin = true,
                "--runtime" => options.threads = threads(&value()?)?,
                "--concurrency" => {
                    let numbers = value()?;
                    let numbers = numbers.split(',').map(str::parse);
                    options.concurrency = numbers.collect::<std::result::Result<_, _>>()?;
                }
                "--rounds" => options.rounds = value()?.parse()?,
                "--slice" => options.slice = duration(&value()?)?,
                "--server" => options.server = Kind::named(&value()?).ok_or(USAGE)?,
                "--backends" => options.backends = value()?.parse()?,
                "--connections" => options.connections = value()?.parse()?,
                "--csv" => options.csv = Some(value()?.into()),
                "--only" => {
                    let names = value()?;
                    let subjects = names.split(',').map(Subject::named);
                    options.subjects = subjects.collect::<Option<_>>().ok_or(USAGE)?;
                }
                "--metrics" => {
                    let names = value()?;
                    let sinks = names.split(',').map(Sink::named);
                    options.sinks = sinks.collect::<Option<_>>().ok_or(USAGE)?;
                }
                other => return Err(format!("`{other}` is not an option; {USAGE}").into()),
            }
        }
        Ok(options)
    }
}

impl Default for Options {
    fn default() -> Self {
        Self {
            quick: false,
            threads: Threads::Current,
            concurrency: vec![1, 16, 64, 256],
            rounds: 5,
            slice: Duration::from_secs(1),
            server: Kind::Lean,
            csv: None,
            subjects: Subject::ALL.to_vec(),
            sinks: Vec::new(),
            backends: 4,
            connections: 1,
            pin: false,
        }
    }
}

fn threads(name: &str) -> Result<Threads> {
    [Threads::Current, Threads::Multi]
        .into_iter()
        .find(|threads| threads.name() == name)
        .ok_or(USAGE.into())
}

/// `1s`, `0.5s` or `200ms`.
fn duration(text: &str) -> Result<Duration> {
    let (number, scale) = match text.strip_suffix("ms") {
        Some(number) => (number, 1_000.0),
        None => (text.strip_suffix('s').ok_or(USAGE)?, 1.0),
    };
    Ok(Duration::try_from_secs_f64(number.parse::<f64>()? / scale)?)
}
