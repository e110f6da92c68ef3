//! tokio's clock, which tests can pause, in the terms of the machines, and its timers for
//! those who have no runtime of their own.

use std::{
    future::{Future, pending},
    panic::{AssertUnwindSafe, catch_unwind},
    pin::Pin,
    task::{Context, Poll},
    time::Instant,
};

use tokio::{
    runtime::Handle,
    time::{self, Sleep},
};

/// What time it is.
pub(crate) fn now() -> Instant {
    time::Instant::now().into_std()
}

/// Sleeps until `at`. `None` is never.
///
/// # Cancel safety
///
/// Nothing is lost.
pub(crate) async fn sleep_until(at: Option<Instant>) {
    or_pending(at.map(|at| time::sleep_until(at.into()))).await;
}

/// Awaits `future`. `None` is never ready.
///
/// # Cancel safety
///
/// As safe as `future`.
pub(crate) async fn or_pending<F: Future>(future: Option<F>) -> F::Output {
    match future {
        Some(future) => future.await,
        None => pending().await,
    }
}

/// A timer of `runtime`, to be polled by [`poll_timer`].
pub(crate) fn timer_on(runtime: &Handle, at: time::Instant) -> Sleep {
    let _context = runtime.enter();
    time::sleep_until(at)
}

/// Polls a timer wherever a caller is, after all that ends with the timer's runtime.
///
/// A runtime that ends drops its tasks, then its timers. Between two polls of a caller it can do
/// both, and tokio panics over the second. The first has woken the caller, so this one waits.
pub(crate) fn poll_timer(timer: Pin<&mut Sleep>, cx: &mut Context<'_>) -> Poll<()> {
    let polled = catch_unwind(AssertUnwindSafe(|| timer.poll(cx)));
    polled.unwrap_or(Poll::Pending)
}

#[cfg(test)]
mod tests {
    use std::{
        pin::pin,
        task::{Context, Waker},
        time::Duration,
    };

    use tokio::{runtime::Builder, time::Instant};

    use super::{poll_timer, timer_on};

    // D231
    #[test]
    fn a_timer_whose_runtime_has_ended_is_no_panic() {
        let runtime = Builder::new_current_thread().enable_time().build();
        let runtime = runtime.expect("a runtime");
        let at = Instant::now() + Duration::from_secs(60);
        let mut polled = pin!(timer_on(runtime.handle(), at));
        let mut fresh = pin!(timer_on(runtime.handle(), at));
        let mut cx = Context::from_waker(Waker::noop());
        assert!(poll_timer(polled.as_mut(), &mut cx).is_pending());
        drop(runtime);
        assert!(poll_timer(polled.as_mut(), &mut cx).is_pending());
        assert!(poll_timer(fresh.as_mut(), &mut cx).is_pending());
    }
}
