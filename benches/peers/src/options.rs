//! The command line of the driver.

use std::{ffi::OsString, path::PathBuf, time::Duration};

use crate::{
    channels,
    common::Result,
    peer::{Subject, Threads},
};

const USAGE: &str = "options: --quick --runtime current|multi --concurrency 1,16,64,256 \
    --rounds 5 --slice 500ms --warm-up 300000 --csv FILE --only ours,grpc-go";

/// Those of other languages, and ginepro, whose programs `--client NAME=FILE` tells.
const CHECK_HEALTH: [&str; 6] = [
    "ours",
    OURS_TCACHE,
    "ours_each",
    "grpc-go",
    "grpc-java",
    "grpc-c++",
];
const HERE: [&str; 5] = ["ours", "ours_each", "balance_list", "tonic", "h2"];
/// The client `ours` as it is, in an environment that lets glibc's `malloc` keep more freed
/// blocks for each thread than seven of a size.
const OURS_TCACHE: &str = "ours_tcache";
const TCACHE: &str = "GLIBC_TUNABLES=glibc.malloc.tcache_count=127";

/// What to measure, and how long.
#[derive(Debug)]
pub(crate) struct Options {
    pub(crate) threads: Vec<Threads>,
    pub(crate) concurrency: Vec<usize>,
    pub(crate) rounds: usize,
    pub(crate) slice: Duration,
    /// Calls that each client makes before the first round. Calls, not time: it is
    /// after so many calls of it that the JVM compiles a method.
    pub(crate) warm_up: u64,
    pub(crate) csv: Option<PathBuf>,
    pub(crate) subjects: Vec<Subject>,
}

impl Options {
    pub(crate) fn read() -> Result<Self> {
        let words: Vec<_> = std::env::args().skip(1).collect();
        let quick = words.iter().any(|word| word == "--quick");
        let mut options = match quick {
            true => Self {
                concurrency: vec![16],
                rounds: 3,
                slice: Duration::from_millis(300),
                warm_up: 100_000,
                ..Self::new()?
            },
            false => Self::new()?,
        };
        let mut words = words.into_iter();
        let mut only: Option<Vec<String>> = None;
        while let Some(word) = words.next() {
            let mut value = || words.next().ok_or(format!("{word} takes a value; {USAGE}"));
            match word.as_str() {
                "--quick" => {}
                "--runtime" => {
                    let name = value()?;
                    options.threads.retain(|threads| threads.name() == name);
                }
                "--concurrency" => {
                    let numbers = value()?;
                    let numbers = numbers.split(',').map(str::parse);
                    options.concurrency = numbers.collect::<std::result::Result<_, _>>()?;
                }
                "--rounds" => options.rounds = value()?.parse()?,
                "--slice" => options.slice = duration(&value()?)?,
                "--warm-up" => options.warm_up = value()?.parse()?,
                "--csv" => options.csv = Some(value()?.into()),
                "--client" => {
                    let client = value()?;
                    let (name, program) = client.split_once('=').ok_or(USAGE)?;
                    options.subjects.push(subject(name, vec![program.into()]));
                }
                "--only" => only = Some(value()?.split(',').map(str::to_owned).collect()),
                other => return Err(format!("`{other}` is not an option; {USAGE}").into()),
            }
        }
        if let Some(only) = only {
            let known = |name: &String| options.subjects.iter().any(|s| s.name == *name);
            if let Some(name) = only.iter().find(|name| !known(name)) {
                return Err(format!("there is no client `{name}`").into());
            }
            let is_wanted = |subject: &Subject| only.contains(&subject.name);
            options.subjects.retain(is_wanted);
        }
        if options.threads.is_empty() || options.concurrency.contains(&0) || options.rounds == 0 {
            return Err(USAGE.into());
        }
        Ok(options)
    }

    /// What needs no program but this one.
    fn new() -> Result<Self> {
        let this: OsString = std::env::current_exe()?.into();
        let here =
            |name: &str| subject(name, vec![this.clone(), channels::ROLE.into(), name.into()]);
        let mut subjects: Vec<_> = HERE.into_iter().map(here).collect();
        let mut roomy = here("ours");
        let env = ["env", TCACHE].map(OsString::from);
        roomy.command.splice(0..0, env);
        subjects.insert(1, subject(OURS_TCACHE, roomy.command));
        Ok(Self {
            threads: Threads::ALL.to_vec(),
            concurrency: vec![1, 16, 64, 256],
            rounds: 5,
            slice: Duration::from_millis(500),
            warm_up: 300_000,
            csv: None,
            subjects,
        })
    }
}

fn subject(name: &str, command: Vec<OsString>) -> Subject {
    Subject {
        name: name.to_owned(),
        command,
        checks_health: CHECK_HEALTH.contains(&name),
        a_channel_per_thread: name == "ours_each",
        all_backends: name != "tonic",
    }
}

/// `1s`, `0.5s` or `200ms`.
fn duration(text: &str) -> Result<Duration> {
    let (number, scale) = match text.strip_suffix("ms") {
        Some(number) => (number, 1_000.0),
        None => (text.strip_suffix('s').ok_or(USAGE)?, 1.0),
    };
    Ok(Duration::try_from_secs_f64(number.parse::<f64>()? / scale)?)
}
