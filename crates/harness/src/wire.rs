//! Accepted connections that are counted.
//!
//! A `Door` accepts; each connection leaves it as a `Wire`.

use std::time::Duration;

use socket2::SockRef;
use tokio::{
    net::{TcpListener, TcpStream},
    sync::mpsc,
};
use tonic_health_channel_testing::{Counter, Entered};

use super::tapped::{Tap, Tapped};

#[derive(Clone, Debug)]
pub(crate) struct Door {
    /// Connections accepted so far.
    pub connections: Counter,
    /// Connections that neither side has closed.
    pub open: Counter,
}

pub(crate) type Wire = Tapped<TcpStream, Counted>;

pub(crate) struct Counted {
    number: usize,
    _open: Entered,
}

impl Door {
    pub(crate) fn new() -> Self {
        Self {
            connections: Counter::new("accepted connections"),
            open: Counter::new("open connections"),
        }
    }

    /// Accepts until `wires` is closed. Runs for ever otherwise: race it.
    pub(crate) async fn accept(&self, listener: &TcpListener, wires: mpsc::UnboundedSender<Wire>) {
        // An accept that fails (the client was quicker to leave) is not an end.
        loop {
            if let Ok((stream, _)) = listener.accept().await
                && wires.send(self.admit(stream)).is_err()
            {
                return;
            }
        }
    }

    fn admit(&self, stream: TcpStream) -> Wire {
        // Small answers must not wait for Nagle; a failure only costs speed.
        let _ = stream.set_nodelay(true);
        let tap = Counted {
            number: self.connections.get(),
            _open: self.open.enter(),
        };
        self.connections.add();
        Wire { io: stream, tap }
    }
}

impl Wire {
    /// How many its door had accepted before.
    pub(crate) fn number(&self) -> usize {
        self.tap.number
    }

    /// Makes the coming close a reset.
    pub(crate) fn reset_on_close(&self) {
        // Fails only if the peer is gone, and then there is nothing to reset.
        let _ = SockRef::from(&self.io).set_linger(Some(Duration::ZERO));
    }
}

impl Tap<TcpStream> for Counted {}
