//! How many calls a backend has.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering::Relaxed},
};

/// Counts the calls in flight on one backend, over all its connections: each
/// from its slot to the end of its stream. A `Watch` is no call.
///
/// Clones count together; two are equal if they do. Nothing is ordered by it:
/// what is read is a moment's number, to compare or to show.
#[derive(Clone, Debug, Default)]
pub(crate) struct InFlight(Arc<AtomicUsize>);

impl InFlight {
    pub(crate) fn enter(&self) {
        self.0.fetch_add(1, Relaxed);
    }

    /// Once for each [`enter`](Self::enter), for several of them at a time.
    pub(crate) fn leave(&self, calls: usize) {
        self.0.fetch_sub(calls, Relaxed);
    }

    pub(crate) fn now(&self) -> usize {
        self.0.load(Relaxed)
    }

    /// Whether nobody else can count with it any more.
    pub(crate) fn is_last(&self) -> bool {
        Arc::strong_count(&self.0) == 1
    }
}

impl PartialEq for InFlight {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl Eq for InFlight {}

#[cfg(test)]
mod tests {
    use super::InFlight;

    #[test]
    fn clones_count_together() {
        let one = InFlight::default();
        let same = one.clone();
        one.enter();
        same.enter();
        assert_eq!((one.now(), same.now()), (2, 2));
        one.leave(1);
        assert_eq!(same.now(), 1);
        assert!(!one.is_last());
        drop(same);
        assert!(one.is_last());
    }

    #[test]
    fn only_clones_are_equal() {
        let one = InFlight::default();
        assert!(one == one.clone());
        assert!(one != InFlight::default(), "though both count nothing");
    }
}
