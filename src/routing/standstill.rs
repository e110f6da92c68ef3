//! Whether the channel's tasks run while none of its calls does.
//!
//! A synchronous program may have a runtime of one thread that runs for the length of a call
//! and rests until the next, as tokio's guide on bridging with synchronous code has it; and a
//! loop of calls that fail at once never lets its runtime run anything else. Then no attempt to
//! connect is made, and no timer fires, but during a call.
//!
//! ```text
//!   call fails ──leaves a mark, wakes──► balancer, which removes the mark as soon as it runs
//!   next call ──finds the mark──► nothing has run since
//! ```
//!
//! Marks are left only by a call that its runtime runs outside of all tasks, in `block_on`, and
//! only if that runtime has one thread and is the balancer's own. Any other call is beside
//! something that drives the balancer.

use std::sync::{
    OnceLock,
    atomic::{AtomicBool, Ordering::Relaxed},
};

use tokio::{
    runtime::{Handle, Id, RuntimeFlavor},
    sync::Notify,
    task,
};

#[derive(Debug, Default)]
pub(crate) struct Standstill {
    /// Where the balancer runs, if that has one thread.
    runtime: OnceLock<Id>,
    /// A call has failed, and the balancer has not run since.
    marked: AtomicBool,
    /// A call wants the next attempt to connect now.
    hurried: AtomicBool,
    call: Notify,
}

impl Standstill {
    /// The balancer runs here.
    pub(crate) fn on_start(&self) {
        if let Some(id) = single_threaded() {
            let _ = self.runtime.set(id);
        }
    }

    /// Resolves when a call has left its mark, and removes it. Whether the next attempt to
    /// connect is wanted now.
    ///
    /// # Cancel safety
    ///
    /// An unseen call is seen by the next.
    pub(crate) async fn called(&self) -> bool {
        self.call.notified().await;
        self.marked.store(false, Relaxed);
        self.hurried.swap(false, Relaxed)
    }

    /// A call fails.
    pub(crate) fn on_failed_call(&self) {
        if self.has_only_this_call() {
            self.marked.store(true, Relaxed);
            self.call.notify_one();
        }
    }

    /// Whether the balancer has not run since the last call failed, and will not unless this
    /// one waits for it.
    pub(crate) fn is_on(&self) -> bool {
        self.marked.load(Relaxed) && self.has_only_this_call()
    }

    /// Has the next attempt to connect made now.
    pub(crate) fn hurry(&self) {
        self.hurried.store(true, Relaxed);
        self.call.notify_one();
    }

    /// Whether the balancer runs only if the calling future waits.
    fn has_only_this_call(&self) -> bool {
        task::try_id().is_none()
            && self
                .runtime
                .get()
                .is_some_and(|id| single_threaded() == Some(*id))
    }
}

/// The runtime in context, if it has one thread.
fn single_threaded() -> Option<Id> {
    let runtime = Handle::try_current().ok()?;
    (runtime.runtime_flavor() == RuntimeFlavor::CurrentThread).then(|| runtime.id())
}
