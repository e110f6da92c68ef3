//! The connections of one backend that calls are sent on.

use std::{slice, sync::Arc};

use super::connection::{CallSlot, Connection};

/// The connections of one backend that are pickable: at least one.
///
/// Nearly always it is just one, so that one is at hand: a pick then reads no more
/// memory than it would for a [`Connection`].
#[derive(Clone, Debug)]
pub(crate) struct ConnectionGroup {
    first: Connection,
    /// The first and the others, where there are others.
    all: Option<Arc<Vec<Connection>>>,
}

impl ConnectionGroup {
    pub(crate) fn new(first: Connection, others: impl Iterator<Item = Connection>) -> Self {
        let mut others = others.peekable();
        let all = others.peek().is_some().then(|| {
            let first = std::iter::once(first.clone());
            Arc::new(first.chain(others).collect())
        });
        Self { first, all }
    }

    /// The one whose health is watched, if any is.
    pub(crate) fn first(&self) -> &Connection {
        &self.first
    }

    pub(crate) fn as_slice(&self) -> &[Connection] {
        match &self.all {
            None => slice::from_ref(&self.first),
            Some(all) => all,
        }
    }

    /// A slot for a call, on the connection whose turn it is in this round of the
    /// channel's rotation, or on the next one that is not full.
    pub(crate) fn admit(&self, round: usize) -> Option<CallSlot> {
        let Some(all) = &self.all else {
            return self.first.admit();
        };
        let (later, sooner) = all.split_at(round % all.len());
        sooner.iter().chain(later).find_map(Connection::admit)
    }

    /// See [`Connection::set_pickable`].
    pub(crate) fn set_pickable(&self, pickable: bool) {
        for connection in self.as_slice() {
            connection.set_pickable(pickable);
        }
    }

    /// See [`Connection::serve_queue`].
    pub(crate) fn serve_queue(&self) {
        self.as_slice().iter().for_each(Connection::serve_queue);
    }

    /// See [`Connection::stop_new_calls`].
    pub(crate) fn stop_new_calls(&self) {
        self.as_slice().iter().for_each(Connection::stop_new_calls);
    }
}

/// They are equal if they are the same connections.
impl PartialEq for ConnectionGroup {
    fn eq(&self, other: &Self) -> bool {
        self.as_slice() == other.as_slice()
    }
}
