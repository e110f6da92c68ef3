//! What a call does for the channel's tasks, where they run only because it waits for them:
//! before it fails in TRANSIENT_FAILURE, and before it takes a connection that has rested.

use std::time::Duration;

use tokio::task::yield_now;

use crate::{routing::Board, transport::Deadline};

/// How long a call drives an attempt to connect, at most.
const LONGEST_DRIVE: Duration = Duration::from_secs(1);

/// How often a call yields for what is no attempt to connect, such as news of health that the
/// socket has: from socket to publication it goes through four tasks.
const TURNS: usize = 16;

/// Lets the channel's tasks run before a call fails in TRANSIENT_FAILURE.
///
/// Where something else drives them, as nearly always, that is one yield: a loop of calls that
/// fail does not keep them out. Where nothing has driven them since the last call failed, this
/// call does: the attempts to connect that wait are made now, 100 ms after those before them at
/// the earliest, and waited for, for [`LONGEST_DRIVE`] or what the deadline leaves.
pub(super) async fn let_tasks_run(board: &Board, deadline: &mut Deadline) {
    if !board.standstill().is_on() {
        return yield_now().await;
    }
    let attempts = board.routing().status.attempts();
    if attempts.is_empty() {
        for _ in 0..TURNS {
            yield_now().await;
        }
        return;
    }
    board.standstill().hurry();
    let mut status = board.status();
    let limit = deadline.limit_within(LONGEST_DRIVE);
    let over = status.wait_for(|status| !status.makes_any_of(&attempts));
    // However that ends, the call looks at what is published then.
    let runtime = || board.runtime();
    let _ = deadline.wait(|| Some(limit), runtime, over).await;
}

/// Lets the driver of a connection read what its socket has, such as the end: the first yield
/// is for the socket to be looked at, the second for the driver.
pub(super) async fn let_driver_read() {
    yield_now().await;
    yield_now().await;
}
