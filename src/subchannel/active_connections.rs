//! The connections of a backend while there are any, and the health RPCs on the first.

use std::{future::pending, mem, sync::Arc};

use futures_util::future::{BoxFuture, select_all};
use tokio::{select, sync::watch};
use tracing::warn;

use crate::{
    error::{Cause, CauseKind},
    health::HealthRpc,
    transport::{
        BackendContext, Connection, ConnectionGroup, Endpoint, Silence, SilenceRule, Stage, dial,
    },
    util::clock::or_pending,
};

/// A target of what is logged; see the crate's documentation.
const HEALTH: &str = "tonic_health_channel::health";

/// A backend's connections, and its health RPCs.
///
/// [`stop_new_calls`](Self::stop_new_calls) before it is dropped: calls may hold the connections.
pub(super) struct ActiveConnections {
    first: First,
    extras: Vec<Extra>,
    /// The dial of one more.
    dialling: Option<BoxFuture<'static, Result<Connection, Cause>>>,
    silences: Silences,
}

/// Whether all connections for calls are silent.
struct Silences {
    /// If that is asked for.
    rule: Option<Arc<SilenceRule>>,
    /// The last one that was told.
    told: Option<Silence>,
}

/// The connection without which there is none, and the health RPCs.
///
/// They share one connection, except where the peer allows one stream at a time,
/// or none yet: then the `Watch` would leave none for calls, and has a connection
/// to itself.
struct First {
    calls: Connection,
    health_rpc: HealthRpc,
    /// Health is checked, so the health_rpc's slot may be taken.
    checked: bool,
    /// Calls and a `Watch` are on the same connection.
    shared: bool,
    stages: [watch::Receiver<Stage>; 2],
}

/// A connection for calls alone.
struct Extra {
    connection: Connection,
    stage: watch::Receiver<Stage>,
}

/// What becomes of the connections.
pub(super) enum ConnectionEvent {
    /// See [`ActiveConnections::lost`].
    Lost(Cause),
    /// The end of a dial for one more.
    Dialled(Result<Connection, Cause>),
    /// The extra one at this place takes no new streams any more.
    ExtraLost(usize, Cause),
    /// All connections for calls are silent from now on, or no longer.
    Silence(Option<Silence>),
}

impl ActiveConnections {
    /// Dials once, or twice where the peer allows at most one stream at a time and
    /// that one is needed for the `Watch`.
    pub(super) async fn connect(
        label: Arc<str>,
        endpoint: Endpoint,
        context: BackendContext,
        checked: bool,
    ) -> Result<Self, Cause> {
        let silences = Silences {
            rule: context.silence.clone(),
            told: None,
        };
        let first = dial(endpoint.clone(), context.clone()).await?;
        let narrow = matches!(*first.stage().borrow(), Stage::Open { limit: 0 | 1 });
        let calls = match checked && narrow {
            false => first.clone(),
            true => {
                warn!(
                    target: HEALTH,
                    channel = &*context.channel,
                    backend = &*label,
                    "the server allows at most 1 stream per connection, and the health check uses \
                     it; calls get a second connection"
                );
                dial(endpoint, context).await?
            }
        };
        Ok(Self {
            first: First::new(calls, first, checked),
            extras: Vec::new(),
            dialling: None,
            silences,
        })
    }

    /// Dials one connection more; [`next`](Self::next) tells the outcome.
    pub(super) fn dial(&mut self, endpoint: Endpoint, context: BackendContext) {
        self.dialling = Some(Box::pin(dial(endpoint, context)));
    }

    pub(super) fn add(&mut self, connection: Connection) {
        self.extras.push(Extra {
            stage: connection.stage(),
            connection,
        });
    }

    pub(super) fn remove(&mut self, at: usize) {
        self.extras.remove(at).connection.stop_new_calls();
    }

    /// Puts an extra connection in the place of the first, if there is one that can
    /// do what the first does.
    ///
    /// One whose streams are all taken could not ask about health until a call ends,
    /// nor take a call: then there is nothing to be saved.
    pub(super) fn replace_first(&mut self) -> bool {
        let checked = self.first.checked;
        let can = |extra: &Extra| match *extra.stage.borrow() {
            Stage::Open { limit: 0 | 1 } if checked => false,
            Stage::Open { .. } => !checked || extra.connection.has_free_stream(),
            Stage::Draining(_) | Stage::Closed(_) => false,
        };
        let Some(at) = self.extras.iter().position(can) else {
            return false;
        };
        let next = self.extras.remove(at).connection;
        let next = First::new(next.clone(), next, checked);
        mem::replace(&mut self.first, next).calls.stop_new_calls();
        true
    }

    /// Where calls are sent.
    pub(super) fn calls(&self) -> ConnectionGroup {
        let extras = self.extras.iter().map(|extra| extra.connection.clone());
        ConnectionGroup::new(self.first.calls.clone(), extras)
    }

    /// No new calls from now on. Those there are go on.
    pub(super) fn stop_new_calls(&self) {
        self.calls().stop_new_calls();
    }

    /// Where health is asked about.
    pub(super) fn health_rpc(&self) -> &HealthRpc {
        &self.first.health_rpc
    }

    /// Health is checked from now on, or not any more: then calls get the slot
    /// that the `Watch` had, and a connection that it had to itself is let go.
    pub(super) fn check(&mut self, checked: bool) {
        if self.first.checked != checked {
            let calls = &self.first.calls;
            self.first = First::new(calls.clone(), calls.clone(), checked);
        }
    }

    /// Resolves when the first connection takes no new streams any more, or no longer
    /// enough for what is on it.
    ///
    /// # Cancel safety
    ///
    /// Nothing is missed: what has ended has still ended the next time.
    pub(super) async fn lost(&mut self) -> Cause {
        self.first.lost().await
    }

    /// # Cancel safety
    ///
    /// Nothing is missed: a dial goes on, and what has ended has still ended the next
    /// time.
    pub(super) async fn next(&mut self) -> ConnectionEvent {
        let Self {
            first,
            extras,
            dialling,
            silences,
        } = self;
        let calls: Vec<_> = match &silences.rule {
            None => Vec::new(),
            Some(_) => {
                let extras = extras.iter().map(|extra| extra.connection.clone());
                [first.calls.clone()].into_iter().chain(extras).collect()
            }
        };
        select! {
            // Those that end together end with their backend, which then is not to
            // look for another first one among them.
            biased;
            (at, why) = first_to_end(extras) => ConnectionEvent::ExtraLost(at, why),
            why = first.lost() => ConnectionEvent::Lost(why),
            outcome = dialled(dialling) => ConnectionEvent::Dialled(outcome),
            silence = silences.next(&calls) => ConnectionEvent::Silence(silence),
        }
    }
}

impl Silences {
    /// The silence of these connections, once it is another than was told.
    ///
    /// # Cancel safety
    ///
    /// Nothing is missed.
    async fn next(&mut self, connections: &[Connection]) -> Option<Silence> {
        let Some(rule) = &self.rule else {
            return pending().await;
        };
        loop {
            let silence = of_all(connections);
            if silence != self.told {
                self.told.clone_from(&silence);
                return silence;
            }
            rule.changed().await;
        }
    }
}

/// The last silence to begin, if all of them are silent.
fn of_all(connections: &[Connection]) -> Option<Silence> {
    let silences = connections.iter().map(Connection::silence);
    let silences: Option<Vec<_>> = silences.collect();
    silences?.into_iter().max_by_key(Silence::since)
}

impl First {
    fn new(calls: Connection, watched: Connection, checked: bool) -> Self {
        Self {
            checked,
            shared: checked && watched == calls,
            stages: [watched.stage(), calls.stage()],
            health_rpc: HealthRpc::new(watched),
            calls,
        }
    }

    async fn lost(&mut self) -> Cause {
        let shared = self.shared;
        let [a, b] = &mut self.stages;
        select! {
            // Of two that have ended, the cause is the same each time.
            biased;
            why = ended(a, shared) => why,
            why = ended(b, shared) => why,
        }
    }
}

/// The outcome of the dial, which is over then.
pub(super) async fn dialled<T>(
    dialling: &mut Option<BoxFuture<'static, Result<T, Cause>>>,
) -> Result<T, Cause> {
    let outcome = or_pending(dialling.as_mut()).await;
    *dialling = None;
    outcome
}

async fn first_to_end(extras: &mut [Extra]) -> (usize, Cause) {
    if extras.is_empty() {
        return pending().await;
    }
    let ends = extras.iter_mut();
    let ends = ends.map(|extra| Box::pin(ended(&mut extra.stage, false)));
    let (why, at, _) = select_all(ends).await;
    (at, why)
}

/// A `shared` connection whose peer comes down to one stream at a time, or whose
/// health was not checked before, ends as one that drains: the `Watch` keeps that
/// stream, and calls would wait for ever.
async fn ended(stage: &mut watch::Receiver<Stage>, shared: bool) -> Cause {
    let why = |stage: &Stage| match stage {
        Stage::Open { limit: 1 } if shared => Some(Cause::new(
            CauseKind::Disconnected,
            "the server allows 1 stream per connection, and the health check uses it",
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
