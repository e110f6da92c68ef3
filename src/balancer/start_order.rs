//! In which order subchannels start. Pure.

use std::mem;

use super::effects::{Start, SubchannelId};

/// Subchannels that are to start at the end of a turn, in an order of chance.
///
/// The clients of a fleet have the same names in the same order. In that order all clients that
/// start together would dial the same backend at the same moment, and then the next one. The
/// first calls of all of them would go to the backends that were dialled first.
#[derive(Debug)]
pub(crate) struct StartOrder<E> {
    rng: fastrand::Rng,
    waiting: Vec<Start<E>>,
}

impl<E> StartOrder<E> {
    pub(crate) fn new(seed: u64) -> Self {
        Self {
            rng: fastrand::Rng::with_seed(seed),
            waiting: Vec::new(),
        }
    }

    /// These start when the turn ends.
    pub(crate) fn add(&mut self, starts: Vec<Start<E>>) {
        self.waiting.extend(starts);
    }

    /// It does not start.
    pub(crate) fn remove(&mut self, id: SubchannelId) {
        self.waiting.retain(|start| start.id != id);
    }

    /// All of them, at the end of the turn.
    pub(crate) fn take(&mut self) -> Vec<Start<E>> {
        self.rng.shuffle(&mut self.waiting);
        mem::take(&mut self.waiting)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::{Start, StartOrder, SubchannelId};
    use crate::{routing::BackendId, transport::BackendCalls};

    fn starts(ids: std::ops::Range<u64>) -> Vec<Start<()>> {
        let start = |id| Start {
            id: SubchannelId(id),
            backend: BackendId(id),
            label: "backend".into(),
            endpoint: (),
            calls: BackendCalls::default(),
            is_ejected: false,
            in_panic: false,
            not_before: None,
        };
        ids.map(start).collect()
    }

    fn taken(order: &mut StartOrder<()>) -> Vec<u64> {
        order.take().iter().map(|start| start.id.0).collect()
    }

    // D397
    #[test]
    fn each_starts_once_and_any_may_be_the_first() {
        let mut firsts = BTreeSet::new();
        for seed in 0..100 {
            let mut order = StartOrder::new(seed);
            order.add(starts(0..3));
            order.add(starts(3..5));
            let taken = taken(&mut order);
            firsts.insert(taken[0]);
            assert_eq!(BTreeSet::from_iter(taken), BTreeSet::from_iter(0..5));
            assert!(order.take().is_empty(), "once");
        }
        assert_eq!(firsts, BTreeSet::from_iter(0..5));
    }

    // D397
    #[test]
    fn one_that_is_stopped_before_does_not_start() {
        let mut order = StartOrder::new(1);
        order.add(starts(0..2));
        order.remove(SubchannelId(0));
        assert_eq!(taken(&mut order), [1]);
    }
}
