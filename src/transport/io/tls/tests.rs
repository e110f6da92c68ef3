//! What an endpoint's options mean for its TLS.

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
};

use rcgen::{CertificateParams, CertifiedKey, KeyPair};
use testing::{ByName, Made, Tap, Tapped};
use tokio::io::{AsyncWriteExt, duplex};
use tokio_rustls::{
    TlsAcceptor,
    rustls::{
        RootCertStore, ServerConfig,
        crypto::{CryptoProvider, ring},
        pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime, pem::PemObject},
        server::WebPkiClientVerifier,
        time_provider::TimeProvider,
    },
};

use super::{Certificate, ClientTlsConfig, Identity, Prepared, TlsReload, handshake::Client};
use crate::{
    metrics::BackendMeter,
    transport::{endpoint::Endpoint, words::failure::Failure},
};

fn signed() -> CertifiedKey<KeyPair> {
    let signing_key = KeyPair::generate().expect("a key");
    let params = CertificateParams::new(["me".to_owned()]).expect("a name");
    let cert = params.self_signed(&signing_key).expect("a certificate");
    CertifiedKey { cert, signing_key }
}

fn trusting() -> ClientTlsConfig {
    let pem = signed().cert.pem();
    ClientTlsConfig::new().ca_certificate(Certificate::from_pem(pem))
}

#[track_caller]
fn verifies(endpoint: &Endpoint, name: &'static str) {
    let client = endpoint
        .security
        .tls
        .client(endpoint.host())
        .expect("a config");
    assert_eq!(client.name, ServerName::try_from(name).expect("a name"));
}

#[test]
fn a_server_is_verified_by_its_name_wherever_it_is_reached() {
    let named = |config| {
        let endpoint = Endpoint::from_static("https://greeter.example:8443");
        endpoint.tls_config(config).expect("a config")
    };
    let address = "10.0.0.1:8443".parse().expect("an address");
    verifies(&named(trusting()).with_address(address), "greeter.example");
    let authority = "other.example:1".parse().expect("an authority");
    verifies(
        &named(trusting()).with_authority(authority),
        "other.example",
    );
    let elsewhere = trusting().domain_name("domain.example");
    verifies(&named(elsewhere).with_address(address), "domain.example");
}

#[test]
fn an_address_is_verified_as_one() {
    for (uri, name) in [
        ("https://192.0.2.1:443", "192.0.2.1"),
        ("https://[2001:db8::1]:443", "2001:db8::1"),
    ] {
        let endpoint = Endpoint::from_static(uri).tls_config(trusting());
        verifies(&endpoint.expect("a config"), name);
    }
}

#[test]
fn endpoints_are_equal_if_their_configs_say_the_same() {
    let endpoint = Endpoint::from_static("https://greeter.example");
    let with = |config| endpoint.clone().tls_config(config).expect("a config");
    let config = trusting();
    assert!(with(config.clone()) == with(config.clone()));
    assert!(with(config.clone()) != with(trusting()));
    assert!(with(config.clone()) != endpoint);

    let reloads = [(); 2].map(|()| TlsReload::new(config.clone()).expect("a config"));
    let with = |reload| endpoint.clone().tls_reload(reload).expect("a host");
    let clone = reloads[0].clone();
    assert!(with(&reloads[0]) == with(&clone));
    assert!(with(&reloads[0]) != with(&reloads[1]));
}

#[test]
fn nobody_reads_a_key_in_the_logs() {
    let config = trusting().identity(Identity::from_pem("chain", "secret"));
    let key = format!("{:?}", b"secret");
    let inner = key.trim_matches(['[', ']']);
    assert!(!format!("{config:?}").contains(inner));
}

/// No more bytes are taken once it is set, and they can still be read.
struct Broken(Arc<AtomicBool>);

impl<T> Tap<T> for Broken {
    fn before_write(&mut self) -> io::Result<()> {
        match self.0.load(Relaxed) {
            true => Err(io::ErrorKind::ConnectionReset.into()),
            false => Ok(()),
        }
    }
}

/// Asks clients for a certificate of its own.
fn asking(own: &CertifiedKey<KeyPair>) -> TlsAcceptor {
    let provider = Arc::new(ring::default_provider());
    let mut roots = RootCertStore::empty();
    roots.add(own.cert.der().clone()).expect("a certificate");
    let roots = Arc::new(roots);
    let verifier = WebPkiClientVerifier::builder_with_provider(roots, provider.clone()).build();
    let key = own.signing_key.serialize_der().try_into().expect("a key");
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("versions that ring can do")
        .with_client_cert_verifier(verifier.expect("a verifier"))
        .with_single_cert(vec![own.cert.der().clone()], key)
        .expect("a certificate and its key");
    config.alpn_protocols = vec![b"h2".to_vec()];
    TlsAcceptor::from(Arc::new(config))
}

#[tokio::test(start_paused = true)]
async fn a_reset_does_not_hide_the_reason_that_came_before_it() {
    let own = signed();
    let (near, far) = duplex(64 << 10);
    let broken = Arc::new(AtomicBool::new(false));
    let io = Tapped {
        io: near,
        tap: Broken(broken.clone()),
    };
    let config = ClientTlsConfig::new()
        .ca_certificate(Certificate::from_pem(own.cert.pem()))
        .domain_name("me");
    let endpoint = Endpoint::from_static("https://greeter.example").tls_config(config);
    let endpoint = endpoint.expect("a config");
    let client = endpoint
        .security
        .tls
        .client(endpoint.host())
        .expect("a config");

    let server = asking(&own).accept(far).into_fallible();
    let meter = BackendMeter::default();
    let (secured, turned_away) = tokio::join!(
        client.handshake(Box::new(io), false, meter.begin_handshake()),
        server
    );
    let mut secured = secured.expect("the client has done its part");
    let (_, _held_open) = turned_away.expect_err("it has no certificate");
    broken.store(true, Relaxed);
    let outcome = async {
        secured.write_all(b"a request").await?;
        secured.flush().await
    };
    let error = outcome.await.expect_err("nothing can be written");
    assert_eq!(
        error.to_string(),
        "TLS: the server requires a client certificate"
    );
}

/// A server with a certificate of a file, and its keys by `provider`.
fn showing(made: Made, provider: CryptoProvider) -> TlsAcceptor {
    let (chain, key) = made.signed().pem();
    let chain = CertificateDer::pem_slice_iter(chain.as_bytes())
        .collect::<Result<_, _>>()
        .expect("PEM");
    let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).expect("PEM");
    let mut config = ServerConfig::builder_with_provider(Arc::new(provider))
        .with_safe_default_protocol_versions()
        .expect("versions that it can do")
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .expect("a certificate and its key");
    config.alpn_protocols = vec![b"h2".to_vec()];
    TlsAcceptor::from(Arc::new(config))
}

fn pinning(made: Made) -> ClientTlsConfig {
    let (chain, _) = made.signed().pem();
    ClientTlsConfig::new()
        .ca_certificate(Certificate::from_pem(chain))
        .domain_name("localhost")
}

/// What becomes of a handshake of a client with `prepared`.
async fn shake_hands(prepared: Prepared, server: TlsAcceptor) -> Result<(), Failure> {
    let (near, far) = duplex(64 << 10);
    let name = prepared.name.clone().expect("it is in the config");
    let prepared = Arc::new(prepared);
    let client = Client { prepared, name };
    let meter = BackendMeter::default();
    let client = async {
        client
            .handshake(Box::new(near), false, meter.begin_handshake())
            .await
            .map(drop)
    };
    let (outcome, _) = tokio::join!(client, server.accept(far));
    outcome
}

// D298
#[cfg(feature = "tls-aws-lc")]
#[tokio::test(start_paused = true)]
async fn aws_lc_rs_takes_p521_of_servers_and_of_clients() {
    use tokio_rustls::rustls::crypto::aws_lc_rs;

    let (chain, key) = Made::P521.signed().pem();
    let config = pinning(Made::P521).identity(Identity::from_pem(chain, key));
    let provider = Arc::new(aws_lc_rs::default_provider());
    let prepared = Prepared::with_provider(config, None, provider).expect("a config");
    let server = showing(Made::P521, aws_lc_rs::default_provider());
    let outcome = shake_hands(prepared, server).await;
    outcome.expect("aws-lc-rs verifies P-521");
}

/// A clock that knows no time after 1970.
#[derive(Debug)]
struct Early;

impl TimeProvider for Early {
    fn current_time(&self) -> Option<UnixTime> {
        None
    }
}

// D304
#[tokio::test(start_paused = true)]
async fn a_clock_before_1970_fails_the_handshake_in_words() {
    let provider = Arc::new(ring::default_provider());
    let prepared = Prepared::with_provider(pinning(Made::SelfSigned), None, provider);
    let mut prepared = prepared.expect("a config");
    let mut rustls = (*prepared.rustls).clone();
    rustls.time_provider = Arc::new(Early);
    prepared.rustls = Arc::new(rustls);
    let server = showing(Made::SelfSigned, ring::default_provider());
    let failure = shake_hands(prepared, server).await.expect_err("no time");
    assert_eq!(
        failure.text(),
        "TLS handshake failed: the clock of this host is before 1970, so no certificate is valid \
         yet; set the clock"
    );
}

/// Its end is a panic.
struct Fragile;

impl Drop for Fragile {
    fn drop(&mut self) {
        panic!("dropped");
    }
}

// D252
#[tokio::test(start_paused = true)]
async fn a_verifier_that_panics_when_it_is_dropped_ends_nothing() {
    let config = ClientTlsConfig::new().domain_name("localhost");
    let fragile = Fragile;
    let takes_all = ByName(move |_: &str| {
        let _held = &fragile;
        Ok(())
    });
    let prepared = Prepared::new(config, Some(Arc::new(takes_all))).expect("a config");
    let server = showing(Made::SelfSigned, ring::default_provider());
    let outcome = shake_hands(prepared, server).await;
    outcome.expect("the verifier takes all");
}
