//! How a call gets a slot on a connection: at once, or by waiting for it.

use tokio::select;

use super::deadline::{Deadline, Limit};
use crate::{
    error::{Error, ErrorKind},
    routing::{Board, Pick, Status},
    transport::{Admitted, Connections, Place},
    util::clock::now,
};

/// The answer, if there is one without waiting. Never overtakes a call that
/// waits for a slot.
pub(super) fn try_admit(board: &Board, patient: bool) -> Result<Option<Admitted>, Error> {
    let routing = board.routing();
    Ok(match routing.picker.pick() {
        Pick::Send(mut candidates) if board.queue().is_empty() => {
            let round = candidates.round();
            candidates.find_map(|backend| backend.admit(round))
        }
        Pick::Send(_) | Pick::Wait | Pick::Connect => None,
        Pick::Fail if patient => None,
        Pick::Fail => return Err(unavailable(&routing.status)),
        Pick::Closed => return Err(closed()),
    })
}

/// A slot on a READY backend's connection, as soon as there is one.
pub(super) async fn admit(
    board: &Board,
    patient: bool,
    deadline: &mut Deadline,
) -> Result<Admitted, Error> {
    let limit = deadline.limit();
    let admitted = deadline.wait(limit, wait(board, patient)).await;
    admitted.unwrap_or_else(|limit| Err(expired_without_backend(board, limit)))
}

pub(super) async fn wait(board: &Board, patient: bool) -> Result<Admitted, Error> {
    let _counted = board.start_waiting()?;
    let mut bell = board.bell();
    let mut place: Option<Place> = None;
    loop {
        ask_again(board, patient, &mut place)?;
        match &mut place {
            Some(place) => select! {
                biased;
                admitted = place => return Ok(admitted),
                _ = bell.changed() => {}
            },
            None => {
                // The board outlives this borrow, and with it the bell.
                let _ = bell.changed().await;
            }
        }
    }
}

/// Asks the picker in force, and takes or leaves the place in the queue for
/// a slot accordingly.
pub(super) fn ask_again(
    board: &Board,
    patient: bool,
    place: &mut Option<Place>,
) -> Result<(), Error> {
    let routing = board.routing();
    match routing.picker.pick() {
        Pick::Send(_) => {
            // First join, then look for free slots, in a routing loaded
            // after that: whoever frees or publishes one before is seen
            // here, and whoever does so after sees this place.
            if place.is_none() {
                *place = Some(board.queue().join());
            }
            if let Pick::Send(candidates) = board.routing().picker.pick() {
                candidates.for_each(Connections::serve_queue);
            }
            return Ok(());
        }
        Pick::Wait => {}
        Pick::Connect => board.wake(),
        Pick::Fail if patient => {}
        Pick::Fail => return Err(unavailable(&routing.status)),
        Pick::Closed => return Err(closed()),
    }
    *place = None;
    Ok(())
}

pub(super) fn expired_without_backend(board: &Board, limit: Limit) -> Error {
    let why = board.routing().status.explain(now());
    limit.expired(&format!("for a backend: {why}"))
}

fn unavailable(status: &Status) -> Error {
    Error::new(ErrorKind::Unavailable, status.explain(now()))
}

fn closed() -> Error {
    Error::new(ErrorKind::Closed, "the channel is closed")
}
