//! The requests that arrived, and those that were processed, by their numbers.

use std::{
    collections::BTreeMap,
    sync::{Mutex, MutexGuard, PoisonError},
};

/// Of all servers together.
#[derive(Debug, Default)]
pub(crate) struct Ledger {
    counts: Mutex<BTreeMap<u64, Counts>>,
}

/// Of one call.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    pub(crate) arrived: u64,
    pub(crate) processed: u64,
}

impl Ledger {
    pub(crate) fn note_arrival(&self, number: u64) {
        self.counts().entry(number).or_default().arrived += 1;
    }

    pub(crate) fn note_processed(&self, number: u64) {
        self.counts().entry(number).or_default().processed += 1;
    }

    pub(crate) fn counts(&self) -> MutexGuard<'_, BTreeMap<u64, Counts>> {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
