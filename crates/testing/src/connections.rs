//! The connections of a backend: how many there are, and how they are ended.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::sync::watch;

use crate::counter::{Counter, Entered};

/// How a connection is to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum End {
    NotYet,
    /// GOAWAY, and then after its calls.
    Graceful,
    /// At once.
    Reset,
}

/// A clone is the same set.
#[derive(Clone, Debug)]
pub(crate) struct Connections {
    pub(crate) accepted: Counter,
    pub(crate) open: Counter,
    /// By the order in which they were accepted. They are told in this order, so that a test
    /// in paused time is the same run each time.
    ends: Arc<Mutex<BTreeMap<usize, watch::Sender<End>>>>,
}

/// One open connection, which counts until this is dropped.
#[derive(Debug)]
pub(crate) struct Admitted {
    number: usize,
    connections: Connections,
    _open: Entered,
}

impl Connections {
    pub(crate) fn new() -> Self {
        Self {
            accepted: Counter::new("accepted connections"),
            open: Counter::new("open connections"),
            ends: Arc::default(),
        }
    }

    pub(crate) fn admit(&self, end: watch::Sender<End>) -> Admitted {
        let number = self.accepted.get();
        self.ends().insert(number, end);
        let admitted = Admitted {
            number,
            connections: self.clone(),
            _open: self.open.enter(),
        };
        self.accepted.add();
        admitted
    }

    pub(crate) fn end_all(&self, how: End) {
        for end in self.ends().values() {
            raise(end, how);
        }
    }

    pub(crate) fn end(&self, number: usize, how: End) {
        if let Some(end) = self.ends().get(&number) {
            raise(end, how);
        }
    }

    fn ends(&self) -> MutexGuard<'_, BTreeMap<usize, watch::Sender<End>>> {
        // A panic leaves no half change behind.
        self.ends.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A connection that is being reset stays so.
fn raise(end: &watch::Sender<End>, how: End) {
    end.send_if_modified(|end| {
        let rises = how > *end;
        *end = how.max(*end);
        rises
    });
}

impl Drop for Admitted {
    fn drop(&mut self) {
        self.connections.ends().remove(&self.number);
    }
}
