//! Events as lines, for people and for programs: pure.

use serde::ser::{Serialize, SerializeMap, Serializer};

use super::table::{Event, What};
use crate::{
    report::Clock,
    targets::service_text,
    text::{self, tame},
};

/// `2026-01-01T12:00:00.000Z 10.0.0.1:50051 TRANSIENT_FAILURE NOT_SERVING health check:
/// NOT_SERVING`, with the service after the backend if there are several.
pub(crate) fn text(event: &Event, clock: &Clock, names_service: bool) -> String {
    let seen = &event.seen;
    let mut words = vec![clock.text(clock.now), seen.name()];
    if names_service {
        words.push(service_text(&event.question.service).to_owned());
    }
    match event.what {
        What::Removed => words.push("removed".to_owned()),
        What::Added | What::Changed | What::Source => {
            words.push(seen.state.to_string());
            words.push(seen.health_text());
            // An error that is over is of no interest here.
            let error = seen.error_text().filter(|_| !seen.is_serving());
            words.extend(error.map(str::to_owned));
        }
    }
    tame(&words.join(" ")).into_owned()
}

/// The same in full, as a JSON object.
pub(crate) fn json(event: &Event, clock: &Clock) -> String {
    let object = Object { event, clock };
    text::json(&object)
}

struct Object<'a> {
    event: &'a Event,
    clock: &'a Clock,
}

/// The same fields in every object, and in this order; null where there is nothing.
impl Serialize for Object<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Self { event, clock } = self;
        let seen = &event.seen;
        let is_backend = event.what != What::Source;
        let of_backend = |text: &str| is_backend.then(|| text.to_owned());
        let error = seen.error.as_ref();
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("time", &clock.text(clock.now))?;
        let what = match event.what {
            What::Added => "added",
            What::Changed => "changed",
            What::Removed => "removed",
            What::Source => "source",
        };
        map.serialize_entry("event", what)?;
        map.serialize_entry("target", &event.question.target)?;
        map.serialize_entry("service", &event.question.service)?;
        map.serialize_entry("backend", &of_backend(&seen.label))?;
        map.serialize_entry("address", &of_backend(&seen.address))?;
        map.serialize_entry("state", &seen.state.to_string())?;
        map.serialize_entry("health", &of_backend(&seen.health.to_string()))?;
        map.serialize_entry("since", &clock.text(seen.since))?;
        map.serialize_entry("flips", &is_backend.then_some(event.flips))?;
        map.serialize_entry("error", &seen.error_text())?;
        map.serialize_entry("error_time", &error.map(|error| clock.text(error.at)))?;
        map.end()
    }
}
