//! Certificates that change while a channel lives.

use testing::{Authority, Backend, ServerTls, TlsFront, endpoint, hello, until, until_that};
use tonic_health_channel::{
    ClientTlsConfig,
    ConnectivityState::{Ready, TransientFailure},
    tls::TlsReload,
};

use super::{cause, over};

// D98
#[tokio::test]
async fn connections_are_made_with_the_certificates_of_their_time() {
    let (backend, authority) = (Backend::start().await, Authority::new());
    let tls = ServerTls::new(&authority.server(&[])).asks_for(&authority);
    let front = TlsFront::start(&backend, tls).await;
    let stranger = Authority::new();
    let reload = TlsReload::new(stranger.trusted()).expect("a config");
    let endpoint = endpoint(format!("https://{}", front.addr()));
    let endpoint = endpoint.tls_reload(&reload).expect("there is a host");
    let channel = over([endpoint], None).build();
    until(&channel, TransientFailure).await;
    assert!(cause(&channel).contains("unknown authority"));

    reload.set(authority.trusted()).expect("other roots");
    until_that(&channel, "the server to ask who this is", |status| {
        let (cause, _) = status.backends()[0].last_error().expect("it has failed");
        cause.text().contains("requires a client certificate")
    })
    .await;
    let identity = authority.client("me").identity();
    let whole = authority.trusted().identity(identity);
    reload.set(whole).expect("an identity");
    until(&channel, Ready).await;
    assert!(front.last_hello().has_certificate);

    // What is no config changes nothing, and what is changes no connection.
    let refused = reload.set(ClientTlsConfig::new());
    refused.expect_err("nobody is trusted");
    reload.set(stranger.trusted()).expect("a config");
    let through = front.handshakes.get();
    hello(&channel).await.expect("on the same connection");
    assert_eq!(front.handshakes.get(), through);

    backend.cut_connections();
    until(&channel, TransientFailure).await;
    assert!(cause(&channel).contains("unknown authority"));
}
