//! From an endpoint to a connection whose peer has spoken HTTP/2.
//!
//! One deadline covers everything: name lookup, the race over all addresses of
//! the name, TLS, and the peer's SETTINGS. Every failure is one sentence about the
//! step that failed.

use std::{
    future::Future,
    io,
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use futures_util::{StreamExt, stream::FuturesUnordered};
use socket2::{SockRef, TcpKeepalive};
#[cfg(unix)]
use tokio::net::UnixStream;
use tokio::net::{TcpSocket, TcpStream};

use super::{
    connection::{BackendContext, Connection},
    endpoint::{Endpoint, TcpOptions},
    h2,
    io::{BoxIo, Connector, HostPort, Located, Progress, UnixName},
    words::failure::Failure,
};
use crate::{
    error::{Cause, CauseKind, Origin},
    util::{blocking, contained::contained_future, real_time::timeout_io},
};

/// Time between the starts of two attempts at addresses of one name (gRFC A61,
/// "Connection Attempt Delay").
const ATTEMPT_DELAY: Duration = Duration::from_millis(250);

/// What Linux knows of user timeouts: milliseconds in an `int`, of which 0 is none.
#[cfg(target_os = "linux")]
const USER_TIMEOUTS: (Duration, Duration) = (
    Duration::from_millis(1),
    Duration::from_millis(i32::MAX as u64),
);

/// Connects to `endpoint` and waits for the peer's SETTINGS.
///
/// # Cancel safety
///
/// Dropping the future closes whatever was open.
pub(crate) async fn dial(endpoint: Endpoint, context: BackendContext) -> Result<Connection, Cause> {
    let deadline = endpoint.connect_deadline();
    let progress = Progress::new("starting");
    let attempt = async {
        let target = endpoint.target()?;
        let plain = connect(&endpoint, target, &progress);
        let io = secured(&endpoint, &progress, plain).await?;
        progress.set("waiting for the peer's HTTP/2 SETTINGS");
        h2::handshake(io, &endpoint, context).await
    };
    // What is left of the application's after its connector: the bytes, and TLS.
    let attempt = async {
        let outcome = contained_future(attempt).await;
        outcome.unwrap_or_else(|text| Err(format!("panicked while {progress}: {text}").into()))
    };
    let outcome = match timeout_io(deadline, endpoint.uses_sockets(), attempt).await {
        Some(outcome) => outcome,
        None => Err(format!("no connection within {deadline:?}: {progress}").into()),
    };
    outcome.map_err(|failure| failure.into_cause(CauseKind::Connect))
}

/// Bytes to the endpoint, by its own connector or by a socket.
async fn connect(
    endpoint: &Endpoint,
    target: HostPort,
    progress: &Progress,
) -> Result<BoxIo, Failure> {
    if let Connector(Some(connect)) = &endpoint.connector {
        let (uri, progress) = (endpoint.uri().clone(), progress.clone());
        let connecting = contained_future(async { connect(uri, progress).await }).await;
        return connecting.unwrap_or_else(|text| Err(format!("connector panicked: {text}").into()));
    }
    if let Some(Located::Unix(name)) = &endpoint.located {
        progress.set(format!("waiting for {name}"));
        return connect_unix(name).await;
    }
    let (target, address) = match endpoint.located {
        Some(Located::Tcp(address)) => (HostPort::of(address), Some(address)),
        _ => (target, None),
    };
    match endpoint.proxy.as_ref().and_then(|proxy| proxy.to(&target)) {
        None => connect_tcp(endpoint, &target, address, progress).await,
        Some(hop) => {
            let proxy = hop.target();
            let tunnelled = async {
                let io = connect_tcp(endpoint, &proxy, None, progress).await?;
                progress.set(format!("waiting for the proxy {proxy}"));
                hop.tunnel(io, &target.to_string()).await
            };
            let tunnelled = tunnelled.await;
            tunnelled.map_err(|failure| failure.told(|why| format!("proxy {proxy}: {why}")))
        }
    }
}

/// The bytes of `plain`, behind TLS if the endpoint asks for that. What cannot be
/// secured is not connected to.
///
/// # Errors
///
/// Why there is no connection, in a sentence.
#[cfg(feature = "_tls-any")]
async fn secured(
    endpoint: &Endpoint,
    progress: &Progress,
    plain: impl Future<Output = Result<BoxIo, Failure>>,
) -> Result<BoxIo, Failure> {
    if !endpoint.is_secure() {
        return plain.await;
    }
    let client = endpoint.security.tls.client(endpoint.host())?;
    let plain = plain.await?;
    progress.set(format!(
        "waiting for the TLS handshake with {}",
        endpoint.address()
    ));
    client.handshake(plain, endpoint.uses_sockets()).await
}

/// Without TLS there are only the bytes as they are.
///
/// # Errors
///
/// Why there is no connection, in a sentence.
#[cfg(not(feature = "_tls-any"))]
async fn secured(
    endpoint: &Endpoint,
    _: &Progress,
    plain: impl Future<Output = Result<BoxIo, Failure>>,
) -> Result<BoxIo, Failure> {
    match endpoint.is_secure() {
        false => plain.await,
        true => Err("https needs TLS: enable the feature `tls-ring` or `tls-aws-lc`".into()),
    }
}

async fn connect_tcp(
    endpoint: &Endpoint,
    target: &HostPort,
    address: Option<SocketAddr>,
    progress: &Progress,
) -> Result<BoxIo, Failure> {
    let addresses = match address {
        Some(address) => vec![address],
        None => {
            progress.set(format!("looking up `{}`", target.host));
            look_up(target).await?
        }
    };
    progress.set(format!("waiting for TCP with {}", listed(&addresses)));
    let local = endpoint.tcp.local_address;
    let stream = race(&target.to_string(), addresses, local).await?;
    tune(&stream, &endpoint.tcp).map_err(|error| {
        let failure = Failure::from(error);
        failure.told(|why| format!("socket options: {why}"))
    })?;
    Ok(Box::new(stream))
}

#[cfg(unix)]
async fn connect_unix(name: &UnixName) -> Result<BoxIo, Failure> {
    let stream = match name {
        UnixName::Path(path) => UnixStream::connect(path).await,
        // Tokio knows a path that begins with a zero byte for such a name.
        UnixName::Abstract(name) if cfg!(target_os = "linux") => {
            UnixStream::connect(format!("\0{name}")).await
        }
        UnixName::Abstract(_) => return Err("only Linux has abstract Unix sockets".into()),
    };
    Ok(Box::new(stream?))
}

#[cfg(not(unix))]
async fn connect_unix(_: &UnixName) -> Result<BoxIo, Failure> {
    Err("this system has no Unix sockets".into())
}

async fn look_up(target: &HostPort) -> Result<Vec<SocketAddr>, Failure> {
    let found = blocking::look_up(&target.host, target.port).await;
    let found = found.map_err(|error| {
        let text = format!("name `{}` does not resolve: {error}", target.host);
        Failure::new(text, Origin::new(error))
    })?;
    let addresses = interleaved(found.into_iter());
    match addresses.is_empty() {
        true => Err(format!("name `{}` has no address", target.host).into()),
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
async fn race(
    target: &str,
    addresses: Vec<SocketAddr>,
    local: Option<IpAddr>,
) -> Result<TcpStream, Failure> {
    let mut untried = addresses.into_iter();
    let mut attempts = FuturesUnordered::new();
    let mut failures = Vec::new();
    loop {
        match untried.next() {
            Some(address) => attempts.push(attempt(target, address, local)),
            None if attempts.is_empty() => return Err(Failure::of_all(failures)),
            None => {}
        }
        let outcome = match untried.len() {
            0 => attempts.next().await,
            _ => match timeout_io(ATTEMPT_DELAY, true, attempts.next()).await {
                Some(outcome) => outcome,
                None => continue,
            },
        };
        match outcome.expect("an attempt is pending") {
            Ok(stream) => return Ok(stream),
            Err(failure) => failures.push(failure),
        }
    }
}

async fn attempt(
    target: &str,
    address: SocketAddr,
    local: Option<IpAddr>,
) -> Result<TcpStream, Failure> {
    let connected = match local {
        None => TcpStream::connect(address).await,
        Some(local) => connect_from(local, address).await,
    };
    connected.map_err(|error| {
        let failure = Failure::from(error);
        // Whose address it is, only where a name has been looked up.
        match address.to_string() == target {
            true => failure,
            false => failure.told(|why| format!("{why} ({address})")),
        }
    })
}

async fn connect_from(local: IpAddr, address: SocketAddr) -> io::Result<TcpStream> {
    let socket = match address {
        SocketAddr::V4(_) => TcpSocket::new_v4()?,
        SocketAddr::V6(_) => TcpSocket::new_v6()?,
    };
    socket.bind(SocketAddr::new(local, 0)).map_err(|error| {
        let why = format!("no connection from the local address {local}: {error}");
        io::Error::new(error.kind(), why)
    })?;
    socket.connect(address).await
}

/// What Linux knows of keepalive: whole seconds, and probes, from 1 to these.
const LONGEST_KEEPALIVE: u64 = 32_767;
const MOST_PROBES: u32 = 127;

/// The nearest time that the system takes; it would refuse all others.
fn keepalive_time(time: Duration) -> Duration {
    let up = u64::from(time.subsec_nanos() > 0);
    let seconds = time.as_secs().saturating_add(up);
    Duration::from_secs(seconds.clamp(1, LONGEST_KEEPALIVE))
}

fn tune(stream: &TcpStream, options: &TcpOptions) -> io::Result<()> {
    let socket = SockRef::from(stream);
    socket.set_tcp_nodelay(options.nodelay)?;
    if let Some(after) = options.keepalive {
        let mut keepalive = TcpKeepalive::new().with_time(keepalive_time(after));
        if let Some(interval) = options.keepalive_interval {
            keepalive = keepalive.with_interval(keepalive_time(interval));
        }
        if let Some(retries) = options.keepalive_retries {
            keepalive = keepalive.with_retries(retries.clamp(1, MOST_PROBES));
        }
        socket.set_tcp_keepalive(&keepalive)?;
    }
    #[cfg(target_os = "linux")]
    if let Some(timeout) = options.user_timeout {
        let (least, most) = USER_TIMEOUTS;
        socket.set_tcp_user_timeout(Some(timeout.clamp(least, most)))?;
    }
    Ok(())
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
            .tcp_keepalive(None)
            .tcp_user_timeout(None);
        let stream = tuned(&endpoint).await;
        let socket = SockRef::from(&stream);
        assert!(!socket.tcp_nodelay().expect("readable"));
        assert!(!socket.keepalive().expect("readable"));
        #[cfg(target_os = "linux")]
        assert_eq!(socket.tcp_user_timeout().expect("readable"), None);
    }

    // D300
    #[cfg(target_os = "linux")]
    #[tokio::test]
    async fn keepalive_is_rounded_into_what_the_system_knows() {
        let (second, longest) = (Duration::from_secs(1), Duration::from_secs(32_767));
        for (asked, probes, time, sent) in [
            (Duration::ZERO, 0, second, 1),
            (Duration::from_millis(500), 1, second, 1),
            (Duration::from_millis(1_001), 127, 2 * second, 127),
            (36_000 * second, 128, longest, 127),
            (Duration::MAX, u32::MAX, longest, 127),
        ] {
            let endpoint = Endpoint::from_static("http://127.0.0.1:1")
                .tcp_keepalive(Some(asked))
                .tcp_keepalive_interval(Some(asked))
                .tcp_keepalive_retries(Some(probes));
            let stream = tuned(&endpoint).await;
            let socket = SockRef::from(&stream);
            assert_eq!(socket.tcp_keepalive_time().expect("readable"), time);
            assert_eq!(socket.tcp_keepalive_interval().expect("readable"), time);
            assert_eq!(socket.tcp_keepalive_retries().expect("readable"), sent);
        }
    }

    #[cfg(target_os = "linux")]
    #[tokio::test]
    async fn a_user_timeout_is_one_that_the_system_knows() {
        for (asked, expected) in [
            (Duration::from_secs(3), Duration::from_secs(3)),
            (Duration::ZERO, Duration::from_millis(1)),
            (Duration::MAX, Duration::from_millis(i32::MAX as u64)),
        ] {
            let endpoint = Endpoint::from_static("http://127.0.0.1:1");
            let stream = tuned(&endpoint.tcp_user_timeout(Some(asked))).await;
            let timeout = SockRef::from(&stream).tcp_user_timeout();
            assert_eq!(timeout.expect("readable"), Some(expected));
        }
    }
}
