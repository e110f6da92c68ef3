//! Timers that guard IO, where tests pause tokio's clock.
//!
//! A paused clock jumps to the next timer when every task waits, also if one waits for a
//! socket. A timer that bounds the wait for a peer would then be over before the peer could
//! answer. So when it fires, std's clock is asked, too: if not as much real time has passed,
//! tokio's clock is held until it has, or the peer has answered. A blocking task does that,
//! beside which no paused clock jumps. A clock that runs is never ahead of std's, and nothing
//! is held.

use std::{
    future::{Future, poll_fn},
    pin::Pin,
    sync::mpsc,
    task::{Context, Poll, ready},
    time::{Duration, Instant},
};

use tokio::{
    select,
    task::{self, JoinHandle, unconstrained},
};

use super::clock;

/// How far the clocks may be apart before it is a jump: they are read one after the other.
const SLACK: Duration = Duration::from_millis(20);

/// The real time of a timer that guards IO.
#[derive(Default)]
pub(crate) struct RealTime {
    /// When the timer fires, by both clocks.
    set: Option<(Instant, Option<Instant>)>,
    hold: Option<Hold>,
}

impl RealTime {
    /// The timer fires at `at`, from now on. One that is set already goes on.
    pub(crate) fn set(&mut self, at: Instant) {
        if self.set.is_none_or(|(set, _)| set != at) {
            // Read first, so that it is not late if this thread has to wait here.
            let real = real_now();
            let left = at.saturating_duration_since(clock::now());
            self.set = Some((at, real.checked_add(left)));
            self.hold = None;
        }
    }

    /// Once the timer has fired: ready when its real time is over. Until then tokio's
    /// clock does not jump.
    pub(crate) fn poll_over(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        while let Some((_, Some(over))) = self.set {
            let left = over.saturating_duration_since(real_now());
            if left <= SLACK {
                break;
            }
            let hold = self.hold.get_or_insert_with(|| Hold::start(left));
            ready!(hold.poll(cx));
            self.hold = None;
        }
        self.hold = None;
        Poll::Ready(())
    }

    /// Sleeps until `at`; if that `guards_io`, by std's clock, too. `None` is never.
    ///
    /// # Cancel safety
    ///
    /// With the same `at` it goes on where it was.
    pub(crate) async fn sleep_until(&mut self, at: Option<Instant>, guards_io: bool) {
        match at {
            Some(at) if guards_io => self.set(at),
            _ => *self = Self::default(),
        }
        clock::sleep_until(at).await;
        poll_fn(|cx| self.poll_over(cx)).await;
    }
}

/// What `io` comes to within `limit`, or `None`.
pub(crate) async fn timeout_io<F: Future>(
    limit: Duration,
    guards_io: bool,
    io: F,
) -> Option<F::Output> {
    let mut real_time = RealTime::default();
    let timer = real_time.sleep_until(clock::now().checked_add(limit), guards_io);
    select! {
        biased;
        output = io => Some(output),
        // Also while the peer has more to say than one poll may read.
        () = unconstrained(timer) => None,
    }
}

/// A task on a thread, beside which no paused clock jumps. It ends when this is dropped.
struct Hold {
    task: JoinHandle<()>,
    _release: mpsc::Sender<()>,
}

impl Hold {
    fn start(time: Duration) -> Self {
        let (release, released) = mpsc::channel::<()>();
        let task = task::spawn_blocking(move || {
            let _ = released.recv_timeout(time);
        });
        Self {
            task,
            _release: release,
        }
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        Pin::new(&mut self.task).poll(cx).map(drop)
    }
}

/// The one look at a clock that tests cannot pause.
#[expect(
    clippy::disallowed_methods,
    reason = "peers and sockets take their time by this clock"
)]
fn real_now() -> Instant {
    Instant::now()
}
