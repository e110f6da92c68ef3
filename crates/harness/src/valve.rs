//! A relay before a backend that stops passing bytes on when it is told to, and
//! keeps every socket open: a network that loses packets, a host that is gone
//! without a word, a server that is stuck.

use std::{net::SocketAddr, time::Duration};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{
        TcpListener, TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::watch,
    task::{JoinHandle, JoinSet},
};

use super::{
    Counter,
    port::{ReservedPort, small_receive_buffer},
};

/// The pause after each byte that [`Flow::Drips`].
const DRIP: Duration = Duration::from_millis(50);

/// What becomes of the bytes in one direction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flow {
    Passes,
    /// One byte, a pause, the next.
    Drips,
    /// Read and thrown away. A connection that has lost bytes passes none any more.
    Vanishes,
    /// Not even read, so that its sender is full before long. Passes later, if told to.
    Stands,
}

/// Stops, and closes its connections, when dropped.
#[derive(Debug)]
pub struct Valve {
    addr: SocketAddr,
    to_server: watch::Sender<Flow>,
    to_client: watch::Sender<Flow>,
    /// Connections accepted so far.
    connections: Counter,
    acceptor: JoinHandle<()>,
}

impl Valve {
    /// Everything passes, until told otherwise.
    pub fn before(server: SocketAddr) -> Self {
        let port = ReservedPort::any();
        let addr = port.addr();
        let to_server = watch::Sender::new(Flow::Passes);
        let to_client = watch::Sender::new(Flow::Passes);
        let connections = Counter::new("connections through the valve");
        let acceptor = accept(
            port.listen(),
            server,
            to_server.subscribe(),
            to_client.subscribe(),
            connections.clone(),
        );
        Self {
            addr,
            to_server,
            to_client,
            connections,
            acceptor: tokio::spawn(acceptor),
        }
    }

    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    pub fn uri(&self) -> String {
        format!("http://{}", self.addr)
    }

    pub fn to_server(&self, flow: Flow) {
        self.to_server.send_replace(flow);
    }

    pub fn to_client(&self, flow: Flow) {
        self.to_client.send_replace(flow);
    }

    /// Both directions.
    pub fn set(&self, flow: Flow) {
        self.to_server(flow);
        self.to_client(flow);
    }

    pub fn connections(&self) -> usize {
        self.connections.get()
    }

    #[track_caller]
    pub fn until_connections(&self, n: usize) -> impl Future<Output = ()> + Send + use<> {
        self.connections.until_at_least(n)
    }
}

impl Drop for Valve {
    fn drop(&mut self) {
        self.acceptor.abort();
    }
}

async fn accept(
    listener: TcpListener,
    server: SocketAddr,
    to_server: watch::Receiver<Flow>,
    to_client: watch::Receiver<Flow>,
    connections: Counter,
) {
    small_receive_buffer(&listener);
    let mut passing = JoinSet::new();
    loop {
        if let Ok((client, _)) = listener.accept().await {
            passing.spawn(pass(client, server, to_server.clone(), to_client.clone()));
            connections.add();
        }
    }
}

async fn pass(
    client: TcpStream,
    server: SocketAddr,
    to_server: watch::Receiver<Flow>,
    to_client: watch::Receiver<Flow>,
) {
    let Ok(server) = TcpStream::connect(server).await else {
        return;
    };
    // Whoever drips one byte at a time does not want them collected.
    let _ = (client.set_nodelay(true), server.set_nodelay(true));
    let (from_client, at_client) = client.into_split();
    let (from_server, at_server) = server.into_split();
    tokio::join!(
        one_way(from_client, at_server, to_server),
        one_way(from_server, at_client, to_client),
    );
}

/// Until the sender has ended, or either side is lost. Its end is passed on.
async fn one_way(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, mut flow: watch::Receiver<Flow>) {
    let mut bytes = vec![0; 16 << 10];
    let mut has_lost = false;
    // The valve aborts this when it goes.
    while flow.wait_for(|flow| *flow != Flow::Stands).await.is_ok() {
        let read = tokio::select! {
            // Whoever reads once more than he was told to has let a byte pass.
            biased;
            _ = flow.changed() => continue,
            read = from.read(&mut bytes) => read,
        };
        let Ok(read @ 1..) = read else {
            let _ = to.shutdown().await;
            return;
        };
        let now = *flow.borrow();
        has_lost |= now == Flow::Vanishes;
        let passed = match now {
            _ if has_lost => Ok(()),
            Flow::Drips => drip(&mut to, &bytes[..read]).await,
            _ => to.write_all(&bytes[..read]).await,
        };
        if passed.is_err() {
            return;
        }
    }
}

async fn drip(to: &mut OwnedWriteHalf, bytes: &[u8]) -> std::io::Result<()> {
    for byte in bytes {
        to.write_u8(*byte).await?;
        tokio::time::sleep(DRIP).await;
    }
    Ok(())
}
