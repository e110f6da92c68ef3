//! The part of an error that a server may tell its own clients.

use std::{error::Error as _, io, time::Duration};

use h2::Reason;
use hyper_util::rt::TokioIo;
use testing::{
    Backend, RawConnection, RawPeer, dead_addr, endpoint,
    greeter::greeter_client::GreeterClient,
    http2::{self},
    request, request_within, until_backends, within,
};
use tokio::net::TcpStream;
use tonic::{Code, Status};
use tonic_health_channel::{
    Channel, ConnectivityState::TransientFailure, Endpoint, Error, ErrorKind, Uri,
};
use tower::service_fn;

/// The status that a client of the program gets, as `Error::public_message` shows it.
fn public(status: &Status) -> Status {
    match Error::of(status) {
        Some(error) => Status::new(error.code(), error.public_message()),
        None => Status::new(status.code(), "the backend has refused the call"),
    }
}

async fn status_by(channel: Channel) -> Status {
    let mut client = GreeterClient::new(channel);
    let answer = within("an answer", client.say_hello(request("you"))).await;
    answer.map(drop).expect_err("the call fails")
}

// D321
#[tokio::test]
async fn the_address_of_a_backend_is_in_its_status_and_not_in_the_public_one() {
    let dead = dead_addr();
    let status = status_by(endpoint(dead.uri()).connect_lazy()).await;
    assert!(
        status.message().contains(&dead.addr().to_string()),
        "{status}"
    );
    let public = public(&status);
    assert_eq!(public.code(), Code::Unavailable);
    assert_eq!(public.message(), "no backend can take the call");
    assert!(public.source().is_none());
}

/// The headers of the response have come by then, and tonic sees no error of the channel.
// D321
#[tokio::test]
async fn so_it_is_with_a_stream_that_fails_on_its_way() {
    let peer = RawPeer::start(|mut wire: RawConnection| async move {
        wire.open().await?;
        let stream = wire.whole_request().await?;
        wire.write(&http2::response(stream)).await?;
        wire.write(&http2::reset(stream, Reason::INTERNAL_ERROR))
            .await?;
        wire.read().await.map(drop)
    })
    .await;
    let channel = endpoint(peer.uri()).connect_lazy();
    let mut client = GreeterClient::new(channel);
    let replies = within("headers", client.say_hello_many(request("you"))).await;
    let mut replies = replies.expect("headers").into_inner();
    let status = within("the end", replies.message())
        .await
        .expect_err("it is reset");
    assert!(
        status.message().contains(&peer.addr().to_string()),
        "{status}"
    );
    let error = Error::of(&status).expect("it is the channel's");
    assert_eq!(error.kind(), ErrorKind::CallFailed);
    assert!(error.may_have_been_sent());
    assert_eq!(error.message(), status.message());
    assert_eq!(public(&status).message(), "the call has failed");
    // Conversions of tonic's keep it.
    let status = Status::from_error(Box::new(status));
    assert_eq!(public(&status).message(), "the call has failed");
}

#[tokio::test]
async fn a_deadline_that_passes_is_told_without_the_backend() {
    let backend = Backend::start().await;
    let mut client = GreeterClient::new(endpoint(backend.uri()).connect_lazy());
    let call = client.say_hello(request_within("hold", Duration::from_millis(50)));
    let status = within("the deadline", call).await.expect_err("it is held");
    assert_eq!(public(&status).code(), Code::DeadlineExceeded);
    assert_eq!(public(&status).message(), "the call exceeded its deadline");
}

// D321
#[tokio::test]
async fn a_status_of_the_server_is_no_error_of_the_channel() {
    let backend = Backend::start().await;
    let status = status_of_server(&backend).await;
    assert!(Error::of(&status).is_none(), "{status:?}");
    assert_eq!(
        public(&status).message(),
        "the backend has refused the call"
    );
}

async fn status_of_server(backend: &Backend) -> Status {
    let channel = endpoint(backend.uri()).connect_lazy();
    let mut client = tonic::client::Grpc::new(channel);
    client.ready().await.expect("it always is");
    let path = "/demo.v1.Greeter/NoSuchMethod".parse().expect("a path");
    let codec: tonic_prost::ProstCodec<(), ()> = tonic_prost::ProstCodec::default();
    let answer = client.unary(tonic::Request::new(()), path, codec);
    within("an answer", answer)
        .await
        .map(drop)
        .expect_err("there is no such method")
}

const FLEET: usize = 200;

/// A reason of its own for each backend.
fn refused(uri: Uri) -> io::Error {
    io::Error::other(format!("{uri} {}", "x".repeat(100)))
}

// D319
#[tokio::test]
async fn an_error_is_short_however_many_backends_have_failed() {
    let connector = service_fn(async |uri: Uri| Err::<TokioIo<TcpStream>, _>(refused(uri)));
    let endpoints = (0..FLEET).map(|n| {
        let uri = format!("http://backend-{n}.test:50051");
        Endpoint::from_shared(uri)
            .expect("a URI")
            .connector(connector)
    });
    let channel = Channel::balance_list(endpoints);
    until_backends(&channel, &[TransientFailure; FLEET]).await;
    let status = status_by(channel.clone()).await;
    let error = Error::of(&status).expect("it is ours");
    let message = error.message();
    assert!(message.ends_with("; and 197 more backends"), "{message}");
    assert!(message.len() < 1_000, "{} bytes", message.len());
    for reason in 0..3 {
        let named = format!("backend-{reason}.test:50051 connect");
        assert_eq!(message.matches(&named).count(), 1, "{message}");
    }
    assert_eq!(error.to_string(), "no backend can take the call");

    // As anyhow prints `{:#}`: the message stands in tonic's status, and in that of the error.
    let own: &dyn std::error::Error = error;
    let links = std::iter::successors(Some(own), |link| (*link).source());
    let chain: Vec<_> = links.map(ToString::to_string).collect();
    let chain = chain.join(": ");
    assert_eq!(chain.matches("and 197 more backends").count(), 1, "{chain}");
    assert!(chain.len() < 2_000, "{} bytes", chain.len());
    let debug = format!("{error:?}");
    assert!(debug.len() < 400, "{} bytes", debug.len());
    let text = status.to_string();
    assert_eq!(text.matches("and 197 more backends").count(), 1, "{text}");
    assert!(text.len() < 1_500, "{} bytes", text.len());
    let debug = format!("{:?}", channel.backends());
    assert_eq!(debug.matches("TRANSIENT_FAILURE").count(), FLEET);
}
