//! Events, and their order.

use std::{
    cmp::{Ordering, Reverse},
    collections::BinaryHeap,
    sync::Arc,
    time::{Duration, Instant},
};

use crate::{balancer::SubchannelId, transport::BackendCalls};

/// One dial of a subchannel, and the connection that it makes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Link {
    pub(super) client: u32,
    pub(super) subchannel: SubchannelId,
    pub(super) backend: u32,
    /// The first, second, … of its subchannel.
    pub(super) dial: u32,
}

/// A call on its backend.
#[derive(Debug)]
pub(super) struct Sent {
    pub(super) began: Instant,
    pub(super) backend: u32,
    /// See [`Backend::life`](super::backend::Backend::life).
    pub(super) life: u32,
    pub(super) calls: BackendCalls,
}

#[derive(Debug)]
pub(super) enum What {
    /// A client starts.
    Begins { client: u32 },
    /// A SYN comes. It was dropped so many times.
    Syn { link: Link, dropped: u32 },
    /// The outcome of a dial: the life of the backend that accepted.
    Dialled { link: Link, life: Option<u32> },
    /// A connection ends.
    Lost { link: Link },
    /// A message of a `Watch`.
    Health { link: Link },
    /// The deadline of a subchannel.
    SubchannelDue {
        client: u32,
        subchannel: SubchannelId,
    },
    /// A deadline of the channel.
    ClientDue { client: u32 },
    /// A name server answers. None is a failure.
    Answered {
        client: u32,
        names: Option<Arc<[u32]>>,
    },
    /// A control plane names these backends.
    Pushed { client: u32, names: Arc<[u32]> },
    /// The next call of a client.
    Calls { client: u32 },
    /// A call has its response.
    Done { client: u32, sent: Sent },
    /// Something happens to a backend.
    Fate { backend: u32, fate: Fate },
    /// The name server answers so from now on.
    Naming(Answer),
}

/// The answer of a name server.
#[derive(Clone, Debug)]
pub(super) enum Answer {
    Names(Arc<[u32]>),
    Fails,
    /// After so long.
    Late(Duration, Arc<[u32]>),
}

/// An event of a backend.
#[derive(Clone, Copy, Debug)]
pub(super) enum Fate {
    /// Its process ends: connections break, and dials are refused.
    Dies,
    /// It is cut off: connections break, and dials have no answer.
    Vanishes,
    /// Another process is there, and accepts.
    Rises,
    /// It answers health checks so.
    Serving(bool),
    /// Connections end by GOAWAY, and it goes on to accept.
    EndsConnections,
}

/// Events in the order of their time, and of equal times in the order of their coming.
#[derive(Default)]
pub(super) struct Queue {
    heap: BinaryHeap<Reverse<Event>>,
    count: u64,
}

struct Event {
    at: Instant,
    nth: u64,
    what: What,
}

impl Queue {
    pub(super) fn push(&mut self, at: Instant, what: What) {
        self.count += 1;
        let nth = self.count;
        self.heap.push(Reverse(Event { at, nth, what }));
    }

    /// The next one that is due by then.
    pub(super) fn pop(&mut self, until: Instant) -> Option<(Instant, What)> {
        if self.heap.peek()?.0.at > until {
            return None;
        }
        let Reverse(event) = self.heap.pop()?;
        Some((event.at, event.what))
    }
}

impl Ord for Event {
    fn cmp(&self, other: &Self) -> Ordering {
        (self.at, self.nth).cmp(&(other.at, other.nth))
    }
}

impl PartialOrd for Event {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Event {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Event {}
