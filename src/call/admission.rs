//! How a call gets a slot on a connection: at once, or by waiting for it.

use std::{
    future::{Future, poll_fn},
    time::Duration,
};

use bytes::Bytes;
use http::HeaderMap;
use tokio::{select, time::Instant};
use tonic::{Status, body::Body};

use super::record::Wait;
use crate::{
    error::{Error, ErrorKind},
    routing::{Board, Candidates, ChannelStatus, Pick, PickInfo, Probes},
    transport::{
        CallSlot, ConnectionGroup, Deadline, Limit, OutgoingRequest, SendError, Ticket,
        limit_after, sooner,
    },
    util::clock::now,
};

/// A body of a response, on its way to its box.
pub(super) trait Frames:
    http_body::Body<Data = Bytes, Error = Status> + Send + Unpin + 'static
{
}

impl<B: http_body::Body<Data = Bytes, Error = Status> + Send + Unpin + 'static> Frames for B {}

/// The ways in which the attempts of one policy differ from those of another. Above all, it
/// chooses among the backends that are offered.
///
/// The hooks that do nothing here are for what is [recorded](super::recorded) of a call. They cost
/// nothing where they stay so.
pub(super) trait Preference: Send {
    /// A slot on one of them, if there is one now.
    fn admit(&self, candidates: Candidates<'_, ConnectionGroup>) -> Option<CallSlot>;

    /// A slot of a probe on one of these silent backends, if there is one now.
    fn probe(&self, probes: Probes<'_, ConnectionGroup>) -> Option<CallSlot>;

    /// The call goes out on this slot, which is given back. A caller that lent it would keep it
    /// in the future of every call.
    fn on_slot(&mut self, slot: CallSlot) -> CallSlot;

    /// Puts the body of the response into its box.
    fn wrap<B: Frames>(&mut self) -> impl FnOnce(B) -> Body + Send {
        Body::new
    }

    /// An attempt begins, or the next because no backend has looked at the request (`again`).
    #[inline(always)]
    fn begin(&mut self, _request: &mut OutgoingRequest, _again: bool) {}

    /// The call has to wait for a backend.
    #[inline(always)]
    fn on_wait(&self) -> Option<Wait> {
        None
    }

    /// The attempt has no response.
    #[inline(always)]
    fn on_failed(&mut self, _error: &SendError) {}
}

/// The first that has a free slot.
pub(super) struct AnyBackend;

impl Preference for AnyBackend {
    #[inline(always)]
    fn admit(&self, mut candidates: Candidates<'_, ConnectionGroup>) -> Option<CallSlot> {
        let round = candidates.round();
        candidates.find_map(|backend| backend.admit(round))
    }

    fn probe(&self, mut probes: Probes<'_, ConnectionGroup>) -> Option<CallSlot> {
        probes.find_map(|backend| backend.admit(0))
    }

    #[inline(always)]
    fn on_slot(&mut self, slot: CallSlot) -> CallSlot {
        slot
    }
}

/// What a call is told that asks for a slot.
pub(super) enum Admission {
    Now(CallSlot),
    /// It has to wait. It has had its turn if it found every READY backend full. If it does not
    /// join those that did, it waits for another routing.
    Later {
        had_turn: bool,
        joins: bool,
    },
    /// It is to fail, once it has let the channel's tasks run.
    Failing,
}

/// The answer without waiting. Never overtakes a call that waits for a slot. One that is not
/// patient fails in TRANSIENT_FAILURE, if it `has_waited` for the channel's tasks.
pub(super) fn try_admit(
    board: &Board,
    patient: bool,
    has_waited: bool,
    info: &mut impl PickInfo,
    preference: &impl Preference,
) -> Result<Admission, Error> {
    let routing = board.routing();
    let overtakes = !board.queue().is_empty();
    let pick = match overtakes {
        false => routing.picker.pick(info),
        true => routing.picker.peek_for(info),
    };
    let (had_turn, joins) = match pick {
        Pick::Send(candidates) if !overtakes => {
            if let Some(slot) = preference.admit(candidates) {
                return Ok(Admission::Now(slot));
            }
            (true, true)
        }
        Pick::Send(_) => (false, true),
        Pick::Probe(probes) => {
            return match preference.probe(probes) {
                Some(slot) => Ok(Admission::Now(slot)),
                None => admit_past_probes(board, patient, has_waited, info, preference),
            };
        }
        Pick::Wait | Pick::Connect => (false, false),
        Pick::Fail if patient => (false, false),
        Pick::Fail if !has_waited => return Ok(Admission::Failing),
        Pick::Fail => return Err(unavailable(board, &routing.status)),
        Pick::Closed => return Err(board.closed()),
    };
    Ok(Admission::Later { had_turn, joins })
}

/// The answer for a call that is not a probe, though backends are silent. Apart from
/// [`try_admit`], which is on the path of every call.
#[cold]
#[inline(never)]
fn admit_past_probes(
    board: &Board,
    patient: bool,
    has_waited: bool,
    info: &mut impl PickInfo,
    preference: &impl Preference,
) -> Result<Admission, Error> {
    let routing = board.routing();
    let had_turn = match routing.picker.pick_past_probes(info) {
        Pick::Send(candidates) => match preference.admit(candidates) {
            Some(slot) => return Ok(Admission::Now(slot)),
            None => true,
        },
        Pick::Fail if !patient && !has_waited => return Ok(Admission::Failing),
        Pick::Fail if !patient => return Err(unavailable(board, &routing.status)),
        Pick::Closed => return Err(board.closed()),
        Pick::Wait | Pick::Connect | Pick::Fail | Pick::Probe(_) => false,
    };
    let joins = had_turn;
    Ok(Admission::Later { had_turn, joins })
}

/// A slot on a READY backend's connection, as soon as there is one.
pub(super) async fn admit(
    board: &Board,
    patient: bool,
    had_turn: bool,
    info: &mut impl PickInfo,
    preference: &impl Preference,
    deadline: &mut Deadline,
) -> Result<CallSlot, Error> {
    let waited = wait(board, patient, had_turn, info, preference);
    let slot = wait_for_backend(board, deadline, waited).await;
    slot.unwrap_or_else(|limit| Err(expired_in_wait(board, limit, info)))
}

/// What `waited` gives, or the limit of the call, or that of a wait for a backend: what its
/// endpoints say, which may not be known at first.
pub(super) async fn wait_for_backend<F: Future>(
    board: &Board,
    deadline: &mut Deadline,
    waited: F,
) -> Result<F::Output, Limit> {
    let (began, own) = (Instant::now(), deadline.limit());
    let limit = || sooner(own, limit_after(began, board.routing().wait_timeout));
    deadline.wait(limit, || board.runtime(), waited).await
}

pub(super) async fn wait(
    board: &Board,
    patient: bool,
    mut had_turn: bool,
    info: &mut impl PickInfo,
    preference: &impl Preference,
) -> Result<CallSlot, Error> {
    let _counted = board.start_waiting()?;
    let mut routing_changed = board.routing_changed();
    let mut ticket: Option<Ticket<CallSlot>> = None;
    loop {
        let is_ready = ask(board, patient)?;
        let mut joins = is_ready;
        // A call has its own turn before it joins those that found every backend full. If it
        // joined at once, it would be served in the turn of another.
        if is_ready && ticket.is_none() && !had_turn {
            match try_admit(board, patient, true, info, preference)? {
                Admission::Now(slot) => return Ok(slot),
                Admission::Later {
                    had_turn: had,
                    joins: may_join,
                } => (had_turn, joins) = (had, may_join),
                Admission::Failing => unreachable!("it has waited"),
            }
        }
        match joins {
            true => {
                // First join, then look for free slots, in a routing loaded
                // after that: whoever frees or publishes one before is seen
                // here, and whoever does so after sees this ticket.
                ticket.get_or_insert_with(|| board.queue().join());
                let routing = board.routing();
                serve_queue(match had_turn {
                    true => routing.picker.peek(),
                    false => routing.picker.pick_past_probes(info),
                });
            }
            false => ticket = None,
        }
        had_turn = ticket.is_some();
        match &mut ticket {
            Some(ticket) => select! {
                biased;
                slot = taken(board, ticket) => return Ok(slot),
                _ = routing_changed.changed() => {}
            },
            None => {
                // The board outlives this borrow, and with it the sender.
                let _ = routing_changed.changed().await;
            }
        }
    }
}

/// The slot of a ticket. One that was passed over, as it was not polled, looks for free slots
/// as a newcomer does.
async fn taken(board: &Board, ticket: &mut Ticket<CallSlot>) -> CallSlot {
    let serve = || serve_queue(board.routing().picker.peek());
    poll_fn(|cx| ticket.poll_and_serve(cx, serve)).await
}

/// Whether there are backends to send to. Wakes a channel that is IDLE.
pub(super) fn ask(board: &Board, patient: bool) -> Result<bool, Error> {
    let routing = board.routing();
    match routing.picker.peek() {
        Pick::Send(_) | Pick::Probe(_) => return Ok(true),
        Pick::Wait => {}
        Pick::Connect => board.wake(),
        Pick::Fail if patient => {}
        Pick::Fail => return Err(unavailable(board, &routing.status)),
        Pick::Closed => return Err(board.closed()),
    }
    Ok(false)
}

/// Gives free slots to calls that wait, in this order.
fn serve_queue(pick: Pick<'_, ConnectionGroup>) {
    if let Pick::Send(candidates) = pick {
        candidates.for_each(ConnectionGroup::serve_queue);
    }
}

/// What `waited` gives, or the error of a call that has waited as long for a backend.
pub(crate) async fn wait_within<F: Future>(
    board: &Board,
    timeout: Duration,
    waited: F,
) -> Result<F::Output, Error> {
    let mut deadline = Deadline::within(timeout);
    let limit = deadline.limit();
    let outcome = deadline.wait(|| limit, || board.runtime(), waited).await;
    outcome.map_err(|limit| expired_without_backend(board, limit))
}

pub(super) fn expired_without_backend(board: &Board, limit: Limit) -> Error {
    let status = &board.routing().status;
    let why = status.explain(now());
    let error = limit.expired(&format!("for a backend: {why}"));
    error.caused_by(status.origin().cloned())
}

/// The same for this call, which may have waited for one backend alone.
fn expired_in_wait(board: &Board, limit: Limit, info: &mut impl PickInfo) -> Error {
    let routing = board.routing();
    match (routing.picker.peek(), routing.picker.peek_for(info)) {
        (Pick::Send(_), Pick::Wait) => {
            let why = routing.status.explain_key(now());
            limit.expired(&format!("for a backend: {why}"))
        }
        _ => expired_without_backend(board, limit),
    }
}

fn unavailable(board: &Board, status: &ChannelStatus) -> Error {
    board.standstill().on_failed_call();
    let error = Error::new(ErrorKind::Unavailable, status.explain(now()));
    error.caused_by(status.origin().cloned())
}

impl PickInfo for OutgoingRequest {
    fn path(&self) -> &str {
        self.path()
    }

    fn headers(&mut self) -> &HeaderMap {
        self.headers_mut()
    }

    fn random(&mut self) -> u64 {
        fastrand::u64(..)
    }
}
