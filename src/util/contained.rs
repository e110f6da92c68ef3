//! Code of the application, called so that its panic is a value.
//!
//! A connector, a source or a request body may panic. Our tasks go on: what has panicked is
//! not polled again, and its text becomes the cause of what follows.

use std::{
    any::Any,
    future::{Future, poll_fn},
    mem,
    panic::{AssertUnwindSafe, catch_unwind},
    pin::pin,
    task::Poll,
};

use crate::error::sanitize_peer_text;

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

fn text(panic: Box<dyn Any + Send>) -> String {
    let said = match (panic.downcast_ref::<&str>(), panic.downcast_ref::<String>()) {
        (Some(said), _) => said,
        (_, Some(said)) => said.as_str(),
        (None, None) => {
            // To drop it is a call of the application's code, too.
            mem::forget(panic);
            return "it gave no text".to_owned();
        }
    };
    sanitize_peer_text(said).into_owned()
}

#[cfg(test)]
mod tests {
    use std::panic::panic_any;

    use super::{contained, contained_future};

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
        struct Mine;
        impl Drop for Mine {
            fn drop(&mut self) {
                panic!("dropped");
            }
        }
        let text = contained(|| panic_any(Mine)).map(|(): ()| ());
        assert_eq!(text, Err("it gave no text".to_owned()));
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
