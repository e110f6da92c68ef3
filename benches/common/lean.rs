//! The lean server: one thread that answers gRPC calls with ready-made bytes, so
//! cheaply that it is never what a bench measures.
//!
//! All replies to what one read brought leave in one write. It trusts its client:
//! it does not count the client's windows, which holds for as long as a connection
//! has a few hundred short calls in flight.

use std::{
    io::{self, BufRead, Read, Write},
    net::{Ipv4Addr, SocketAddr},
    sync::mpsc::{Receiver, Sender, channel},
    thread,
};

use mio::{
    Events, Interest, Poll, Registry, Token, Waker,
    net::{TcpListener, TcpStream},
};

use super::{Result, clock, flips::Flips, frames::Session};

/// There is something from [`take_orders`].
const ORDERS: Token = Token(usize::MAX);

/// What the parent may want, a line of its stdin each.
enum Order {
    /// `tell`: for each backend, a line with its open Watches and its greetings so
    /// far.
    Tell,
    /// `serving N`, `not_serving N`: what backend N says to each Watch. Answered when
    /// the sockets have it, with the times of the order and of that, by [`clock::now`].
    Health { backend: usize, serving: bool },
    /// `flip N`: so many flips of health a second from now on, over all backends, each of
    /// which has one Watch.
    Flip { per_second: u32 },
}

impl Order {
    fn read(line: &str) -> Option<Self> {
        if line == "tell" {
            return Some(Self::Tell);
        }
        let (word, number) = line.split_once(' ')?;
        let serving = match word {
            "flip" => {
                let per_second = number.parse().ok()?;
                return Some(Self::Flip { per_second });
            }
            "serving" => true,
            "not_serving" => false,
            _ => return None,
        };
        let backend = number.parse().ok()?;
        Some(Self::Health { backend, serving })
    }
}

/// Orders from stdin, each with a wake-up, until the parent is gone; then the
/// process ends.
fn take_orders(waker: &Waker, orders: &Sender<Order>) {
    for line in io::stdin().lock().lines().map_while(io::Result::ok) {
        let Some(order) = Order::read(&line) else {
            eprintln!("`{line}` is no order");
            break;
        };
        if orders.send(order).is_err() || waker.wake().is_err() {
            break;
        }
    }
    std::process::exit(0);
}

/// What is known of one backend, whatever its connections are.
#[derive(Clone, Copy)]
struct Backend {
    serving: bool,
    greetings: u64,
}

/// Listens on that many ports of loopback, tells the addresses, and serves until
/// its stdin closes. Every answer to an order ends with an empty line.
pub(crate) fn serve(backends: usize, tell: impl FnOnce(&[SocketAddr])) -> Result<()> {
    let mut poll = Poll::new()?;
    let (send, orders) = channel();
    let waker = Waker::new(poll.registry(), ORDERS)?;
    thread::spawn(move || take_orders(&waker, &send));
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

    let mut servers = Servers {
        backends: vec![
            Backend {
                serving: true,
                greetings: 0
            };
            backends
        ],
        connections: Vec::new(),
        flips: 0,
    };
    let mut events = Events::with_capacity(256);
    let mut buffer = vec![0; 64 << 10];
    loop {
        match poll.poll(&mut events, flips.wait()) {
            Err(error) if error.kind() != io::ErrorKind::Interrupted => return Err(error.into()),
            _ => {}
        }
        for event in &events {
            match event.token() {
                ORDERS => servers.obey(&orders)?,
                Token(number) => match listeners.get(number) {
                    Some(listener) => servers.accept(number, listener, poll.registry())?,
                    None => servers.turn(number - backends, &mut buffer),
                },
            }
        }
        for (number, serving) in flips.due(servers.flips, servers.connections.len()) {
            if let Some(connection) = &mut servers.connections[number] {
                connection.set_serving(serving);
            }
        }
    }
}

struct Servers {
    backends: Vec<Backend>,
    /// Those that have ended are gone; the places remain.
    connections: Vec<Option<Connection>>,
    /// A second.
    flips: u32,
}

impl Servers {
    fn accept(
        &mut self,
        backend: usize,
        listener: &TcpListener,
        registry: &Registry,
    ) -> Result<()> {
        loop {
            let mut stream = match listener.accept() {
                Ok((stream, _)) => stream,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error.into()),
            };
            stream.set_nodelay(true)?;
            let token = Token(self.backends.len() + self.connections.len());
            registry.register(&mut stream, token, Interest::READABLE | Interest::WRITABLE)?;
            let connection = Connection::new(stream, backend, self.backends[backend].serving);
            self.connections.push(Some(connection));
        }
    }

    fn turn(&mut self, number: usize, buffer: &mut [u8]) {
        let slot = &mut self.connections[number];
        let Some(connection) = slot else { return };
        let ended = connection.turn(buffer).is_err();
        self.backends[connection.backend].greetings += connection.session.take_greetings();
        if ended {
            *slot = None;
        }
    }

    fn obey(&mut self, orders: &Receiver<Order>) -> Result<()> {
        for order in orders.try_iter() {
            let mut answer = String::new();
            match order {
                Order::Tell => {
                    for (number, backend) in self.backends.iter().enumerate() {
                        let open = self.connections.iter().flatten();
                        let watches = open
                            .filter(|open| open.backend == number && open.session.has_watch())
                            .count();
                        answer += &format!("{watches} {}\n", backend.greetings);
                    }
                }
                Order::Health { backend, serving } => {
                    let told = clock::now();
                    self.backends
                        .get_mut(backend)
                        .ok_or("there is no such backend")?
                        .serving = serving;
                    let open = self.connections.iter_mut().flatten();
                    for connection in open.filter(|open| open.backend == backend) {
                        connection.set_serving(serving);
                    }
                    answer = format!("{told} {}\n", clock::now());
                }
                Order::Flip { per_second } => self.flips = per_second,
            }
            println!("{answer}");
        }
        Ok(())
    }
}

struct Connection {
    stream: TcpStream,
    /// Whose it is.
    backend: usize,
    session: Session,
    /// The start of a frame whose rest has not come.
    rest: Vec<u8>,
    /// Replies that the socket has not taken yet.
    out: Vec<u8>,
}

impl Connection {
    fn new(stream: TcpStream, backend: usize, serving: bool) -> Self {
        let mut out = Vec::with_capacity(64 << 10);
        Self {
            stream,
            backend,
            session: Session::start(serving, &mut out),
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

    fn set_serving(&mut self, serving: bool) {
        self.session.set_serving(serving, &mut self.out);
        // What fails here is found out by the next read.
        let _ = self.write();
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
