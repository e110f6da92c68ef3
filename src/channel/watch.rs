//! Following a channel: its status, its state, its backends.
//!
//! All three follow the one value that the balancer publishes. They may skip some
//! on the way to the newest and never go back; none keeps the channel alive, and
//! all end with it.

use std::{collections::VecDeque, sync::Arc};

use tokio::sync::watch;

use crate::{
    connectivity::ConnectivityState,
    routing::{BackendStatus, Backends, ChannelStatus},
};

/// Follows a channel's [`ChannelStatus`]: the channel and every backend.
#[derive(Clone, Debug)]
pub struct StatusWatch {
    receiver: watch::Receiver<Arc<ChannelStatus>>,
    /// SHUTDOWN has been told, and nothing follows it.
    ended: bool,
}

/// Follows a channel's [`ConnectivityState`], and nothing else of it.
#[derive(Clone, Debug)]
pub struct StateWatch {
    status: StatusWatch,
    last: ConnectivityState,
}

/// Follows the backends of a channel, one [`BackendEvent`] after the other.
#[derive(Clone, Debug)]
pub struct BackendWatch {
    status: StatusWatch,
    last: Backends,
    ahead: VecDeque<BackendEvent>,
}

/// What became of one backend.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum BackendEvent {
    /// Its source named it.
    Added(Arc<BackendStatus>),
    /// Anything but its calls in flight is different.
    Changed {
        /// As it was when it was last told of.
        before: Arc<BackendStatus>,
        /// As it is.
        now: Arc<BackendStatus>,
    },
    /// Its source took it back, or the channel is closed. As it was last.
    Removed(Arc<BackendStatus>),
}

impl StatusWatch {
    pub(crate) fn new(receiver: watch::Receiver<Arc<ChannelStatus>>) -> Self {
        let ended = false;
        let mut watch = Self { receiver, ended };
        // What there is at the start is no change.
        watch.status();
        watch
    }

    /// The newest status, which [`changed`](Self::changed) then no longer counts
    /// as a change.
    pub fn status(&mut self) -> Arc<ChannelStatus> {
        let status = self.receiver.borrow_and_update().clone();
        self.ended = is_last(&status);
        status
    }

    /// Waits for a status newer than the last one seen. `None` after SHUTDOWN,
    /// which is the last.
    ///
    /// # Cancel safety
    ///
    /// Nothing is lost.
    pub async fn changed(&mut self) -> Option<Arc<ChannelStatus>> {
        if self.ended {
            return None;
        }
        self.receiver.changed().await.ok()?;
        Some(self.status())
    }

    /// The first status, from the newest on, of which `condition` is true; or the
    /// last there ever is, SHUTDOWN, if the channel closes before.
    ///
    /// # Cancel safety
    ///
    /// Nothing is lost.
    pub async fn wait_for(
        &mut self,
        mut condition: impl FnMut(&ChannelStatus) -> bool,
    ) -> Arc<ChannelStatus> {
        let found = self
            .receiver
            .wait_for(|status| condition(status) || is_last(status));
        let found = found.await.map(|status| status.clone());
        match found {
            Ok(status) => {
                self.ended = is_last(&status);
                status
            }
            Err(_) => self.status(),
        }
    }
}

fn is_last(status: &ChannelStatus) -> bool {
    status.state() == ConnectivityState::Shutdown
}

impl StateWatch {
    pub(crate) fn new(mut status: StatusWatch) -> Self {
        let last = status.status().state();
        Self { status, last }
    }

    /// The newest state, which [`changed`](Self::changed) then no longer counts as a
    /// change.
    pub fn state(&mut self) -> ConnectivityState {
        self.last = self.status.status().state();
        self.last
    }

    /// Waits for a state other than the last one seen. `None` after SHUTDOWN, which
    /// is the last.
    ///
    /// # Cancel safety
    ///
    /// Nothing is lost.
    pub async fn changed(&mut self) -> Option<ConnectivityState> {
        if self.last == ConnectivityState::Shutdown {
            return None;
        }
        let last = self.last;
        let status = self.status.wait_for(|status| status.state() != last).await;
        self.last = status.state();
        Some(self.last)
    }
}

impl BackendWatch {
    /// Begins with an [`Added`](BackendEvent::Added) for each backend there is.
    pub(crate) fn new(status: StatusWatch) -> Self {
        Self {
            status,
            last: Backends::default(),
            ahead: VecDeque::new(),
        }
    }

    /// Waits for the next event. `None` after the last, when the channel is closed
    /// and all its backends are [`Removed`](BackendEvent::Removed).
    ///
    /// # Cancel safety
    ///
    /// Nothing is lost.
    pub async fn next(&mut self) -> Option<BackendEvent> {
        loop {
            if let Some(event) = self.ahead.pop_front() {
                return Some(event);
            }
            let last = &self.last;
            let status = self
                .status
                .wait_for(|status| is_last(status) || !status.backends.are(last));
            let status = status.await;
            self.ahead = differences(&self.last, &status.backends);
            self.last = status.backends.clone();
            if self.ahead.is_empty() && is_last(&status) {
                return None;
            }
        }
    }
}

/// What has to happen to `old` for it to be `new`: both are in the order of their
/// ids, and a status that did not change is the same `Arc`.
fn differences(old: &Backends, new: &Backends) -> VecDeque<BackendEvent> {
    let mut events = VecDeque::new();
    let mut old = old.iter().peekable();
    for now in new {
        while let Some(gone) = old.next_if(|old| old.id() < now.id()) {
            events.push_back(BackendEvent::Removed(gone.clone()));
        }
        match old.next_if(|old| old.id() == now.id()) {
            None => events.push_back(BackendEvent::Added(now.clone())),
            Some(before) if Arc::ptr_eq(before, now) => {}
            Some(before) => events.push_back(BackendEvent::Changed {
                before: before.clone(),
                now: now.clone(),
            }),
        }
    }
    events.extend(old.cloned().map(BackendEvent::Removed));
    events
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeMap, sync::Arc, time::Instant};

    use futures_util::FutureExt;
    use proptest::prelude::*;
    use tokio::sync::watch;

    use super::{BackendEvent, StatusWatch, differences};
    use crate::{
        connectivity::ConnectivityState,
        health::HealthStatus,
        routing::{BackendId, BackendStatus, Backends, ChannelStatus},
        util::in_flight::InFlight,
    };

    /// A channel in this state, without backends.
    fn channel(state: ConnectivityState) -> Arc<ChannelStatus> {
        Arc::new(ChannelStatus {
            generation: 1,
            state,
            cause: None,
            backends: Backends::default(),
        })
    }

    #[test]
    fn shutdown_is_told_to_a_follower_that_looks_when_the_channel_is_gone() {
        let (published, status) = watch::channel(channel(ConnectivityState::Ready));
        let mut follower = StatusWatch::new(status);
        published.send_replace(channel(ConnectivityState::Shutdown));
        drop(published);
        let last = follower.changed().now_or_never().expect("it is there");
        let last = last.map(|status| status.state());
        assert_eq!(last, Some(ConnectivityState::Shutdown));
        let end = follower.changed().now_or_never().expect("the end is there");
        assert!(end.is_none());
    }

    /// Backends by their ids, each with a number that makes it what it is.
    type Set = BTreeMap<u64, u32>;

    fn status(id: u64, attempt: u32) -> Arc<BackendStatus> {
        Arc::new(BackendStatus {
            id: BackendId(id),
            label: "a".into(),
            address: "a".into(),
            state: ConnectivityState::Connecting,
            health: HealthStatus::NotChecked,
            since: Instant::now(),
            last_error: None,
            attempt,
            next_attempt: None,
            connections: 0,
            in_flight: InFlight::default(),
        })
    }

    /// The statuses of `set`, those of `old` where they say the same.
    fn statuses(set: &Set, old: &Backends) -> Backends {
        let status = |(id, attempt): (&u64, &u32)| {
            let same = |old: &&Arc<BackendStatus>| old.id.0 == *id && old.attempt == *attempt;
            let old = old.iter().find(same);
            old.cloned().unwrap_or_else(|| status(*id, *attempt))
        };
        Backends::new(set.iter().map(status).collect())
    }

    proptest! {
        #[test]
        fn events_lead_from_the_old_set_to_the_new_and_none_is_idle(
            old in proptest::collection::btree_map(0_u64..8, 0_u32..3, 0..8),
            new in proptest::collection::btree_map(0_u64..8, 0_u32..3, 0..8),
        ) {
            let before = statuses(&old, &Backends::default());
            let after = statuses(&new, &before);
            let mut set = old;
            for event in differences(&before, &after) {
                match event {
                    BackendEvent::Added(now) => {
                        prop_assert_eq!(set.insert(now.id.0, now.attempt), None);
                    }
                    BackendEvent::Changed { before, now } => {
                        prop_assert_ne!(before.attempt, now.attempt);
                        prop_assert_eq!(set.insert(now.id.0, now.attempt), Some(before.attempt));
                    }
                    BackendEvent::Removed(last) => {
                        prop_assert_eq!(set.remove(&last.id.0), Some(last.attempt));
                    }
                }
            }
            prop_assert_eq!(set, new);
        }
    }
}
