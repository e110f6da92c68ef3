//! Over real sockets, in real time.

use std::{error::Error, io, time::Duration};

use tokio::net::TcpListener;

use super::{alone, dial};
use crate::{
    error::{Cause, CauseKind},
    transport::{Connection, Endpoint},
};

async fn outcome(endpoint: Endpoint) -> Result<Connection, Cause> {
    let dialling = dial(endpoint, alone());
    let outcome = tokio::time::timeout(Duration::from_secs(30), dialling).await;
    outcome.expect("the connect timeout is earlier")
}

#[track_caller]
fn text(outcome: Result<Connection, Cause>) -> String {
    let cause = outcome.expect_err("there is no server");
    assert_eq!(cause.kind(), CauseKind::Connect);
    cause.text().to_owned()
}

/// A port that was free a moment ago.
async fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    listener.local_addr().expect("bound").port()
}

fn serve(listener: TcpListener) {
    tokio::spawn(async move {
        let (stream, _) = listener.accept().await.expect("a client");
        let mut server = h2::server::handshake(stream).await.expect("HTTP/2");
        while server.accept().await.is_some() {}
    });
}

#[tokio::test]
async fn a_refused_connection_says_so_and_where() {
    let port = free_port().await;
    let endpoint = Endpoint::new(format!("http://127.0.0.1:{port}")).expect("a URI");
    let text = text(outcome(endpoint).await);
    assert_eq!(text, "connection refused");
}

#[tokio::test]
async fn a_refused_connection_to_a_name_says_which_address_it_was() {
    let port = free_port().await;
    let endpoint = Endpoint::new(format!("http://localhost:{port}")).expect("a URI");
    let text = text(outcome(endpoint).await);
    let refused = format!("connection refused (127.0.0.1:{port})");
    assert!(text.contains(&refused), "{text}");
}

#[tokio::test]
async fn a_name_that_does_not_resolve_is_named() {
    let endpoint = Endpoint::from_static("http://no-such-host.invalid:50051");
    let outcome = outcome(endpoint).await;
    let origin = outcome.as_ref().err().and_then(Cause::origin);
    let origin = origin.and_then(Error::source);
    assert!(origin.is_some_and(|error| error.is::<io::Error>()));
    let text = text(outcome);
    let start = "name `no-such-host.invalid` does not resolve: ";
    assert!(text.starts_with(start), "{text}");
}

#[cfg(not(feature = "tls-ring"))]
#[tokio::test]
async fn https_is_not_dialled_in_the_clear() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let port = listener.local_addr().expect("bound").port();
    let endpoint = Endpoint::new(format!("https://127.0.0.1:{port}")).expect("a URI");
    let text = text(outcome(endpoint).await);
    assert_eq!(
        text,
        "https needs TLS: enable the feature `tls-ring` or `tls-aws-lc`"
    );
    let accepted = tokio::time::timeout(Duration::from_millis(1), listener.accept()).await;
    assert!(accepted.is_err(), "not a byte was sent");
}

#[tokio::test]
async fn a_uri_without_a_scheme_says_what_to_write() {
    let endpoint = Endpoint::from(http::Uri::from_static("127.0.0.1:50051"));
    let text = text(outcome(endpoint).await);
    assert_eq!(text, "there is no scheme; write `http://host:port`");
}

#[tokio::test]
async fn a_server_is_connected_to() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("bound").to_string();
    serve(listener);
    let endpoint = Endpoint::new(format!("http://{address}")).expect("a URI");
    let connection = outcome(endpoint).await.expect("connects");
    assert_eq!(connection.address(), address);
}

/// The name would not resolve: it is not asked for.
#[tokio::test]
async fn a_located_endpoint_is_dialled_where_it_is_and_keeps_its_name() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("bound");
    serve(listener);
    let named = Endpoint::from_static("http://no-such-host.invalid:50051");
    let located = named.clone().with_address(address);
    let connection = outcome(located.clone()).await.expect("connects");
    assert_eq!(connection.address(), address.to_string());
    let (_, authority) = located.request_origin();
    assert_eq!(authority, "no-such-host.invalid:50051");
    assert_ne!(located, named);
    assert_eq!(located, named.with_address(address));
}

/// `localhost` is `::1` first on many systems, and nobody listens there.
#[tokio::test]
async fn all_addresses_of_a_name_are_tried() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let port = listener.local_addr().expect("bound").port();
    serve(listener);
    let endpoint = Endpoint::new(format!("http://localhost:{port}")).expect("a URI");
    outcome(endpoint).await.expect("connects");
}

/// A listener whose queue is full does not answer; the deadline says what was
/// waited for.
#[tokio::test]
async fn a_host_that_does_not_answer_is_named_with_its_address() {
    let socket = tokio::net::TcpSocket::new_v4().expect("a socket");
    socket
        .bind("127.0.0.1:0".parse().expect("an address"))
        .expect("a port");
    let listener = socket.listen(1).expect("listens");
    let address = listener.local_addr().expect("bound");
    let mut fill = Vec::new();
    let patience = Duration::from_millis(100);
    while let Ok(stream) =
        tokio::time::timeout(patience, tokio::net::TcpStream::connect(address)).await
    {
        fill.push(stream.expect("in the queue"));
    }
    let endpoint = Endpoint::new(format!("http://{address}"))
        .expect("a URI")
        .connect_timeout(Duration::from_millis(200));
    let text = text(outcome(endpoint).await);
    assert_eq!(
        text,
        format!("no connection within 200ms: waiting for TCP with {address}")
    );
}

// D295
#[cfg(target_os = "linux")]
#[tokio::test]
async fn a_zone_is_part_of_what_is_dialled_and_of_no_authority() {
    for uri in [
        "http://[fe80::1%25lo]:1",
        "http://[fe80::1%lo]:1",
        "http://[fe80::1%251]:1",
    ] {
        let endpoint = Endpoint::from_shared(uri).expect("a URI");
        let (_, authority) = endpoint.request_origin();
        assert_eq!(authority, "[fe80::1]:1", "{uri}");
        let text = text(outcome(endpoint).await);
        assert!(!text.contains("does not resolve"), "{text}");
    }
    let endpoint = Endpoint::from_static("http://[fe80::1%25none0]:1");
    let text = text(outcome(endpoint).await);
    assert!(
        text.starts_with("name `fe80::1%none0` does not resolve"),
        "{text}"
    );
}
