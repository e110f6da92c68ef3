//! `probe` over TLS.

use std::path::PathBuf;

use tempfile::TempDir;
use testing::{Authority, Backend, ServerTls, TlsFront};

use super::run::{Ended, command, run, run_command};

/// PEM files that one test needs.
struct Files(TempDir);

impl Files {
    fn new() -> Self {
        Self(tempfile::tempdir().expect("a folder"))
    }

    fn with(&self, name: &str, text: &str) -> String {
        let path: PathBuf = self.0.path().join(name);
        std::fs::write(&path, text).expect("a file");
        path.to_str().expect("a plain name").to_owned()
    }
}

async fn probe(addr: String, more: &[&str]) -> Ended {
    let args = ["probe", "-tls", "-addr", &addr];
    run(args.iter().chain(more)).await
}

#[tokio::test]
async fn a_server_whose_authority_is_trusted() {
    let (backend, authority, files) = (Backend::start().await, Authority::new(), Files::new());
    let front = TlsFront::of(&backend, &authority).await;
    let ca = files.with("ca.pem", &authority.pem());
    let addr = front.addr().to_string();
    probe(addr.clone(), &["-tls-ca-cert", &ca])
        .await
        .is_serving();

    probe(addr.clone(), &[])
        .await
        .fails(2, "the server's certificate is of an unknown issuer");
    let other = files.with("other.pem", &Authority::new().pem());
    probe(addr, &["-tls-ca-cert", &other])
        .await
        .fails(2, "the server's certificate is of an unknown issuer");
}

#[tokio::test]
async fn the_systems_authorities_are_trusted() {
    let (backend, authority, files) = (Backend::start().await, Authority::new(), Files::new());
    let front = TlsFront::of(&backend, &authority).await;
    let addr = front.addr().to_string();
    let with_store = |store: &str| {
        let mut probe = command(["probe", "-tls", "-addr", &addr]);
        probe.env("SSL_CERT_FILE", store).env_remove("SSL_CERT_DIR");
        run_command(probe)
    };
    let store = files.with("store.pem", &authority.pem());
    with_store(&store).await.is_serving();
    let empty = "error: nobody is trusted: the system has no certificate authorities";
    with_store("/nowhere/at/all.pem").await.fails(1, empty);
}

#[tokio::test]
async fn a_server_that_is_known_by_another_name() {
    let (backend, authority, files) = (Backend::start().await, Authority::new(), Files::new());
    let tls = ServerTls::new(&authority.only("shop.example"));
    let front = TlsFront::start(&backend, tls).await;
    let ca = files.with("ca.pem", &authority.pem());
    let addr = front.addr().to_string();
    probe(addr.clone(), &["-tls-ca-cert", &ca]).await.fails(
        2,
        "the server's certificate is not for `127.0.0.1`, but for `shop.example`",
    );

    let name = "-tls-server-name=shop.example";
    probe(addr, &["-tls-ca-cert", &ca, name]).await.is_serving();
    let asked_for = front.last_hello().server_name;
    assert_eq!(asked_for.as_deref(), Some("shop.example"));
    let seen = backend.last_check().expect("it was asked");
    assert_eq!(seen.authority.as_deref(), Some("shop.example"));
}

#[tokio::test]
async fn a_port_alone_is_of_localhost() {
    let (backend, authority, files) = (Backend::start().await, Authority::new(), Files::new());
    let tls = ServerTls::new(&authority.only("localhost"));
    let front = TlsFront::start(&backend, tls).await;
    let ca = files.with("ca.pem", &authority.pem());
    let addr = format!(":{}", front.addr().port());
    probe(addr, &["-tls-ca-cert", &ca]).await.is_serving();
}

#[tokio::test]
async fn a_server_that_is_not_verified() {
    let (backend, authority) = (Backend::start().await, Authority::new());
    let tls = ServerTls::new(&authority.expired());
    let front = TlsFront::start(&backend, tls).await;
    let addr = front.addr().to_string();
    probe(addr.clone(), &["-tls-no-verify"]).await.is_serving();
    probe(addr, &["-tls-no-verify=false"])
        .await
        .fails(2, "TLS handshake");
}

#[tokio::test]
async fn a_server_that_asks_for_a_certificate() {
    let (backend, authority, files) = (Backend::start().await, Authority::new(), Files::new());
    let tls = ServerTls::new(&authority.server(&[])).asks_for(&authority);
    let front = TlsFront::start(&backend, tls).await;
    let (chain, key) = authority.client("me").pem();
    let (chain, key) = (files.with("me.pem", &chain), files.with("me.key", &key));
    let ca = files.with("ca.pem", &authority.pem());
    let addr = front.addr().to_string();
    let me = ["-tls-client-cert", &chain, "-tls-client-key", &key];
    probe(addr.clone(), &[&me[..], &["-tls-ca-cert", &ca]].concat())
        .await
        .is_serving();
    assert!(front.last_hello().has_certificate);
    probe(addr.clone(), &[&me[..], &["-tls-no-verify"]].concat())
        .await
        .is_serving();
    probe(addr, &["-tls-ca-cert", &ca])
        .await
        .fails(2, "the server asks for a client certificate");
}

#[tokio::test]
async fn files_that_cannot_be_used() {
    let (authority, files) = (Authority::new(), Files::new());
    let (chain, key) = authority.client("me").pem();
    let (_, other_key) = authority.client("other").pem();
    let (chain, key) = (files.with("me.pem", &chain), files.with("me.key", &key));
    let other_key = files.with("other.key", &other_key);
    let nonsense = files.with("nonsense.pem", "nonsense");
    let missing = "/nowhere/at/all.pem";
    for (flags, why) in [
        (
            ["-tls-ca-cert", missing].to_vec(),
            "cannot read /nowhere/at/all.pem",
        ),
        (
            ["-tls-ca-cert", &nonsense].to_vec(),
            "CA certificate: there is no certificate",
        ),
        (
            ["-tls-client-cert", missing, "-tls-client-key", &key].to_vec(),
            "cannot read /nowhere/at/all.pem",
        ),
        (
            ["-tls-client-cert", &nonsense, "-tls-client-key", &key].to_vec(),
            "identity: there is no certificate",
        ),
        (
            ["-tls-client-cert", &chain, "-tls-client-key", &nonsense].to_vec(),
            "identity: no private key",
        ),
        (
            ["-tls-client-cert", &chain, "-tls-client-key", &other_key].to_vec(),
            "identity: the private key is not that of the certificate",
        ),
    ] {
        probe("shop.example:443".to_owned(), &flags)
            .await
            .fails(1, why);
    }
}
