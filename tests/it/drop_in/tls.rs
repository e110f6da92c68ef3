//! What client code does with tonic's `ClientTlsConfig`.

use std::time::Duration;

use testing::{
    Authority, Backend, ServerTls, TlsFront,
    greeter::{HelloRequest, greeter_client::GreeterClient},
    within,
};

use super::transport::{Certificate, ClientTlsConfig, Endpoint, Identity};

fn endpoint(front: &TlsFront) -> Endpoint {
    Endpoint::from_shared(format!("https://{}", front.addr())).expect("a URI")
}

#[tokio::test]
async fn a_client_trusts_an_authority_and_says_who_it_is() {
    let (backend, authority) = (Backend::start().await, Authority::new());
    let server = ServerTls::new(&authority.server(&["greeter.example"])).asks_for(&authority);
    let front = TlsFront::start(&backend, server).await;
    let (chain, key) = authority.client("me").pem();
    let tls = ClientTlsConfig::new()
        .ca_certificate(Certificate::from_pem(authority.pem()))
        .identity(Identity::from_pem(chain, key))
        .domain_name("greeter.example")
        .timeout(Duration::from_secs(5));
    let endpoint = endpoint(&front).tls_config(tls).expect("a sound config");
    let channel = within("a connection", endpoint.connect()).await;
    let mut greeter = GreeterClient::new(channel.expect("the server is trusted"));
    let answer = within("an answer", greeter.say_hello(HelloRequest::default())).await;
    answer.expect("the client is known");
    assert_eq!(
        front.last_hello().server_name.as_deref(),
        Some("greeter.example")
    );
}

#[tokio::test]
async fn a_server_of_another_authority_is_not_connected_to() {
    let (backend, authority) = (Backend::start().await, Authority::new());
    let front = TlsFront::of(&backend, &authority).await;
    let other = Certificate::from_pem(Authority::new().pem());
    let tls = ClientTlsConfig::new().ca_certificates([other]);
    let endpoint = endpoint(&front).tls_config(tls).expect("a sound config");
    let outcome = within("an outcome", endpoint.connect()).await;
    outcome.map(drop).expect_err("nobody known signed for it");
    assert_eq!(backend.hits(), 0);
}

#[tokio::test]
async fn every_other_option_of_a_config_is_taken() {
    let (backend, authority) = (Backend::start().await, Authority::new());
    let server = ServerTls::new(&authority.server(&[])).alpn(&[]);
    let front = TlsFront::start(&backend, server).await;
    let tls = ClientTlsConfig::default()
        .ca_certificates([Certificate::from_pem(authority.pem())])
        .trust_anchors([])
        .with_enabled_roots()
        .use_key_log()
        .assume_http2(true);
    let endpoint = endpoint(&front).tls_config(tls).expect("a sound config");
    let channel = within("a connection", endpoint.connect()).await;
    channel.expect("HTTP/2 is assumed");
}

#[tokio::test]
async fn what_is_no_identity_is_refused_at_once() {
    let tls = ClientTlsConfig::new().identity(Identity::from_pem("no", "key"));
    let endpoint = Endpoint::from_static("https://127.0.0.1:1").tls_config(tls);
    endpoint.expect_err("there is no certificate in it");
}
