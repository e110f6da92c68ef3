//! A line for each scenario as it ends, and the table of all.

use std::{collections::BTreeMap, process::ExitCode, time::Duration};

use tokio::task::JoinError;

use crate::{scenarios::Scenario, stage::Target};

/// What became of a scenario: what there is to tell, or why not.
pub(crate) type Verdict = Result<String, Trouble>;

#[derive(Debug)]
pub(crate) enum Trouble {
    /// What was expected, and seen.
    Failed(String),
    /// Why this target has nothing to show here.
    Cannot(String),
}

impl<T: Into<String>> From<T> for Trouble {
    fn from(text: T) -> Self {
        Self::Failed(text.into())
    }
}

pub(crate) struct Line {
    pub(crate) target: String,
    pub(crate) scenario: &'static str,
    pub(crate) took: Duration,
    pub(crate) verdict: Verdict,
}

pub(crate) struct Report {
    targets: Vec<String>,
    scenarios: Vec<&'static str>,
    words: BTreeMap<(&'static str, String), &'static str>,
    failed: usize,
}

impl Report {
    pub(crate) fn new(targets: &[Target], scenarios: &[&'static Scenario]) -> Self {
        Self {
            targets: targets.iter().map(|target| target.name.clone()).collect(),
            scenarios: scenarios.iter().map(|scenario| scenario.name).collect(),
            words: BTreeMap::new(),
            failed: 0,
        }
    }

    pub(crate) fn add(&mut self, line: Line) {
        let (word, text) = match line.verdict {
            Ok(text) => ("ok", text),
            Err(Trouble::Cannot(why)) => ("cannot", why),
            Err(Trouble::Failed(why)) => {
                self.failed += 1;
                ("FAIL", why)
            }
        };
        let (target, scenario, took) = (line.target, line.scenario, line.took.as_millis());
        println!("{word:<7}{target:<8}{scenario:<14}{took:>7} ms  {text}");
        self.words.insert((scenario, target), word);
    }

    pub(crate) fn add_panic(&mut self, panic: &JoinError) {
        self.failed += 1;
        println!("FAIL   the runner itself: {panic}");
    }

    /// The table. What was to run and did not is a failure.
    pub(crate) fn finish(mut self) -> ExitCode {
        print!("\n{:<14}", "");
        self.targets.iter().for_each(|target| print!("{target:<8}"));
        println!();
        for scenario in &self.scenarios {
            print!("{scenario:<14}");
            for target in &self.targets {
                let word = self.words.get(&(*scenario, target.clone()));
                self.failed += usize::from(word.is_none());
                print!("{:<8}", word.unwrap_or(&"MISSING"));
            }
            println!();
        }
        match self.failed {
            0 => {
                println!("\nall as they should be");
                ExitCode::SUCCESS
            }
            failed => {
                println!("\n{failed} failed");
                ExitCode::FAILURE
            }
        }
    }
}
