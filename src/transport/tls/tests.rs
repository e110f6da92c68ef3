//! What an endpoint's options mean for its TLS.

use rcgen::{CertificateParams, KeyPair};
use tokio_rustls::rustls::pki_types::ServerName;

use super::{Certificate, ClientTlsConfig, Identity, TlsReload};
use crate::transport::Endpoint;

fn trusting() -> ClientTlsConfig {
    let key = KeyPair::generate().expect("a key");
    let params = CertificateParams::new(["me".to_owned()]).expect("a name");
    let certificate = params.self_signed(&key).expect("a certificate");
    ClientTlsConfig::new().ca_certificate(Certificate::from_pem(certificate.pem()))
}

#[track_caller]
fn verifies(endpoint: &Endpoint, name: &'static str) {
    let client = endpoint.security.tls.client(endpoint).expect("a config");
    assert_eq!(client.name, ServerName::try_from(name).expect("a name"));
}

#[test]
fn a_server_is_verified_by_its_name_wherever_it_is_reached() {
    let named = |config| {
        let endpoint = Endpoint::from_static("https://greeter.example:8443");
        endpoint.tls_config(config).expect("a config")
    };
    let address = "10.0.0.1:8443".parse().expect("an address");
    verifies(&named(trusting()).located_at(address), "greeter.example");
    let authority = "other.example:1".parse().expect("an authority");
    verifies(&named(trusting()).known_as(authority), "other.example");
    let elsewhere = trusting().domain_name("domain.example");
    verifies(&named(elsewhere).located_at(address), "domain.example");
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
