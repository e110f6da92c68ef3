//! Code of the application, called so that its panic is a value.
//!
//! A connector, a source or a request body may panic. Our tasks go on: what has panicked is
//! not polled again, and its text becomes the cause of what follows.
//!
//! It may panic when it is dropped, too: in the middle of our work, or during another panic,
//! which would end the process. So what is plugged in is [`Contained`] for as long as we have it.

use std::{
    any::Any,
    future::{Future, poll_fn},
    mem,
    ops::{Deref, DerefMut},
    panic::{AssertUnwindSafe, catch_unwind},
    pin::{Pin, pin},
    task::{Context, Poll},
};

use tracing::error;

use crate::error::sanitize_peer_text;

/// The target of what is logged here; see the crate's documentation.
const CHANNEL: &str = "tonic_health_channel::channel";

/// What `call` returns, or what it said when it panicked, in one line.
pub(crate) fn contained<T>(call: impl FnOnce() -> T) -> Result<T, String> {
    catch_unwind(AssertUnwindSafe(call)).map_err(text)
}

/// The same for each poll of a future.
pub(crate) async fn contained_future<T>(future: impl Future<Output = T>) -> Result<T, String> {
    let mut future = pin!(future);
    poll_fn(|cx| match contained(|| future.as_mut().poll(cx)) {
        Ok(Poll::Pending) => Poll::Pending,
        Ok(Poll::Ready(output)) => Poll::Ready(Ok(output)),
        Err(text) => Poll::Ready(Err(text)),
    })
    .await
}

/// A value of the application's. A panic when it is dropped is logged, and goes no further.
#[derive(Clone)]
pub(crate) struct Contained<T>(Option<T>);

const UNTIL: &str = "it is there until it is dropped";

impl<T> Contained<T> {
    pub(crate) fn new(value: T) -> Self {
        Self(Some(value))
    }
}

impl<T> Deref for Contained<T> {
    type Target = T;

    fn deref(&self) -> &T {
        self.0.as_ref().expect(UNTIL)
    }
}

impl<T> DerefMut for Contained<T> {
    fn deref_mut(&mut self) -> &mut T {
        self.0.as_mut().expect(UNTIL)
    }
}

impl<T: ?Sized> AsRef<T> for Contained<Box<T>> {
    fn as_ref(&self) -> &T {
        self
    }
}

impl<F: Future + Unpin> Future for Contained<F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        Pin::new(&mut **self).poll(cx)
    }
}

impl<T> Drop for Contained<T> {
    fn drop(&mut self) {
        if let Some(value) = self.0.take()
            && let Err(panic) = contained(|| drop(value))
        {
            let what = "code of the application panicked when it was dropped";
            // A subscriber is code of the application, too.
            let _ = contained(|| error!(target: CHANNEL, panic, "{what}"));
        }
    }
}

fn text(panic: Box<dyn Any + Send>) -> String {
    let said = match (panic.downcast_ref::<&str>(), panic.downcast_ref::<String>()) {
        (Some(said), _) => said,
        (_, Some(said)) => said.as_str(),
        (None, None) => {
            // To drop it is a call of the application's code, too.
            mem::forget(panic);
            return "the panic has no text".to_owned();
        }
    };
    sanitize_peer_text(said).into_owned()
}

#[cfg(test)]
mod tests {
    use std::panic::panic_any;

    use super::{Contained, contained, contained_future};

    struct Mine;

    impl Drop for Mine {
        fn drop(&mut self) {
            panic!("dropped");
        }
    }

    #[test]
    fn a_panic_is_one_line_of_text() {
        assert_eq!(contained(|| 5), Ok(5));
        let text = contained(|| panic!("a\nb")).map(|(): ()| ());
        assert_eq!(text, Err("a\\nb".to_owned()));
        let text = contained(|| panic!("{} of {}", 1, 2)).map(|(): ()| ());
        assert_eq!(text, Err("1 of 2".to_owned()));
    }

    #[test]
    fn a_panic_without_text_is_not_touched() {
        let text = contained(|| panic_any(Mine)).map(|(): ()| ());
        assert_eq!(text, Err("the panic has no text".to_owned()));
    }

    // D252
    #[test]
    fn a_panic_in_a_drop_goes_no_further() {
        drop(Contained::new(Mine));
        let text = contained(|| {
            let _mine = (Contained::new(Mine), Contained::new(Mine));
            panic!("first");
        });
        assert_eq!(text, Err::<(), _>("first".to_owned()));
    }

    #[tokio::test]
    async fn a_future_may_panic_late() {
        let late = async {
            tokio::task::yield_now().await;
            panic!("late");
        };
        assert_eq!(
            contained_future(late).await,
            Err::<(), _>("late".to_owned())
        );
        assert_eq!(contained_future(async { 5 }).await, Ok(5));
    }
}
