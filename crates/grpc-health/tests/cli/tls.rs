//! `probe` over TLS.

use std::path::PathBuf;

use tempfile::TempDir;
use testing::{Authority, Backend, Made, ServerTls, TlsFront};

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

    probe(addr.clone(), &[]).await.fails(
        2,
        "the server's certificate is signed by an unknown authority",
    );
    let other = files.with("other.pem", &Authority::new().pem());
    probe(addr, &["-tls-ca-cert", &other]).await.fails(
        2,
        "the server's certificate is signed by an unknown authority",
    );
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
    let empty = "error: no trust roots: the system has no certificate authorities";
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
        "the server's certificate is not valid for `127.0.0.1`, but for `shop.example`",
    );

    let name = "-tls-server-name=shop.example";
    probe(addr, &["-tls-ca-cert", &ca, name]).await.is_serving();
    let asked_for = front.last_hello().server_name;
    assert_eq!(asked_for.as_deref(), Some("shop.example"));
    let seen = backend.last_check().expect("it was asked");
    assert_eq!(seen.authority.as_deref(), Some("shop.example"));
}

// D299
#[tokio::test]
async fn a_server_name_may_be_an_address_or_have_a_port() {
    let (backend, authority, files) = (Backend::start().await, Authority::new(), Files::new());
    let tls = ServerTls::new(&authority.server(&["localhost", "::1"]));
    let front = TlsFront::start(&backend, tls).await;
    let ca = files.with("ca.pem", &authority.pem());
    let addr = front.addr().to_string();
    for (name, asked_for, told) in [
        ("::1", None, "[::1]"),
        ("[::1]", None, "[::1]"),
        ("[::1]:443", None, "[::1]:443"),
        ("127.0.0.1:443", None, "127.0.0.1:443"),
        ("localhost:443", Some("localhost"), "localhost:443"),
    ] {
        let flags = ["-tls-ca-cert", &ca, "-tls-server-name", name];
        probe(addr.clone(), &flags).await.is_serving();
        assert_eq!(front.last_hello().server_name.as_deref(), asked_for);
        let seen = backend.last_check().expect("it was asked");
        assert_eq!(seen.authority.as_deref(), Some(told));

        let flags = ["--tls", "--tls-ca-cert", &ca, "--tls-server-name", name];
        let checked = run(["check", &addr].iter().chain(&flags)).await;
        assert_eq!(checked.code, 0, "{name}: {checked:?}");
    }
    probe(addr, &["-tls-ca-cert", &ca, "-tls-server-name", "::2"])
        .await
        .fails(
            2,
            "the server's certificate is not valid for `::2`, but for",
        );
}

// D297
#[tokio::test]
async fn a_server_whose_own_certificate_is_trusted() {
    let (backend, files) = (Backend::start().await, Files::new());
    let front = TlsFront::start(&backend, ServerTls::made(Made::SelfSigned)).await;
    let (chain, _) = Made::SelfSigned.signed().pem();
    let ca = files.with("ca.pem", &chain);
    let addr = front.addr().to_string();
    probe(addr.clone(), &["-tls-ca-cert", &ca])
        .await
        .is_serving();

    let mut by_store = command(["probe", "-tls", "-addr", &addr]);
    by_store.env("SSL_CERT_FILE", ca).env_remove("SSL_CERT_DIR");
    run_command(by_store).await.is_serving();
}

// D298
#[tokio::test]
async fn p521_needs_a_feature() {
    let (backend, files) = (Backend::start().await, Files::new());
    let front = TlsFront::start(&backend, ServerTls::made(Made::P521)).await;
    let (chain, _) = Made::P521.signed().pem();
    let ca = files.with("ca.pem", &chain);
    let why = match cfg!(feature = "tls-aws-lc") {
        // The server of the test cannot sign with its key.
        true => "a signature is wrong",
        false => "P-521 needs the feature `tls-aws-lc`",
    };
    probe(front.addr().to_string(), &["-tls-ca-cert", &ca])
        .await
        .fails(2, why);
}

// D299
#[tokio::test]
async fn a_certificate_of_any_kind_is_taken_where_none_is_verified() {
    let backend = Backend::start().await;
    for made in [Made::SelfSigned, Made::V1, Made::P521, Made::Rsa1024] {
        for only_tls12 in [false, true] {
            let tls = ServerTls::made(made);
            let tls = match only_tls12 {
                true => tls.only_tls12(),
                false => tls,
            };
            let front = TlsFront::start(&backend, tls).await;
            let addr = front.addr().to_string();
            probe(addr, &["-tls-no-verify"]).await.is_serving();
        }
    }
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
        .fails(2, "the server requires a client certificate");
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
            "identity: the private key does not match the certificate",
        ),
    ] {
        probe("shop.example:443".to_owned(), &flags)
            .await
            .fails(1, why);
    }
}
