//! A response that its connection can end, however little its reader does.

use std::sync::{Arc, Mutex, MutexGuard, OnceLock, Weak};

use tokio::time::Instant;
use tonic::Status;

use super::live::Live;
use crate::{
    transport::connection::{CallOutcome, DeadlineKey, HeldBody, Progress, WeakConnection},
    util::lock::lock,
};

/// What is left of a response that may not be read: its connection holds it too.
pub(super) struct SharedLive {
    state: Mutex<SharedState>,
    connection: WeakConnection,
    deadline: OnceLock<DeadlineKey>,
}

#[derive(Default)]
pub(super) struct SharedState {
    pub(super) live: Option<Live>,
    /// Why the connection has ended it, until its reader is told.
    pub(super) ended: Option<Box<Status>>,
}

impl SharedLive {
    /// Shares `live` with its connection, which ends it at its deadline.
    pub(super) fn new(live: Live, deadline: Option<Instant>) -> Arc<Self> {
        let connection = live.slot().connection().clone();
        let shared = Arc::new(Self {
            state: Mutex::default(),
            connection: connection.downgrade(),
            deadline: OnceLock::new(),
        });
        let body: Weak<dyn HeldBody> = Arc::downgrade(&shared) as Weak<dyn HeldBody>;
        live.slot().set_body(body.clone());
        shared.lock().live = Some(live);
        if let Some(at) = deadline {
            let _ = shared.deadline.set(connection.add_deadline(at, body));
        }
        shared
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, SharedState> {
        lock(&self.state)
    }
}

impl HeldBody for SharedLive {
    fn progress(&self) -> Option<Progress> {
        self.lock().live.as_mut().map(Live::progress)
    }

    fn end(&self, status: Status) {
        let mut state = self.lock();
        let mut live = state.live.take();
        if let Some(live) = &mut live {
            live.end_with(CallOutcome::Status(status.code()));
            state.ended = Some(Box::new(status));
        }
        drop(state);
        drop(live);
    }
}

impl Drop for SharedLive {
    fn drop(&mut self) {
        if let (Some(key), Some(connection)) = (self.deadline.get(), self.connection.upgrade()) {
            connection.remove_deadline(*key);
        }
    }
}
