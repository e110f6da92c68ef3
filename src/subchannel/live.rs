//! The connection of a backend while there is one, and the health RPCs on it.

use std::{future::pending, sync::Arc};

use tokio::{select, sync::watch};
use tracing::warn;

use crate::{
    error::{Cause, CauseKind},
    health::Prober,
    transport::{Attached, Connection, Endpoint, Stage, dial},
};

/// A target of what is logged; see the crate's documentation.
const HEALTH: &str = "tonic_health_channel::health";

/// A backend's connection, and its health RPCs.
///
/// They share one connection, except where the peer allows one stream at a time,
/// or none yet: then the `Watch` would leave none for calls, and has a connection
/// to itself.
pub(super) struct Live {
    calls: Connection,
    prober: Prober,
    /// Health is checked, so the prober's slot may be taken.
    checked: bool,
    /// Calls and a `Watch` are on the same connection.
    shared: bool,
    stages: [watch::Receiver<Stage>; 2],
}

impl Live {
    /// Dials once, or twice where the peer allows at most one stream at a time and
    /// that one is needed for the `Watch`.
    pub(super) async fn connect(
        label: Arc<str>,
        endpoint: Endpoint,
        attached: Attached,
        checked: bool,
    ) -> Result<Self, Cause> {
        let first = dial(endpoint.clone(), attached.clone()).await?;
        let narrow = matches!(*first.stage().borrow(), Stage::Open { limit: 0 | 1 });
        let calls = match checked && narrow {
            false => first.clone(),
            true => {
                warn!(
                    target: HEALTH,
                    backend = &*label,
                    "the server allows at most one stream per connection, which the health check \
                     needs; calls get a second connection"
                );
                dial(endpoint, attached).await?
            }
        };
        Ok(Self::new(calls, first, checked))
    }

    fn new(calls: Connection, watched: Connection, checked: bool) -> Self {
        Self {
            checked,
            shared: checked && watched == calls,
            stages: [watched.stage(), calls.stage()],
            prober: Prober::new(watched),
            calls,
        }
    }

    /// Where calls are sent.
    pub(super) fn calls(&self) -> &Connection {
        &self.calls
    }

    /// Where health is asked about.
    pub(super) fn prober(&self) -> &Prober {
        &self.prober
    }

    /// Health is checked from now on, or not any more: then calls get the slot
    /// that the `Watch` had, and a connection that it had to itself is let go.
    pub(super) fn check(&mut self, checked: bool) {
        if self.checked != checked {
            *self = Self::new(self.calls.clone(), self.calls.clone(), checked);
        }
    }

    /// Resolves when a connection takes no new streams any more, or no longer enough
    /// for what is on it.
    ///
    /// # Cancel safety
    ///
    /// Nothing is missed: what has ended has still ended the next time.
    pub(super) async fn lost(&mut self) -> Cause {
        let shared = self.shared;
        let [a, b] = &mut self.stages;
        select! {
            why = ended(a, shared) => why,
            why = ended(b, shared) => why,
        }
    }
}

/// A `shared` connection whose peer comes down to one stream at a time, or whose
/// health was not checked before, ends as one that drains: the `Watch` keeps that
/// stream, and calls would wait for ever.
async fn ended(stage: &mut watch::Receiver<Stage>, shared: bool) -> Cause {
    let why = |stage: &Stage| match stage {
        Stage::Open { limit: 1 } if shared => Some(Cause::new(
            CauseKind::Disconnected,
            "the server allows one stream per connection, which the health check needs",
        )),
        stage => stage.ended().cloned(),
    };
    let ended = stage.wait_for(|stage| why(stage).is_some()).await;
    let why = ended.ok().and_then(|stage| why(&stage));
    match why {
        Some(why) => why,
        // A handle is held beside this receiver, so the sender lives.
        None => pending().await,
    }
}
