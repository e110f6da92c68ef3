//! How the commands that tell of many backends write: to a terminal or elsewhere, for
//! people or for programs.

use std::{
    env,
    io::{self, IsTerminal, Write},
    time::{Instant, SystemTime},
};

use clap::{Args, ValueEnum};
use crossterm::style::{Color, Stylize};

use crate::grid::{Grid, Line, Tone};

#[derive(Args, Clone, Copy, Debug)]
pub(crate) struct OutputArgs {
    /// For whom stdout is
    #[arg(long = "output", value_name = "FORMAT", value_enum, default_value_t)]
    pub(crate) format: Format,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// For people
    #[default]
    Text,
    /// For programs: one JSON object per line
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

/// One line on stdout, at once.
pub(crate) fn say(line: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    writeln!(out, "{line}")?;
    out.flush()
}

/// A table on stdout, in full width: what does not fit a terminal, it wraps.
pub(crate) fn say_grid(grid: &Grid) -> io::Result<()> {
    let colours = has_colours();
    let lines = grid.lines(None);
    lines
        .iter()
        .try_for_each(|line| say(&painted(line, colours)))
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
        let at = self.today - self.now.saturating_duration_since(at);
        humantime::format_rfc3339_millis(at).to_string()
    }
}
