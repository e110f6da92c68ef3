//! What is plugged into a channel may panic when it is dropped, mostly in a task of the channel's.
//! The task goes on, and so does the channel.

use std::{
    future::{pending, poll_fn},
    io,
    panic::{AssertUnwindSafe, catch_unwind},
    pin::Pin,
    sync::{Arc, atomic::Ordering::Relaxed},
    task::Poll,
    time::Duration,
};

use futures_util::{FutureExt, Stream, StreamExt, future::BoxFuture, stream};
use http::Request;
use hyper_util::rt::TokioIo;
use testing::{
    Backend, GREETER, Logs, Peer, PeerScript, Tapped, balanced, by_hand, endpoint, hello,
    quick_backoff, until, until_that, within,
};
use tokio::{net::TcpStream, sync::Notify};
use tonic::{Status, body::Body, metadata::MetadataMap};
use tonic_health_channel::{
    Channel, ChannelBuilder, ConnectivityState::Ready, Endpoint, ServiceConfig, Uri,
    channel::Change,
};
use tower::{BoxError, ServiceExt, service_fn};

use super::rigged::{Deaths, Fuse, Messages, PANIC, Rigged};

type Connecting = BoxFuture<'static, io::Result<TokioIo<TcpStream>>>;

async fn tcp(authority: &str) -> io::Result<TcpStream> {
    TcpStream::connect(authority).await
}

fn connecting(uri: Uri) -> Connecting {
    let authority = uri.authority().expect("set").to_string();
    Box::pin(async move { tcp(&authority).await.map(TokioIo::new) })
}

/// A channel to one endpoint, with quick backoffs.
fn over(there: Endpoint) -> Channel {
    over_source(stream::iter([Ok(Change::Insert("A", there))])).build()
}

fn over_source(
    source: impl Stream<Item = Result<Change<&'static str, Endpoint>, BoxError>> + Send + 'static,
) -> ChannelBuilder {
    Channel::balance(source).connect_backoff(quick_backoff())
}

async fn serves(channel: &Channel) {
    until(channel, Ready).await;
    hello(channel).await.expect("an answer");
}

/// Awaits why the last attempt to connect has failed, which is this.
async fn until_failed(channel: &Channel, text: &str) {
    let status = until_that(channel, "a failed attempt", |status| {
        let backend = status.backends().first();
        backend.is_some_and(|backend| backend.last_error().is_some())
    })
    .await;
    let (cause, _) = status.backends()[0].last_error().expect("awaited");
    assert!(cause.text().contains(text), "{cause}");
}

/// A backend with this endpoint is removed from beside another one.
async fn removed(fuse: Fuse, rigged: impl FnOnce(Endpoint, Fuse) -> Endpoint) {
    let (a, b) = (Backend::start().await, Backend::start().await);
    let (backends, builder) = by_hand(None);
    let channel = builder.build();
    let there = rigged(endpoint(a.uri()), fuse.clone());
    backends.insert_as("A", there).await;
    backends.insert("B", b.uri()).await;
    until_that(&channel, "both", |status| {
        let mut states = status.backends().iter().map(|b| b.state());
        status.backends().len() == 2 && states.all(|state| state == Ready)
    })
    .await;
    backends.remove("A").await;
    fuse.burnt().await;
    serves(&channel).await;
}

async fn connector_removed(fuse: Fuse) {
    removed(fuse, |there, fuse| {
        there.connector(fuse.rig(service_fn(connecting)))
    })
    .await;
}

async fn executor_removed(fuse: Fuse) {
    removed(fuse, |there, fuse| there.executor(fuse.rig(()))).await;
}

async fn connecting_done(fuse: Fuse) {
    let backend = Backend::start().await;
    let connector = service_fn(move |uri| fuse.rig(connecting(uri)));
    let channel = over(endpoint(backend.uri()).connector(connector));
    serves(&channel).await;
    let status = channel.status();
    assert_eq!(status.backends()[0].last_error(), None);
}

async fn connecting_too_long(fuse: Fuse) {
    let backend = Backend::start().await;
    let connector = service_fn(move |uri| match fuse.is_burnt() {
        true => fuse.rig(connecting(uri)),
        false => fuse.rig(Box::pin(pending()) as Connecting),
    });
    let there = endpoint(backend.uri()).connect_timeout(Duration::from_millis(100));
    let channel = over(there.connector(connector));
    until_failed(&channel, "no connection within").await;
    serves(&channel).await;
}

/// The first connection leads to `first`, and its bytes panic when they are dropped.
fn bytes(fuse: Fuse, there: Endpoint, first: Option<&Peer>) -> Channel {
    let first = first.map(|peer| peer.addr().to_string());
    let connector = service_fn(move |uri: Uri| {
        let (fuse, first) = (fuse.clone(), first.clone());
        async move {
            let authority = uri.authority().expect("set").to_string();
            let first = first.filter(|_| !fuse.is_burnt());
            let stream = tcp(&first.unwrap_or(authority)).await?;
            let tap = fuse.rig(());
            Ok::<_, io::Error>(TokioIo::new(Tapped { io: stream, tap }))
        }
    });
    over(there.connector(connector))
}

async fn bytes_at_their_end(fuse: Fuse) {
    let backend = Backend::start().await;
    let channel = bytes(fuse.clone(), endpoint(backend.uri()), None);
    serves(&channel).await;
    backend.cut_connections();
    fuse.burnt().await;
    serves(&channel).await;
}

async fn bytes_of_another_protocol(fuse: Fuse) {
    let (backend, peer) = (
        Backend::start().await,
        Peer::start(PeerScript::SpeaksHttp1).await,
    );
    let channel = bytes(fuse, endpoint(backend.uri()), Some(&peer));
    until_failed(&channel, "the peer speaks HTTP/1").await;
    serves(&channel).await;
}

async fn bytes_of_a_silent_peer(fuse: Fuse) {
    let (backend, peer) = (
        Backend::start().await,
        Peer::start(PeerScript::Silent).await,
    );
    let there = endpoint(backend.uri()).connect_timeout(Duration::from_millis(100));
    let channel = bytes(fuse, there, Some(&peer));
    until_failed(&channel, "no connection within").await;
    serves(&channel).await;
}

async fn error_of_a_connector(fuse: Fuse) {
    let backend = Backend::start().await;
    let mut attempts = 0;
    let connector = service_fn(move |uri| {
        attempts += 1;
        let error = (attempts == 1).then(|| fuse.rig(()));
        async move {
            match error {
                Some(error) => Err(BoxError::from(error)),
                None => Ok(connecting(uri).await?),
            }
        }
    });
    let channel = over(endpoint(backend.uri()).connector(connector));
    until_failed(&channel, "it is flooded").await;
    serves(&channel).await;
    channel.close().await;
}

/// No credentials: a future that panics when it is dropped, and is ready or not.
fn credentials(
    builder: ChannelBuilder,
    fuse: Fuse,
    asked: Arc<Notify>,
    is_ready: fn() -> bool,
) -> Channel {
    let builder = builder.allow_plaintext_credentials(true);
    let credentials = builder.call_credentials(move |_| {
        asked.notify_one();
        let is_ready = is_ready() || fuse.is_burnt();
        let none: BoxFuture<'static, _> = match is_ready {
            true => Box::pin(async { Ok(MetadataMap::new()) }),
            false => Box::pin(pending()),
        };
        fuse.rig(none)
    });
    credentials.build()
}

async fn credentials_done(fuse: Fuse) {
    let backend = Backend::start().await;
    let builder = balanced(&[&backend], None);
    serves(&credentials(builder, fuse, Arc::default(), || true)).await;
}

/// In the caller's task it may reach the caller, as on tonic's channel.
async fn credentials_of_a_dropped_call(fuse: Fuse) {
    let backend = Backend::start().await;
    let builder = balanced(&[&backend], None);
    let channel = credentials(builder, fuse.clone(), Arc::default(), || false);
    until(&channel, Ready).await;
    let call = AssertUnwindSafe(|| hello(&channel).now_or_never());
    assert!(!matches!(catch_unwind(call), Ok(Some(_))), "it waits");
    let in_flight = channel.status().backends()[0].calls_in_flight();
    assert_eq!(in_flight, 0);
    serves(&channel).await;
}

async fn credentials_of_a_watch(fuse: Fuse) {
    let (backend, asked) = (Backend::start().await, Arc::new(Notify::new()));
    let builder = balanced(&[&backend], Some(GREETER));
    let channel = credentials(builder, fuse.clone(), asked.clone(), || false);
    within("the Watch to ask for credentials", asked.notified()).await;
    backend.cut_connections();
    fuse.burnt().await;
    serves(&channel).await;
}

async fn source_at_its_end(fuse: Fuse) {
    let backend = Backend::start().await;
    let there = Change::Insert("A", endpoint(backend.uri()));
    let channel = over_source(fuse.rig(stream::iter([Ok(there)]))).build();
    fuse.burnt().await;
    serves(&channel).await;
}

async fn error_of_a_source(fuse: Fuse) {
    let backend = Backend::start().await;
    let there = Change::Insert("A", endpoint(backend.uri()));
    let said = [Err(fuse.rig(()).into()), Ok(there)];
    let channel = over_source(stream::iter(said)).build();
    serves(&channel).await;
}

async fn configs_at_their_end(fuse: Fuse) {
    let backend = Backend::start().await;
    let none = stream::empty::<Result<Option<ServiceConfig>, BoxError>>();
    let builder = balanced(&[&backend], None).service_config_updates(fuse.rig(none));
    serves(&builder.build()).await;
}

async fn error_of_configs(fuse: Fuse) {
    let backend = Backend::start().await;
    let config: ServiceConfig = "{}".parse().expect("valid");
    let said = [Err(BoxError::from(fuse.rig(()))), Ok(Some(config))];
    let builder = balanced(&[&backend], None).service_config_updates(stream::iter(said));
    serves(&builder.build()).await;
}

/// The status of a call of this body, if it is not dropped before.
async fn call(channel: &Channel, method: &str, body: Rigged<Messages>) -> Option<Status> {
    let call = Request::post(format!("/demo.v1.Greeter/{method}"))
        .header("content-type", "application/grpc")
        .body(Body::new(body));
    let call = channel.clone().oneshot(call.expect("a request"));
    let response = within("a response", call).await.expect("a response");
    let mut body = response.into_body();
    let mut frames = async || {
        loop {
            let frame = poll_fn(|cx| http_body::Body::poll_frame(Pin::new(&mut body), cx));
            match frame.await? {
                Err(status) => return Some(status),
                Ok(frame) if frame.is_trailers() => return None,
                Ok(_) => {}
            }
        }
    };
    within("the end of the call", frames()).await
}

async fn body_of(fuse: Fuse, method: &str, messages: Messages) {
    let (backend, died) = (Backend::start().await, Arc::default());
    let channel = over(endpoint(backend.uri()).executor(Deaths(Arc::clone(&died))));
    let status = call(&channel, method, fuse.rig(messages)).await;
    assert!(status.is_none(), "{status:?}");
    fuse.burnt().await;
    let in_flight = channel.status().backends()[0].calls_in_flight();
    assert_eq!(in_flight, 0);
    serves(&channel).await;
    assert_eq!(died.load(Relaxed), 0, "a task has panicked");
}

async fn body_that_is_whole(fuse: Fuse) {
    let one = Messages {
        left: 1,
        late: None,
    };
    body_of(fuse, "SayHello", one).await;
}

/// It ends in the caller's task: nothing has to wait for a window.
async fn body_that_ends_late(fuse: Fuse) {
    let ready = Messages {
        left: 0,
        late: Some(true),
    };
    body_of(fuse, "Chat", ready).await;
}

async fn body_that_streams(fuse: Fuse) {
    let late = Messages {
        left: 3,
        late: Some(true),
    };
    body_of(fuse, "Chat", late).await;
}

/// All at the end of the channel, in the task of its worker.
async fn all_at_the_end(fuse: Fuse) {
    let backend = Backend::start().await;
    let there = endpoint(backend.uri()).connector(fuse.rig(service_fn(connecting)));
    let there = stream::iter([Ok(Change::Insert("A", there))]);
    let config: ServiceConfig = "{}".parse().expect("valid");
    let configs = stream::iter([Ok::<_, BoxError>(Some(config))]);
    let hook = fuse.rig(());
    let channel = over_source(fuse.rig(there.chain(stream::pending())))
        .service_config_updates(fuse.rig(configs.chain(stream::pending())))
        .allow_plaintext_credentials(true)
        .call_credentials(move |_| {
            let _ = &hook;
            async { Ok(MetadataMap::new()) }
        })
        .build();
    serves(&channel).await;
    within("the channel to close", channel.close()).await;
    drop(channel);
    fuse.burnt().await;
}

type Row = (&'static str, usize, fn(Fuse) -> BoxFuture<'static, ()>);

macro_rules! rows {
    ($($row:ident: $panics:literal,)*) => {
        [$((stringify!($row), $panics, |fuse| Box::pin($row(fuse)))),*]
    };
}

const ROWS: &[Row] = &rows! {
    connector_removed: 1,
    executor_removed: 1,
    connecting_done: 1,
    connecting_too_long: 1,
    bytes_at_their_end: 1,
    bytes_of_another_protocol: 1,
    bytes_of_a_silent_peer: 1,
    error_of_a_connector: 1,
    credentials_done: 1,
    credentials_of_a_dropped_call: 1,
    credentials_of_a_watch: 1,
    source_at_its_end: 1,
    error_of_a_source: 1,
    configs_at_their_end: 1,
    error_of_configs: 1,
    body_that_is_whole: 1,
    body_that_ends_late: 1,
    body_that_streams: 1,
    all_at_the_end: 4,
};

/// Which rows fail, and how.
async fn failures(rows: &[Row]) -> Vec<String> {
    let mut failed = Vec::new();
    let logs = Logs::capture_from("tonic_health_channel");
    for (what, panics, row) in rows {
        let (before, fuse) = (logs.all().len(), Fuse::of(*panics));
        if AssertUnwindSafe(row(fuse.clone()))
            .catch_unwind()
            .await
            .is_err()
        {
            failed.push(format!("{what}: it panicked"));
        }
        if !fuse.is_burnt() {
            failed.push(format!("{what}: not all is dropped"));
        }
        for line in logs.all().split_off(before) {
            let text = line.text;
            if text.contains("the balancer task panicked")
                || text.contains("the task of a backend ended unexpectedly")
            {
                failed.push(format!("{what}: {text}"));
            }
        }
    }
    failed
}

// D252
#[tokio::test]
async fn what_panics_when_it_is_dropped_ends_nothing_else() {
    assert_eq!(failures(ROWS).await, Vec::<String>::new());
}

async fn connecting_twice(fuse: Fuse) {
    let backend = Backend::start().await;
    let connector = service_fn(move |uri| match fuse.is_burnt() {
        true => fuse.rig(connecting(uri)),
        false => fuse.rig(Box::pin(poll_fn(|_| panic!("{PANIC}"))) as Connecting),
    });
    let channel = over(endpoint(backend.uri()).connector(connector));
    until_failed(&channel, "connector panicked").await;
    serves(&channel).await;
}

async fn credentials_twice(fuse: Fuse) {
    let backend = Backend::start().await;
    let builder = balanced(&[&backend], None).allow_plaintext_credentials(true);
    let channel = builder
        .call_credentials(move |_| {
            let is_burnt = fuse.is_burnt();
            fuse.rig(Box::pin(async move {
                assert!(is_burnt, "{PANIC}");
                Ok(MetadataMap::new())
            }))
        })
        .build();
    let status = hello(&channel).await.expect_err("there are none");
    let text = "call credentials panicked";
    assert!(status.message().contains(text), "{status}");
    serves(&channel).await;
}

async fn source_twice(fuse: Fuse) {
    let backend = Backend::start().await;
    let mut first = Some(Change::Insert("A", endpoint(backend.uri())));
    let source = stream::poll_fn(move |_| match first.take() {
        Some(first) => Poll::Ready(Some(Ok(first))),
        None => panic!("{PANIC}"),
    });
    let channel = over_source(fuse.rig(source)).build();
    fuse.burnt().await;
    serves(&channel).await;
}

async fn configs_twice(fuse: Fuse) {
    let backend = Backend::start().await;
    let config: ServiceConfig = "{}".parse().expect("valid");
    let mut first = Some(config);
    let configs = stream::poll_fn(move |_| match first.take() {
        Some(first) => Poll::Ready(Some(Ok::<_, BoxError>(Some(first)))),
        None => panic!("{PANIC}"),
    });
    let builder = balanced(&[&backend], None).service_config_updates(fuse.rig(configs));
    let channel = builder.build();
    fuse.burnt().await;
    serves(&channel).await;
}

const TWICE: &[Row] = &rows! {
    connecting_twice: 1,
    credentials_twice: 1,
    source_twice: 1,
    configs_twice: 1,
};

/// A panic that leaves a `Drop` during another one would end the process.
// D252
#[tokio::test]
async fn what_panics_and_then_again_when_it_is_dropped_ends_nothing_else() {
    assert_eq!(failures(TWICE).await, Vec::<String>::new());
}
