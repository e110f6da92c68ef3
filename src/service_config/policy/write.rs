//! How a policy is written as JSON.

use std::time::Duration;

use serde_json::Number;

use crate::service_config::value::Json;

pub(super) fn object<const N: usize>(members: [(&str, Json); N]) -> Json {
    let members = members.into_iter();
    Json::Object(
        members
            .map(|(key, value)| (key.to_owned(), value))
            .collect(),
    )
}

pub(super) fn integer(number: u32) -> Json {
    Json::Number(number.into())
}

/// JSON has no number that is not finite: that becomes a text, which the reader refuses.
pub(super) fn number(number: f64) -> Json {
    match Number::from_f64(number) {
        Some(number) => Json::Number(number),
        None => Json::String(number.to_string()),
    }
}

/// Decimal seconds with the unit `s`.
pub(super) fn duration(duration: Duration) -> Json {
    let text = format!("{}.{:09}", duration.as_secs(), duration.subsec_nanos());
    Json::String(format!(
        "{}s",
        text.trim_end_matches('0').trim_end_matches('.')
    ))
}

pub(super) fn strings<'a>(texts: impl IntoIterator<Item = &'a str>) -> Json {
    Json::List(texts.into_iter().map(Json::from).collect())
}

/// A field that is left out where there is nothing to say.
pub(super) fn optional<T>(value: Option<T>, write: impl FnOnce(T) -> Json) -> Json {
    value.map_or(Json::Null, write)
}
