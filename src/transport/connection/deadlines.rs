//! The deadlines of streams that a program may have stopped reading.
//!
//! A call that is read keeps its own time. These are for the others: the driver ends them on
//! time, so that their streams are free.

use std::{
    collections::BTreeMap,
    sync::{
        Mutex, MutexGuard, Weak,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
};

use tokio::time::Instant;

use super::held_body::HeldBody;
use crate::util::lock::lock;

/// Names one deadline of a connection.
pub(in crate::transport) type DeadlineKey = (Instant, u64);

/// The deadlines of one connection.
#[derive(Default)]
pub(super) struct Deadlines {
    entries: Mutex<Entries>,
    /// How many there are, readable without the lock.
    len: AtomicUsize,
}

#[derive(Default)]
struct Entries {
    by_time: BTreeMap<DeadlineKey, Weak<dyn HeldBody>>,
    next: u64,
}

impl Deadlines {
    pub(super) fn add(&self, at: Instant, what: Weak<dyn HeldBody>) -> DeadlineKey {
        let mut entries = self.lock();
        let key = (at, entries.next);
        entries.next += 1;
        entries.by_time.insert(key, what);
        self.len.store(entries.by_time.len(), Relaxed);
        key
    }

    pub(super) fn remove(&self, key: DeadlineKey) {
        let mut entries = self.lock();
        entries.by_time.remove(&key);
        self.len.store(entries.by_time.len(), Relaxed);
    }

    /// The earliest, if there is any.
    pub(super) fn next(&self) -> Option<Instant> {
        if self.len.load(Relaxed) == 0 {
            return None;
        }
        let entries = self.lock();
        let (at, _) = entries.by_time.first_key_value()?.0;
        Some(*at)
    }

    /// Those that are over by `now`, which are not kept any more.
    pub(super) fn take_until(&self, now: Instant) -> Vec<Weak<dyn HeldBody>> {
        let mut entries = self.lock();
        let later = entries.by_time.split_off(&(now, u64::MAX));
        let over = std::mem::replace(&mut entries.by_time, later);
        self.len.store(entries.by_time.len(), Relaxed);
        over.into_values().collect()
    }

    fn lock(&self) -> MutexGuard<'_, Entries> {
        lock(&self.entries)
    }
}
