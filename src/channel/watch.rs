//! Following a channel: its status, its state, its backends.
//!
//! All three follow the one value that the balancer publishes. They may skip some
//! on the way to the newest and never go back; none keeps the channel alive, and
//! all end with it. Each is a `Stream`, and its method is the next item of that.

use std::{
    collections::VecDeque,
    fmt,
    future::{Future, poll_fn},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use futures_util::{FutureExt, Stream};
use tokio::sync::watch;

use crate::{
    connectivity::ConnectivityState,
    routing::{BackendStatus, Backends, ChannelStatus},
};

/// Follows a channel's [`ChannelStatus`]: the channel and every backend.
///
/// It is a [`Stream`] of what [`changed`](Self::changed) returns. A slow reader skips statuses,
/// and gets the newest. The last item is SHUTDOWN, after
/// [`Channel::close`](crate::Channel::close) or with the last handle of the channel; then the
/// stream ends, and stays at its end. Dropping the future of its next item loses nothing.
///
/// ```no_run
/// use futures_util::StreamExt;
///
/// # async fn example(channel: tonic_health_channel::Channel) {
/// let mut statuses = channel.watch_status();
/// while let Some(status) = statuses.next().await {
///     println!("{}: {} backends", status.state(), status.backends().len());
/// }
/// # }
/// ```
#[derive(Clone, Debug)]
#[must_use = "a watch tells only what it is asked for"]
pub struct StatusWatch {
    receiver: watch::Receiver<Arc<ChannelStatus>>,
    /// SHUTDOWN has been told, and nothing follows it.
    ended: bool,
    wake_up: WakeUp,
}

/// Follows a channel's [`ConnectivityState`], and nothing else of it.
///
/// It is a [`Stream`] of what [`changed`](Self::changed) returns. A state differs from the one
/// before, and the last is SHUTDOWN. See [`StatusWatch`] for its end.
#[derive(Clone, Debug)]
#[must_use = "a watch tells only what it is asked for"]
pub struct StateWatch {
    status: StatusWatch,
    last: ConnectivityState,
}

/// Follows the backends of a channel, one [`BackendEvent`] after the other.
///
/// It is a [`Stream`] of what [`next`](Self::next) returns. It ends once the channel is closed
/// and each of its backends was [`Removed`](BackendEvent::Removed).
#[derive(Clone, Debug)]
#[must_use = "a watch tells only what it is asked for"]
pub struct BackendWatch {
    status: StatusWatch,
    last: Backends,
    ahead: VecDeque<BackendEvent>,
}

/// The wait for a status that is new. tokio's receiver has a future and nothing to poll, and a
/// future that is dropped between polls would take its waker along.
#[derive(Default)]
struct WakeUp(Option<Pin<Box<dyn Future<Output = ()> + Send + Sync>>>);

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
        let mut watch = Self {
            receiver,
            ended: false,
            wake_up: WakeUp::default(),
        };
        // The backends at the start do not count as changes.
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
        poll_fn(|cx| self.poll_changed(cx)).await
    }

    fn poll_changed(&mut self, cx: &mut Context<'_>) -> Poll<Option<Arc<ChannelStatus>>> {
        while !self.ended {
            match self.receiver.changed().now_or_never() {
                Some(Ok(())) => return Poll::Ready(Some(self.status())),
                Some(Err(_)) => self.ended = true,
                None => ready!(self.wake_up.poll(&self.receiver, cx)),
            }
        }
        Poll::Ready(None)
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
        loop {
            let status = self.status();
            if condition(&status) || self.changed().await.is_none() {
                return status;
            }
        }
    }
}

impl Stream for StatusWatch {
    type Item = Arc<ChannelStatus>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.poll_changed(cx)
    }
}

impl WakeUp {
    /// Ready when there is something that `receiver` has not seen, or never will be. It may be
    /// ready without: `receiver` may have seen it meanwhile.
    fn poll(
        &mut self,
        receiver: &watch::Receiver<Arc<ChannelStatus>>,
        cx: &mut Context<'_>,
    ) -> Poll<()> {
        let wait = self.0.get_or_insert_with(|| {
            let mut receiver = receiver.clone();
            Box::pin(async move { drop(receiver.changed().await) })
        });
        ready!(wait.as_mut().poll(cx));
        self.0 = None;
        Poll::Ready(())
    }
}

/// Each waits by itself.
impl Clone for WakeUp {
    fn clone(&self) -> Self {
        Self::default()
    }
}

impl fmt::Debug for WakeUp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = if self.0.is_some() { "waiting" } else { "none" };
        f.write_str(text)
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
        poll_fn(|cx| self.poll_changed(cx)).await
    }

    fn poll_changed(&mut self, cx: &mut Context<'_>) -> Poll<Option<ConnectivityState>> {
        while let Some(status) = ready!(self.status.poll_changed(cx)) {
            if status.state() != self.last {
                self.last = status.state();
                return Poll::Ready(Some(self.last));
            }
        }
        Poll::Ready(None)
    }
}

impl Stream for StateWatch {
    type Item = ConnectivityState;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.poll_changed(cx)
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
        poll_fn(|cx| self.poll_event(cx)).await
    }

    fn poll_event(&mut self, cx: &mut Context<'_>) -> Poll<Option<BackendEvent>> {
        loop {
            if let Some(event) = self.ahead.pop_front() {
                return Poll::Ready(Some(event));
            }
            let newest = self.status.status();
            if !newest.backends.are(&self.last) {
                self.ahead = differences(&self.last, &newest.backends);
                self.last = newest.backends.clone();
            } else if ready!(self.status.poll_changed(cx)).is_none() {
                return Poll::Ready(None);
            }
        }
    }
}

impl Stream for BackendWatch {
    type Item = BackendEvent;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.poll_event(cx)
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
    use std::{collections::BTreeMap, sync::Arc};

    use futures_util::{FutureExt, StreamExt};
    use proptest::prelude::*;
    use tokio::sync::watch;

    use super::{BackendEvent, StatusWatch, differences};
    use crate::{
        connectivity::ConnectivityState,
        routing::{BackendStatus, Backends, ChannelStatus},
    };

    /// A channel in this state, without backends.
    fn channel(state: ConnectivityState) -> Arc<ChannelStatus> {
        Arc::new(ChannelStatus {
            generation: 1,
            state,
            cause: None,
            backends: Backends::default(),
            priorities: Arc::default(),
        })
    }

    // D322
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
            attempt,
            ..BackendStatus::in_state(id, "a", ConnectivityState::Connecting)
        })
    }

    #[tokio::test]
    async fn a_stream_wakes_the_task_that_polled_it_last() {
        let (published, status) = watch::channel(channel(ConnectivityState::Idle));
        let mut follower = StatusWatch::new(status);
        let given_up = StreamExt::next(&mut follower).now_or_never();
        assert!(given_up.is_none(), "nothing is new");
        let task = tokio::spawn(async move {
            let next = StreamExt::next(&mut follower).await;
            (next.map(|status| status.state()), follower)
        });
        // It is the only other task, and waits by now.
        tokio::task::yield_now().await;
        published.send_replace(channel(ConnectivityState::Ready));
        let (state, mut follower) = task.await.expect("no panic");
        assert_eq!(state, Some(ConnectivityState::Ready));

        // A state that was looked at meanwhile is not told once more.
        let given_up = StreamExt::next(&mut follower).now_or_never();
        assert!(given_up.is_none(), "nothing is new");
        published.send_replace(channel(ConnectivityState::Idle));
        assert_eq!(follower.status().state(), ConnectivityState::Idle);
        let given_up = StreamExt::next(&mut follower).now_or_never();
        assert!(given_up.is_none(), "it was looked at");
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
