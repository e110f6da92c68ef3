//! Ports that belong to a test even while nobody listens on them.
//!
//! A socket that is bound but does not listen refuses every connection and still
//! keeps the port: no other test, and no outgoing connection, can take it. So an
//! address can be dead for as long as a test likes and come alive later.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, SocketAddr},
};

use tokio::net::{TcpListener, TcpSocket};

const BACKLOG: u32 = 128;

/// A bound socket that does not listen: connections to it are refused.
#[derive(Debug)]
pub(crate) struct ReservedPort {
    socket: TcpSocket,
    addr: SocketAddr,
}

impl ReservedPort {
    pub(crate) fn any() -> Self {
        Self::bind(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)))
            .expect("the loopback interface has a free port")
    }

    /// The same port on 127.0.0.1 and 127.0.0.2, which not every system has.
    pub(crate) fn pair() -> [Self; 2] {
        let second = IpAddr::from([127, 0, 0, 2]);
        let pairs = (0..100).find_map(|_| {
            let one = Self::any();
            let other = Self::bind(SocketAddr::new(second, one.addr.port())).ok()?;
            Some([one, other])
        });
        pairs.expect("one of a hundred ports is free on both addresses")
    }

    fn bind(addr: SocketAddr) -> io::Result<Self> {
        let socket = TcpSocket::new_v4()?;
        // Connections from before a restart may linger in TIME_WAIT.
        socket.set_reuseaddr(true)?;
        socket.bind(addr)?;
        let addr = socket.local_addr()?;
        Ok(Self { socket, addr })
    }

    pub(crate) fn into_socket(self) -> TcpSocket {
        self.socket
    }

    pub(crate) fn listen(self) -> TcpListener {
        self.socket
            .listen(BACKLOG)
            .expect("a bound socket can start to listen")
    }

    pub(crate) fn addr(&self) -> SocketAddr {
        self.addr
    }
}

/// So that whoever sends to a connection accepted here is soon full, if it is not
/// read.
pub(crate) fn small_receive_buffer(listener: &TcpListener) {
    socket2::SockRef::from(listener)
        .set_recv_buffer_size(4 << 10)
        .expect("a size that the system rounds");
}

/// An address that refuses connections for as long as this value lives.
#[derive(Debug)]
pub struct DeadAddr(ReservedPort);

pub fn dead_addr() -> DeadAddr {
    DeadAddr(ReservedPort::any())
}

impl DeadAddr {
    pub fn addr(&self) -> SocketAddr {
        self.0.addr()
    }

    pub fn uri(&self) -> String {
        format!("http://{}", self.addr())
    }

    /// From now on connections are taken, and nobody says a word on them.
    pub fn listen(self) -> TcpListener {
        self.0.listen()
    }
}
