//! Mutexes that a panic does not close.

use std::sync::{Mutex, MutexGuard, PoisonError};

/// Takes the lock, poisoned or not: one call that panics is to harm no other.
///
/// What a lock here guards is whole at each step, so there is nothing to be protected from.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
