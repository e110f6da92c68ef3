//! The last words of a connection that nobody holds any more.

use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use tokio::time::{self, Sleep};

/// Far more than it takes to write them to a socket.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(5);

/// Bounds the time in which `h2` may close such a connection. By itself it waits until
/// everything is written, which a peer can prevent for ever: one that reads nothing, or
/// that has answered a call and takes no more of its request.
#[derive(Default)]
pub(super) struct CloseTimeout(Option<Pin<Box<Sleep>>>);

impl CloseTimeout {
    /// Resolves when the time is over that began with the first poll.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let timer = self
            .0
            .get_or_insert_with(|| Box::pin(time::sleep(CLOSE_TIMEOUT)));
        timer.as_mut().poll(cx)
    }
}
