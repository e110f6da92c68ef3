//! The statuses of all names and what each watcher knows of them; pure.
//!
//! ```text
//!            shutdown            drain           end
//!   Open ──────────────► ShutDown ────► Draining ────► Ended
//!     ▲ ◄────────────────┘               ▲
//!     │       resume                     │
//!     └──────────────────────────────────┘ drain
//! ```
//!
//! Statuses change in `Open` only. `Draining` counts the watchers that have yet to take their
//! last message, and `Ended` ends their streams.
//!
//! `W` wakes the task of a watcher. Each input returns what its caller has to wake or drop
//! when it no longer holds its lock, because both run code of other tasks.

use std::{collections::HashMap, mem, sync::Arc};

use slab::Slab;

use crate::status::ServingStatus;

/// The most services that `List` tells, as in every other implementation of gRFC A90.
pub(crate) const MAX_LISTED: usize = 100;

/// The longest name in bytes, as in C-core.
pub(crate) const MAX_NAME: usize = 200;

#[cfg(test)]
mod tests;

pub(crate) struct Registry<W> {
    names: Slab<Name<W>>,
    ids: HashMap<Arc<str>, usize>,
    phase: Phase,
    /// All of all names, and how many there may be.
    watchers: usize,
    max_watchers: usize,
    /// Watchers that a drain waits for.
    untold: usize,
    /// All checks that have begun.
    checks: u64,
    /// All changes of statuses.
    changes: usize,
}

/// It exists while it has a status, a watcher or a check.
struct Name<W> {
    name: Arc<str>,
    status: Option<ServingStatus>,
    /// The number of its check.
    check: Option<u64>,
    watchers: Slab<Watcher<W>>,
}

struct Watcher<W> {
    /// Present while the watcher waits.
    waker: Option<W>,
    last: Last,
    /// A drain waits until it has taken its last message.
    untold: bool,
}

/// The last message of a watcher. The status is as a watcher sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Last {
    None,
    /// Handed out, and perhaps still in the hands of the task that asked.
    Given(Option<ServingStatus>),
    /// The watcher has asked again.
    Taken(Option<ServingStatus>),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Open,
    ShutDown,
    Draining,
    Ended,
}

/// A watcher, until it leaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Ticket {
    name: usize,
    watcher: usize,
}

/// The check of a name, until it ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct CheckTicket {
    name: usize,
    number: u64,
}

/// The next step of a watcher.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Next<W> {
    /// It sends this; `None` is SERVICE_UNKNOWN.
    Send(Option<ServingStatus>),
    /// It waits. The waker that it left before is to be dropped.
    Wait(Option<W>),
    /// It ends its stream.
    End,
}

/// There are as many watchers as there may be.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct TooManyWatchers;

/// The name has a check, which a second one would overwrite.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct HasCheck;

/// More than [`MAX_LISTED`] names have a status.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct TooManyServices;

impl<W> Registry<W> {
    pub(crate) fn new(max_watchers: usize) -> Self {
        let mut registry = Self {
            names: Slab::new(),
            ids: HashMap::new(),
            phase: Phase::Open,
            watchers: 0,
            max_watchers,
            untold: 0,
            checks: 0,
            changes: 0,
        };
        let server = registry.id("");
        registry.names[server].status = Some(ServingStatus::Serving);
        registry
    }

    #[must_use]
    pub(crate) fn on_set(&mut self, name: &str, status: ServingStatus) -> Vec<W> {
        match self.phase {
            Phase::Open => {
                let id = self.id(name);
                self.change(id, Some(status))
            }
            Phase::ShutDown | Phase::Draining | Phase::Ended => Vec::new(),
        }
    }

    #[must_use]
    pub(crate) fn on_set_all(&mut self, status: ServingStatus) -> Vec<W> {
        match self.phase {
            Phase::Open => self.change_all(status),
            Phase::ShutDown | Phase::Draining | Phase::Ended => Vec::new(),
        }
    }

    #[must_use]
    pub(crate) fn on_clear(&mut self, name: &str) -> Vec<W> {
        let id = self.ids.get(name).copied();
        match (self.phase, id) {
            (Phase::Open, Some(id)) => {
                let woken = self.change(id, None);
                self.forget_unused(id);
                woken
            }
            (Phase::Open, None) => Vec::new(),
            (Phase::ShutDown | Phase::Draining | Phase::Ended, _) => Vec::new(),
        }
    }

    #[must_use]
    pub(crate) fn on_shutdown(&mut self) -> Vec<W> {
        match self.phase {
            Phase::Open => {
                self.phase = Phase::ShutDown;
                self.change_all(ServingStatus::NotServing)
            }
            Phase::ShutDown | Phase::Draining | Phase::Ended => Vec::new(),
        }
    }

    #[must_use]
    pub(crate) fn on_resume(&mut self) -> Vec<W> {
        match self.phase {
            Phase::Open | Phase::ShutDown => {
                self.phase = Phase::Open;
                self.change_all(ServingStatus::Serving)
            }
            Phase::Draining | Phase::Ended => Vec::new(),
        }
    }

    #[must_use]
    pub(crate) fn on_drain(&mut self) -> Vec<W> {
        match self.phase {
            Phase::Open | Phase::ShutDown => {
                self.phase = Phase::Draining;
                let woken = self.change_all(ServingStatus::NotServing);
                self.untold = 0;
                for (_, name) in &mut self.names {
                    let told = Last::Taken(name.status);
                    for (_, watcher) in &mut name.watchers {
                        watcher.untold = watcher.last != told;
                        self.untold += usize::from(watcher.untold);
                    }
                }
                woken
            }
            Phase::Draining | Phase::Ended => Vec::new(),
        }
    }

    /// Ends all streams, and those that begin later after their first message.
    #[must_use]
    pub(crate) fn on_end(&mut self) -> Vec<W> {
        match self.phase {
            Phase::Draining => {
                self.phase = Phase::Ended;
                let watchers = self
                    .names
                    .iter_mut()
                    .flat_map(|(_, name)| &mut name.watchers);
                watchers.filter_map(|(_, it)| it.waker.take()).collect()
            }
            Phase::Open | Phase::ShutDown | Phase::Ended => Vec::new(),
        }
    }

    pub(crate) fn on_check(&mut self, name: &str) -> Result<CheckTicket, HasCheck> {
        let name = self.id(name);
        if self.names[name].check.is_some() {
            return Err(HasCheck);
        }
        self.checks += 1;
        self.names[name].check = Some(self.checks);
        Ok(CheckTicket {
            name,
            number: self.checks,
        })
    }

    /// A result of a check. It is ignored once the check has ended, because the name may have
    /// another check then.
    #[must_use]
    pub(crate) fn on_check_result(&mut self, ticket: CheckTicket, status: ServingStatus) -> Vec<W> {
        match self.phase {
            Phase::Open if self.is_open(ticket) => self.change(ticket.name, Some(status)),
            Phase::Open | Phase::ShutDown | Phase::Draining | Phase::Ended => Vec::new(),
        }
    }

    pub(crate) fn on_check_end(&mut self, ticket: CheckTicket) {
        if self.is_open(ticket) {
            self.names[ticket.name].check = None;
            self.forget_unused(ticket.name);
        }
    }

    fn is_open(&self, ticket: CheckTicket) -> bool {
        let name = self.names.get(ticket.name);
        name.is_some_and(|name| name.check == Some(ticket.number))
    }

    pub(crate) fn on_watch(&mut self, name: &str) -> Result<Ticket, TooManyWatchers> {
        if self.watchers >= self.max_watchers {
            return Err(TooManyWatchers);
        }
        let untold = self.phase == Phase::Draining;
        self.watchers += 1;
        self.untold += usize::from(untold);
        let name = self.id(name);
        let watcher = self.names[name].watchers.insert(Watcher {
            waker: None,
            last: Last::None,
            untold,
        });
        Ok(Ticket { name, watcher })
    }

    /// A watcher asks for its next message. `waker` is for the case that it has to wait.
    pub(crate) fn on_poll(&mut self, ticket: Ticket, waker: impl FnOnce() -> W) -> Next<W> {
        let name = &mut self.names[ticket.name];
        let watcher = &mut name.watchers[ticket.watcher];
        if let Last::Given(status) = watcher.last {
            watcher.last = Last::Taken(status);
        }
        if watcher.last != Last::Taken(name.status) {
            watcher.last = Last::Given(name.status);
            return Next::Send(name.status);
        }
        if mem::take(&mut watcher.untold) {
            self.untold -= 1;
        }
        match self.phase {
            Phase::Open | Phase::ShutDown | Phase::Draining => {
                Next::Wait(watcher.waker.replace(waker()))
            }
            Phase::Ended => Next::End,
        }
    }

    /// The stream of a watcher ended, or its client is gone.
    pub(crate) fn on_leave(&mut self, ticket: Ticket) -> Option<W> {
        let watcher = self.names[ticket.name].watchers.remove(ticket.watcher);
        self.watchers -= 1;
        self.untold -= usize::from(watcher.untold);
        self.forget_unused(ticket.name);
        watcher.waker
    }

    pub(crate) fn status(&self, name: &str) -> Option<ServingStatus> {
        self.names[*self.ids.get(name)?].status
    }

    pub(crate) fn list(&self) -> Result<Vec<(&str, ServingStatus)>, TooManyServices> {
        let names = self.names.iter();
        let known = names.filter_map(|(_, it)| Some((&*it.name, it.status?)));
        let known: Vec<_> = known.collect();
        match known.len() {
            0..=MAX_LISTED => Ok(known),
            _ => Err(TooManyServices),
        }
    }

    /// All changes of statuses so far.
    pub(crate) fn changes(&self) -> usize {
        self.changes
    }

    /// The open `Watch` streams.
    pub(crate) fn watchers(&self) -> usize {
        self.watchers
    }

    /// The watchers that have yet to take the last message of a drain.
    pub(crate) fn untold(&self) -> usize {
        self.untold
    }

    fn id(&mut self, name: &str) -> usize {
        if let Some(id) = self.ids.get(name) {
            return *id;
        }
        let name: Arc<str> = name.into();
        let id = self.names.insert(Name {
            name: Arc::clone(&name),
            status: None,
            check: None,
            watchers: Slab::new(),
        });
        self.ids.insert(name, id);
        id
    }

    fn change(&mut self, id: usize, status: Option<ServingStatus>) -> Vec<W> {
        let name = &mut self.names[id];
        if mem::replace(&mut name.status, status) == status {
            return Vec::new();
        }
        self.changes += 1;
        let watchers = name.watchers.iter_mut();
        watchers.filter_map(|(_, it)| it.waker.take()).collect()
    }

    /// Of each name that has a status.
    fn change_all(&mut self, status: ServingStatus) -> Vec<W> {
        let known = self.names.iter().filter(|(_, it)| it.status.is_some());
        let known: Vec<_> = known.map(|(id, _)| id).collect();
        let woken = known.into_iter().map(|id| self.change(id, Some(status)));
        woken
            .reduce(|mut all, more| {
                all.extend(more);
                all
            })
            .unwrap_or_default()
    }

    /// Otherwise watchers of unknown names would leave them behind.
    fn forget_unused(&mut self, id: usize) {
        let name = &self.names[id];
        if name.status.is_none() && name.check.is_none() && name.watchers.is_empty() {
            let name = self.names.remove(id);
            self.ids.remove(&name.name);
        }
    }
}
