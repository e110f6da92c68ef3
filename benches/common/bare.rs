//! What the `h2` crate costs by itself: a tower `Service` over one connection per
//! backend, round robin, and nothing else. No slots, no deadline, no health, no
//! reconnect: the floor under any channel that stands on `h2`.

use std::{
    future::Future,
    net::SocketAddr,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use h2::{RecvStream, client::SendRequest};
use http::{Request, Response, Uri, uri};
use http_body::Frame;
use http_body_util::BodyExt;
use tokio::net::TcpStream;
use tonic::body::Body;
use tower::Service;

use super::{Error, Result};

/// Round robin over connections of the `h2` crate.
#[derive(Clone)]
pub(crate) struct Bare(Arc<Shared>);

struct Shared {
    backends: Vec<(uri::Authority, SendRequest<Bytes>)>,
    next: AtomicUsize,
}

impl Bare {
    /// With the windows that hyper has by default, and our crate too.
    pub(crate) async fn connect(addresses: &[SocketAddr]) -> Result<Self> {
        let mut backends = Vec::new();
        for address in addresses {
            let stream = TcpStream::connect(address).await?;
            stream.set_nodelay(true)?;
            let (send, connection) = h2::client::Builder::new()
                .initial_window_size(2 << 20)
                .initial_connection_window_size(5 << 20)
                .handshake(stream)
                .await?;
            tokio::spawn(connection);
            backends.push((address.to_string().parse()?, send));
        }
        Ok(Self(Arc::new(Shared {
            backends,
            next: AtomicUsize::new(0),
        })))
    }
}

impl Service<Request<Body>> for Bare {
    type Response = Response<Received>;
    type Error = Error;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Received>>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let next = self.0.next.fetch_add(1, Ordering::Relaxed);
        let (authority, send) = &self.0.backends[next % self.0.backends.len()];
        Box::pin(exchange(send.clone(), authority.clone(), request))
    }
}

async fn exchange(
    mut send: SendRequest<Bytes>,
    authority: uri::Authority,
    request: Request<Body>,
) -> Result<Response<Received>> {
    let (mut head, mut body) = request.into_parts();
    let mut uri = uri::Parts::default();
    uri.scheme = Some(uri::Scheme::HTTP);
    uri.authority = Some(authority);
    uri.path_and_query = head.uri.path_and_query().cloned();
    head.uri = Uri::from_parts(uri)?;
    head.version = http::Version::HTTP_2;
    let (response, mut stream) = send.send_request(Request::from_parts(head, ()), false)?;
    let data = body
        .frame()
        .await
        .ok_or("a unary request has a message")??;
    let data = data.into_data().map_err(|_| "trailers before a message")?;
    // The message is whole; this asks, as a channel has to.
    let last = body.frame().await.is_none();
    stream.send_data(data, last)?;
    Ok(response.await?.map(Received))
}

/// A response body.
pub(crate) struct Received(RecvStream);

impl http_body::Body for Received {
    type Data = Bytes;
    type Error = h2::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<std::result::Result<Frame<Bytes>, h2::Error>>> {
        if let Some(data) = ready!(self.0.poll_data(cx)) {
            let data = data?;
            self.0.flow_control().release_capacity(data.len())?;
            return Poll::Ready(Some(Ok(Frame::data(data))));
        }
        let trailers = ready!(self.0.poll_trailers(cx))?;
        Poll::Ready(trailers.map(|trailers| Ok(Frame::trailers(trailers))))
    }

    fn is_end_stream(&self) -> bool {
        self.0.is_end_stream()
    }
}
