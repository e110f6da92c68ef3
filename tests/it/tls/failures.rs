//! A handshake that fails says why, and never hangs.

use std::time::Duration;

use testing::{
    Authority, Backend, Peer, PeerScript, ServerTls, TlsFront, balanced_at, endpoint, until,
    until_that,
};
use tonic_health_channel::{
    Certificate, ClientTlsConfig, ConnectivityState::TransientFailure, Identity,
};

use super::{cause, failure, over};

// D90
#[tokio::test]
async fn a_server_of_an_unknown_issuer() {
    let backend = Backend::start().await;
    let front = TlsFront::of(&backend, &Authority::new()).await;
    let text = failure(front.endpoint(Authority::new().trusted())).await;
    assert_eq!(
        text,
        "TLS handshake failed: the server's certificate is signed by an unknown authority"
    );
}

// D90
#[tokio::test]
async fn a_server_whose_certificate_has_expired() {
    let (backend, authority) = (Backend::start().await, Authority::new());
    let front = TlsFront::start(&backend, ServerTls::new(&authority.expired())).await;
    let channel = over([front.endpoint(authority.trusted())], None).build();
    until(&channel, TransientFailure).await;
    assert_eq!(
        cause(&channel),
        "TLS handshake failed: the server's certificate expired on 2002-01-01 00:00:00 UTC"
    );

    let (first, since) = (channel.backends()[0].clone(), channel.backends()[0].since());
    until_that(&channel, "another attempt", |status| {
        status.backends()[0].failed_attempts() > first.failed_attempts()
    })
    .await;
    assert_eq!(
        channel.backends()[0].since(),
        since,
        "it is the same failure"
    );
}

// D90
#[tokio::test]
async fn a_server_with_another_name() {
    let (backend, authority) = (Backend::start().await, Authority::new());
    let tls = ServerTls::new(&authority.only("greeter.example"));
    let front = TlsFront::start(&backend, tls).await;
    let text = failure(front.endpoint(authority.trusted())).await;
    assert_eq!(
        text,
        "TLS handshake failed: the server's certificate is not valid for `127.0.0.1`, but for \
         `greeter.example`"
    );
}

// D90
#[tokio::test]
async fn a_server_that_asks_for_a_certificate_the_client_lacks() {
    let (backend, authority) = (Backend::start().await, Authority::new());
    for resets in [false, true] {
        let tls = ServerTls::new(&authority.server(&[])).asks_for(&authority);
        let tls = match resets {
            true => tls.hangs_up_on_the_rejected(),
            false => tls,
        };
        let front = TlsFront::start(&backend, tls).await;
        let channel = over([front.endpoint(authority.trusted())], None).build();
        until(&channel, TransientFailure).await;
        assert_eq!(
            cause(&channel),
            "connection closed before server preface received (no SETTINGS): TLS: the server \
             requires a client certificate",
            "it resets: {resets}"
        );
    }
}

// D90
#[tokio::test]
async fn a_server_that_does_not_take_the_clients_certificate() {
    let (backend, authority) = (Backend::start().await, Authority::new());
    let tls = ServerTls::new(&authority.server(&[])).asks_for(&Authority::new());
    let front = TlsFront::start(&backend, tls).await;
    let identity = authority.client("me").identity();
    let text = failure(front.endpoint(authority.trusted().identity(identity))).await;
    let expected = "TLS: the server does not accept the client's certificate: ";
    assert!(text.contains(expected), "{text}");
    assert!(text.ends_with("(alert unknown_ca)"), "{text}");
}

// D91
#[tokio::test]
async fn a_server_that_speaks_another_protocol_behind_tls() {
    let (backend, authority) = (Backend::start().await, Authority::new());
    let tls = ServerTls::new(&authority.server(&[])).alpn(&["http/1.1"]);
    let front = TlsFront::start(&backend, tls).await;
    let text = failure(front.endpoint(authority.trusted())).await;
    assert_eq!(
        text,
        "TLS handshake failed: the server does not speak HTTP/2 (ALPN `h2`)"
    );
}

// D92
#[tokio::test]
async fn a_server_in_the_clear() {
    let trusted = Authority::new().trusted();
    let grpc = Backend::start().await;
    let http1 = Peer::start(PeerScript::SpeaksHttp1).await;
    let garbage = Peer::start(PeerScript::SendsGarbage).await;
    let closes = Peer::start(PeerScript::ClosesAtOnce).await;
    for (addr, expected) in [
        (grpc.addr(), "the peer speaks HTTP/2, not TLS"),
        (http1.addr(), "the peer speaks HTTP/1, not TLS"),
        (
            garbage.addr(),
            "the peer does not speak TLS: the server sent a malformed message: its first byte does \
             not denote a TLS record",
        ),
        (closes.addr(), "TLS handshake failed: "),
    ] {
        let endpoint = endpoint(format!("https://{addr}"));
        let text = failure(endpoint.tls_config(trusted.clone()).expect("a config")).await;
        assert!(text.starts_with(expected), "{text}, not {expected}");
    }
}

// D92
#[tokio::test]
async fn a_client_in_the_clear() {
    let backend = Backend::start().await;
    let front = TlsFront::of(&backend, &Authority::new()).await;
    let channel = balanced_at([format!("http://{}", front.addr())], None).build();
    until(&channel, TransientFailure).await;
    assert_eq!(
        cause(&channel),
        "the peer speaks TLS, and this endpoint is plaintext"
    );
}

// D93
#[tokio::test]
async fn a_silent_server_costs_the_connect_timeout_and_no_more() {
    let peer = Peer::start(PeerScript::Silent).await;
    let config = Authority::new().trusted();
    let endpoint = endpoint(format!("https://{}", peer.addr()))
        .connect_timeout(Duration::from_millis(200))
        .tls_config(config.clone())
        .expect("a config");
    let text = failure(endpoint.clone()).await;
    let waiting = format!("waiting for the TLS handshake with {}", peer.addr());
    assert_eq!(text, format!("no connection within 200ms: {waiting}"));

    let config = config.timeout(Duration::from_millis(100));
    let endpoint = endpoint.tls_config(config).expect("a config");
    let text = failure(endpoint).await;
    assert_eq!(text, "the TLS handshake took longer than 100ms");
}

// D94
#[tokio::test]
async fn https_trusts_the_enabled_roots_and_nobody_else() {
    let backend = Backend::start().await;
    let front = TlsFront::of(&backend, &Authority::new()).await;
    let text = failure(endpoint(format!("https://{}", front.addr()))).await;
    let roots = cfg!(any(
        feature = "tls-native-roots",
        feature = "tls-webpki-roots"
    ));
    let expected = match roots {
        true => "unknown authority",
        false => "https without a TLS config: no trust roots configured",
    };
    assert!(text.contains(expected), "{text}");
}

#[test]
fn a_config_that_makes_no_sense_is_refused_with_the_reason() {
    let authority = Authority::new();
    let (me, other) = (authority.client("me"), authority.client("other"));
    let no_pem = || Certificate::from_pem("no PEM text");
    for (config, why) in [
        (ClientTlsConfig::new(), "no trust roots configured"),
        (
            ClientTlsConfig::new()
                .ca_certificate(Certificate::from_pem("-----BEGIN CERTIFICATE-----\nAA\n")),
            "CA certificate: not a PEM text: a section does not end (`-----END …-----`)",
        ),
        (
            ClientTlsConfig::new().ca_certificate(Certificate::from_pem(
                "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
            )),
            "CA certificate: none of the PEM text is readable as X.509",
        ),
        (
            authority
                .trusted()
                .identity(Identity::from_pem(authority.pem(), "no key")),
            "identity: no private key in the PEM text: there is no such section",
        ),
        (
            ClientTlsConfig::new().ca_certificate(no_pem()),
            "CA certificate: there is no certificate",
        ),
        (
            authority
                .trusted()
                .identity(me.with_key_of(&other).identity()),
            "identity: the private key does not match the certificate",
        ),
        (
            authority.trusted().domain_name("no name"),
            "`no name` is not a valid server name",
        ),
    ] {
        let given = endpoint("https://127.0.0.1:1").tls_config(config);
        let error = given.expect_err(why);
        let expected = format!("endpoint `https://127.0.0.1:1/`: TLS config: {why}");
        assert!(
            error.message().starts_with(&expected),
            "{error}, not {expected}"
        );
    }
}
