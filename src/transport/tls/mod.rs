//! TLS: whom a client trusts, and who it says it is.
//!
//! ```text
//!   ClientTlsConfig ──Prepared::new──► Prepared ◄──Source── Endpoint
//!   (what the user said)               (rustls' view)  │
//!          ▲                                           ▼
//!          └── TlsReload exchanges it        Client: one handshake
//! ```
//!
//! The types have tonic's names and meanings. What is wrong with a config is said
//! when it is given to an endpoint, not when that first connects.

mod handshake;
mod pem;
mod prepared;
mod reload;
#[cfg(all(test, feature = "tls-ring"))]
mod tests;

use std::{sync::Arc, time::Duration};

use tokio_rustls::rustls::{client::danger::ServerCertVerifier, pki_types::TrustAnchor};

pub use pem::{Certificate, Identity};
use prepared::Prepared;
pub(super) use prepared::Source;
pub use reload::TlsReload;

use super::endpoint::Endpoint;
use crate::error::{Error, ErrorKind};

/// Whom a client trusts, and who it says it is.
///
/// The same builder as tonic's, with the feature `tls-ring` or `tls-aws-lc`. Nobody is trusted by default: give a
/// [`ca_certificate`](Self::ca_certificate), or take
/// [`with_enabled_roots`](Self::with_enabled_roots).
///
/// ```no_run
/// use tonic_health_channel::{Certificate, ClientTlsConfig, Endpoint, Identity};
///
/// # fn example() -> Result<(), Box<dyn std::error::Error>> {
/// let tls = ClientTlsConfig::new()
///     .ca_certificate(Certificate::from_pem(std::fs::read("ca.pem")?))
///     .identity(Identity::from_pem(std::fs::read("me.pem")?, std::fs::read("me.key")?));
/// let endpoint = Endpoint::from_static("https://greeter.example:443").tls_config(tls)?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, Default, PartialEq)]
#[must_use = "a config does nothing until an endpoint has it"]
pub struct ClientTlsConfig {
    domain_name: Option<String>,
    ca_certificates: Vec<Certificate>,
    trust_anchors: Vec<TrustAnchor<'static>>,
    native_roots: bool,
    webpki_roots: bool,
    identity: Option<Identity>,
    assume_http2: bool,
    use_key_log: bool,
    timeout: Option<Duration>,
}

impl ClientTlsConfig {
    /// A config that trusts nobody yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Asks for the server by this name, and expects it in the server's
    /// certificate. By default that is the host of the endpoint's URI.
    pub fn domain_name(mut self, name: impl Into<String>) -> Self {
        self.domain_name = Some(name.into());
        self
    }

    /// Trusts what this authority has signed, besides all others.
    pub fn ca_certificate(self, certificate: Certificate) -> Self {
        self.ca_certificates([certificate])
    }

    /// Trusts what these authorities have signed, besides all others.
    pub fn ca_certificates(mut self, certificates: impl IntoIterator<Item = Certificate>) -> Self {
        self.ca_certificates.extend(certificates);
        self
    }

    /// Trusts what this authority has signed, besides all others.
    pub fn trust_anchor(self, anchor: TrustAnchor<'static>) -> Self {
        self.trust_anchors([anchor])
    }

    /// Trusts what these authorities have signed, besides all others.
    pub fn trust_anchors(
        mut self,
        anchors: impl IntoIterator<Item = TrustAnchor<'static>>,
    ) -> Self {
        self.trust_anchors.extend(anchors);
        self
    }

    /// Trusts whom the operating system trusts. Its store is read when the config
    /// is given to an endpoint. Needs the feature `tls-native-roots`.
    #[cfg(feature = "tls-native-roots")]
    pub fn with_native_roots(mut self) -> Self {
        self.native_roots = true;
        self
    }

    /// Trusts whom Mozilla trusts, as of the `webpki-roots` crate in the build.
    /// Needs the feature `tls-webpki-roots`.
    #[cfg(feature = "tls-webpki-roots")]
    pub fn with_webpki_roots(mut self) -> Self {
        self.webpki_roots = true;
        self
    }

    /// Trusts the roots that the features `tls-native-roots` and
    /// `tls-webpki-roots` bring, as far as they are enabled.
    pub fn with_enabled_roots(mut self) -> Self {
        self.native_roots = cfg!(feature = "tls-native-roots");
        self.webpki_roots = cfg!(feature = "tls-webpki-roots");
        self
    }

    /// Says who the client is to a server that asks (mutual TLS).
    pub fn identity(mut self, identity: Identity) -> Self {
        self.identity = Some(identity);
        self
    }

    /// Whether to take it that the server speaks HTTP/2, though it does not say so
    /// (by ALPN `h2`). Not by default: without it, connecting fails.
    pub fn assume_http2(mut self, assume: bool) -> Self {
        self.assume_http2 = assume;
        self
    }

    /// Writes the secrets of each connection to the file that the environment
    /// variable `SSLKEYLOGFILE` names, so that others can read along. For debugging.
    pub fn use_key_log(mut self) -> Self {
        self.use_key_log = true;
        self
    }

    /// Bounds the handshake. By default only
    /// [`Endpoint::connect_timeout`] does, which bounds the whole attempt.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = Some(timeout);
        self
    }

    /// Whether anybody is trusted.
    fn has_roots(&self) -> bool {
        self.native_roots
            || self.webpki_roots
            || !self.ca_certificates.is_empty()
            || !self.trust_anchors.is_empty()
    }
}

/// TLS, with the feature `tls-ring` or `tls-aws-lc`.
impl Endpoint {
    /// Connects with TLS, as `config` says, if the URI's scheme is `https`; as in
    /// tonic, a URI with `http` stays plaintext. Without this, `https` trusts the
    /// roots that are enabled by feature.
    ///
    /// The connection counts as secured only once the server has proved its name,
    /// the URI's host unless [`ClientTlsConfig::domain_name`] says otherwise, and
    /// has agreed on HTTP/2 (ALPN `h2`). The connect timeout covers all of that,
    /// and what fails is the backend's TRANSIENT_FAILURE, with the reason.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidEndpoint`] if there is no certificate or key where there
    /// should be one, if they do not fit, if nobody is trusted, if there is no host
    /// to verify, or if no feature brings cryptography. And for a Unix socket, as in
    /// tonic.
    pub fn tls_config(self, config: ClientTlsConfig) -> Result<Self, Error> {
        self.prepared(config, None)
    }

    /// As [`tls_config`](Self::tls_config), but `verifier` decides alone whether a
    /// server's certificate is good. tonic's `tls_config_with_verifier`, under a
    /// name that a reviewer stops at.
    ///
    /// Every guarantee about who answers the calls is the verifier's. One that says
    /// yes to all lets anybody between read and change everything, call credentials
    /// included.
    ///
    /// # Errors
    ///
    /// As [`tls_config`](Self::tls_config); and if `config` names whom to trust,
    /// which the verifier would not know of.
    #[doc(alias = "tls_config_with_verifier")]
    pub fn dangerous_tls_config_with_verifier(
        self,
        config: ClientTlsConfig,
        verifier: Arc<dyn ServerCertVerifier>,
    ) -> Result<Self, Error> {
        self.prepared(config, Some(verifier))
    }

    /// As [`tls_config`](Self::tls_config), with the config that `reload` holds
    /// whenever a connection is made.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidEndpoint`] if there is no host to verify.
    pub fn tls_reload(self, reload: &TlsReload) -> Result<Self, Error> {
        self.refuse_unix()?;
        self.with_tls(Source::Reloaded(reload.clone()))
    }

    fn prepared(
        self,
        config: ClientTlsConfig,
        verifier: Option<Arc<dyn ServerCertVerifier>>,
    ) -> Result<Self, Error> {
        self.refuse_unix()?;
        match Prepared::new(config, verifier) {
            Ok(prepared) => self.with_tls(Source::Fixed(Arc::new(prepared))),
            Err(why) => Err(self.invalid(&why)),
        }
    }

    /// To take a config and speak plain text would be a surprise.
    fn refuse_unix(&self) -> Result<(), Error> {
        match self.is_unix() {
            true => Err(self.invalid("there is no TLS over a Unix socket")),
            false => Ok(()),
        }
    }

    fn with_tls(mut self, source: Source) -> Result<Self, Error> {
        if self.is_secure() {
            source
                .client(self.host())
                .map_err(|why| self.invalid(&why))?;
        }
        self.security.tls = source;
        Ok(self)
    }

    fn invalid(&self, why: &str) -> Error {
        let text = format!("endpoint `{}`: TLS config: {why}", self.name());
        Error::new(ErrorKind::InvalidEndpoint, text)
    }
}
