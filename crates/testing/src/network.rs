//! Connections in memory, by the names of their backends.

use std::{
    collections::BTreeMap,
    future::{Ready, ready},
    io,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, ready as poll_ready},
};

use http::Uri;
use hyper_util::rt::TokioIo;
use tokio::{
    io::{AsyncRead, AsyncWrite, DuplexStream, ReadBuf, duplex},
    sync::{mpsc, watch},
};
use tower_service::Service;

use crate::{connections::End, socket::Socket};

/// The bytes that each side may write ahead of the other.
const CAPACITY: usize = 64 << 10;

/// A network in memory. Each backend in it has a name, as a host has.
///
/// No socket is opened, so a test may pause tokio's time (`start_paused = true`): hours of
/// backoff then take no time. A clone is the same network.
///
/// [`Backend::endpoint`](crate::Backend::endpoint) leads to one backend. Code that makes its
/// endpoints from URIs takes a [`connector`](Self::connector).
///
/// ```
/// use tonic_health_channel::{Channel, Endpoint};
/// use tonic_health_channel_testing::{Backend, Network};
/// # use testing::{
/// #     GreeterService as Shop,
/// #     greeter::{HelloRequest, greeter_client::GreeterClient, greeter_server::GreeterServer},
/// # };
///
/// # #[tokio::main(flavor = "current_thread", start_paused = true)]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let network = Network::new();
/// let server = GreeterServer::new(Shop::new("shop"));
/// let shop = Backend::builder(server).in_network(&network, "shop").start();
///
/// let endpoint = Endpoint::from_static("http://shop:50051").connector(network.connector());
/// let mut client = GreeterClient::new(endpoint.connect_lazy());
/// client.say_hello(HelloRequest::default()).await?;
/// assert_eq!(shop.calls().get(), 1);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, Default)]
pub struct Network {
    /// `None`: the backend is down.
    hosts: Arc<Mutex<BTreeMap<String, Option<Dials>>>>,
}

type Dials = mpsc::UnboundedSender<Accepted>;

/// The server's end of a connection, and the order by which it ends.
pub(crate) type Accepted = (Socket, watch::Sender<End>);

/// Leads to the backends of a [`Network`], by the host of the URI. The port does not matter.
///
/// It suits [`Endpoint::connector`](tonic_health_channel::Endpoint::connector), and
/// `connect_with_connector` of tonic's endpoint. If the backend is down, the error is
/// `ConnectionRefused`. If the network has no backend of this name, it is `NotFound`.
#[derive(Clone, Debug)]
pub struct Connector {
    network: Network,
}

/// The client's end of a connection in memory.
#[derive(Debug)]
pub struct MemoryStream {
    io: DuplexStream,
    end: watch::Receiver<End>,
}

/// A name of the network that belongs to a backend until this is dropped.
#[derive(Debug)]
pub(crate) struct Host {
    network: Network,
    name: String,
}

/// A backend that accepts connections.
#[derive(Debug)]
pub(crate) struct HostListener {
    host: Host,
    dials: mpsc::UnboundedReceiver<Accepted>,
}

impl Network {
    /// A network without backends.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// A connector for endpoints whose hosts are names of this network.
    #[must_use]
    pub fn connector(&self) -> Connector {
        Connector {
            network: self.clone(),
        }
    }

    pub(crate) fn reserve(&self, name: &str) -> Host {
        let taken = self.hosts().insert(name.to_owned(), None);
        assert!(
            taken.is_none(),
            "the network already has a backend of the name `{name}`"
        );
        Host {
            network: self.clone(),
            name: name.to_owned(),
        }
    }

    fn connect(&self, name: &str) -> io::Result<MemoryStream> {
        let (ours, theirs) = duplex(CAPACITY);
        let (order, end) = watch::channel(End::NotYet);
        let error = |kind, text| io::Error::new(kind, format!("backend `{name}` {text}"));
        let hosts = self.hosts();
        let dials = hosts
            .get(name)
            .ok_or_else(|| error(io::ErrorKind::NotFound, "is not in the network"))?;
        dials
            .as_ref()
            .and_then(|dials| {
                let socket = Socket::memory(theirs, end.clone());
                dials.send((socket, order)).ok()
            })
            .ok_or_else(|| error(io::ErrorKind::ConnectionRefused, "refuses connections"))?;
        Ok(MemoryStream { io: ours, end })
    }

    fn hosts(&self) -> MutexGuard<'_, BTreeMap<String, Option<Dials>>> {
        // A panic leaves no half change behind.
        self.hosts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Service<Uri> for Connector {
    type Response = TokioIo<MemoryStream>;
    type Error = io::Error;
    type Future = Ready<io::Result<Self::Response>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let name = uri.host().unwrap_or_default();
        ready(self.network.connect(name).map(TokioIo::new))
    }
}

impl Host {
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    pub(crate) fn listen(self) -> HostListener {
        let (dials, incoming) = mpsc::unbounded_channel();
        self.network.hosts().insert(self.name.clone(), Some(dials));
        HostListener {
            host: self,
            dials: incoming,
        }
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        self.network.hosts().remove(&self.name);
    }
}

impl HostListener {
    pub(crate) async fn accept(&mut self) -> Accepted {
        let dialled = self.dials.recv().await;
        dialled.expect("the network keeps a sender while the backend listens")
    }

    /// From now on connections are refused.
    pub(crate) fn close(self) -> Host {
        self.host
            .network
            .hosts()
            .insert(self.host.name.clone(), None);
        self.host
    }
}

impl MemoryStream {
    fn check(&self) -> io::Result<()> {
        match *self.end.borrow() {
            End::Reset => Err(io::ErrorKind::ConnectionReset.into()),
            End::NotYet | End::Graceful => Ok(()),
        }
    }
}

impl AsyncRead for MemoryStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let read = poll_ready!(Pin::new(&mut self.io).poll_read(cx, buf));
        // Also a reset that ended the wait.
        Poll::Ready(self.check().and(read))
    }
}

impl AsyncWrite for MemoryStream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.check()?;
        Pin::new(&mut self.io).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}
