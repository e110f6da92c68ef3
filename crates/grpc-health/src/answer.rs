//! What a server answers to a question about its health, and what that is worth: pure.

use serde::ser::{Serialize, SerializeMap, Serializer};
use tonic::{Code, Status};

use crate::{
    exit::{Exit, Message},
    grid::{Cell, Tone},
    limits,
    pb::health_check_response::ServingStatus,
    text,
};

/// An answer, or why there is none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    /// A status, by its number.
    Status(i32),
    /// The call failed.
    Failed(String),
    /// There was no connection to call on.
    Unreachable(String),
}

impl Answer {
    /// A server that lacks the method has no `lacking`.
    pub(crate) fn failed(status: &Status, lacking: &str) -> Self {
        let code = name(status.code());
        let said = match status.message() {
            "" => String::new(),
            said => format!(": {}", text::message(said)),
        };
        let meaning = match status.code() {
            Code::Unimplemented => format!(" (no {lacking})"),
            Code::NotFound => " (unknown service)".to_owned(),
            _ => String::new(),
        };
        Self::Failed(format!("{code}{meaning}{said}"))
    }

    /// There is no connection, be it for want of files.
    pub(crate) fn unreachable(why: String) -> Self {
        Self::Unreachable(limits::blamed(why))
    }

    /// One word or two.
    pub(crate) fn cell(&self) -> Cell {
        match self {
            Self::Status(number) if self.is_serving() => Cell::new(status(*number), Tone::Good),
            Self::Status(number) => Cell::new(status(*number), Tone::Bad),
            Self::Failed(_) => Cell::new("failed", Tone::Bad),
            Self::Unreachable(_) => Cell::new("unreachable", Tone::Bad),
        }
    }

    /// The protocol's name of the status, if there is one.
    pub(crate) fn status(&self) -> Option<String> {
        match self {
            Self::Status(number) => Some(status(*number)),
            Self::Failed(_) | Self::Unreachable(_) => None,
        }
    }

    /// Whether this host could not even try.
    pub(crate) fn is_for_want_of_files(&self) -> bool {
        matches!(self, Self::Unreachable(why) if limits::is_too_few_files(why))
    }

    pub(crate) fn error(&self) -> Option<&str> {
        match self {
            Self::Status(_) => None,
            Self::Failed(why) | Self::Unreachable(why) => Some(why),
        }
    }

    /// How a program ends that has this answer alone.
    pub(crate) fn exit(&self) -> Exit {
        match self {
            Self::Status(_) if self.is_serving() => Exit::Healthy,
            Self::Status(_) => Exit::Unhealthy(Message::default()),
            Self::Failed(_) => Exit::CallFailed(Message::default()),
            Self::Unreachable(_) => Exit::Unreachable(Message::default()),
        }
    }

    fn is_serving(&self) -> bool {
        *self == Self::Status(ServingStatus::Serving as i32)
    }
}

/// An answer in full, as a JSON object.
pub(crate) struct Record<'a> {
    /// `checked`, `listed`, or `removed`.
    pub(crate) event: &'a str,
    pub(crate) time: String,
    pub(crate) target: &'a str,
    pub(crate) service: Option<&'a str>,
    pub(crate) backend: &'a str,
    /// Empty if there is no backend.
    pub(crate) address: &'a str,
    pub(crate) answer: Option<&'a Answer>,
}

impl Record<'_> {
    pub(crate) fn json(&self) -> String {
        text::json(self)
    }
}

/// The same fields in every object, and in this order; null where there is nothing.
impl Serialize for Record<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let is_backend = !self.address.is_empty();
        let answer = self.answer;
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("time", &self.time)?;
        map.serialize_entry("event", self.event)?;
        map.serialize_entry("target", self.target)?;
        map.serialize_entry("service", &self.service)?;
        map.serialize_entry("backend", &is_backend.then_some(self.backend))?;
        map.serialize_entry("address", &is_backend.then_some(self.address))?;
        map.serialize_entry("status", &answer.and_then(Answer::status))?;
        map.serialize_entry("error", &answer.and_then(Answer::error))?;
        map.serialize_entry("code", &answer.map(|answer| answer.exit().number()))?;
        map.end()
    }
}

/// The name of a status, in the protocol's spelling.
pub(crate) fn status(number: i32) -> String {
    match ServingStatus::try_from(number) {
        Ok(status) => status.as_str_name().to_owned(),
        Err(_) => format!("unrecognized status {number}"),
    }
}

/// How a program ends that has all of these. The lowest code but 0 wins: the lower it is,
/// the less is known.
pub(crate) fn worst(exits: impl IntoIterator<Item = Exit>) -> Exit {
    exits
        .into_iter()
        .filter(|exit| *exit != Exit::Healthy)
        .min_by_key(Exit::number)
        .unwrap_or(Exit::Healthy)
}

/// gRPC's spelling: `DEADLINE_EXCEEDED`.
fn name(code: Code) -> String {
    let mut name = String::new();
    for letter in format!("{code:?}").chars() {
        if letter.is_ascii_uppercase() && !name.is_empty() {
            name.push('_');
        }
        name.push(letter.to_ascii_uppercase());
    }
    name
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_less_is_known_the_worse() {
        let [serving, not_serving] = [1, 2].map(|number| Answer::Status(number).exit());
        let failed = Answer::failed(&Status::unimplemented(""), "health service").exit();
        let unreachable = Answer::Unreachable("refused".to_owned()).exit();
        let all = [serving, not_serving, failed, unreachable];
        assert_eq!(worst(all.clone()).number(), 2);
        assert_eq!(worst(all[..3].to_vec()).number(), 3);
        assert_eq!(worst(all[..2].to_vec()).number(), 4);
        assert_eq!(worst(all[..1].to_vec()).number(), 0);
        assert_eq!(worst([]).number(), 0);
    }

    #[test]
    fn a_code_is_named_as_in_grpc() {
        for (code, text) in [
            (Code::Ok, "OK"),
            (Code::DeadlineExceeded, "DEADLINE_EXCEEDED"),
            (Code::Unauthenticated, "UNAUTHENTICATED"),
        ] {
            assert_eq!(name(code), text);
        }
    }

    #[test]
    fn a_failure_says_what_it_means() {
        let text = |status: Status| {
            Answer::failed(&status, "health service")
                .error()
                .map(str::to_owned)
        };
        let expected = "UNIMPLEMENTED (no health service)";
        assert_eq!(text(Status::unimplemented("")).as_deref(), Some(expected));
        let long = text(Status::unknown("\u{1b}x\n".repeat(9_999))).expect("a failure");
        assert!(long.starts_with("UNKNOWN: \\u{1b}x\\n") && long.len() < 3 << 10);
        let expected = "NOT_FOUND (unknown service): no such name";
        assert_eq!(
            text(Status::not_found("no such name")).as_deref(),
            Some(expected)
        );
    }

    #[test]
    fn a_number_that_the_protocol_lacks_is_no_health() {
        let answer = Answer::Status(7);
        assert_eq!(answer.status().as_deref(), Some("unrecognized status 7"));
        assert_eq!(answer.exit().number(), 4);
    }
}
