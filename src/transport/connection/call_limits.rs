//! The bounds that an endpoint sets on its calls: how many at a time, how many in a
//! period.
//!
//! They are part of admission. A call that is beyond them is not admitted to any
//! connection of the backend, as if each were full, and waits where calls wait for a
//! free stream. When there is room again, the queue is served from the connections
//! that are pickable then.

use std::{
    mem,
    sync::{Arc, Mutex, MutexGuard, Weak},
    time::Duration,
};

use tokio::time::Instant;

use super::{
    backend_calls::Attempt,
    connection::{Connection, WeakConnection},
    slots::Slots,
};
use crate::{
    transport::endpoint::{Endpoint, LimitOptions},
    util::{clock::timer_on, lock::lock},
};

/// The bounds of one backend, over all its connections.
pub(crate) struct CallLimits {
    concurrency: Option<usize>,
    rate: Option<(u64, Duration)>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    running: usize,
    /// The period that the last call with a rate began in, and how many it has left.
    period: Option<(Instant, u64)>,
    /// Somebody serves the queue when the period ends.
    is_timed: bool,
    /// Those that were pickable and may still be.
    pickable: Vec<WeakConnection>,
}

impl CallLimits {
    /// The bounds of `endpoint`, with a count of their own. `None` if it has none.
    pub(crate) fn of(endpoint: &Endpoint) -> Option<Arc<Self>> {
        let options = endpoint.limits();
        if *options == LimitOptions::default() {
            return None;
        }
        Some(Arc::new(Self {
            concurrency: options.concurrency,
            rate: options.rate,
            state: Mutex::default(),
        }))
    }

    /// A slot of `connection` for a call, if neither the bounds nor the slots are used
    /// up.
    ///
    /// One lock holds both, because a slot that is taken and then given back for the
    /// bound's sake would be seen by nobody who waits.
    pub(super) fn take(
        self: &Arc<Self>,
        slots: &Slots,
        connection: &Connection,
    ) -> Option<Attempt> {
        let mut state = self.lock();
        if self.concurrency.is_some_and(|limit| state.running >= limit) {
            return None;
        }
        let Some((limit, duration)) = self.rate else {
            let taken = slots.take();
            state.running += usize::from(taken.is_some());
            return taken;
        };
        let now = Instant::now();
        let (ends, left) = match state.period {
            Some((ends, left)) if now < ends => (ends, left),
            // A period too long to be told ends with it.
            _ => (now.checked_add(duration).unwrap_or(now), limit),
        };
        if left == 0 {
            let is_timed = mem::replace(&mut state.is_timed, true);
            drop(state);
            if !is_timed {
                self.serve_at(ends, connection);
            }
            return None;
        }
        let taken = slots.take();
        if taken.is_some() {
            state.running += 1;
            state.period = Some((ends, left - 1));
        }
        taken
    }

    /// What was taken was for no call: it does not count in its period. It is still given
    /// back by [`leave`](Self::leave).
    pub(super) fn refund(&self) {
        if let (Some((limit, _)), Some((_, left))) = (self.rate, &mut self.lock().period) {
            *left = limit.min(*left + 1);
        }
    }

    /// Gives back what was taken. The caller has released the slot.
    pub(super) fn leave(&self) {
        let mut state = self.lock();
        state.running -= 1;
        self.serve(state);
    }

    /// Calls go to this connection too from now on.
    pub(super) fn on_pickable(&self, connection: &Connection) {
        let pickable = &mut self.lock().pickable;
        pickable.retain(|other| other.is_alive() && !other.is(connection));
        pickable.push(connection.downgrade());
    }

    fn serve<'a>(&'a self, mut state: MutexGuard<'a, State>) {
        let mut served = 0;
        while let Some(pickable) = state.pickable.get(served) {
            let connection = pickable.upgrade();
            // Admission takes the lock.
            drop(state);
            if let Some(connection) = connection {
                connection.serve_queue();
            }
            served += 1;
            state = self.lock();
        }
    }

    /// Serves the queue when the period ends. On the connection's runtime, as that of the
    /// call that comes here may end before: and without the endpoint's executor, as this
    /// may be in the drop of a slot, which is no place for another's panic.
    fn serve_at(self: &Arc<Self>, ends: Instant, connection: &Connection) {
        let period = PeriodTimer(Arc::downgrade(self));
        let runtime = connection.runtime();
        let ends = timer_on(runtime, ends);
        runtime.spawn(async move {
            ends.await;
            period.end();
        });
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }
}

/// What serves the queue at the end of a period. Where it is dropped before, the next
/// call that is beyond the bound makes another.
struct PeriodTimer(Weak<CallLimits>);

impl PeriodTimer {
    fn end(self) {
        let limits = self.0.upgrade();
        drop(self);
        if let Some(limits) = limits {
            limits.serve(limits.lock());
        }
    }
}

impl Drop for PeriodTimer {
    fn drop(&mut self) {
        if let Some(limits) = self.0.upgrade() {
            limits.lock().is_timed = false;
        }
    }
}
