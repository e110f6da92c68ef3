//! A port that gives each connection to a script, and what all peers have of that.

use std::net::SocketAddr;

use tokio::{
    net::TcpListener,
    sync::mpsc,
    task::{JoinHandle, JoinSet},
};

use super::wire::{Door, Wire};

/// Stops, and closes its connections, when dropped.
#[derive(Debug)]
pub struct Listening {
    addr: SocketAddr,
    door: Door,
    acceptor: JoinHandle<()>,
}

impl Listening {
    /// Runs `each` on its own task for every connection.
    pub(crate) fn start<F>(
        listener: TcpListener,
        mut each: impl FnMut(Wire) -> F + Send + 'static,
    ) -> Self
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let door = Door::new();
        Self {
            addr: listener.local_addr().expect("a socket that listens"),
            door: door.clone(),
            acceptor: tokio::spawn(async move {
                let (wires, mut incoming) = mpsc::unbounded_channel();
                let mut connections = JoinSet::new();
                tokio::select! {
                    () = door.accept(&listener, wires) => {}
                    () = async {
                        while let Some(wire) = incoming.recv().await {
                            connections.spawn(each(wire));
                        }
                    } => {}
                }
            }),
        }
    }

    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    pub fn uri(&self) -> String {
        format!("http://{}", self.addr)
    }

    /// Connections accepted so far.
    pub fn connections(&self) -> usize {
        self.door.connections.get()
    }

    pub fn open_connections(&self) -> usize {
        self.door.open.get()
    }

    #[track_caller]
    pub fn until_connections(&self, n: usize) -> impl Future<Output = ()> + Send + use<> {
        self.door.connections.until_at_least(n)
    }

    #[track_caller]
    pub fn until_open_connections(&self, n: usize) -> impl Future<Output = ()> + Send + use<> {
        self.door.open.until_exactly(n)
    }
}

impl Drop for Listening {
    fn drop(&mut self) {
        self.acceptor.abort();
    }
}

/// Makes a peer a [`Listening`] with orders of its own.
macro_rules! listens {
    ($peer:ty) => {
        impl std::ops::Deref for $peer {
            type Target = $crate::listening::Listening;

            fn deref(&self) -> &Self::Target {
                &self.listening
            }
        }
    };
}
pub(crate) use listens;
