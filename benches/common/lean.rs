//! The lean server: one thread that answers gRPC calls with ready-made bytes, so
//! cheaply that it is never what a bench measures.
//!
//! All replies to what one read brought leave in one write. It trusts its client:
//! it does not count the client's windows, which holds for as long as a connection
//! has a few hundred short calls in flight.

use std::{
    io::{self, Read, Write},
    net::{Ipv4Addr, SocketAddr},
    sync::atomic::{AtomicU32, Ordering::Relaxed},
    time::Duration,
};

use mio::{
    Events, Interest, Poll, Registry, Token,
    net::{TcpListener, TcpStream},
};

use super::{Result, flips::Flips, frames::Session};

/// How often it looks whether it has been told to flip.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// Listens on that many ports of loopback, tells the addresses, and serves for ever.
/// The health of its backends flips as often a second as `per_second` says.
pub(crate) fn serve(
    backends: usize,
    per_second: &AtomicU32,
    tell: impl FnOnce(&[SocketAddr]),
) -> Result<()> {
    let mut poll = Poll::new()?;
    let mut flips = Flips::default();
    let mut listeners = Vec::new();
    for number in 0..backends {
        let mut listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0).into())?;
        poll.registry()
            .register(&mut listener, Token(number), Interest::READABLE)?;
        listeners.push(listener);
    }
    let addresses = listeners.iter().map(TcpListener::local_addr);
    tell(&addresses.collect::<io::Result<Vec<_>>>()?);

    let mut connections: Vec<Option<Connection>> = Vec::new();
    let mut events = Events::with_capacity(256);
    let mut buffer = vec![0; 64 << 10];
    loop {
        let wait = flips.wait().unwrap_or(LOOK_EVERY);
        match poll.poll(&mut events, Some(wait)) {
            Err(error) if error.kind() != io::ErrorKind::Interrupted => return Err(error.into()),
            _ => {}
        }
        for event in &events {
            let Token(number) = event.token();
            if let Some(listener) = listeners.get(number) {
                accept(listener, poll.registry(), backends, &mut connections)?;
                continue;
            }
            let slot = &mut connections[number - backends];
            let is_over = |connection: &mut Connection| connection.turn(&mut buffer).is_err();
            if slot.as_mut().is_some_and(is_over) {
                *slot = None;
            }
        }
        for (number, serving) in flips.due(per_second.load(Relaxed), connections.len()) {
            if let Some(connection) = &mut connections[number] {
                connection.report(serving)?;
            }
        }
    }
}

fn accept(
    listener: &TcpListener,
    registry: &Registry,
    backends: usize,
    connections: &mut Vec<Option<Connection>>,
) -> Result<()> {
    loop {
        let mut stream = match listener.accept() {
            Ok((stream, _)) => stream,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
            Err(error) => return Err(error.into()),
        };
        stream.set_nodelay(true)?;
        let token = Token(backends + connections.len());
        registry.register(&mut stream, token, Interest::READABLE | Interest::WRITABLE)?;
        connections.push(Some(Connection::new(stream)));
    }
}

struct Connection {
    stream: TcpStream,
    session: Session,
    /// The start of a frame whose rest has not come.
    rest: Vec<u8>,
    /// Replies that the socket has not taken yet.
    out: Vec<u8>,
}

impl Connection {
    fn new(stream: TcpStream) -> Self {
        let mut out = Vec::with_capacity(64 << 10);
        Self {
            stream,
            session: Session::start(&mut out),
            rest: Vec::new(),
            out,
        }
    }

    /// Reads and answers until there is nothing to read. An error is the end.
    fn turn(&mut self, buffer: &mut [u8]) -> io::Result<()> {
        self.write()?;
        loop {
            let len = match self.stream.read(buffer) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(len) => len,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error),
            };
            if self.rest.is_empty() {
                let used = self.session.answer(&buffer[..len], &mut self.out);
                self.rest.extend_from_slice(&buffer[used..len]);
            } else {
                self.rest.extend_from_slice(&buffer[..len]);
                let used = self.session.answer(&self.rest, &mut self.out);
                self.rest.drain(..used);
            }
            self.write()?;
            // A read that did not fill the buffer emptied the socket; what comes
            // from now on is an event of its own.
            if len < buffer.len() {
                return Ok(());
            }
        }
    }

    fn report(&mut self, serving: bool) -> io::Result<()> {
        self.session.report(serving, &mut self.out);
        self.write()
    }

    fn write(&mut self) -> io::Result<()> {
        let mut written = 0;
        while written < self.out.len() {
            match self.stream.write(&self.out[written..]) {
                Ok(len) => written += len,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) => return Err(error),
            }
        }
        self.out.drain(..written);
        Ok(())
    }
}
