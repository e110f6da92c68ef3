//! What drives one connection, from its SETTINGS to its end.

use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll, Waker, ready},
};

use h2::Reason;
use tokio::time::{self, Instant, Sleep};

use super::{
    close_timeout::CloseTimeout, liveness::Liveness, windows::Windows, wire::Http2Connection,
    write_timeout::WriteTimeout,
};
use crate::{
    error::{Cause, CauseKind},
    transport::{
        connection::{Connection, Offers, Stage, WeakConnection},
        words::{
            disconnect::{SHUTDOWN, timed_out},
            h2_error::{disconnected, end_of, is_from_peer, why_ended},
        },
    },
};

/// What a server says in the GOAWAY for it (gRFC A8).
const TOO_MANY_PINGS: &str = "too_many_pings";

/// Drives one connection until it closes.
///
/// It holds no handle, because `h2` closes gracefully only when none is left;
/// it borrows one after each poll to tell what the poll brought.
pub(super) struct Driver {
    /// None once it has resolved: dropped at once, so that its socket closes.
    h2: Option<Http2Connection>,
    /// None once it has been told of too many PINGs, too.
    liveness: Option<Box<Liveness>>,
    close_timeout: CloseTimeout,
    write_timeout: WriteTimeout,
    /// What streams may send ahead of their readers.
    windows: Windows,
    /// For the earliest deadline of a stream, while there is one.
    deadline: Option<Pin<Box<Sleep>>>,
    handle: WeakConnection,
    /// What the connection wakes the driver by.
    waker: Option<Waker>,
    /// The last poll was spent on waiting for callers.
    has_waited: bool,
    /// Several calls were in flight when the last poll began: those that it has ended are
    /// likely to be followed by others.
    was_busy: bool,
    /// The slots that callers had been offered before that poll.
    offers: Option<Offers>,
}

impl Future for Driver {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        ready!(self.yield_to_callers(cx));
        let outcome = self.drive_h2(cx);
        let Some(connection) = self.handle.upgrade() else {
            return self.close_in_time(cx, outcome);
        };
        let why = match outcome {
            Poll::Ready(outcome) => self.end_of_h2(outcome, &connection),
            Poll::Pending => match self.follow_peer(cx, &connection) {
                Err(why) => why,
                Ok(came) => {
                    self.expire_streams(cx, &connection);
                    ready!(self.drive_liveness(cx, came, &connection))
                }
            },
        };
        self.close(why, &connection);
        Poll::Ready(())
    }
}

impl Driver {
    pub(super) fn new(
        h2: Http2Connection,
        liveness: Option<Box<Liveness>>,
        write_timeout: WriteTimeout,
        windows: Windows,
        connection: &Connection,
    ) -> Self {
        Self {
            h2: Some(h2),
            liveness,
            close_timeout: CloseTimeout::default(),
            write_timeout,
            windows,
            deadline: None,
            handle: connection.downgrade(),
            waker: None,
            has_waited: false,
            was_busy: false,
            offers: None,
        }
    }

    /// Leaves this poll to tasks that are ready to run, once after each wake-up.
    ///
    /// On a runtime of several threads a task that is woken runs next, so the first of
    /// many callers would have its request written alone. At the end of the queue the
    /// driver comes to find the requests of all of them, and writes them together. A
    /// single call has nobody to wait for.
    fn yield_to_callers(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let connection = self.handle.upgrade();
        self.has_waited = !self.has_waited
            && connection.as_ref().is_some_and(|connection| {
                self.offers = connection.offers();
                self.was_busy || connection.calls_in_flight() > 1 || self.offers.is_some()
            });
        if !self.has_waited
            && let Some(connection) = connection
        {
            // Nearly always the same.
            if !self
                .waker
                .as_ref()
                .is_some_and(|waker| waker.will_wake(cx.waker()))
            {
                self.waker = Some(cx.waker().clone());
                connection.set_driver(cx.waker().clone());
            }
            if let Some(offers) = self.offers.take() {
                connection.pass_on(offers);
            }
        }
        match self.has_waited {
            true => {
                cx.waker().wake_by_ref();
                Poll::Pending
            }
            false => Poll::Ready(()),
        }
    }

    /// Reads and writes. Ready when `h2` has ended the connection.
    fn drive_h2(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), h2::Error>> {
        match &mut self.h2 {
            Some(h2) => Pin::new(h2).poll(cx),
            None => Poll::Ready(Ok(())),
        }
    }

    /// The last handle is gone: `h2` closes by itself, or is closed when the time for
    /// that is over.
    fn close_in_time(
        &mut self,
        cx: &mut Context<'_>,
        outcome: Poll<Result<(), h2::Error>>,
    ) -> Poll<()> {
        if outcome.is_pending() {
            ready!(self.close_timeout.poll(cx));
        }
        self.h2 = None;
        Poll::Ready(())
    }

    /// Takes over what the peer has done to streams, and what it says of new ones: its limit,
    /// or a GOAWAY. How much DATA has come.
    ///
    /// # Errors
    ///
    /// The reason why the connection is to be closed.
    fn follow_peer(
        &mut self,
        cx: &mut Context<'_>,
        connection: &Connection,
    ) -> Result<usize, Cause> {
        self.was_busy = connection.calls_in_flight() > 1;
        let after = connection.follow_streams();
        if after.polls_again || (after.asks_peer && self.ask_peer(connection)) {
            cx.waker().wake_by_ref();
        }
        if self.windows.is_due(cx, after.came) {
            connection.count_unread(&mut self.windows.cap);
        }
        if let Some(h2) = &mut self.h2
            && self.windows.follow_cap(h2)
        {
            cx.waker().wake_by_ref();
        }
        let blocked = self.write_timeout.poll(cx, after.blocked_since);
        if let Poll::Ready(why) = blocked {
            return Err(timed_out(why));
        }
        let Some(error) = end_of(connection.send()) else {
            if let Some(h2) = &self.h2 {
                connection.set_limit(h2.max_concurrent_send_streams());
            }
            return Ok(after.came);
        };
        self.calm_down(&error, connection);
        let why = disconnected(&error);
        // The peer broke the protocol and every stream has failed. If the GOAWAY has to
        // wait, it is for one who does not read.
        if error.is_library() {
            return Err(why);
        }
        connection.close_to_new_streams(Stage::Draining(why));
        Ok(after.came)
    }

    /// Has the peer acknowledge SETTINGS that change nothing, to see that it reads. A PING
    /// would do the same, but servers count PINGs (gRFC A8).
    fn ask_peer(&mut self, connection: &Connection) -> bool {
        let h2 = self.h2.as_mut();
        let is_asked = h2.is_some_and(|h2| self.windows.repeat(h2));
        connection.lock_streams().on_question(is_asked);
        is_asked
    }

    /// Ends the streams whose deadline is over and whose reader has not noticed.
    fn expire_streams(&mut self, cx: &mut Context<'_>, connection: &Connection) {
        while let Some(at) = connection.next_deadline() {
            let timer = self
                .deadline
                .get_or_insert_with(|| Box::pin(time::sleep_until(at)));
            if timer.deadline() != at {
                timer.as_mut().reset(at);
            }
            if timer.as_mut().poll(cx).is_pending() {
                return;
            }
            connection.expire(Instant::now());
        }
        self.deadline = None;
    }

    /// Sends PINGs to a peer that sends nothing. The reason if the connection ends for that.
    fn drive_liveness(
        &mut self,
        cx: &mut Context<'_>,
        came: usize,
        connection: &Connection,
    ) -> Poll<Cause> {
        let Some(liveness) = &mut self.liveness else {
            return Poll::Pending;
        };
        let why = ready!(liveness.poll(cx, came, connection));
        Poll::Ready(timed_out(why))
    }

    /// Why `h2` has ended the connection.
    fn end_of_h2(&mut self, outcome: Result<(), h2::Error>, connection: &Connection) -> Cause {
        match why_ended(outcome, connection.send()) {
            Some(error) => {
                self.calm_down(&error, connection);
                disconnected(&error)
            }
            None => Cause::new(
                CauseKind::Disconnected,
                "the peer closed the connection (transport is closing)",
            ),
        }
    }

    /// Tells the handles, then closes the socket: that fails the streams, and the slots
    /// that they leave are not to be handed to calls that wait.
    fn close(&mut self, why: Cause, connection: &Connection) {
        connection.close_to_new_streams(Stage::Closed(why));
        self.h2 = None;
        connection.end_streams();
    }

    /// A server that is sent too many PINGs ends the connection (gRFC A8); so do the
    /// next ones to its backend not get as many.
    fn calm_down(&mut self, error: &h2::Error, connection: &Connection) {
        let is_about_pings = is_from_peer(error)
            && error.reason() == Some(Reason::ENHANCE_YOUR_CALM)
            && error.to_string().contains(TOO_MANY_PINGS);
        // PINGs on a connection that takes no new streams are not missed.
        if let Some(liveness) = self.liveness.take_if(|_| is_about_pings) {
            liveness.calm_down(connection);
        }
    }
}

/// A driver whose runtime goes away takes its connection with it.
impl Drop for Driver {
    fn drop(&mut self) {
        if let (Some(_), Some(connection)) = (self.h2.take(), self.handle.upgrade()) {
            let why = "the connection's runtime has ended";
            let why = Cause::new(CauseKind::Disconnected, why).with_disconnect_error(SHUTDOWN);
            connection.close_to_new_streams(Stage::Closed(why));
            connection.end_streams();
        }
    }
}
