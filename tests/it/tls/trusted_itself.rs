//! A server's certificate that is itself one of the trusted.

use testing::{Authority, Backend, Made, ServerTls, Signed, TlsFront, endpoint, hello};
use tonic_health_channel::ClientTlsConfig;

use super::failure;

fn trusting(signed: &Signed) -> ClientTlsConfig {
    ClientTlsConfig::new().ca_certificate(signed.certificate())
}

async fn is_greeted(front: &TlsFront, config: ClientTlsConfig) {
    let connected = front.endpoint(config).connect().await;
    let channel = connected.expect("the certificate is trusted");
    hello(&channel).await.expect("a greeting");
}

// D297
#[tokio::test]
async fn a_self_signed_certificate_as_openssl_makes_it_is_trusted_as_it_is() {
    let backend = Backend::start().await;
    for only_tls12 in [false, true] {
        let tls = ServerTls::made(Made::SelfSigned);
        let tls = match only_tls12 {
            true => tls.only_tls12(),
            false => tls,
        };
        let front = TlsFront::start(&backend, tls).await;
        is_greeted(&front, trusting(&Made::SelfSigned.signed())).await;
    }
}

// D297
#[tokio::test]
async fn a_pinned_certificate_needs_no_issuer() {
    let (backend, authority) = (Backend::start().await, Authority::new());
    let pinned = authority.server(&[]);
    let front = TlsFront::start(&backend, ServerTls::new(&pinned)).await;
    is_greeted(&front, trusting(&pinned)).await;

    let another = failure(front.endpoint(trusting(&authority.server(&[])))).await;
    assert!(another.contains("unknown authority"), "{another}");
}

// D297
#[tokio::test]
async fn the_client_of_a_pinned_server_shows_its_own_certificate() {
    let (backend, authority) = (Backend::start().await, Authority::new());
    let tls = ServerTls::made(Made::SelfSigned).asks_for(&authority);
    let front = TlsFront::start(&backend, tls).await;
    let identity = authority.client("me").identity();
    let config = trusting(&Made::SelfSigned.signed()).identity(identity);
    is_greeted(&front, config).await;
    assert!(front.last_hello().has_certificate);
}

// D297
#[tokio::test]
async fn a_pinned_certificate_is_still_verified() {
    let (backend, authority) = (Backend::start().await, Authority::new());
    for (pinned, expected) in [
        (
            authority.expired(),
            "TLS handshake failed: the server's certificate expired on 2002-01-01 00:00:00 UTC",
        ),
        (
            authority.only("greeter.example"),
            "TLS handshake failed: the server's certificate is not valid for `127.0.0.1`, but for \
             `greeter.example`",
        ),
        (
            authority.for_clients(),
            "TLS handshake failed: the server's certificate is not for servers: its extended key \
             usage is client authentication",
        ),
        (
            Made::V1.signed(),
            "TLS handshake failed: the server's certificate is of X.509 version 1 or 2, which has \
             no field for names; issue one of version 3",
        ),
    ] {
        let front = TlsFront::start(&backend, ServerTls::new(&pinned)).await;
        let text = failure(front.endpoint(trusting(&pinned))).await;
        assert_eq!(text, expected);
    }
}

// D297
#[tokio::test]
async fn a_server_without_the_key_of_a_pinned_certificate_is_refused() {
    let (backend, authority) = (Backend::start().await, Authority::new());
    let (pinned, other) = (authority.server(&[]), authority.server(&[]));
    for pinned in [pinned, Made::SelfSigned.signed()] {
        let stolen = pinned.with_key_of(&other);
        for only_tls12 in [false, true] {
            let tls = ServerTls::new(&stolen);
            let tls = match only_tls12 {
                true => tls.only_tls12(),
                false => tls,
            };
            let front = TlsFront::start(&backend, tls).await;
            let text = failure(front.endpoint(trusting(&pinned))).await;
            let expected = "TLS handshake failed: a signature is wrong";
            assert!(text.starts_with(expected), "{text}");
        }
    }
}

// D303
#[tokio::test]
async fn a_key_that_is_too_short_is_told_as_such() {
    let backend = Backend::start().await;
    let front = TlsFront::start(&backend, ServerTls::made(Made::Rsa1024)).await;
    let text = failure(front.endpoint(trusting(&Made::Rsa1024.signed()))).await;
    assert_eq!(
        text,
        "TLS handshake failed: the server's certificate: its RSA key has 1024 bits, and TLS \
         requires at least 2048 bits"
    );
}

// D298
#[tokio::test]
async fn a_key_that_the_provider_cannot_verify_is_told_with_the_feature_that_can() {
    let backend = Backend::start().await;
    let front = TlsFront::start(&backend, ServerTls::made(Made::P521)).await;
    let text = failure(front.endpoint(trusting(&Made::P521.signed()))).await;
    assert!(text.contains("P-521"), "{text}");
    assert!(text.contains("`tls-aws-lc`"), "{text}");

    let config = Authority::new().trusted();
    let identity = Made::P521.signed().identity();
    let given = endpoint("https://127.0.0.1:1").tls_config(config.identity(identity));
    let error = given.expect_err("ring has no P-521");
    assert!(error.message().contains("identity: "), "{error}");
    assert!(error.message().contains("P-521"), "{error}");
    assert!(error.message().contains("`tls-aws-lc`"), "{error}");
}
