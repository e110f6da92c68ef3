//! The registry behind a lock, which its handles, streams and answers share.
//!
//! A lock and not a task: each step takes less than a message to a task would, and a handle
//! works outside a runtime. Wakers are woken and dropped after the lock is released, because
//! both may run code of a task that comes back here.

use std::{
    fmt,
    sync::{Mutex, MutexGuard, PoisonError},
    task::{Context, Waker},
};

use tokio::sync::Notify;

use crate::{
    log::StatusLog,
    registry::{CheckTicket, HasCheck, Next, Registry, Ticket},
};

pub(crate) struct Shared {
    registry: Mutex<Registry<Waker>>,
    /// All watchers have taken the last message of a drain.
    told: Notify,
    log: StatusLog,
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let watchers = self.lock().watchers();
        let mut shared = f.debug_struct("Shared");
        shared.field("watchers", &watchers).finish_non_exhaustive()
    }
}

impl Shared {
    pub(crate) fn new(max_watchers: usize) -> Self {
        Self {
            registry: Mutex::new(Registry::new(max_watchers)),
            told: Notify::new(),
            log: StatusLog::default(),
        }
    }

    /// For questions. Changes go through the methods below, which wake.
    pub(crate) fn ask<T>(&self, question: impl FnOnce(&Registry<Waker>) -> T) -> T {
        question(&self.lock())
    }

    /// Returns how many statuses changed.
    pub(crate) fn update(&self, change: impl FnOnce(&mut Registry<Waker>) -> Vec<Waker>) -> usize {
        let (woken, changes) = {
            let mut registry = self.lock();
            let before = registry.changes();
            let woken = change(&mut registry);
            (woken, registry.changes() - before)
        };
        woken.into_iter().for_each(Waker::wake);
        changes
    }

    pub(crate) fn log(&self) -> &StatusLog {
        &self.log
    }

    pub(crate) fn begin_check(&self, name: &str) -> Result<CheckTicket, HasCheck> {
        self.lock().on_check(name)
    }

    pub(crate) fn end_check(&self, ticket: CheckTicket) {
        self.lock().on_check_end(ticket);
    }

    pub(crate) fn watch(&self, name: &str) -> Result<Ticket, crate::registry::TooManyWatchers> {
        self.lock().on_watch(name)
    }

    pub(crate) fn poll(&self, ticket: Ticket, cx: &Context<'_>) -> Next<Waker> {
        let (next, told) = {
            let mut registry = self.lock();
            let before = registry.untold();
            let next = registry.on_poll(ticket, || cx.waker().clone());
            (next, before > 0 && registry.untold() == 0)
        };
        self.notify_if(told);
        next
    }

    pub(crate) fn leave(&self, ticket: Ticket) {
        let (left, told) = {
            let mut registry = self.lock();
            let before = registry.untold();
            let left = registry.on_leave(ticket);
            (left, before > 0 && registry.untold() == 0)
        };
        drop(left);
        self.notify_if(told);
    }

    /// Waits until each watcher has taken the last message of a drain.
    pub(crate) async fn until_told(&self) {
        loop {
            // It takes notifications from here on, so that none between question and wait is
            // lost.
            let notified = self.told.notified();
            if self.ask(Registry::untold) == 0 {
                return;
            }
            notified.await;
        }
    }

    fn notify_if(&self, told: bool) {
        if told {
            self.told.notify_waiters();
        }
    }

    fn lock(&self) -> MutexGuard<'_, Registry<Waker>> {
        // The registry does not panic between 2 states.
        self.registry.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
