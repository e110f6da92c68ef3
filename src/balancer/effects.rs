//! What the task has to do after an input: subchannels to start and to stop, and whether
//! there is something to publish.

use std::{sync::Arc, time::Instant};

use super::outliers::Spared;
use crate::{
    routing::{BackendId, Ejection, PriorityStatus},
    transport::BackendCalls,
};

/// One subchannel, never used again for another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct SubchannelId(pub(super) u64);

/// What the task has to do after an input, in any order.
#[must_use]
#[derive(Debug)]
pub(crate) struct Effects<E> {
    pub(crate) start: Vec<Start<E>>,
    /// Each was started, by this or an earlier input, and is named once.
    pub(crate) stop: Vec<SubchannelId>,
    pub(crate) ejections: Vec<EjectionChange>,
    /// Outliers that are not ejected, each with its label.
    pub(crate) spared: Vec<(Arc<str>, Spared)>,
    /// Whether calls go to the connections of these subchannels whatever their state is, from
    /// now on.
    pub(crate) panic_gates: Vec<(SubchannelId, bool)>,
    /// The priorities whose panic begins or ends.
    pub(crate) panics: Vec<PriorityStatus>,
    /// [`Balancer::publication`] would differ from what it was before.
    pub(crate) changed: bool,
    /// [`Balancer::picker`] would differ, though nothing else would.
    pub(crate) chooses_anew: bool,
    /// A backend left READY, or once more could not be used: its source may know
    /// of a better one.
    pub(crate) trouble: bool,
}

/// A subchannel to be started.
#[derive(Debug)]
pub(crate) struct Start<E> {
    pub(crate) id: SubchannelId,
    pub(crate) backend: BackendId,
    pub(crate) label: Arc<str>,
    pub(crate) endpoint: E,
    pub(crate) calls: BackendCalls,
    /// Its backend is ejected: calls do not use its connections.
    pub(crate) is_ejected: bool,
    /// Its priority is in panic: calls use its connections whatever its state is.
    pub(crate) in_panic: bool,
    /// The first dial waits until then.
    pub(crate) not_before: Option<Instant>,
}

/// A backend is ejected, or it is taken back.
#[derive(Debug)]
pub(crate) struct EjectionChange {
    /// The one that it shows.
    pub(crate) subchannel: SubchannelId,
    pub(crate) label: Arc<str>,
    /// It was ejected before, too.
    pub(crate) goes_on: bool,
    pub(crate) ejection: Option<Arc<Ejection>>,
}

impl<E> Effects<E> {
    pub(super) fn none() -> Self {
        Self::changed(false)
    }

    pub(super) fn changed(changed: bool) -> Self {
        Self {
            start: Vec::new(),
            stop: Vec::new(),
            ejections: Vec::new(),
            spared: Vec::new(),
            panic_gates: Vec::new(),
            panics: Vec::new(),
            changed,
            chooses_anew: false,
            trouble: false,
        }
    }

    /// Both, this one first.
    pub(super) fn and(mut self, next: Self) -> Self {
        // Each by its name, so that none is forgotten that comes later.
        let Self {
            start,
            stop,
            ejections,
            spared,
            panic_gates,
            panics,
            changed,
            chooses_anew,
            trouble,
        } = next;
        self.start.extend(start);
        self.stop.extend(stop);
        self.ejections.extend(ejections);
        self.spared.extend(spared);
        self.panic_gates.extend(panic_gates);
        self.panics.extend(panics);
        self.changed |= changed;
        self.chooses_anew |= chooses_anew;
        self.trouble |= trouble;
        self
    }
}
