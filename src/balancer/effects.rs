//! What the task has to do after an input: subchannels to start and to stop, and whether
//! there is something to publish.

use std::{sync::Arc, time::Instant};

use crate::{routing::BackendId, transport::BackendCalls};

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
    /// The first dial waits until then.
    pub(crate) not_before: Option<Instant>,
}

impl<E> Effects<E> {
    pub(super) fn none() -> Self {
        Self::changed(false)
    }

    pub(super) fn changed(changed: bool) -> Self {
        Self {
            start: Vec::new(),
            stop: Vec::new(),
            changed,
            chooses_anew: false,
            trouble: false,
        }
    }
}
