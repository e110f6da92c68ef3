//! What is plugged into a channel, and panics when it is dropped.

use std::{
    error::Error,
    fmt,
    panic::AssertUnwindSafe,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    task::{Context, Poll},
};

use bytes::Bytes;
use futures_util::{FutureExt, Stream};
use http_body::Frame;
use testing::{Tap, within};
use tokio::sync::watch;
use tonic::Status;
use tonic_health_channel::Uri;
use tower::Service;

/// Panics in each test are meant.
pub(super) const PANIC: &str = "a bug of the application";

/// Counts down the panics that are left.
#[derive(Clone)]
pub(super) struct Fuse(Arc<watch::Sender<usize>>);

impl Fuse {
    pub(super) fn of(panics: usize) -> Self {
        Self(Arc::new(watch::Sender::new(panics)))
    }

    pub(super) fn is_burnt(&self) -> bool {
        *self.0.borrow() == 0
    }

    pub(super) async fn burnt(&self) {
        let mut left = self.0.subscribe();
        let burnt = left.wait_for(|left| *left == 0);
        within("what panics to be dropped", burnt)
            .await
            .expect("it is ours");
    }

    /// `inner`, which panics when it is dropped.
    pub(super) fn rig<T>(&self, inner: T) -> Rigged<T> {
        Rigged {
            inner,
            _bomb: Bomb(self.clone()),
        }
    }
}

struct Bomb(Fuse);

impl Drop for Bomb {
    fn drop(&mut self) {
        let burns = |left: &mut usize| {
            let burns = *left > 0;
            *left -= usize::from(burns);
            burns
        };
        assert!(!self.0.0.send_if_modified(burns), "{PANIC}");
    }
}

/// Something of the application's that panics when it is dropped.
pub(super) struct Rigged<T> {
    inner: T,
    _bomb: Bomb,
}

impl<F: Future + Unpin> Future for Rigged<F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        self.inner.poll_unpin(cx)
    }
}

impl<S: Stream + Unpin> Stream for Rigged<S> {
    type Item = S::Item;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<S::Item>> {
        Pin::new(&mut self.inner).poll_next(cx)
    }
}

impl<S: Service<Uri>> Service<Uri> for Rigged<S> {
    type Response = S::Response;
    type Error = S::Error;
    type Future = S::Future;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, uri: Uri) -> S::Future {
        self.inner.call(uri)
    }
}

/// Bytes with it are dropped with it.
impl<T> Tap<T> for Rigged<()> {}

type Task = Pin<Box<dyn Future<Output = ()> + Send>>;

impl hyper::rt::Executor<Task> for Rigged<()> {
    fn execute(&self, task: Task) {
        drop(tokio::spawn(task));
    }
}

/// An executor that counts the tasks which panic.
pub(super) struct Deaths(pub(super) Arc<AtomicUsize>);

impl hyper::rt::Executor<Task> for Deaths {
    fn execute(&self, task: Task) {
        let deaths = self.0.clone();
        tokio::spawn(async move {
            if AssertUnwindSafe(task).catch_unwind().await.is_err() {
                deaths.fetch_add(1, Relaxed);
            }
        });
    }
}

impl fmt::Debug for Rigged<()> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Rigged")
    }
}

impl fmt::Display for Rigged<()> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("it is flooded")
    }
}

impl Error for Rigged<()> {}

/// Empty messages, each after a wait if it is `late`.
pub(super) struct Messages {
    pub(super) left: usize,
    pub(super) late: Option<bool>,
}

impl http_body::Body for Rigged<Messages> {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        if let Some(late) = &mut self.inner.late {
            *late = !*late;
            if !*late {
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
        }
        if self.inner.left == 0 {
            return Poll::Ready(None);
        }
        self.inner.left -= 1;
        let message = Bytes::from_static(&[0; 5]);
        Poll::Ready(Some(Ok(Frame::data(message))))
    }
}
