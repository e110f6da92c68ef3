//! Accepted connections that are counted and can be cut.
//!
//! A `Door` accepts; each connection leaves it as a `Wire`. Cutting the door
//! resets every open wire at once, as a crash of the process would: whoever reads
//! or writes gets an error, and the peer sees a reset instead of an orderly end.

use std::{io, pin::Pin, task::Context, time::Duration};

use socket2::SockRef;
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{mpsc, watch},
};

use super::{
    counter::{Counter, Entered},
    tapped::{Tap, Tapped},
};

#[derive(Clone, Debug)]
pub(crate) struct Door {
    /// Connections accepted so far.
    pub connections: Counter,
    /// Connections that neither side has closed.
    pub open: Counter,
    /// Every wire holds a receiver, and is cut when it is meant.
    cut: watch::Sender<Whom>,
}

/// Wires, by the order in which they were accepted.
#[derive(Clone, Copy, Debug)]
enum Whom {
    All,
    Number(usize),
}

pub(crate) type Wire = Tapped<TcpStream, Cuttable>;

pub(crate) struct Cuttable {
    number: usize,
    cut: Cut,
    _open: Entered,
}

/// Whether a wire was cut, and if not, what will tell.
enum Cut {
    NotYet(Pin<Box<dyn Future<Output = ()> + Send>>),
    Done,
}

impl Door {
    pub(crate) fn new() -> Self {
        Self {
            connections: Counter::new("accepted connections"),
            open: Counter::new("open connections"),
            cut: watch::Sender::new(Whom::All),
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

    /// Resets all open connections. Later ones are not affected.
    pub(crate) fn cut(&self) {
        self.cut.send_replace(Whom::All);
    }

    /// Resets one connection, by its number among all that were accepted. The next
    /// only after this one is gone.
    pub(crate) fn cut_one(&self, number: usize) {
        self.cut.send_replace(Whom::Number(number));
    }

    fn admit(&self, stream: TcpStream) -> Wire {
        // Small answers must not wait for Nagle; a failure only costs speed.
        let _ = stream.set_nodelay(true);
        let number = self.connections.get();
        let mut cut = self.cut.subscribe();
        let tap = Cuttable {
            number,
            cut: Cut::NotYet(Box::pin(async move {
                // An error means the door is gone, which cuts as well.
                while cut.changed().await.is_ok() {
                    match *cut.borrow_and_update() {
                        Whom::All => return,
                        Whom::Number(one) if one == number => return,
                        Whom::Number(_) => {}
                    }
                }
            })),
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
        reset_on_close(&self.io);
    }
}

fn reset_on_close(stream: &TcpStream) {
    // Fails only if the peer is gone, and then there is nothing to reset.
    let _ = SockRef::from(stream).set_linger(Some(Duration::ZERO));
}

impl Tap<TcpStream> for Cuttable {
    fn before_read(&mut self, stream: &TcpStream, cx: &mut Context<'_>) -> io::Result<()> {
        if let Cut::NotYet(cut) = &mut self.cut {
            if cut.as_mut().poll(cx).is_pending() {
                return Ok(());
            }
            self.cut = Cut::Done;
            reset_on_close(stream);
        }
        Err(io::ErrorKind::ConnectionReset.into())
    }

    /// Writing looks at the cut only in passing: the reader, which every server
    /// keeps polling, is the one that is woken by it.
    fn before_write(&mut self) -> io::Result<()> {
        match self.cut {
            Cut::NotYet(_) => Ok(()),
            Cut::Done => Err(io::ErrorKind::ConnectionReset.into()),
        }
    }
}
