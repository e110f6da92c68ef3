//! How Go's `flag` and `time` packages read a command line, for those who come from
//! `grpc-health-probe`. Pure.

use std::{ffi::OsString, time::Duration};

use clap::Command;

/// The arguments of `command`, from how they are written in Go to how clap reads
/// them: `-addr=x`, `-addr x` and `--addr x` become `--addr=x`, so that a value may
/// begin with a dash. Flags of one letter and those without a value stay.
pub(crate) fn to_clap(
    args: impl IntoIterator<Item = OsString>,
    command: &Command,
) -> Vec<OsString> {
    let mut args = args.into_iter();
    let mut rewritten = Vec::new();
    while let Some(arg) = args.next() {
        match long_flag(&arg) {
            None => rewritten.push(arg),
            Some(flag) => {
                let mut long = OsString::from(format!("--{flag}"));
                if needs_value(command, flag)
                    && let Some(value) = args.next()
                {
                    long.push("=");
                    long.push(value);
                }
                rewritten.push(long);
            }
        }
    }
    rewritten
}

/// What stands after one dash or two, if it is more than a letter.
fn long_flag(arg: &OsString) -> Option<&str> {
    let flag = arg.to_str()?.strip_prefix('-')?;
    let flag = flag.strip_prefix('-').unwrap_or(flag);
    let name = flag.split('=').next().unwrap_or_default();
    (name.chars().count() > 1).then_some(flag)
}

/// Whether the next argument is this flag's value. Those that may stand alone take a
/// value only after `=`.
fn needs_value(command: &Command, flag: &str) -> bool {
    let named = command
        .get_arguments()
        .find(|arg| arg.get_long() == Some(flag));
    named.is_some_and(|arg| arg.get_action().takes_values() && !arg.is_require_equals_set())
}

/// A truth value as Go's `strconv.ParseBool` takes it.
pub(crate) fn parse_bool(text: &str) -> Result<bool, String> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok(false),
        _ => Err("write `true` or `false`".to_owned()),
    }
}

/// A duration as Go's `time.ParseDuration` takes it, `500ms`, `1m30s` or `1.5s`, but
/// longer than 0 s.
pub(crate) fn parse_duration(text: &str) -> Result<Duration, String> {
    if text.starts_with('-') {
        return Err("it must be longer than 0 s".to_owned());
    }
    let mut rest = text.strip_prefix('+').unwrap_or(text);
    let mut total = Duration::ZERO;
    while !rest.is_empty() {
        let part;
        (part, rest) = leading_part(rest).ok_or_else(unreadable)?;
        total = total.checked_add(part).ok_or_else(unreadable)?;
    }
    match total {
        // With or without a unit, but not without a number.
        Duration::ZERO if text.contains('0') => Err("it must be longer than 0 s".to_owned()),
        Duration::ZERO => Err(unreadable()),
        total => Ok(total),
    }
}

fn unreadable() -> String {
    "write a number with a unit, ns, us, ms, s, m or h, as in `500ms`, `1.5s` or `1m30s`".to_owned()
}

/// One number with its unit, and what follows.
fn leading_part(text: &str) -> Option<(Duration, &str)> {
    let number_ends = text.find(|c: char| !(c.is_ascii_digit() || c == '.'));
    let (number, rest) = text.split_at(number_ends.unwrap_or(text.len()));
    let unit_ends = rest.find(|c: char| c.is_ascii_digit() || c == '.');
    let (unit, rest) = rest.split_at(unit_ends.unwrap_or(rest.len()));
    let nanos = match unit {
        "ns" => 1.0,
        "us" | "µs" | "μs" => 1e3,
        "ms" => 1e6,
        "s" => 1e9,
        "m" => 60e9,
        "h" => 3600e9,
        "" if number == "0" => 0.0,
        _ => return None,
    };
    let number: f64 = number.parse().ok()?;
    // Rounded, as a tenth is no number in binary.
    let part = Duration::try_from_secs_f64((number * nanos).round() / 1e9).ok()?;
    Some((part, rest))
}

#[cfg(test)]
mod tests {
    use std::ffi::OsString;

    use clap::{Arg, ArgAction, Command};

    use super::{parse_bool, parse_duration, to_clap};

    #[track_caller]
    fn reads(line: &str, expected: &str) {
        let command = Command::new("probe")
            .arg(Arg::new("addr").long("addr"))
            .arg(Arg::new("v").short('v').action(ArgAction::SetTrue))
            .arg(
                Arg::new("tls")
                    .long("tls")
                    .num_args(0..=1)
                    .require_equals(true),
            );
        let args = line.split(' ').map(OsString::from);
        let expected: Vec<_> = expected.split(' ').map(OsString::from).collect();
        assert_eq!(to_clap(args, &command), expected, "{line}");
    }

    #[test]
    fn one_dash_is_as_good_as_two() {
        reads("-addr=x", "--addr=x");
        reads("--addr=x", "--addr=x");
        reads("-addr x", "--addr=x");
        reads("--addr x -tls", "--addr=x --tls");
        reads("-tls=false -v -addr a=b", "--tls=false -v --addr=a=b");
    }

    #[test]
    fn a_value_may_look_like_a_flag() {
        reads("-addr -tls", "--addr=-tls");
        reads("-addr= -tls", "--addr= --tls");
        reads("-tls -addr", "--tls --addr");
    }

    #[test]
    fn what_is_no_long_flag_stays() {
        reads("-v x -", "-v x -");
        reads("-- x", "-- x");
        reads("-v=true", "-v=true");
        reads("-other x", "--other x");
    }

    #[track_caller]
    fn lasts(text: &str, nanos: u128) {
        let read = parse_duration(text).map(|duration| duration.as_nanos());
        assert_eq!(read, Ok(nanos), "{text}");
    }

    #[test]
    fn durations_are_those_of_go() {
        lasts("1s", 1_000_000_000);
        lasts("500ms", 500_000_000);
        lasts("1.5s", 1_500_000_000);
        lasts(".5s", 500_000_000);
        lasts("1.s", 1_000_000_000);
        lasts("0.1s", 100_000_000);
        lasts("+2s", 2_000_000_000);
        lasts("1m30s", 90_000_000_000);
        lasts("1h0m0.25s", 3_600_250_000_000);
        lasts("3us", 3_000);
        lasts("3µs4ns", 3_004);
    }

    #[test]
    fn what_is_no_duration_is_refused() {
        for text in [
            "", "+", "1", "s", "1x", "1s2", "1 s", "..1s", "1e3s", "ten", "9e99h",
        ] {
            let why = parse_duration(text).expect_err(text);
            assert!(why.contains("with a unit"), "{text}: {why}");
        }
        for text in ["0", "0s", "-1s", "0ms0s"] {
            let why = parse_duration(text).expect_err(text);
            assert!(why.contains("longer than 0 s"), "{text}: {why}");
        }
        assert!(parse_duration(&"9".repeat(400)).is_err());
        assert!(parse_duration(&format!("{}h", "9".repeat(40))).is_err());
    }

    #[test]
    fn truth_has_the_words_of_go() {
        assert_eq!(parse_bool("true"), Ok(true));
        assert_eq!(parse_bool("0"), Ok(false));
        assert!(parse_bool("yes").is_err());
    }
}
