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
use tokio::net::TcpStream;
use tonic_health_channel::{
    Change, Channel,
    ConnectivityState::{Ready, TransientFailure},
    Endpoint, Uri,
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
