//! How the commands that tell of many backends write: to a terminal or elsewhere, for
//! people or for programs.

use std::{
    env,
    io::{self, IsTerminal},
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use clap::{Args, ValueEnum};
use crossterm::{
    style::{Color, Stylize},
    terminal,
};

use crate::{
    exit::Exit,
    grid::{Grid, Line, Tone},
    output::Stdout,
};

#[derive(Args, Clone, Copy, Debug)]
pub(crate) struct OutputArgs {
    /// Output format
    #[arg(
        short = 'o',
        long = "output",
        value_name = "FORMAT",
        value_enum,
        default_value_t
    )]
    pub(crate) format: Format,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// Text for people
    #[default]
    Text,
    /// One JSON object per line
    Json,
}

/// Whether stdout is a terminal that a cursor can be moved on.
pub(crate) fn is_terminal() -> bool {
    let dumb = env::var_os("TERM").is_some_and(|term| term == "dumb");
    io::stdout().is_terminal() && !dumb
}

/// Whether to use colours: on a terminal, unless the variable NO_COLOR says not to.
pub(crate) fn has_colours() -> bool {
    let unwanted = env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    is_terminal() && !unwanted
}

/// `line` as a terminal, or with no colours anybody else, is to get it.
pub(crate) fn painted(line: &Line, colours: bool) -> String {
    let mut text = String::new();
    for cell in line {
        let colour = match cell.tone {
            Tone::Plain => None,
            Tone::Heading => Some(Color::DarkGrey),
            Tone::Good => Some(Color::Green),
            Tone::Waiting => Some(Color::Yellow),
            Tone::Bad => Some(Color::Red),
        };
        match colour {
            Some(colour) if colours => text.push_str(&cell.text.as_str().with(colour).to_string()),
            _ => text.push_str(&cell.text),
        }
    }
    text
}

/// A table on stdout, in full width: a terminal wraps what does not fit.
pub(crate) async fn say_grid(stdout: &Stdout, grid: &Grid) -> Result<(), Exit> {
    let colours = has_colours();
    for line in grid.lines(None) {
        stdout.line(painted(&line, colours)).await?;
    }
    Ok(())
}

/// How many columns a line has, if stdout is a terminal that tells.
pub(crate) fn width() -> Option<usize> {
    if !is_terminal() {
        return None;
    }
    let (columns, _) = terminal::size().ok()?;
    (columns > 0).then_some(columns.into())
}

/// The time of day at an instant of the other clock.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clock {
    pub(crate) now: Instant,
    pub(crate) today: SystemTime,
}

impl Clock {
    #[allow(
        clippy::disallowed_methods,
        reason = "people and logs are told the time of day"
    )]
    pub(crate) fn now() -> Self {
        Self {
            now: tokio::time::Instant::now().into_std(),
            today: SystemTime::now(),
        }
    }

    /// By RFC 3339, in UTC and with milliseconds.
    pub(crate) fn text(&self, at: Instant) -> String {
        let ago = self.now.saturating_duration_since(at);
        rfc3339(self.since_1970().saturating_sub(ago))
    }

    /// 0 for a clock that is before that.
    pub(crate) fn since_1970(&self) -> Duration {
        self.today.duration_since(UNIX_EPOCH).unwrap_or_default()
    }
}

/// A time since 1970 by RFC 3339, in UTC and with milliseconds. A clock that is wrong is told as far
/// as the format goes.
pub(crate) fn rfc3339(since_1970: Duration) -> String {
    humantime::format_rfc3339_millis(UNIX_EPOCH + since_1970.min(LATEST)).to_string()
}

/// The last second that RFC 3339 can write, since 1970.
const LATEST: Duration = Duration::from_secs(253_402_300_799);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wrong_clock_does_not_panic() {
        let Clock { now, .. } = Clock::now();
        let later = now + Duration::from_secs(60);
        let hour = Duration::from_secs(3_600);
        let far = Duration::from_secs(1 << 60);
        for (today, expected) in [
            (UNIX_EPOCH.checked_sub(hour), "1970-01-01T00:00:00.000Z"),
            (UNIX_EPOCH.checked_sub(far), "1970-01-01T00:00:00.000Z"),
            (Some(UNIX_EPOCH), "1970-01-01T00:00:00.000Z"),
            (UNIX_EPOCH.checked_add(hour), "1970-01-01T00:59:00.000Z"),
            (UNIX_EPOCH.checked_add(far), "9999-12-31T23:59:59.000Z"),
        ] {
            let today = today.expect("a time that the system has");
            let clock = Clock { now: later, today };
            assert_eq!(clock.text(now), expected);
        }
    }
}
