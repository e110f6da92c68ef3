//! Arguments of the command line, and what a program says when they are wrong.

use std::{fmt, process::ExitCode, str::FromStr, time::Duration};

use super::Result;

/// Wrong arguments: what is wrong with them, or nothing if there are none.
#[derive(Debug)]
pub(crate) struct Misuse(pub(crate) String);

impl fmt::Display for Misuse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Misuse {}

/// Says how it went: 0, 1 with a sentence on stderr, or 2 with `usage` if the
/// arguments were wrong.
pub(crate) fn exit_code(outcome: Result<()>, usage: &str) -> ExitCode {
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) if error.is::<Misuse>() => {
            let separator = if error.to_string().is_empty() {
                ""
            } else {
                "\n\n"
            };
            eprint!("{error}{separator}{usage}");
            ExitCode::from(2)
        }
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

/// The argument `name`, parsed from `text`.
pub(crate) fn parse<T>(name: &str, text: &str) -> Result<T>
where
    T: FromStr<Err: fmt::Display>,
{
    let parsed = text.parse();
    parsed.map_err(|error| Misuse(format!("{name} `{text}`: {error}")).into())
}

/// `500ms`, `2s`, `1.5s`.
pub(crate) fn duration(name: &str, text: &str) -> Result<Duration> {
    let (number, unit) = match text.strip_suffix("ms") {
        Some(number) => (number, 0.001),
        None => (text.strip_suffix('s').unwrap_or_default(), 1.0),
    };
    let seconds = number.parse::<f64>().map(|number| number * unit);
    match seconds.map(Duration::try_from_secs_f64) {
        Ok(Ok(duration)) if !duration.is_zero() => Ok(duration),
        _ => Err(Misuse(format!("{name} `{text}`: not a time like 500ms or 2s")).into()),
    }
}
