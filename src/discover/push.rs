//! A set of backends that the application changes.

use std::{
    convert::Infallible,
    pin::Pin,
    task::{Context, Poll},
};

use futures_util::Stream;
use tokio::sync::mpsc;
use tower::discover::Change;

use crate::transport::Endpoint;

/// The receiving end of [`push`], to be handed to a channel.
#[derive(Debug)]
#[must_use = "a source names no backend until it is polled, such as by a channel"]
pub struct Push<K, B = Endpoint>(mpsc::Receiver<Change<K, B>>);

/// A source that is told what to name, with room for `capacity` changes that the
/// channel has not taken yet. It names [`Endpoint`]s, or [`Backend`](super::Backend)s with
/// attributes.
///
/// Dropping the sender freezes the set.
///
/// # Panics
///
/// If `capacity` is zero.
///
/// ```
/// # tokio_test_block_on(async {
/// use tonic_health_channel::{Channel, Endpoint, channel::Change, discover};
///
/// let (backends, source) = discover::push(16);
/// let channel = Channel::balance(source).build();
/// let endpoint = Endpoint::from_static("http://127.0.0.1:50051");
/// backends.send(Change::Insert("a", endpoint)).await?;
/// backends.send(Change::Remove("a")).await?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// # });
/// # fn tokio_test_block_on<F: Future>(f: F) {
/// #     tokio::runtime::Runtime::new().unwrap().block_on(f);
/// # }
/// ```
pub fn push<K, B>(capacity: usize) -> (mpsc::Sender<Change<K, B>>, Push<K, B>) {
    let (sender, receiver) = mpsc::channel(capacity);
    (sender, Push(receiver))
}

impl<K, B> Stream for Push<K, B> {
    type Item = Result<Change<K, B>, Infallible>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.0.poll_recv(cx).map(|change| change.map(Ok))
    }
}

impl<K, B> Unpin for Push<K, B> {}
