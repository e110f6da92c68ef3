//! From an endpoint to a connection whose peer has spoken HTTP/2.
//!
//! One deadline covers everything: name lookup, the race over all addresses of
//! the name, and the peer's SETTINGS. Every failure is one sentence about the
//! step that failed.

use std::{
    fmt, io,
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::Duration,
};

use futures_util::{StreamExt, future::BoxFuture, stream::FuturesUnordered};
use socket2::{SockRef, TcpKeepalive};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
    time,
};

use super::{Attached, Connection, endpoint::Endpoint, http2, options::TcpOptions, target::Target};
use crate::error::{Cause, CauseKind};

/// Time between the starts of two attempts at addresses of one name (gRFC A61,
/// "Connection Attempt Delay").
const ATTEMPT_DELAY: Duration = Duration::from_millis(250);

/// How long sent data may stay unacknowledged before the kernel gives up
/// (gRFC A18 and its default).
#[cfg(target_os = "linux")]
const USER_TIMEOUT: Duration = Duration::from_secs(20);

/// Anything HTTP/2 can be spoken over.
pub(crate) trait Io: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Io for T {}

pub(crate) type BoxIo = Box<dyn Io>;

type Connect =
    dyn Fn(Endpoint, Progress) -> BoxFuture<'static, Result<BoxIo, String>> + Send + Sync;

/// How bytes get to an endpoint, as a value.
#[derive(Clone)]
pub(crate) struct Connector(Option<Arc<Connect>>);

/// What an attempt is doing, for the text of a deadline that passes.
#[derive(Clone)]
pub(crate) struct Progress(Arc<Mutex<String>>);

/// Connects to `endpoint` and waits for the peer's SETTINGS.
///
/// # Cancel safety
///
/// Dropping the future closes whatever was open.
pub(crate) async fn dial(endpoint: Endpoint, attached: Attached) -> Result<Connection, Cause> {
    let deadline = endpoint.connect_deadline();
    let progress = Progress::new("starting");
    let attempt = async {
        let io = endpoint.connector().connect(&endpoint, &progress).await?;
        progress.set("waiting for the peer's HTTP/2 SETTINGS");
        http2::handshake(io, &endpoint, attached).await
    };
    let outcome = match time::timeout(deadline, attempt).await {
        Ok(outcome) => outcome,
        Err(_) => Err(format!("no connection within {deadline:?}: {progress}")),
    };
    outcome.map_err(|why| Cause::new(CauseKind::Connect, why))
}

/// Plain TCP.
pub(super) fn tcp_connector() -> Connector {
    Connector(None)
}

impl Connector {
    #[cfg(test)]
    pub(crate) fn new<F>(connect: F) -> Self
    where
        F: Fn(Endpoint, Progress) -> BoxFuture<'static, Result<BoxIo, String>>
            + Send
            + Sync
            + 'static,
    {
        Self(Some(Arc::new(connect)))
    }

    async fn connect(&self, endpoint: &Endpoint, progress: &Progress) -> Result<BoxIo, String> {
        match &self.0 {
            Some(connect) => connect(endpoint.clone(), progress.clone()).await,
            None => connect_tcp(endpoint, progress).await,
        }
    }
}

impl PartialEq for Connector {
    fn eq(&self, other: &Self) -> bool {
        match (&self.0, &other.0) {
            (None, None) => true,
            (Some(a), Some(b)) => Arc::ptr_eq(a, b),
            _ => false,
        }
    }
}

impl Progress {
    fn new(doing: &str) -> Self {
        Self(Arc::new(Mutex::new(doing.to_owned())))
    }

    fn set(&self, doing: impl Into<String>) {
        *self.0.lock().expect("nothing panics while it is held") = doing.into();
    }
}

impl fmt::Display for Progress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.lock().expect("nothing panics while it is held"))
    }
}

async fn connect_tcp(endpoint: &Endpoint, progress: &Progress) -> Result<BoxIo, String> {
    let target = endpoint.target()?;
    if target.secure {
        return Err("https needs TLS, which this channel does not speak; use http".to_owned());
    }
    let addresses = match endpoint.located {
        Some(address) => vec![address],
        None => {
            progress.set(format!("looking up `{}`", target.host));
            look_up(&target).await?
        }
    };
    progress.set(format!("waiting for TCP with {}", listed(&addresses)));
    let stream = race(&endpoint.address(), addresses).await?;
    tune(&stream, &endpoint.tcp).map_err(|error| format!("socket options: {}", say(&error)))?;
    Ok(Box::new(stream))
}

async fn look_up(target: &Target) -> Result<Vec<SocketAddr>, String> {
    let found = tokio::net::lookup_host((target.host.as_str(), target.port))
        .await
        .map_err(|error| format!("name `{}` does not resolve: {error}", target.host))?;
    let addresses = interleaved(found);
    match addresses.is_empty() {
        true => Err(format!("name `{}` has no address", target.host)),
        false => Ok(addresses),
    }
}

/// The families in turn, the first one's first (RFC 8305 §4): a broken family
/// then costs one attempt delay, not one for each of its addresses.
fn interleaved(addresses: impl Iterator<Item = SocketAddr>) -> Vec<SocketAddr> {
    let mut addresses = addresses.peekable();
    let Some(leads_v6) = addresses.peek().map(SocketAddr::is_ipv6) else {
        return Vec::new();
    };
    let (lead, follow): (Vec<_>, Vec<_>) =
        addresses.partition(|address| address.is_ipv6() == leads_v6);
    let (mut lead, mut follow) = (lead.into_iter(), follow.into_iter());
    let mut order = Vec::new();
    loop {
        let pair = [lead.next(), follow.next()];
        if pair == [None, None] {
            return order;
        }
        order.extend(pair.into_iter().flatten());
    }
}

/// Tries the addresses in order, a new one when the last has failed or has been
/// pending for [`ATTEMPT_DELAY`]. The first to connect wins.
async fn race(target: &str, addresses: Vec<SocketAddr>) -> Result<TcpStream, String> {
    let mut untried = addresses.into_iter();
    let mut attempts = FuturesUnordered::new();
    let mut failures = Vec::new();
    loop {
        match untried.next() {
            Some(address) => attempts.push(attempt(target, address)),
            None if attempts.is_empty() => return Err(failures.join(", ")),
            None => {}
        }
        let outcome = match untried.len() {
            0 => attempts.next().await,
            _ => match time::timeout(ATTEMPT_DELAY, attempts.next()).await {
                Ok(outcome) => outcome,
                Err(_) => continue,
            },
        };
        match outcome.expect("an attempt is pending") {
            Ok(stream) => return Ok(stream),
            Err(failure) => failures.push(failure),
        }
    }
}

async fn attempt(target: &str, address: SocketAddr) -> Result<TcpStream, String> {
    TcpStream::connect(address).await.map_err(|error| {
        // Whose address it is, only where a name has been looked up.
        match address.to_string() == target {
            true => say(&error),
            false => format!("{} ({address})", say(&error)),
        }
    })
}

fn tune(stream: &TcpStream, options: &TcpOptions) -> io::Result<()> {
    let socket = SockRef::from(stream);
    socket.set_tcp_nodelay(options.nodelay)?;
    if let Some(after) = options.keepalive {
        let mut keepalive = TcpKeepalive::new().with_time(after);
        if let Some(interval) = options.keepalive_interval {
            keepalive = keepalive.with_interval(interval);
        }
        if let Some(retries) = options.keepalive_retries {
            keepalive = keepalive.with_retries(retries);
        }
        socket.set_tcp_keepalive(&keepalive)?;
    }
    #[cfg(target_os = "linux")]
    socket.set_tcp_user_timeout(Some(USER_TIMEOUT))?;
    Ok(())
}

/// An IO error without its number where the kind says it all.
pub(super) fn say(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::ConnectionRefused
        | io::ErrorKind::ConnectionReset
        | io::ErrorKind::ConnectionAborted
        | io::ErrorKind::BrokenPipe
        | io::ErrorKind::TimedOut
        | io::ErrorKind::HostUnreachable
        | io::ErrorKind::NetworkUnreachable => error.kind().to_string(),
        _ => error.to_string(),
    }
}

fn listed(addresses: &[SocketAddr]) -> String {
    let texts: Vec<_> = addresses.iter().map(SocketAddr::to_string).collect();
    texts.join(", ")
}

#[cfg(test)]
mod tests {
    use std::{net::SocketAddr, time::Duration};

    use socket2::SockRef;
    use tokio::net::{TcpListener, TcpStream};

    use super::{interleaved, tune};
    use crate::transport::Endpoint;

    #[test]
    fn families_take_turns() {
        let parse = |texts: &[&str]| -> Vec<SocketAddr> {
            let addresses = texts.iter().map(|text| text.parse());
            addresses
                .map(|address| address.expect("an address"))
                .collect()
        };
        let given = parse(&[
            "[::1]:1",
            "[::2]:1",
            "[::3]:1",
            "127.0.0.1:1",
            "127.0.0.2:1",
        ]);
        let order = parse(&[
            "[::1]:1",
            "127.0.0.1:1",
            "[::2]:1",
            "127.0.0.2:1",
            "[::3]:1",
        ]);
        assert_eq!(interleaved(given.into_iter()), order);
        assert_eq!(interleaved(std::iter::empty()), []);
    }

    async fn tuned(endpoint: &Endpoint) -> TcpStream {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("bound");
        let stream = TcpStream::connect(address).await.expect("it listens");
        tune(&stream, &endpoint.tcp).expect("options this system has");
        stream
    }

    #[tokio::test]
    async fn a_dead_peer_is_found_by_default() {
        let stream = tuned(&Endpoint::from_static("http://127.0.0.1:1")).await;
        let socket = SockRef::from(&stream);
        let seconds = Duration::from_secs;
        assert!(socket.tcp_nodelay().expect("readable"));
        assert!(socket.keepalive().expect("readable"));
        #[cfg(target_os = "linux")]
        {
            assert_eq!(socket.tcp_keepalive_time().expect("readable"), seconds(30));
            assert_eq!(
                socket.tcp_keepalive_interval().expect("readable"),
                seconds(10)
            );
            assert_eq!(socket.tcp_keepalive_retries().expect("readable"), 3);
            assert_eq!(
                socket.tcp_user_timeout().expect("readable"),
                Some(seconds(20))
            );
        }
    }

    #[tokio::test]
    async fn an_endpoint_may_choose_otherwise() {
        let endpoint = Endpoint::from_static("http://127.0.0.1:1")
            .tcp_nodelay(false)
            .tcp_keepalive(None);
        let stream = tuned(&endpoint).await;
        let socket = SockRef::from(&stream);
        assert!(!socket.tcp_nodelay().expect("readable"));
        assert!(!socket.keepalive().expect("readable"));
    }
}
