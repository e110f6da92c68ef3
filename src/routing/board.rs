//! Where the balancer publishes and calls read: one value in two halves, and
//! the two wake-ups that follow a new one.
//!
//! ```text
//!   balancer ──publish──► Routing (ArcSwap)   ◄──load── calls
//!                         routing_changed     ──wakes── calls that wait, if they
//!                                                       could get another answer
//!                         ChannelStatus (watch) ─wakes── users, for every change
//!   balancer ◄──wake───────────────────────────────────── a call that finds IDLE
//! ```
//!
//! A call that waits subscribes, *then* loads and picks, *then* awaits
//! `routing_changed`:
//! in any other order a publication in between is a wake-up lost. Routing is
//! stored before either wake-up.

use std::{
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use arc_swap::{ArcSwap, Guard};
use tokio::{
    runtime::Handle,
    sync::{Notify, watch},
};

use super::{
    picker::{Pick, Picker},
    retry_settings::RetrySettings,
    retry_throttle::RetryThrottle,
    snapshot::{ChannelStatus, Routing},
    standstill::Standstill,
};
use crate::{
    error::{Error, ErrorKind},
    service_config::{RetryThrottling, ServiceConfig},
    transport::{CallSlot, ConnectionGroup, Queue, ReplayBudget},
};

/// What the user of a channel may ask of its balancer.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Command {
    Connect,
    EnterIdle,
    ResetConnectBackoff,
    Close,
}

/// How a channel ends that was not closed.
#[derive(Clone, Copy, Debug)]
pub(crate) enum End {
    /// With the last handle of its user.
    Dropped,
    /// Its worker was dropped.
    RuntimeEnded,
}

/// What one channel has published. Shared by the channel's handles, its calls
/// and its balancer. It does not keep the channel alive.
pub(crate) struct Board {
    routing: ArcSwap<Routing>,
    routing_changed: watch::Sender<()>,
    status: watch::Sender<Arc<ChannelStatus>>,
    queue: Arc<Queue<CallSlot>>,
    wake: Notify,
    standstill: Standstill,
    retries: RetrySettings,
    replay_budget: Arc<ReplayBudget>,
    /// There has been a call since the balancer last checked.
    active: AtomicBool,
    waiting: AtomicUsize,
    max_waiting: usize,
    /// Keeps the time of calls that wait. Unknown until a given executor has begun.
    runtime: OnceLock<Handle>,
    /// Why the channel has ended, unless its user closed it.
    end: OnceLock<End>,
}

/// One call that waits; counted for as long as this lives.
pub(crate) struct Waiting<'a>(&'a Board);

impl Board {
    pub(crate) fn new(
        first: ChannelStatus,
        picker: Picker<ConnectionGroup>,
        config: Option<Arc<ServiceConfig>>,
        wait_timeout: Option<Duration>,
        max_waiting: usize,
        retries: RetrySettings,
    ) -> Self {
        let status = Arc::new(first);
        let routing = Routing {
            picker,
            throttle: RetryThrottle::next(None, throttling(config.as_ref())),
            config,
            wait_timeout,
            status: status.clone(),
        };
        Self {
            routing: ArcSwap::from_pointee(routing),
            routing_changed: watch::Sender::new(()),
            status: watch::Sender::new(status),
            queue: Queue::new(),
            wake: Notify::new(),
            standstill: Standstill::default(),
            replay_budget: Arc::new(ReplayBudget::new(retries.buffer_per_call, retries.buffer)),
            retries,
            active: AtomicBool::new(false),
            waiting: AtomicUsize::new(0),
            max_waiting,
            runtime: OnceLock::new(),
            end: OnceLock::new(),
        }
    }

    /// The options for the attempts of calls.
    pub(crate) fn retries(&self) -> &RetrySettings {
        &self.retries
    }

    /// How much its calls keep of their requests.
    pub(crate) fn replay_budget(&self) -> &Arc<ReplayBudget> {
        &self.replay_budget
    }

    /// The routing in force. Not to be kept across an await: it pins
    /// connections.
    pub(crate) fn routing(&self) -> Guard<Arc<Routing>> {
        self.routing.load()
    }

    /// Follows what is published, for users.
    pub(crate) fn status(&self) -> watch::Receiver<Arc<ChannelStatus>> {
        self.status.subscribe()
    }

    /// Wakes a call that waits when it should ask again.
    pub(crate) fn routing_changed(&self) -> watch::Receiver<()> {
        self.routing_changed.subscribe()
    }

    /// Where calls wait that found every READY backend full.
    pub(crate) fn queue(&self) -> &Arc<Queue<CallSlot>> {
        &self.queue
    }

    /// Publishes the next generation.
    pub(crate) fn publish(
        &self,
        status: ChannelStatus,
        picker: Picker<ConnectionGroup>,
        config: Option<Arc<ServiceConfig>>,
        wait_timeout: Option<Duration>,
    ) {
        let status = Arc::new(status);
        let throttling = throttling(config.as_ref());
        let throttle = RetryThrottle::next(self.routing().throttle.as_ref(), throttling);
        let next = Arc::new(Routing {
            picker,
            throttle,
            config,
            wait_timeout,
            status: status.clone(),
        });
        let last = self.routing.swap(next.clone());
        let first_config = last.config.is_none() && next.config.is_some();
        let other_timeout = last.wait_timeout != next.wait_timeout;
        if first_config || other_timeout || last.picker.could_answer_differently(&next.picker) {
            self.routing_changed.send_replace(());
        }
        if !self.queue.is_empty()
            && let Pick::Send(candidates) = next.picker.peek()
        {
            candidates.for_each(ConnectionGroup::serve_queue);
        }
        // Last: whoever sees it may hold that calls have been told, too.
        self.status.send_replace(status);
    }

    /// Has calls choose by another picker over the backends that are published. Calls that wait
    /// would have the same answer from it, and statuses are the same, so nothing is woken.
    pub(crate) fn publish_picker(&self, picker: Picker<ConnectionGroup>) {
        let last = self.routing();
        self.routing.store(Arc::new(Routing {
            picker,
            throttle: last.throttle.clone(),
            config: last.config.clone(),
            wait_timeout: last.wait_timeout,
            status: last.status.clone(),
        }));
    }

    /// The runtime that keeps the time of calls that wait, if it is known.
    pub(crate) fn runtime(&self) -> Option<&Handle> {
        self.runtime.get()
    }

    /// Makes the runtime known, once, and has calls that wait look.
    pub(crate) fn set_runtime(&self, runtime: Handle) {
        if self.runtime.set(runtime).is_ok() {
            self.routing_changed.send_replace(());
        }
    }

    /// The channel ends without being closed. The last publication follows.
    pub(crate) fn set_end(&self, end: End) {
        let _ = self.end.set(end);
    }

    /// Why a channel that is SHUTDOWN takes no calls.
    pub(crate) fn closed(&self) -> Error {
        Error::new(ErrorKind::Closed, self.end())
    }

    /// How a channel that is SHUTDOWN came to that.
    pub(crate) fn end(&self) -> &'static str {
        match self.end.get() {
            None => "the channel was closed",
            Some(End::Dropped) => "the channel was dropped: no clone of it is left",
            Some(End::RuntimeEnded) => "the channel's runtime has ended",
        }
    }

    /// Asks the balancer to leave IDLE. Does nothing in any other state.
    pub(crate) fn wake(&self) {
        self.wake.notify_one();
    }

    /// Resolves when somebody has asked to leave IDLE.
    ///
    /// # Cancel safety
    ///
    /// An unseen request is seen by the next call.
    pub(crate) async fn woken(&self) {
        self.wake.notified().await;
    }

    /// Whether the balancer runs while no call does.
    pub(crate) fn standstill(&self) -> &Standstill {
        &self.standstill
    }

    /// Sets the "active" flag. On a busy channel it is set already, and then the flag is
    /// only read, so that no other thread's cache is disturbed.
    pub(crate) fn mark_active(&self) {
        if !self.active.load(Relaxed) {
            self.active.store(true, Relaxed);
        }
    }

    /// Whether calls wait, or one has left its mark since this was last asked.
    pub(crate) fn take_activity(&self) -> bool {
        self.active.swap(false, Relaxed) || self.waiting.load(Relaxed) > 0
    }

    /// Counts one more call that waits.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::TooManyWaiting`] if that would be one too many.
    pub(crate) fn start_waiting(&self) -> Result<Waiting<'_>, Error> {
        let waiting = Waiting(self);
        if self.waiting.fetch_add(1, Relaxed) < self.max_waiting {
            return Ok(waiting);
        }
        Err(Error::new(
            ErrorKind::TooManyWaiting,
            format!(
                "{} calls already wait for a backend, which is the maximum",
                self.max_waiting
            ),
        ))
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.waiting.fetch_sub(1, Relaxed);
    }
}

fn throttling(config: Option<&Arc<ServiceConfig>>) -> Option<&RetryThrottling> {
    config?.retry_throttling()
}
