//! The config of `least_request_experimental`.

use super::write;
use crate::{
    error::Error,
    service_config::value::{Field, Json, Object},
};

/// `least_request_experimental`: each call goes to the backend with the fewest calls in flight of
/// a few that are drawn at random (gRFC A48).
///
/// Made for backends whose calls take unequal time: a slow one gathers calls, and so gets fewer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct LeastRequest {
    /// `choiceCount`: how many are drawn for a call, the same backend perhaps more than once. At
    /// least 2; more than 10 counts as 10. 2 by default, which finds an idle backend nearly as
    /// often as more would.
    pub choice_count: u32,
}

/// More draws than that are not made (gRFC A48).
const MAX_CHOICES: u32 = 10;

impl Default for LeastRequest {
    fn default() -> Self {
        Self { choice_count: 2 }
    }
}

impl LeastRequest {
    pub(super) fn read(config: &Object<'_>) -> Result<Self, Error> {
        let choices = config.optional("choiceCount", choice_count)?;
        Ok(choices.map_or_else(Self::default, |choice_count| Self { choice_count }))
    }

    pub(super) fn write(&self) -> Json {
        write::object([("choiceCount", write::integer(self.choice_count))])
    }
}

fn choice_count(field: &Field<'_>) -> Result<u32, Error> {
    let count = field.as_u32().filter(|count| *count >= 2);
    let count = count.ok_or_else(|| field.rejected("must be an integer of at least 2"))?;
    Ok(count.min(MAX_CHOICES))
}
