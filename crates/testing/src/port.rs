//! Where a backend listens: a TCP port or a name in a network. It is the backend's while it is
//! down, too.
//!
//! A socket that is bound but does not listen refuses every connection and keeps the port.

use std::{
    io,
    net::{Ipv4Addr, SocketAddr},
    time::Duration,
};

use tokio::{
    net::{TcpListener, TcpSocket},
    sync::watch,
    time::sleep,
};

use crate::{
    connections::End,
    network::{Accepted, Host, HostListener},
    socket::Socket,
    wait::within,
};

const BACKLOG: u32 = 128;

/// Refuses connections.
#[derive(Debug)]
pub(crate) enum Port {
    Tcp(TcpSocket),
    Memory(Host),
}

/// Accepts connections.
#[derive(Debug)]
pub(crate) enum Listener {
    Tcp(TcpListener),
    Memory(HostListener),
}

impl Port {
    pub(crate) fn loopback() -> Self {
        let socket = bind(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)));
        Self::Tcp(socket.expect("the loopback interface has a free port"))
    }

    /// `http://` and the address, or the name.
    pub(crate) fn uri(&self) -> String {
        match self {
            Self::Tcp(socket) => format!("http://{}", address(socket.local_addr())),
            Self::Memory(host) => format!("http://{}", host.name()),
        }
    }

    pub(crate) fn listen(self) -> Listener {
        match self {
            Self::Tcp(socket) => Listener::Tcp(
                socket
                    .listen(BACKLOG)
                    .expect("a bound socket can start to listen"),
            ),
            Self::Memory(host) => Listener::Memory(host.listen()),
        }
    }
}

impl Listener {
    pub(crate) async fn accept(&mut self) -> Accepted {
        match self {
            Self::Tcp(listener) => loop {
                // An accept that fails is a client that has left.
                if let Ok((stream, _)) = listener.accept().await {
                    let (order, end) = watch::channel(End::NotYet);
                    return (Socket::tcp(stream, end), order);
                }
            },
            Self::Memory(listener) => listener.accept().await,
        }
    }

    /// Returns when connections are refused.
    pub(crate) async fn close(self) -> Port {
        match self {
            Self::Tcp(listener) => {
                let addr = address(listener.local_addr());
                drop(listener);
                Port::Tcp(bind_again(addr).await)
            }
            Self::Memory(listener) => Port::Memory(listener.close()),
        }
    }
}

fn bind(addr: SocketAddr) -> io::Result<TcpSocket> {
    let socket = match addr {
        SocketAddr::V4(_) => TcpSocket::new_v4()?,
        SocketAddr::V6(_) => TcpSocket::new_v6()?,
    };
    // Connections from before a restart may linger in TIME_WAIT.
    socket.set_reuseaddr(true)?;
    socket.bind(addr)?;
    Ok(socket)
}

/// The port of a listener that was closed a moment ago.
async fn bind_again(addr: SocketAddr) -> TcpSocket {
    within("the port of a stopped backend to become free", async {
        loop {
            match bind(addr) {
                Ok(socket) => return socket,
                // The kernel has no event for a port that becomes free.
                Err(_) => sleep(Duration::from_millis(5)).await,
            }
        }
    })
    .await
}

fn address(addr: io::Result<SocketAddr>) -> SocketAddr {
    addr.expect("a bound socket has an address")
}
