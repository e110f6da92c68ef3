//! From an endpoint to a connection whose peer has spoken HTTP/2.
//!
//! One deadline covers everything: name lookup, the race over all addresses of
//! the name, TLS, and the peer's SETTINGS. Every failure is one sentence about the
//! step that failed.

use std::{
    io,
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use socket2::{SockRef, TcpKeepalive};
#[cfg(unix)]
use tokio::net::UnixStream;
use tokio::net::{TcpSocket, TcpStream};

#[cfg(feature = "_tls-any")]
use super::io::Client;
use super::{
    addresses::{look_up, race},
    connection::{BackendContext, Connection},
    endpoint::{Endpoint, TcpOptions},
    h2,
    io::{BoxIo, Connector, Hop, HostPort, Located, Progress, UnixName},
    words::failure::Failure,
};
use crate::{
    error::{Cause, CauseKind},
    util::{contained::contained_future, real_time::timeout_io},
};

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
        let layers = Layers::of(&endpoint, &context)?;
        connect(&layers, target, &progress).await
    };
    // What is left of the application's after its connector: the bytes, and TLS.
    let attempt = async {
        let outcome = contained_future(attempt).await;
        outcome.unwrap_or_else(|text| Err(format!("panicked while {progress}: {text}").into()))
    };
    let outcome = match timeout_io(deadline, endpoint.uses_sockets(), attempt).await {
        Some(outcome) => outcome,
        None => {
            #[cfg(feature = "_tls-any")]
            context.meter.on_dial_timeout();
            Err(format!("no connection within {deadline:?}: {progress}").into())
        }
    };
    match &outcome {
        Ok(connection) => connection.on_dialled(),
        Err(_) => context.meter.on_dial_failed(),
    }
    outcome.map_err(|failure| failure.into_cause(CauseKind::Connect))
}

/// Connects by the endpoint's own connector, or by sockets. Of several addresses the first
/// wins whose peer has spoken HTTP/2.
async fn connect(
    layers: &Layers<'_>,
    target: HostPort,
    progress: &Progress,
) -> Result<Connection, Failure> {
    let endpoint = layers.endpoint;
    if let Connector(Some(connect)) = &endpoint.connector {
        let (uri, theirs) = (endpoint.uri().clone(), progress.clone());
        let connecting = contained_future(async { connect(uri, theirs).await }).await;
        let io =
            connecting.unwrap_or_else(|text| Err(format!("connector panicked: {text}").into()))?;
        return layers.put_on(io, progress).await;
    }
    if let Some(Located::Unix(name)) = &endpoint.located {
        progress.set(format!("waiting for {name}"));
        return layers.put_on(connect_unix(name).await?, progress).await;
    }
    let (target, address) = match endpoint.located {
        Some(Located::Tcp(address)) => (HostPort::of(address), Some(address)),
        _ => (target, None),
    };
    let hop = endpoint.proxy.as_ref().and_then(|proxy| proxy.to(&target));
    let way = Way {
        layers,
        proxy: hop.map(|hop| (hop.target(), hop)),
        target,
    };
    let addresses = match (address, &way.proxy) {
        (Some(address), None) => vec![address],
        _ => {
            let found = look_up(way.next(), progress).await;
            found.map_err(|failure| way.told(failure))?
        }
    };
    let way = &way;
    race(way.next(), addresses, progress, |address, progress| {
        way.go(address, progress)
    })
    .await
}

/// A way by TCP, that may lead through a proxy.
struct Way<'a> {
    layers: &'a Layers<'a>,
    proxy: Option<(HostPort, Hop)>,
    target: HostPort,
}

impl Way<'_> {
    /// Where it leads first.
    fn next(&self) -> &HostPort {
        self.proxy.as_ref().map_or(&self.target, |(proxy, _)| proxy)
    }

    /// A failure on the way to the target.
    fn told(&self, failure: Failure) -> Failure {
        match &self.proxy {
            Some((proxy, _)) => failure.told(|why| format!("proxy {proxy}: {why}")),
            None => failure,
        }
    }

    /// Goes it all, by one address of where it leads first.
    async fn go(&self, address: SocketAddr, progress: Progress) -> Result<Connection, Failure> {
        let io = self.reach(address, &progress).await;
        let io = io.map_err(|failure| self.told(failure))?;
        self.layers.put_on(io, &progress).await
    }

    async fn reach(&self, address: SocketAddr, progress: &Progress) -> Result<BoxIo, Failure> {
        let io = connect_tcp(address, &self.layers.endpoint.tcp).await?;
        match &self.proxy {
            None => Ok(io),
            Some((proxy, hop)) => {
                progress.set(format!("waiting for the proxy {proxy}"));
                hop.tunnel(io, &self.target.to_string()).await
            }
        }
    }
}

/// What goes on the bytes to a peer: TLS, if the endpoint asks for that, and HTTP/2.
struct Layers<'a> {
    endpoint: &'a Endpoint,
    context: &'a BackendContext,
    #[cfg(feature = "_tls-any")]
    tls: Option<Client>,
}

impl<'a> Layers<'a> {
    /// # Errors
    ///
    /// Why it cannot be secured, in a sentence: then it is not connected to.
    fn of(endpoint: &'a Endpoint, context: &'a BackendContext) -> Result<Self, Failure> {
        #[cfg(not(feature = "_tls-any"))]
        if endpoint.is_secure() {
            return Err("https needs TLS: enable the feature `tls-ring` or `tls-aws-lc`".into());
        }
        Ok(Self {
            endpoint,
            context,
            #[cfg(feature = "_tls-any")]
            tls: match endpoint.is_secure() {
                true => Some(endpoint.security.tls.client(endpoint.host())?),
                false => None,
            },
        })
    }

    /// A connection on `io`, once the peer's SETTINGS have come.
    ///
    /// # Errors
    ///
    /// Why there is none, in a sentence.
    async fn put_on(&self, io: BoxIo, progress: &Progress) -> Result<Connection, Failure> {
        let endpoint = self.endpoint;
        #[cfg(feature = "_tls-any")]
        let io = match self.tls.clone() {
            Some(client) => {
                let address = endpoint.address();
                progress.set(format!("waiting for the TLS handshake with {address}"));
                let record = self.context.meter.begin_handshake();
                client
                    .handshake(io, endpoint.uses_sockets(), record)
                    .await?
            }
            None => io,
        };
        progress.set("waiting for the peer's HTTP/2 SETTINGS");
        h2::handshake(io, endpoint, self.context.clone()).await
    }
}

async fn connect_tcp(address: SocketAddr, options: &TcpOptions) -> Result<BoxIo, Failure> {
    let stream = match options.local_address {
        None => TcpStream::connect(address).await?,
        Some(local) => connect_from(local, address).await?,
    };
    tune(&stream, options).map_err(|error| {
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

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use socket2::SockRef;
    use tokio::net::{TcpListener, TcpStream};

    use super::tune;
    use crate::transport::Endpoint;

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
