//! The command line of a bench.

use std::{collections::BTreeMap, fmt, ops::RangeInclusive, path::PathBuf, process::ExitCode};

use super::Result;

/// Wrong arguments, and what is wrong with them.
#[derive(Debug)]
struct Misuse(String);

impl fmt::Display for Misuse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Misuse {}

#[derive(Debug)]
pub(crate) struct Arguments {
    /// Enough to see that the bench works, not enough to quote.
    pub(crate) quick: bool,
    pub(crate) csv: Option<PathBuf>,
    numbers: BTreeMap<&'static str, usize>,
}

impl Arguments {
    /// Reads the command line; `numbers` are the options of this bench that take
    /// one, and what they may be.
    ///
    /// `cargo bench` adds `--bench`. Without it somebody builds and runs all
    /// targets, as `cargo test --benches` does, and wants no measurement.
    pub(crate) fn parse(numbers: &[(&'static str, RangeInclusive<usize>)]) -> Result<Self> {
        let mut given = std::env::args().skip(1);
        let mut arguments = Self {
            quick: false,
            csv: None,
            numbers: BTreeMap::new(),
        };
        let mut from_cargo_bench = false;
        while let Some(argument) = given.next() {
            let mut value = || {
                let missing = || Misuse(format!("{argument} needs a value"));
                let value = given.next().filter(|value| !value.starts_with("--"));
                value.ok_or_else(missing)
            };
            match argument.as_str() {
                "--bench" => from_cargo_bench = true,
                "--quick" => arguments.quick = true,
                "--csv" => arguments.csv = Some(value()?.into()),
                other => {
                    let known = numbers.iter().find(|(name, _)| *name == other);
                    let Some((name, range)) = known else {
                        return Err(Misuse(format!("there is no option `{other}`")).into());
                    };
                    let number = number(name, &value()?, range)?;
                    arguments.numbers.insert(name, number);
                }
            }
        }
        arguments.quick |= !from_cargo_bench;
        Ok(arguments)
    }

    pub(crate) fn number(&self, name: &str) -> Option<usize> {
        self.numbers.get(name).copied()
    }
}

fn number(name: &str, text: &str, range: &RangeInclusive<usize>) -> Result<usize> {
    match text.parse() {
        Ok(number) if range.contains(&number) => Ok(number),
        _ => {
            let (least, most) = (range.start(), range.end());
            let wrong = format!("{name} `{text}`: not a number from {least} to {most}");
            Err(Misuse(wrong).into())
        }
    }
}

/// Says how it went: 0, 1 with a sentence on stderr, or 2 with `usage` if the
/// arguments were wrong.
pub(crate) fn exit_code(outcome: Result<()>, usage: &str) -> ExitCode {
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) if error.is::<Misuse>() => {
            eprint!("{error}\n\n{usage}");
            ExitCode::from(2)
        }
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}
