//! The chains of errors that callers get: where they lead, and that no link repeats the next.
//!
//! tonic's own channel is the control: where its chain leads to an `io::Error`, ours does.

use std::{
    error::Error,
    fmt,
    future::ready,
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use h2::Reason;
use hyper_util::rt::TokioIo;
#[cfg(feature = "tls-ring")]
use testing::{Authority, TlsFront};
use testing::{
    Backend, Peer, PeerScript, RawConnection, RawPeer, dead_addr, endpoint,
    greeter::greeter_client::GreeterClient,
    http2::{self, END_STREAM},
    request, request_within, until_backends, within,
};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
    sync::Notify,
};
use tonic::{
    Code, Status,
    body::Body,
    client::GrpcService,
    codegen::StdError,
    metadata::MetadataMap,
    transport::{Channel as TonicChannel, Endpoint as TonicEndpoint},
};
use tonic_health_channel::{
    Channel,
    ConnectivityState::TransientFailure,
    Endpoint, ErrorKind, ServiceConfig, Uri,
    channel::{BackoffConfig, Change},
    discover,
};
use tower::{ServiceExt, service_fn};

/// The first error of a chain that is of this type.
fn found<'a, E: Error + 'static>(mut error: &'a (dyn Error + 'static)) -> Option<&'a E> {
    loop {
        if let Some(found) = error.downcast_ref() {
            return Some(found);
        }
        error = error.source()?;
    }
}

/// No link of the chain repeats what its source says.
#[track_caller]
fn assert_no_text_twice(error: &(dyn Error + 'static)) {
    let mut link = error;
    while let Some(source) = link.source() {
        let (text, next) = (link.to_string(), source.to_string());
        assert!(!next.is_empty(), "a link says nothing, behind {text:?}");
        assert!(!text.contains(&next), "{text:?} repeats {next:?}");
        link = source;
    }
}

/// The status of a unary call by a generated client.
async fn status_by<T>(channel: T) -> Status
where
    T: GrpcService<Body, ResponseBody: http_body::Body<Data = bytes::Bytes> + Send + 'static>,
    T::Error: Into<StdError>,
    <T::ResponseBody as http_body::Body>::Error: Into<StdError> + Send,
{
    let mut client = GreeterClient::new(channel);
    let answer = within("an answer", client.say_hello(request("you"))).await;
    answer.map(drop).expect_err("the call fails")
}

/// The error of the same call by the channel as a `tower::Service`.
async fn error_by(mut channel: Channel) -> tonic_health_channel::Error {
    let call = http::Request::post("/demo.v1.Greeter/SayHello").body(Body::empty());
    let call = tower::Service::call(&mut channel, call.expect("a request"));
    let answer = within("an answer", call).await;
    answer.map(drop).expect_err("the call fails")
}

/// What the chains of a call's failure lead to, as a client has it and as a service has it.
/// No chain says anything twice.
async fn origin(channel: &Channel) -> Option<io::ErrorKind> {
    let status = status_by(channel.clone()).await;
    assert_no_text_twice(&status);
    let error = error_by(channel.clone()).await;
    assert_no_text_twice(&error);
    let kind = found::<io::Error>(&error).map(io::Error::kind);
    let status_of_error = found::<Status>(&error).expect("generated clients look for it");
    assert_eq!(status_of_error.message(), error.message());
    let converted = Status::from(error);
    assert_no_text_twice(&converted);
    assert_eq!(found::<io::Error>(&converted).map(io::Error::kind), kind);
    assert_eq!(found::<io::Error>(&status).map(io::Error::kind), kind);
    kind
}

/// What the chain of a call's failure leads to on tonic's channel.
async fn tonics_origin(channel: TonicChannel) -> Option<io::ErrorKind> {
    let status = status_by(channel).await;
    found::<io::Error>(&status).map(io::Error::kind)
}

fn at(uri: String) -> Channel {
    endpoint(uri).connect_lazy()
}

fn tonics_at(uri: String) -> TonicChannel {
    let endpoint = TonicEndpoint::from_shared(uri).expect("a URI");
    endpoint.connect_lazy()
}

// D287
#[tokio::test]
async fn a_refused_connection_leads_to_the_error_of_the_socket() {
    let dead = dead_addr();
    let control = tonics_origin(tonics_at(dead.uri())).await;
    assert_eq!(control, Some(io::ErrorKind::ConnectionRefused));
    assert_eq!(origin(&at(dead.uri())).await, control);

    let connecting = endpoint(dead.uri());
    let error = within("the attempt to end", connecting.connect()).await;
    let error = error.expect_err("nothing listens");
    assert_no_text_twice(&error);
    let text = format!("{} connect: connection refused", dead.addr());
    assert_eq!(error.to_string(), text);
    let io = found::<io::Error>(&error).expect("the socket's");
    assert_eq!(io.kind(), io::ErrorKind::ConnectionRefused);
    assert!(
        io.raw_os_error().is_some(),
        "it is the system's own: {io:?}"
    );
}

// D287
#[tokio::test]
async fn the_chain_leads_to_the_first_backend_that_failed_for_an_error() {
    let (silent, dead) = (Peer::start(PeerScript::Silent).await, dead_addr());
    let slow =
        endpoint(format!("http://{}", silent.addr())).connect_timeout(Duration::from_millis(20));
    let changes = [(0, slow), (1, endpoint(dead.uri()))];
    let changes = changes.map(|(key, endpoint)| Ok::<_, io::Error>(Change::Insert(key, endpoint)));
    let channel = Channel::balance(futures_util::stream::iter(changes)).build();
    until_backends(&channel, &[TransientFailure, TransientFailure]).await;
    assert_eq!(
        origin(&channel).await,
        Some(io::ErrorKind::ConnectionRefused)
    );
}

/// Any error that a connector may have, and what it came from.
#[derive(Debug)]
struct TunnelError(io::Error);

impl fmt::Display for TunnelError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("no tunnel")
    }
}

impl Error for TunnelError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        Some(&self.0)
    }
}

// D287
#[tokio::test]
async fn an_error_of_a_connector_is_in_the_chain_as_it_was() {
    fn flooded() -> io::Error {
        io::Error::new(io::ErrorKind::HostUnreachable, "it is flooded")
    }
    let own = || service_fn(async |_: Uri| Err::<TokioIo<TcpStream>, _>(TunnelError(flooded())));
    let plain = || service_fn(async |_: Uri| Err::<TokioIo<TcpStream>, _>(flooded()));

    let uri = "http://greeter.test:50051";
    let control = TonicEndpoint::from_static(uri).connect_with_connector_lazy(own());
    let control = tonics_origin(control).await;
    assert_eq!(control, Some(io::ErrorKind::HostUnreachable));
    let channel = Channel::new(own(), Endpoint::from_static(uri));
    assert_eq!(origin(&channel).await, control);
    let status = status_by(channel).await;
    found::<TunnelError>(&status).expect("the connector's own error");

    let channel = Channel::new(plain(), Endpoint::from_static(uri));
    assert_eq!(origin(&channel).await, control);
    let status = status_by(channel).await;
    let io = found::<io::Error>(&status).expect("the connector's own error");
    assert_eq!(io.to_string(), "it is flooded");
}

/// A peer that resets each connection in the place of SETTINGS.
async fn resetting() -> RawPeer {
    RawPeer::start(|mut wire: RawConnection| async move {
        wire.read_preface().await?;
        wire.reset_on_close();
        Ok(())
    })
    .await
}

// D287
#[tokio::test]
async fn a_connection_that_ends_before_settings_leads_to_the_error_of_the_socket() {
    let peer = resetting().await;
    // tonic's channel has an error of the socket, or of the call that the end has cancelled.
    // Reading and writing notice a reset in their own ways, and either may come first.
    let either = [io::ErrorKind::ConnectionReset, io::ErrorKind::BrokenPipe];
    let own = origin(&at(peer.uri())).await.expect("the socket's");
    assert!(either.contains(&own), "{own:?}");
    let error = within("the attempt to end", endpoint(peer.uri()).connect()).await;
    let error = error.expect_err("the peer resets");
    assert_no_text_twice(&error);
    let text = error.to_string();
    assert!(
        text.contains("connect: connection closed before server preface received (no SETTINGS)"),
        "{text}"
    );
    let io = found::<io::Error>(&error).expect("the socket's");
    assert!(either.contains(&io.kind()), "{io:?}");
    if io.kind() == io::ErrorKind::ConnectionReset {
        assert!(
            io.raw_os_error().is_some(),
            "it is the system's own: {io:?}"
        );
    }
}

/// Bytes that fail with an error of their own, at the first read or at the first write.
struct Flooded {
    at_read: bool,
}

impl Flooded {
    fn outcome<T>(&self, is_read: bool) -> Poll<io::Result<T>> {
        match self.at_read == is_read {
            true => Poll::Ready(Err(io::Error::new(
                io::ErrorKind::NetworkDown,
                TunnelError(io::ErrorKind::HostUnreachable.into()),
            ))),
            false => Poll::Pending,
        }
    }
}

impl AsyncRead for Flooded {
    fn poll_read(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        _: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.outcome(true)
    }
}

impl AsyncWrite for Flooded {
    fn poll_write(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        match self.at_read {
            true => Poll::Ready(Ok(bytes.len())),
            false => self.outcome(false),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

// D287
#[tokio::test]
async fn an_error_of_a_connectors_bytes_is_in_the_chain_as_it_was() {
    for at_read in [true, false] {
        let bytes = move || Ok::<_, io::Error>(TokioIo::new(Flooded { at_read }));
        let connector = service_fn(move |_: Uri| ready(bytes()));
        let endpoint = Endpoint::from_static("http://greeter.test");
        let channel = Channel::new(connector, endpoint);
        assert_eq!(origin(&channel).await, Some(io::ErrorKind::NetworkDown));
        let status = status_by(channel).await;
        let text = "connect: connection closed before server preface received (no SETTINGS): no \
                    tunnel";
        assert!(status.message().contains(text), "{status}");
        let io = found::<io::Error>(&status).expect("the connector's own error");
        let inner = io.get_ref().expect("it has a reason");
        assert!(inner.is::<TunnelError>(), "{inner:?}");
    }
}

// D287
#[tokio::test]
async fn a_peer_that_speaks_something_else_leads_to_no_error_of_a_socket() {
    for (says, text) in [
        ("SSH-2.0-OpenSSH_9.9\r\n", "does not speak HTTP/2: "),
        ("HTTP/1.1 400 Bad Request\r\n", "speaks HTTP/1, not HTTP/2"),
    ] {
        let peer = RawPeer::start(move |mut wire: RawConnection| async move {
            wire.read_preface().await?;
            wire.write(says.as_bytes()).await?;
            wire.read().await.map(drop)
        })
        .await;
        let channel = at(peer.uri());
        assert_eq!(origin(&channel).await, None);
        let status = status_by(channel).await;
        let text = format!("connect: the peer {text}");
        assert!(status.message().contains(&text), "{status}");
    }
}

/// A peer that ends each connection under the first request on it.
async fn ending(resets: bool) -> RawPeer {
    RawPeer::start(move |mut wire: RawConnection| async move {
        wire.open().await?;
        wire.whole_request().await?;
        if resets {
            wire.reset_on_close();
        }
        Ok(())
    })
    .await
}

// D287
#[tokio::test]
async fn a_connection_that_ends_under_a_call_leads_to_the_error_of_the_socket() {
    for resets in [true, false] {
        let peer = ending(resets).await;
        let control = tonics_origin(tonics_at(peer.uri())).await;
        assert!(control.is_some(), "tonic has it");
        // Reading and writing notice a reset in their own ways, and either may come first.
        let own = origin(&at(peer.uri())).await.expect("so do we");
        let resets = resets && own == io::ErrorKind::ConnectionReset;
        assert!(resets || own == io::ErrorKind::BrokenPipe, "{own:?}");
    }
}

/// The message is read, and then the connection ends.
// D287
#[tokio::test]
async fn so_does_one_that_ends_under_a_response_body() {
    let is_read = Arc::new(Notify::new());
    let may_end = is_read.clone();
    let peer = RawPeer::start(move |mut wire: RawConnection| {
        let may_end = may_end.clone();
        async move {
            wire.open().await?;
            let stream = wire.whole_request().await?;
            let begun = [http2::response(stream), http2::message(stream, b"")];
            wire.write(&begun.concat()).await?;
            may_end.notified().await;
            wire.reset_on_close();
            Ok(())
        }
    })
    .await;
    let mut client = GreeterClient::new(at(peer.uri()));
    let replies = within("headers", client.say_hello_many(request("you"))).await;
    let mut replies = replies.expect("headers").into_inner();
    let message = within("a message", replies.message()).await;
    assert!(message.expect("a message").is_some());
    is_read.notify_one();
    let status = within("an end", replies.message()).await;
    let status = status.expect_err("the connection is reset");
    assert_no_text_twice(&status);
    let io = found::<io::Error>(&status).expect("the socket's");
    assert_eq!(io.kind(), io::ErrorKind::ConnectionReset);
}

#[cfg(feature = "tls-ring")]
// D287
#[tokio::test]
async fn a_failed_tls_handshake_leads_to_the_error_of_tls() {
    let backend = Backend::start().await;
    let front = TlsFront::of(&backend, &Authority::new()).await;
    let channel = front.endpoint(Authority::new().trusted()).connect_lazy();
    assert_eq!(origin(&channel).await, Some(io::ErrorKind::InvalidData));
    let status = status_by(channel).await;
    let io = found::<io::Error>(&status).expect("that of the handshake");
    let tls = io.get_ref().expect("it has a reason");
    tls.downcast_ref::<tokio_rustls::rustls::Error>()
        .expect("rustls gave it");
}

/// A call that waits for a backend ends with what became of the last attempt.
// D287
#[tokio::test]
async fn a_deadline_while_a_backend_is_refused_leads_to_the_error_of_the_socket() {
    let dead = dead_addr();
    let list = discover::list([dead.uri()]).expect("a backend");
    let channel = Channel::balance(list).wait_for_ready(true).build();
    until_backends(&channel, &[TransientFailure]).await;
    let mut client = GreeterClient::new(channel);
    let call = request_within("you", Duration::from_millis(50));
    let status = within("the deadline", client.say_hello(call)).await;
    let status = status.expect_err("there is no backend");
    assert_eq!(status.code(), Code::DeadlineExceeded);
    assert_no_text_twice(&status);
    let io = found::<io::Error>(&status).expect("the socket's");
    assert_eq!(io.kind(), io::ErrorKind::ConnectionRefused);
}

/// Awaits the failure of a call, which has this kind.
async fn check(kind: ErrorKind, channel: &Channel) {
    origin(channel).await;
    let error = error_by(channel.clone()).await;
    assert_eq!(error.kind(), kind, "{}", error.message());
}

/// A peer that answers each request with what `bytes` makes of its stream.
async fn answering(bytes: impl Fn(u32) -> Vec<u8> + Clone + Send + Sync + 'static) -> RawPeer {
    RawPeer::start(move |mut wire: RawConnection| {
        let bytes = bytes.clone();
        async move {
            wire.open().await?;
            loop {
                let stream = wire.whole_request().await?;
                wire.write(&bytes(stream)).await?;
            }
        }
    })
    .await
}

// D288
#[tokio::test]
async fn no_text_is_twice_in_what_a_peer_causes() {
    let answers: [fn(u32) -> Vec<u8>; 5] = [
        |stream| http2::reset(stream, Reason::INTERNAL_ERROR),
        |stream| http2::reset(stream, Reason::CANCEL),
        |stream| http2::headers(stream, END_STREAM, &[(":status", "503")]),
        |stream| http2::headers(stream, END_STREAM, &[(":status", "200")]),
        |stream| http2::headers(stream, 0, &[("not", "http")]),
    ];
    for answer in answers {
        let peer = answering(answer).await;
        check(ErrorKind::CallFailed, &at(peer.uri())).await;
    }
    let leaving = RawPeer::start(|mut wire: RawConnection| async move {
        wire.open().await?;
        let stream = wire.whole_request().await?;
        let goaway = http2::go_away(stream, Reason::ENHANCE_YOUR_CALM, "too much");
        wire.write(&goaway).await
    })
    .await;
    check(ErrorKind::CallFailed, &at(leaving.uri())).await;
    for script in [
        PeerScript::SpeaksHttp1,
        PeerScript::SpeaksTls,
        PeerScript::ClosesAfterPreface,
        PeerScript::SendsGarbage,
    ] {
        let peer = Peer::start(script).await;
        let channel = at(format!("http://{}", peer.addr()));
        check(ErrorKind::Unavailable, &channel).await;
    }
}

// D288
#[tokio::test]
async fn no_text_is_twice_in_what_a_connector_or_a_deadline_causes() {
    let panics = service_fn(async |_: Uri| -> io::Result<TokioIo<TcpStream>> {
        panic!("a bug of the connector")
    });
    let channel = Channel::new(panics, Endpoint::from_static("http://greeter.test"));
    check(ErrorKind::Unavailable, &channel).await;

    let silent = Peer::start(PeerScript::Silent).await;
    let silent = endpoint(format!("http://{}", silent.addr()));
    let soon = Duration::from_millis(50);
    let channel = silent.clone().connect_timeout(soon).connect_lazy();
    check(ErrorKind::Unavailable, &channel).await;
    let channel = silent.timeout(soon).connect_lazy();
    check(ErrorKind::DeadlineExceeded, &channel).await;
    let mute = answering(|_| Vec::new()).await;
    let channel = endpoint(mute.uri()).timeout(soon).connect_lazy();
    check(ErrorKind::DeadlineExceeded, &channel).await;
}

// D288
#[tokio::test]
async fn no_text_is_twice_in_what_the_channel_refuses() {
    let backend = Backend::start().await;
    let build = || Channel::balance(discover::list([backend.uri()]).expect("a backend"));

    let closed = build().build();
    within("the channel to close", closed.close()).await;
    check(ErrorKind::Closed, &closed).await;

    let silent = Peer::start(PeerScript::Silent).await;
    let silent = discover::list([format!("http://{}", silent.addr())]).expect("a backend");
    let full = Channel::balance(silent).max_waiting_calls(0).build();
    check(ErrorKind::TooManyWaiting, &full).await;

    let plaintext = build().call_credentials(async |_| Ok(MetadataMap::new()));
    check(ErrorKind::Credentials, &plaintext.build()).await;
    let none = async |_| Err(Status::unauthenticated("no token"));
    let none = build()
        .call_credentials(none)
        .allow_plaintext_credentials(true);
    check(ErrorKind::Credentials, &none.build()).await;

    let zero = r#"{"methodConfig": [{"name": [{}], "timeout": "0s"}]}"#;
    let channel = build().service_config(zero.parse().expect("a config"));
    check(ErrorKind::DeadlineExceeded, &channel.build()).await;

    let mut call = http::Request::new(Body::empty());
    *call.uri_mut() = Uri::from_static("other-host:1");
    let error = within("an answer", build().build().oneshot(call)).await;
    let error = error.expect_err("there is no path");
    assert_eq!(error.kind(), ErrorKind::InvalidRequest);
    assert_no_text_twice(&error);

    let small = r#"{"methodConfig": [{"name": [{}], "maxRequestMessageBytes": 1}]}"#;
    let channel = build().service_config(small.parse().expect("a config"));
    let status = status_by(channel.build()).await;
    assert_eq!(status.code(), Code::ResourceExhausted);
    assert_no_text_twice(&status);
}

/// They are told by themselves, where they are made: in a line of a command, or by a parser.
// D288
#[test]
fn an_error_of_a_constructor_is_all_in_its_own_text() {
    let errors = [
        Endpoint::from_shared("ftp://a:1").expect_err("no scheme of ours"),
        "{".parse::<ServiceConfig>().expect_err("no JSON"),
        BackoffConfig::default()
            .initial(Duration::ZERO)
            .expect_err("no pause"),
    ];
    for error in errors {
        assert_eq!(error.to_string(), error.message());
        assert!(error.source().is_none(), "{error:?}");
    }
}

// D288
#[tokio::test]
async fn an_error_of_a_call_says_in_short_what_its_kind_is() {
    let dead = dead_addr();
    let error = error_by(at(dead.uri())).await;
    assert_eq!(error.to_string(), "no backend can take the call");
    assert_eq!(error.to_string(), error.kind().to_string());
    assert!(error.message().contains("connection refused"));
}
