//! The source of backends, with pauses after its errors.

use std::time::Duration;

use futures_util::StreamExt;
use tokio::time::{self, Instant};

use crate::{
    discover::{BackendChange, BackendChanges},
    error::describe,
    util::contained::{Contained, contained_future},
};

/// How long a source that failed is left alone: at first, and at most.
const SOURCE_RETRY: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(30));

/// A source that is left alone for a while after an error, and for ever after
/// its end.
pub(super) struct SourceWithRetry {
    source: Option<BackendChanges>,
    retry: Duration,
    rests_until: Option<Instant>,
}

pub(super) enum FromSource {
    Changed(BackendChange),
    Failed {
        text: String,
        retry: Duration,
    },
    Ended,
    /// It is over, too: what has panicked is not asked again.
    Panicked(String),
}

impl SourceWithRetry {
    pub(super) fn new(source: BackendChanges) -> Self {
        Self {
            source: Some(source),
            retry: SOURCE_RETRY.0,
            rests_until: None,
        }
    }

    /// What the source says next.
    ///
    /// # Cancel safety
    ///
    /// Nothing is lost.
    pub(super) async fn next(&mut self) -> FromSource {
        if let Some(until) = self.rests_until {
            time::sleep_until(until).await;
            self.rests_until = None;
        }
        let Some(source) = &mut self.source else {
            return std::future::pending().await;
        };
        // The text of an error is made by the application's code, too.
        let asked = contained_future(async {
            let named = source.next().await?;
            Some(named.map_err(|error| describe(&**Contained::new(error))))
        });
        match asked.await {
            Ok(Some(Ok(named))) => {
                self.retry = SOURCE_RETRY.0;
                FromSource::Changed(named)
            }
            Ok(Some(Err(error))) => {
                let retry = self.retry;
                self.rests_until = Some(Instant::now() + retry);
                self.retry = (retry * 2).min(SOURCE_RETRY.1);
                let text = format!("{error} (next attempt in {retry:?})");
                FromSource::Failed { text, retry }
            }
            Ok(None) => {
                self.source = None;
                FromSource::Ended
            }
            Err(text) => {
                self.source = None;
                FromSource::Panicked(format!("the source panicked: {text}"))
            }
        }
    }
}
