//! How bytes get to an endpoint, as a value.

use std::{future::poll_fn, sync::Arc};

use futures_util::future::BoxFuture;
use http::Uri;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tower::BoxError;
use tower_service::Service;

use super::{contained_io::ContainedIo, progress::Progress};
use crate::{
    error::{Origin, describe},
    transport::words::failure::Failure,
    util::contained::Contained,
};

/// Anything HTTP/2 can be spoken over.
pub(crate) trait Io: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Io for T {}

pub(crate) type BoxIo = Box<dyn Io>;

/// A connector that was given; `None`: sockets.
#[derive(Clone, Default)]
pub(crate) struct Connector(pub(in crate::transport) Option<Arc<Connect>>);

type Connect = dyn Fn(Uri, Progress) -> BoxFuture<'static, Result<BoxIo, Failure>> + Send + Sync;

impl Connector {
    pub(crate) fn new<F>(connect: F) -> Self
    where
        F: Fn(Uri, Progress) -> BoxFuture<'static, Result<BoxIo, Failure>> + Send + Sync + 'static,
    {
        Self(Some(Arc::new(connect)))
    }

    /// A connector as hyper has them. Two dials never poll it for readiness at a
    /// time, and may connect at a time.
    pub(in crate::transport) fn of_service<C>(service: C) -> Self
    where
        C: Service<Uri> + Send + 'static,
        C::Error: Into<BoxError>,
        C::Future: Send,
        C::Response: hyper::rt::Read + hyper::rt::Write + Unpin + Send + 'static,
    {
        let service = Arc::new(tokio::sync::Mutex::new(Contained::new(service)));
        Self::new(move |uri, progress| {
            let service = service.clone();
            Box::pin(async move {
                progress.set("waiting for the connector");
                let connecting = {
                    let mut service = service.lock().await;
                    let ready = poll_fn(|cx| service.poll_ready(cx)).await;
                    ready.map_err(|error| failed(error.into()))?;
                    Contained::new(Box::pin(service.call(uri)))
                };
                match connecting.await {
                    Ok(io) => Ok(Box::new(ContainedIo::new(TokioIo::new(io))) as BoxIo),
                    Err(error) => Err(failed(error.into())),
                }
            })
        })
    }
}

/// An error told with its sources, of which the last often says most.
fn failed(error: BoxError) -> Failure {
    let mut text = describe(&*error);
    let mut source = error.source();
    while let Some(error) = source {
        let more = error.to_string();
        if !text.contains(&more) {
            text = format!("{text}: {more}");
        }
        source = error.source();
    }
    Failure::new(text, Origin::of(Contained::new(error)))
}

/// Two are the same if one is a clone of the other.
impl PartialEq for Connector {
    fn eq(&self, other: &Self) -> bool {
        match (&self.0, &other.0) {
            (None, None) => true,
            (Some(a), Some(b)) => Arc::ptr_eq(a, b),
            _ => false,
        }
    }
}
