//! Whom a client asks for, and whom it believes.

use tonic_health_channel::{ConnectivityState::Ready, Uri};

use super::over;
use crate::support::{Authority, Backend, Hello, ServerTls, TlsFront, endpoint, hello, until};

// D95
#[tokio::test]
async fn the_host_of_the_uri_is_asked_for() {
    let (backend, authority) = (Backend::start().await, Authority::new());
    let tls = ServerTls::new(&authority.only("localhost"));
    let front = TlsFront::start(&backend, tls).await;
    let uri = format!("https://localhost:{}", front.addr().port());
    let endpoint = endpoint(uri).tls_config(authority.trusted());
    let channel = endpoint
        .expect("a config")
        .connect()
        .await
        .expect("connects");
    hello(&channel).await.expect("a greeting");
    let asked_for = front.last_hello().server_name;
    assert_eq!(asked_for.as_deref(), Some("localhost"));
    let authority = backend.last_authority().expect("there was a call");
    assert_eq!(authority, format!("localhost:{}", front.addr().port()));
}

// D95
#[tokio::test]
async fn a_domain_name_stands_for_the_host() {
    let (backend, authority) = (Backend::start().await, Authority::new());
    let tls = ServerTls::new(&authority.only("greeter.example"));
    let front = TlsFront::start(&backend, tls).await;
    let config = authority.trusted().domain_name("greeter.example");
    let channel = over([front.endpoint(config)], None).build();
    until(&channel, Ready).await;
    hello(&channel).await.expect("a greeting");
    let hello = front.last_hello();
    assert_eq!(hello.server_name.as_deref(), Some("greeter.example"));
    let authority = backend.last_authority().expect("there was a call");
    assert_eq!(
        authority,
        front.addr().to_string(),
        "calls go where they went"
    );
}

// D95
#[tokio::test]
async fn an_origin_is_for_calls_and_not_for_tls() {
    let (backend, authority) = (Backend::start().await, Authority::new());
    let front = TlsFront::of(&backend, &authority).await;
    let origin = Uri::from_static("https://greeter.example");
    let endpoint = front.endpoint(authority.trusted()).origin(origin);
    let channel = over([endpoint], None).build();
    until(&channel, Ready).await;
    hello(&channel).await.expect("a greeting");
    assert_eq!(front.last_hello(), Hello::default());
    assert_eq!(backend.last_authority().as_deref(), Some("greeter.example"));
}

// D96
#[tokio::test]
async fn a_client_that_is_asked_says_who_it_is() {
    let (backend, authority) = (Backend::start().await, Authority::new());
    let tls = ServerTls::new(&authority.server(&[])).asks_for(&authority);
    let front = TlsFront::start(&backend, tls).await;
    let identity = authority.client("me").identity();
    let endpoint = front.endpoint(authority.trusted().identity(identity));
    let channel = over([endpoint], None).build();
    until(&channel, Ready).await;
    hello(&channel).await.expect("a greeting");
    assert!(front.last_hello().has_certificate);
}

// D91
#[tokio::test]
async fn http2_can_be_assumed_where_a_server_does_not_say_it() {
    let (backend, authority) = (Backend::start().await, Authority::new());
    let tls = ServerTls::new(&authority.server(&[])).alpn(&[]);
    let front = TlsFront::start(&backend, tls).await;
    let text = super::failure(front.endpoint(authority.trusted())).await;
    let expected = "TLS handshake: the server does not say that it speaks HTTP/2 (ALPN `h2`)";
    assert!(text.starts_with(expected), "{text}");

    let endpoint = front.endpoint(authority.trusted().assume_http2(true));
    let channel = endpoint.connect().await.expect("connects");
    hello(&channel).await.expect("a greeting");
}
