//! TLS servers and certificates, made for one test.
//!
//! A [`TlsFront`] ends the TLS of its connections and passes their bytes on to a
//! [`Backend`](super::Backend), which is none the wiser: everything a backend can be
//! made to do it can do behind TLS too.

use std::{
    fmt,
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
};

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa,
    KeyPair, date_time_ymd,
};
use tokio::{
    io::{AsyncReadExt, copy_bidirectional},
    net::{TcpListener, TcpStream},
    task::{JoinHandle, JoinSet},
};
use tokio_rustls::{
    TlsAcceptor,
    rustls::{
        DigitallySignedStruct, Error, RootCertStore, ServerConfig, SignatureScheme,
        client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
        crypto::ring,
        pki_types::{CertificateDer, ServerName, UnixTime},
        server::WebPkiClientVerifier,
        version::{TLS12, TLS13},
    },
};
use tonic_health_channel::{Certificate, ClientTlsConfig, Endpoint};

use super::{
    Backend, Counter,
    certificates::{Made, Shown, Signed},
    port::ReservedPort,
};

/// Somebody who signs certificates.
pub struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    pub fn new() -> Self {
        static NUMBER: AtomicUsize = AtomicUsize::new(1);
        let mut params = CertificateParams::default();
        // By its name an authority is told from others.
        let name = format!("authority {}", NUMBER.fetch_add(1, Relaxed));
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let issuer = CertifiedIssuer::self_signed(params, key());
        Self(issuer.expect("a certificate of an authority"))
    }

    /// A config that trusts this authority and nobody else.
    pub fn trusted(&self) -> ClientTlsConfig {
        ClientTlsConfig::new().ca_certificate(self.certificate())
    }

    pub fn certificate(&self) -> Certificate {
        Certificate::from_pem(self.pem())
    }

    pub fn pem(&self) -> String {
        self.0.pem()
    }

    /// For a server at `127.0.0.1`, known also by `names`.
    pub fn server(&self, names: &[&str]) -> Signed {
        let names = ["127.0.0.1"].iter().chain(names);
        self.sign(self.params(names.map(|name| name.to_string())))
    }

    /// For a server with this name, and not for its address.
    pub fn only(&self, name: &str) -> Signed {
        self.sign(self.params([name.to_owned()]))
    }

    /// For a server whose certificate has seen better days.
    pub fn expired(&self) -> Signed {
        let mut params = self.params(["127.0.0.1".to_owned()]);
        params.not_before = date_time_ymd(2001, 1, 1);
        params.not_after = date_time_ymd(2002, 1, 1);
        self.sign(params)
    }

    /// For a server whose certificate says that it is for clients.
    pub fn for_clients(&self) -> Signed {
        let mut params = self.params(["127.0.0.1".to_owned()]);
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        self.sign(params)
    }

    pub fn client(&self, name: &str) -> Signed {
        let mut params = self.params([name.to_owned()]);
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        self.sign(params)
    }

    fn params(&self, names: impl IntoIterator<Item = String>) -> CertificateParams {
        let names: Vec<_> = names.into_iter().collect();
        CertificateParams::new(names).expect("names that a certificate can have")
    }

    fn sign(&self, params: CertificateParams) -> Signed {
        let key = key();
        let signed = params.signed_by(&key, &self.0);
        Signed::from_pem(&signed.expect("a certificate").pem(), &key.serialize_pem())
    }
}

fn key() -> KeyPair {
    KeyPair::generate().expect("a key")
}

/// How a server speaks TLS.
pub struct ServerTls {
    signed: Signed,
    made: Option<Made>,
    only_tls12: bool,
    client_authority: Option<CertificateDer<'static>>,
    alpn: Vec<Vec<u8>>,
    hangs_up_on_the_rejected: bool,
}

impl ServerTls {
    pub fn new(signed: &Signed) -> Self {
        Self {
            signed: signed.clone(),
            made: None,
            only_tls12: false,
            client_authority: None,
            alpn: vec![b"h2".to_vec()],
            hangs_up_on_the_rejected: false,
        }
    }

    /// With a certificate from a file.
    pub fn made(made: Made) -> Self {
        Self {
            made: Some(made),
            ..Self::new(&made.signed())
        }
    }

    /// Speaks no TLS 1.3.
    pub fn only_tls12(mut self) -> Self {
        self.only_tls12 = true;
        self
    }

    /// Asks clients for a certificate of this authority.
    pub fn asks_for(mut self, authority: &Authority) -> Self {
        self.client_authority = Some(authority.0.der().clone());
        self
    }

    /// Speaks these protocols and no other; none is no ALPN at all.
    pub fn alpn(mut self, protocols: &[&str]) -> Self {
        self.alpn = protocols
            .iter()
            .map(|name| name.as_bytes().to_vec())
            .collect();
        self
    }

    /// Closes without reading what a client that it turns away has sent, so that
    /// the client is reset.
    pub fn hangs_up_on_the_rejected(mut self) -> Self {
        self.hangs_up_on_the_rejected = true;
        self
    }

    fn config(&self) -> ServerConfig {
        let provider = Arc::new(ring::default_provider());
        let versions: &[_] = match self.only_tls12 {
            true => &[&TLS12],
            false => &[&TLS13, &TLS12],
        };
        let builder = ServerConfig::builder_with_provider(provider.clone())
            .with_protocol_versions(versions)
            .expect("versions that ring can do");
        let builder = match &self.client_authority {
            None => builder.with_no_client_auth(),
            Some(authority) => {
                let mut roots = RootCertStore::empty();
                roots.add(authority.clone()).expect("an authority");
                let verifier =
                    WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
                builder.with_client_cert_verifier(verifier.build().expect("a verifier"))
            }
        };
        let mut config = builder.with_cert_resolver(Shown::new(&self.signed, self.made));
        config.alpn_protocols = self.alpn.clone();
        config
    }
}

/// What a client said of itself and of the server in its handshake.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Hello {
    /// The name it asked for (SNI), which an address is not.
    pub server_name: Option<String>,
    pub has_certificate: bool,
}

/// TLS in front of a backend, on a port of its own.
pub struct TlsFront {
    addr: SocketAddr,
    /// Handshakes that went well.
    pub handshakes: Counter,
    last: Arc<Mutex<Hello>>,
    acceptor: JoinHandle<()>,
}

impl TlsFront {
    pub async fn start(backend: &Backend, tls: ServerTls) -> Self {
        let port = ReservedPort::any();
        let addr = port.addr();
        let handshakes = Counter::new("TLS handshakes");
        let last = Arc::new(Mutex::new(Hello::default()));
        let passing = Passing {
            acceptor: TlsAcceptor::from(Arc::new(tls.config())),
            hangs_up_on_the_rejected: tls.hangs_up_on_the_rejected,
            backend: backend.addr(),
            handshakes: handshakes.clone(),
            last: last.clone(),
        };
        Self {
            addr,
            handshakes,
            last,
            acceptor: tokio::spawn(accept(port.listen(), passing)),
        }
    }

    /// With a certificate for `127.0.0.1`.
    pub async fn of(backend: &Backend, authority: &Authority) -> Self {
        Self::start(backend, ServerTls::new(&authority.server(&[]))).await
    }

    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    pub fn endpoint(&self, tls: ClientTlsConfig) -> Endpoint {
        let endpoint = Endpoint::from_shared(format!("https://{}", self.addr));
        let endpoint = endpoint.expect("a URI").tls_config(tls);
        endpoint.expect("a TLS config that makes sense")
    }

    /// What the last client said that came through.
    pub fn last_hello(&self) -> Hello {
        self.last.lock().expect("no holder panics").clone()
    }
}

impl Drop for TlsFront {
    fn drop(&mut self) {
        self.acceptor.abort();
    }
}

/// What happens to each connection.
#[derive(Clone)]
struct Passing {
    acceptor: TlsAcceptor,
    hangs_up_on_the_rejected: bool,
    backend: SocketAddr,
    handshakes: Counter,
    last: Arc<Mutex<Hello>>,
}

async fn accept(listener: TcpListener, passing: Passing) {
    let mut connections = JoinSet::new();
    loop {
        if let Ok((stream, _)) = listener.accept().await {
            connections.spawn(passing.clone().pass(stream));
        }
    }
}

impl Passing {
    async fn pass(self, client: TcpStream) {
        let handshake = self.acceptor.accept(client).into_fallible();
        let mut client = match handshake.await {
            Ok(stream) => stream,
            Err((_, mut rejected)) => {
                // Otherwise the alert, just sent, could be overtaken by a reset.
                while !self.hangs_up_on_the_rejected
                    && matches!(rejected.read(&mut [0; 1024]).await, Ok(1..))
                {}
                return;
            }
        };
        let (_, session) = client.get_ref();
        *self.last.lock().expect("no holder panics") = Hello {
            server_name: session.server_name().map(str::to_owned),
            has_certificate: session.peer_certificates().is_some(),
        };
        self.handshakes.add();
        if let Ok(mut backend) = TcpStream::connect(self.backend).await {
            // However that ends, it is the end of both.
            let _ = copy_bidirectional(&mut client, &mut backend).await;
        }
    }
}

/// Decides by the name of a server alone.
pub struct ByName<F>(pub F);

impl<F> fmt::Debug for ByName<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ByName")
    }
}

impl<F: Fn(&str) -> Result<(), Error> + Send + Sync> ServerCertVerifier for ByName<F> {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        (self.0)(&name.to_str()).map(|()| ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.verify_tls12_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        let algorithms = ring::default_provider().signature_verification_algorithms;
        algorithms.supported_schemes()
    }
}
