//! What a user says about TLS.

use std::time::Duration;

use tokio_rustls::rustls::pki_types::TrustAnchor;

use super::pem::{Certificate, Identity};

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
    pub(super) domain_name: Option<String>,
    pub(super) ca_certificates: Vec<Certificate>,
    pub(super) trust_anchors: Vec<TrustAnchor<'static>>,
    pub(super) native_roots: bool,
    pub(super) webpki_roots: bool,
    pub(super) identity: Option<Identity>,
    pub(super) assume_http2: bool,
    pub(super) use_key_log: bool,
    pub(super) timeout: Option<Duration>,
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

    /// Trusts what this authority has signed, besides all others. A server that shows this very
    /// certificate is trusted, too; its issuer does not matter.
    pub fn ca_certificate(self, certificate: Certificate) -> Self {
        self.ca_certificates([certificate])
    }

    /// Trusts what these authorities have signed, besides all others. A server that shows one of
    /// these very certificates is trusted, too; its issuer does not matter.
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
    /// [`Endpoint::connect_timeout`](crate::Endpoint::connect_timeout) does, which bounds the whole attempt.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = Some(timeout);
        self
    }

    /// Whether anybody is trusted.
    pub(super) fn has_roots(&self) -> bool {
        self.native_roots
            || self.webpki_roots
            || !self.ca_certificates.is_empty()
            || !self.trust_anchors.is_empty()
    }
}
