//! Connectors of the application's own.

use std::{
    io,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use hyper_util::rt::TokioIo;
use testing::{Backend, GREETER, checking, hello, refusal, spread, until_backends, within};
use tokio::{net::TcpStream, sync::mpsc, time::Instant};
use tonic_health_channel::{
    Channel,
    ConnectivityState::{Ready, TransientFailure},
    Endpoint, Uri,
    channel::{BackoffConfig, Change},
};
use tower::service_fn;

/// Connects to `at` whatever the URI, and counts.
fn to(
    at: SocketAddr,
    dials: Arc<AtomicUsize>,
) -> impl tower::Service<Uri, Response = TokioIo<TcpStream>, Error = io::Error, Future: Send + 'static>
+ Send
+ 'static {
    service_fn(move |uri: Uri| {
        let dials = dials.clone();
        async move {
            assert_eq!(uri.host(), Some("greeter.test"));
            dials.fetch_add(1, Ordering::Relaxed);
            TcpStream::connect(at).await.map(TokioIo::new)
        }
    })
}

/// The pauses between the first 4 attempts of a channel that connects in vain.
async fn pauses(options: fn(Endpoint) -> Endpoint, channel: fn(Endpoint) -> Channel) -> [f64; 3] {
    let (tell, mut dials) = mpsc::unbounded_channel();
    let connector = service_fn(move |_: Uri| {
        let _ = tell.send(Instant::now());
        async { Err::<TokioIo<TcpStream>, _>(io::Error::other("no door")) }
    });
    let endpoint = Endpoint::from_static("http://shop.test").connector(connector);
    let channel = channel(options(endpoint));
    channel.request_connection();
    let mut at = Vec::new();
    for _ in 0..4 {
        at.push(within("a dial", dials.recv()).await.expect("a channel"));
    }
    [1, 2, 3].map(|n| (at[n] - at[n - 1]).as_secs_f64())
}

/// What it is, its options, how its channel is made, and the pauses.
type Row = (
    &'static str,
    fn(Endpoint) -> Endpoint,
    fn(Endpoint) -> Channel,
    [f64; 3],
);

/// A server that is restarted is connected to as soon as with tonic.
// D314
#[tokio::test(start_paused = true)]
async fn channels_by_tonics_constructors_begin_with_short_pauses() {
    let push: fn(Endpoint) -> Channel = |endpoint| {
        let (channel, changes) = Channel::balance_channel(1);
        let insert = changes.try_send(Change::Insert("a", endpoint));
        insert.expect("there is room");
        channel
    };
    let list = |endpoint| Channel::balance_list([endpoint].into_iter());
    let of_list = |endpoint| Channel::list([endpoint]).expect("a list").build();
    let half = |endpoint: Endpoint| {
        let half = Duration::from_millis(500);
        endpoint.connect_backoff(
            BackoffConfig::default()
                .initial(half)
                .and_then(|backoff| backoff.jitter(0.0))
                .expect("pauses")
                .max(half),
        )
    };
    let same: fn(Endpoint) -> Endpoint = |endpoint| endpoint;
    let rows: [Row; 6] = [
        (
            "connect_lazy",
            same,
            |endpoint| endpoint.connect_lazy(),
            [0.1, 0.16, 0.256],
        ),
        ("balance_list", same, list, [0.1, 0.16, 0.256]),
        ("balance_channel", same, push, [0.1, 0.16, 0.256]),
        ("a list", same, of_list, [1.0, 1.6, 2.56]),
        (
            "connect_lazy, set",
            half,
            |endpoint| endpoint.connect_lazy(),
            [0.5; 3],
        ),
        ("a list, set", half, of_list, [0.5; 3]),
    ];
    for (name, options, channel, expected) in rows {
        let pauses = pauses(options, channel).await;
        for (pause, expected) in pauses.into_iter().zip(expected) {
            let right = expected * 0.79..expected * 1.21;
            assert!(right.contains(&pause), "{name}: {pauses:?}");
        }
    }
}

/// The host of the URI is one that means nothing.
// D310
#[tokio::test]
async fn errors_name_what_a_connector_connects_to() {
    let nowhere =
        || service_fn(|_: Uri| async { Err::<TokioIo<TcpStream>, _>(io::Error::other("no door")) });
    let dummy = Endpoint::from_static("http://[::]:80");
    for (endpoint, called) in [
        (dummy.clone(), "the connector"),
        (dummy.label("/run/greeter.sock"), "/run/greeter.sock"),
        (Endpoint::from_static("http://shop.test:1"), "shop.test:1"),
    ] {
        let error = endpoint.connect_with_connector(nowhere()).await;
        let error = error.expect_err("there is no door");
        assert_eq!(error.message(), format!("{called} connect: no door"));
        let list = Channel::list([endpoint.connector(nowhere())]).expect("a list");
        let text = refusal(&list.build()).await;
        assert!(
            text.contains(&format!("{called} connect: no door")),
            "{text}"
        );
    }
}

#[tokio::test]
async fn a_connector_may_lead_anywhere() {
    let backend = Backend::start().await;
    let dials = Arc::<AtomicUsize>::default();
    let endpoint = Endpoint::from_static("http://greeter.test:50051");
    let connector = to(backend.addr(), dials.clone());
    let connecting = endpoint.connect_with_connector(connector);
    let channel = within("the endpoint to connect", connecting).await;
    let channel = channel.expect("the backend is up");
    hello(&channel).await.expect("a reply");
    let authority = backend.last_authority();
    assert_eq!(authority.as_deref(), Some("greeter.test:50051"));
    assert_eq!(dials.load(Ordering::Relaxed), 1);
}

#[tokio::test]
async fn a_balanced_channel_connects_by_the_connectors_of_its_endpoints() {
    let [a, b] = Backend::builder().start_each(["a", "b"]).await;
    let dials = Arc::<AtomicUsize>::default();
    let endpoint = |backend: &Backend| {
        let connector = to(backend.addr(), dials.clone());
        Endpoint::from_static("http://greeter.test").connector(connector)
    };
    let changes = [("a", endpoint(&a)), ("b", endpoint(&b))];
    let changes = changes.map(|(key, endpoint)| Ok::<_, io::Error>(Change::Insert(key, endpoint)));
    let channel = Channel::balance(futures_util::stream::iter(changes))
        .service_config(checking(GREETER))
        .build();
    until_backends(&channel, &[Ready, Ready]).await;
    assert_eq!(spread(&channel, 4, &[&a, &b]).await, [2, 2]);

    b.kill().await;
    until_backends(&channel, &[Ready, TransientFailure]).await;
    b.restart().await;
    channel.reset_connect_backoff();
    until_backends(&channel, &[Ready, Ready]).await;
    assert!(dials.load(Ordering::Relaxed) >= 3, "it connects again");
}

#[tokio::test]
async fn an_endpoint_that_is_repeated_with_its_connector_keeps_its_connection() {
    let backend = Backend::start().await;
    let dials = Arc::<AtomicUsize>::default();
    let connector = || to(backend.addr(), dials.clone());
    let endpoint = Endpoint::from_static("http://greeter.test").connector(connector());
    assert!(endpoint == endpoint.clone());
    assert!(endpoint != endpoint.clone().connector(connector()));

    let (channel, changes) = Channel::balance_channel(16);
    for endpoint in [endpoint.clone(), endpoint.clone()] {
        let change = Change::Insert("it", endpoint);
        changes.send(change).await.expect("the channel takes it");
        hello(&channel).await.expect("a reply");
    }
    assert_eq!(dials.load(Ordering::Relaxed), 1);
}

#[tokio::test]
async fn the_error_of_a_connector_is_the_backends() {
    let connector = service_fn(async |_: Uri| {
        Err::<TokioIo<TcpStream>, _>(io::Error::other("the tunnel is flooded"))
    });
    let channel = Channel::new(connector, Endpoint::from_static("http://greeter.test"));
    let text = refusal(&channel).await;
    assert!(text.contains("connect: the tunnel is flooded"), "{text}");
    assert_ne!(channel.state(), Ready);
}

#[tokio::test]
async fn the_connect_timeout_bounds_a_connector_that_hangs() {
    let connector =
        service_fn(async |_: Uri| std::future::pending::<io::Result<TokioIo<TcpStream>>>().await);
    let endpoint = Endpoint::from_static("http://greeter.test");
    let endpoint = endpoint.connect_timeout(Duration::from_millis(50));
    let connecting = Channel::connect(connector, endpoint);
    let outcome = within("the attempt to end", connecting).await;
    let error = outcome.expect_err("it hangs");
    let text = "no connection within 50ms: waiting for the connector";
    assert!(error.message().contains(text), "{error}");
}
