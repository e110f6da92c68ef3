//! The channel against servers that nobody here wrote.
//!
//! ```text
//! $ tests/interop/run --all
//! ok    go      flips            164 ms  10 of each backend, 1 connection
//! …
//! FAIL  js      tls             10.0 s   expected …; seen: …
//! ```
//!
//! Every scenario runs against each language alone, and against all of them as the
//! backends of one channel. Exits with 1 if one failed.

mod languages;
mod load;
mod log;
mod report;
mod scenarios;
mod server;
mod stage;
mod watcher;

use std::{path::PathBuf, process::ExitCode, time::Duration};

use languages::Language;
use report::{Line, Report};
use scenarios::Scenario;
use stage::Target;
use tokio::{task::JoinSet, time::timeout};

/// The greeter of `proto/`.
#[allow(unreachable_pub, reason = "generated")]
mod greeter {
    tonic::include_proto!("demo.v1");
}

/// The standard health service.
#[allow(unreachable_pub, reason = "generated")]
mod health {
    tonic::include_proto!("grpc.health.v1");
}

const USAGE: &str = "usage: interop-runner --cache FOLDER [--scenario NAME[,NAME]] [--long] \
                     LANGUAGE...";

/// What is asked for: see `tests/interop/run`, which asks.
struct Arguments {
    languages: Vec<Language>,
    scenarios: Vec<&'static Scenario>,
}

impl Arguments {
    fn parse(mut words: impl Iterator<Item = String>) -> Result<Self, String> {
        let (mut cache, mut names, mut only, mut long) = (None, Vec::new(), Vec::new(), false);
        while let Some(word) = words.next() {
            match word.as_str() {
                "--cache" => cache = words.next().map(PathBuf::from),
                "--scenario" => {
                    let list = words.next().ok_or("--scenario takes names")?;
                    for name in list.split(',') {
                        only.push(scenarios::named(name)?);
                    }
                }
                "--long" => long = true,
                _ => names.push(word),
            }
        }
        let cache = cache.ok_or("--cache takes a folder")?;
        let languages = names.iter().map(|name| Language::new(name, &cache));
        let languages = languages.collect::<Result<Vec<_>, _>>()?;
        if languages.is_empty() {
            return Err("no language to run".into());
        }
        let wanted = |scenario: &&Scenario| match only.is_empty() {
            true => long || !scenario.long,
            false => only.iter().any(|one| one.name == scenario.name),
        };
        Ok(Self {
            languages,
            scenarios: scenarios::ALL.iter().filter(wanted).collect(),
        })
    }

    /// Each language alone, and all of them if there are several.
    fn targets(&self) -> Vec<Target> {
        let alone = self.languages.iter().map(Target::alone);
        let mixed = (self.languages.len() > 1).then(|| Target::mixed(&self.languages));
        alone.chain(mixed).collect()
    }
}

#[tokio::main]
async fn main() -> ExitCode {
    log::listen();
    let arguments = match Arguments::parse(std::env::args().skip(1)) {
        Ok(arguments) => arguments,
        Err(error) => {
            eprintln!("{error}\n{USAGE}");
            return ExitCode::from(2);
        }
    };
    let targets = arguments.targets();
    let mut report = Report::new(&targets, &arguments.scenarios);
    let (slow, quick): (Vec<_>, Vec<_>) = arguments.scenarios.iter().partition(|one| one.slow);
    // These wait for minutes and cost nothing: they may do so beside the others.
    let mut waiting = JoinSet::new();
    for scenario in slow {
        for target in &targets {
            let target = target.clone();
            waiting.spawn(async move { run(scenario, target).await });
        }
    }
    for scenario in quick {
        for target in &targets {
            report.add(run(scenario, target.clone()).await);
        }
    }
    while let Some(line) = waiting.join_next().await {
        match line {
            Ok(line) => report.add(line),
            Err(panic) => report.add_panic(&panic),
        }
    }
    report.finish()
}

/// One scenario against one target, in a task, so that a panic is a failure of this one.
async fn run(scenario: &'static Scenario, target: Target) -> Line {
    let began = tokio::time::Instant::now();
    let name = target.name.clone();
    let patience = Duration::from_secs(scenario.patience);
    let mut task = tokio::spawn((scenario.run)(target.able(scenario)));
    let verdict = match timeout(patience, &mut task).await {
        Ok(Ok(verdict)) => verdict,
        Ok(Err(panic)) => Err(format!("expected no panic; seen: {panic}").into()),
        Err(_) => {
            task.abort();
            Err(format!("expected an end; seen: none in {patience:?}").into())
        }
    };
    Line {
        target: name,
        scenario: scenario.name,
        took: began.elapsed(),
        verdict,
    }
}
