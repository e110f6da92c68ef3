//! The adapter between a source with keys of its own and the balancer.

use std::{collections::HashMap, future::poll_fn, hash::Hash, pin::Pin, sync::Arc};

use futures_util::{Stream, stream};
use tokio::task;
use tower::{
    BoxError,
    discover::{Change, Discover},
};

use super::backend::Backend;
use crate::{attributes::Attributes, transport::Endpoint, util::contained::Contained};

/// A change of the set, in terms that no longer depend on the source.
#[derive(Debug)]
pub(crate) enum BackendChange {
    Insert {
        /// The same for a key for as long as the source keeps it, and never used
        /// again for another.
        id: u64,
        label: Arc<str>,
        endpoint: Box<Endpoint>,
        attributes: Attributes,
    },
    Remove {
        id: u64,
    },
}

/// Changes without a meaning that are taken before other tasks have a turn.
const AT_A_TIME: usize = 64;

/// A source with its type and its keys taken off.
pub(crate) type BackendChanges =
    Pin<Box<dyn Stream<Item = Result<BackendChange, BoxError>> + Send>>;

/// Gives every key of `source` a number and a label.
pub(crate) fn assign_ids<D>(source: D, label: fn(&D::Key, &Endpoint) -> String) -> BackendChanges
where
    D: Discover<Service: Into<Backend>> + Send + 'static,
    D::Key: Hash + Eq + Clone + Send + 'static,
    D::Error: Into<BoxError>,
{
    let keyed = KeyedSource {
        source: Contained::new(Box::pin(source)),
        ids: Contained::new(HashMap::new()),
        next: 0,
        label,
    };
    Box::pin(stream::unfold(keyed, async |mut keyed| {
        let named = keyed.next().await?;
        Some((named, keyed))
    }))
}

struct KeyedSource<D: Discover> {
    source: Contained<Pin<Box<D>>>,
    ids: Contained<HashMap<D::Key, u64>>,
    next: u64,
    label: fn(&D::Key, &Endpoint) -> String,
}

impl<D> KeyedSource<D>
where
    D: Discover<Service: Into<Backend>>,
    D::Key: Hash + Eq + Clone,
    D::Error: Into<BoxError>,
{
    /// The next change that means something: a key removed that was never
    /// inserted does not.
    async fn next(&mut self) -> Option<Result<BackendChange, BoxError>> {
        let mut ignored = 0;
        loop {
            let change = poll_fn(|cx| self.source.as_mut().poll_discover(cx)).await?;
            if let Some(change) = self.take(change.map_err(Into::into)) {
                return Some(change);
            }
            // A source may have nothing else to say, and say it for ever.
            ignored += 1;
            if ignored % AT_A_TIME == 0 {
                task::yield_now().await;
            }
        }
    }

    /// Not part of the loop: what a source names may not be `Send`.
    fn take(
        &mut self,
        change: Result<Change<D::Key, D::Service>, BoxError>,
    ) -> Option<Result<BackendChange, BoxError>> {
        match change {
            Err(error) => Some(Err(error)),
            Ok(Change::Insert(key, backend)) => Some(Ok(self.insert(key, backend.into()))),
            Ok(Change::Remove(key)) => {
                let id = self.ids.remove(&key)?;
                Some(Ok(BackendChange::Remove { id }))
            }
        }
    }

    fn insert(&mut self, key: D::Key, backend: Backend) -> BackendChange {
        let (endpoint, attributes) = backend.into_parts();
        let label = (self.label)(&key, &endpoint).into();
        let id = *self.ids.entry(key).or_insert_with(|| {
            self.next += 1;
            self.next
        });
        BackendChange::Insert {
            id,
            label,
            endpoint: Box::new(endpoint),
            attributes,
        }
    }
}
