//! The source of service configs, asked so that its panic is a value.

use std::{future::pending, pin::Pin};

use futures_util::{Stream, StreamExt};
use tower::BoxError;

use crate::{
    error::describe,
    service_config::ServiceConfig,
    util::contained::{Contained, contained_future},
};

/// A source of service configs; `None` says that it has none for this channel.
pub(crate) type ConfigUpdates =
    Contained<Pin<Box<dyn Stream<Item = Result<Option<ServiceConfig>, BoxError>> + Send>>>;

/// What the source of configs says next. One that has panicked says so, and nothing more.
pub(super) async fn next(
    updates: &mut Option<ConfigUpdates>,
) -> Option<Result<Option<ServiceConfig>, String>> {
    let Some(source) = updates else {
        return pending().await;
    };
    let asked = contained_future(async {
        let update = source.next().await?;
        // The text of an error is made by the application's code, too.
        Some(update.map_err(|error| describe(&**Contained::new(error))))
    });
    match asked.await {
        Ok(update) => update,
        Err(text) => {
            *updates = None;
            Some(Err(format!("the source panicked: {text}")))
        }
    }
}
