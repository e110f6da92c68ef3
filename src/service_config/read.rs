//! How single values of a service config are read: each is handed its place, and rejects it there.

use std::time::Duration;

use super::value::Field;
use crate::error::Error;

type Result<T, E = Error> = std::result::Result<T, E>;

/// The longest that protobuf's `Duration` may be: 10,000 years.
const LONGEST: Duration = Duration::from_secs(315_576_000_000);

pub(super) fn string<'a>(field: &Field<'a>) -> Result<&'a str> {
    field
        .as_str()
        .ok_or_else(|| field.rejected("must be a string"))
}

pub(super) fn boolean(field: &Field<'_>) -> Result<bool> {
    field
        .as_bool()
        .ok_or_else(|| field.rejected("must be true or false"))
}

pub(super) fn uint32(field: &Field<'_>) -> Result<u32> {
    field
        .as_u32()
        .ok_or_else(|| field.rejected("must be an integer from 0 to 4294967295"))
}

pub(super) fn positive_number(field: &Field<'_>) -> Result<f64> {
    let number = field.as_f64().filter(|number| *number > 0.0);
    number.ok_or_else(|| field.rejected("must be a number above 0"))
}

pub(super) fn non_negative_number(field: &Field<'_>) -> Result<f64> {
    let number = field.as_f64().filter(|number| *number >= 0.0);
    number.ok_or_else(|| field.rejected("must be a number of at least 0"))
}

pub(super) fn positive_duration(field: &Field<'_>) -> Result<Duration> {
    match duration(field)? {
        Duration::ZERO => Err(field.rejected("must be longer than 0s")),
        duration => Ok(duration),
    }
}

pub(super) fn duration(field: &Field<'_>) -> Result<Duration> {
    parse_duration(field.as_str().unwrap_or_default()).map_err(|rule| field.rejected(rule))
}

/// Decimal seconds with the unit `s`, or the rule that is broken. A point needs
/// digits on one side only.
fn parse_duration(text: &str) -> Result<Duration, &'static str> {
    const FORM: &str = r#"must be a duration like "1.5s""#;
    const TOO_LONG: &str = "must be at most 315576000000s";

    let number = text.strip_suffix('s').ok_or(FORM)?;
    let unsigned = number.strip_prefix('-').unwrap_or(number);
    let (seconds, fraction) = unsigned.split_once('.').unwrap_or((unsigned, ""));
    let digits = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit());
    if !digits(seconds) || !digits(fraction) || seconds.len() + fraction.len() == 0 {
        return Err(FORM);
    }
    if unsigned != number {
        return Err("must not be negative");
    }
    if fraction.len() > 9 {
        return Err("must have at most 9 digits after the point");
    }
    let seconds = format!("0{seconds}").parse().map_err(|_| TOO_LONG)?;
    let nanos = format!("{fraction:0<9}").parse().map_err(|_| FORM)?;
    Some(Duration::new(seconds, nanos))
        .filter(|duration| *duration <= LONGEST)
        .ok_or(TOO_LONG)
}
