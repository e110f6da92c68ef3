//! What a connection does after each poll of its `h2`, and whenever a stream begins or ends.

use std::{
    sync::{Arc, MutexGuard, Weak},
    time::Instant,
};

use tokio::time;

use super::{
    connection::Connection,
    deadlines::DeadlineKey,
    held_body::HeldBody,
    silence::Silence,
    stage::Stage,
    streams::{Received, StreamTable},
    unread::{Hoard, UnreadCap},
};
use crate::{
    error::{Cause, CauseKind},
    transport::words::{body, disconnect::SHUTDOWN},
    util::lock::lock,
};

/// What the driver does after a poll of `h2`.
pub(in crate::transport) struct AfterPoll {
    /// The next poll may free streams, though nothing comes.
    pub(in crate::transport) polls_again: bool,
    /// Asks the peer whether it reads.
    pub(in crate::transport) asks_peer: bool,
    /// Since when the socket takes nothing.
    pub(in crate::transport) blocked_since: Option<Instant>,
    /// What DATA has come.
    pub(in crate::transport) came: usize,
}

impl Connection {
    /// Locked while a stream is opened.
    pub(in crate::transport) fn lock_streams(&self) -> MutexGuard<'_, StreamTable> {
        self.0.streams.lock()
    }

    /// Lets go of the streams, after what may be a reason to take no calls.
    pub(in crate::transport) fn unlock_streams(&self, mut streams: MutexGuard<'_, StreamTable>) {
        let takes_calls_again = self.follow_hold(&mut streams);
        drop(streams);
        if takes_calls_again {
            self.serve_queue();
        }
    }

    /// Takes over from the streams whether it takes calls. Under their lock, so that the last
    /// word counts. Whether it takes calls again.
    fn follow_hold(&self, streams: &mut StreamTable) -> bool {
        let hold = streams.take_hold();
        if let Some(held) = hold {
            self.0.slots.set_held(held);
        }
        hold == Some(false)
    }

    /// After each poll of `h2`: gives back the slots of streams that are over.
    pub(in crate::transport) fn follow_streams(&self) -> AfterPoll {
        let mut streams = self.lock_streams();
        let freed = streams.take_freed();
        let parked = streams.take_parked();
        let takes_calls_again = self.follow_hold(&mut streams);
        let after = AfterPoll {
            polls_again: streams.has_stuck(),
            asks_peer: streams.has_question(),
            blocked_since: streams.blocked_since(),
            came: streams.take_came(),
        };
        drop(streams);
        drop(parked);
        if freed.slots > 0 {
            self.leave_calls(freed.calls);
            self.0.slots.release(freed.slots);
        }
        if freed.slots > 0 || takes_calls_again {
            self.serve_queue();
        }
        after
    }

    /// Whether a call waits for bytes of the peer's.
    pub(in crate::transport) fn has_open_calls(&self) -> bool {
        self.lock_streams().has_open()
    }

    /// The peer is silent, or no longer. The slots know it at once, and then its backend.
    pub(in crate::transport) fn set_silence(&self, silence: Option<Silence>) {
        let is_silent = silence.is_some();
        *lock(&self.0.silence) = silence;
        self.0.slots.set_silent(is_silent);
        if let Some(rule) = &self.0.context.silence {
            rule.on_changed();
        }
        if !is_silent {
            self.serve_queue();
        }
    }

    /// Whether the peer is silent, and since when.
    pub(crate) fn silence(&self) -> Option<Silence> {
        lock(&self.0.silence).clone()
    }

    /// It is the outcome of its dial.
    pub(in crate::transport) fn on_dialled(&self) {
        self.0.context.meter.on_dialled(self.0.config.secure);
    }

    /// Its backend has no more use for it: takes no new streams from now on. Its streams go on.
    pub(crate) fn stop_new_calls(&self) {
        let why = Cause::new(CauseKind::Disconnected, "the subchannel was stopped");
        let why = why.with_disconnect_error(SHUTDOWN);
        self.close_to_new_streams(Stage::Draining(why));
    }

    /// The connection is over, and all its streams.
    pub(in crate::transport) fn end_streams(&self) {
        self.lock_streams().end_all();
        self.follow_streams();
    }

    /// Has the driver end `what` at this time, however little its reader does.
    pub(in crate::transport) fn add_deadline(
        &self,
        at: time::Instant,
        what: Weak<dyn HeldBody>,
    ) -> DeadlineKey {
        let key = self.0.deadlines.add(at, what);
        self.wake_driver();
        key
    }

    pub(in crate::transport) fn remove_deadline(&self, key: DeadlineKey) {
        self.0.deadlines.remove(key);
    }

    /// The earliest deadline, if there is any.
    pub(in crate::transport) fn next_deadline(&self) -> Option<time::Instant> {
        self.0.deadlines.next()
    }

    /// Ends what is over by `now`.
    pub(in crate::transport) fn expire(&self, now: time::Instant) {
        for what in self.0.deadlines.take_until(now) {
            if let Some(what) = what.upgrade() {
                what.end(body::expired(self.address()));
            }
        }
    }

    /// Counts what is not read, and ends what `cap` says.
    pub(in crate::transport) fn count_unread(&self, cap: &mut UnreadCap) {
        // Bodies are asked without the lock, for they take it themselves.
        let received = self.lock_streams().received();
        let counted = received.into_iter().filter_map(count);
        let (hoards, bodies): (Vec<_>, Vec<_>) = counted.unzip();
        for at in cap.on_counted(&hoards) {
            if let Some(body) = &bodies[at] {
                body.end(body::hoards(self.address(), hoards[at].cost, cap.most()));
            }
        }
    }
}

/// What a call has that is not read. None if it has let go of it meanwhile.
fn count(received: Received) -> Option<(Hoard, Option<Arc<dyn HeldBody>>)> {
    let Received { stream, came, body } = received;
    let Some(body) = body else {
        // Its headers are not asked for, or it is whole and small.
        let cost = came.cost();
        let hoard = Hoard {
            stream,
            cost,
            frames: None,
        };
        return Some((hoard, None));
    };
    let body = body.upgrade()?;
    let progress = body.progress()?;
    let cost = came.cost_of_rest(progress.unread, progress.frames);
    let frames = Some(progress.frames);
    Some((
        Hoard {
            stream,
            cost,
            frames,
        },
        Some(body),
    ))
}
