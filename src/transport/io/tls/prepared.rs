//! A config as rustls wants it, made once and used for every connection.

use std::sync::Arc;

use tokio_rustls::rustls::{
    ClientConfig, KeyLogFile, RootCertStore, client::danger::ServerCertVerifier,
    crypto::CryptoProvider, pki_types::ServerName,
};

use super::{
    config::ClientTlsConfig,
    contained_verifier::ContainedVerifier,
    verifier::{Roots, Verifier, is_p521},
    wall_clock::WallClock,
};
use crate::transport::words::tls::{
    error::describe_tls,
    offered::{Offered, P521_NEEDS},
};

/// How HTTP/2 is called in ALPN.
pub(super) const H2: &[u8] = b"h2";

/// A config that is valid.
pub(in crate::transport) struct Prepared {
    pub(super) config: ClientTlsConfig,
    verifier: Option<Arc<ContainedVerifier>>,
    pub(super) rustls: Arc<ClientConfig>,
    pub(super) offered: Offered,
    /// Whom to ask for, if not for the endpoint's host.
    pub(super) name: Option<ServerName<'static>>,
}

impl Prepared {
    /// # Errors
    ///
    /// What is wrong with the config.
    pub(in crate::transport) fn new(
        config: ClientTlsConfig,
        verifier: Option<Arc<dyn ServerCertVerifier>>,
    ) -> Result<Self, String> {
        Self::with_provider(config, verifier, provider()?)
    }

    pub(super) fn with_provider(
        config: ClientTlsConfig,
        verifier: Option<Arc<dyn ServerCertVerifier>>,
        provider: Arc<CryptoProvider>,
    ) -> Result<Self, String> {
        let offered = Offered::new(&provider, config.identity.is_some());
        let verifier = verifier.map(ContainedVerifier::new);
        let decides: Arc<dyn ServerCertVerifier> = match &verifier {
            Some(_) if config.has_roots() => {
                return Err("a verifier replaces the trust roots; do not set both".into());
            }
            Some(verifier) => verifier.clone(),
            None => Arc::new(Verifier::new(roots(&config)?, provider.clone())?),
        };
        let in_words = |error| describe_tls(&error, offered);
        let builder = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(in_words)?
            .dangerous()
            .with_custom_certificate_verifier(decides);
        let mut rustls = match &config.identity {
            None => builder.with_no_client_auth(),
            Some(identity) => identity
                .parse()
                .and_then(|(chain, key)| {
                    let lacks_p521 = !offered.p521 && chain.first().is_some_and(is_p521);
                    let built = builder.with_client_auth_cert(chain, key);
                    built.map_err(|error| match lacks_p521 {
                        true => format!("the private key cannot be used: {P521_NEEDS}"),
                        false => in_words(error),
                    })
                })
                .map_err(|why| format!("identity: {why}"))?,
        };
        rustls.time_provider = Arc::new(WallClock);
        if config.use_key_log {
            rustls.key_log = Arc::new(KeyLogFile::new());
        }
        rustls.alpn_protocols = vec![H2.to_vec()];
        let name = config.domain_name.as_deref().map(server_name).transpose()?;
        Ok(Self {
            config,
            verifier,
            rustls: Arc::new(rustls),
            offered,
            name,
        })
    }

    pub(super) fn says_the_same_as(&self, other: &Self) -> bool {
        let verifiers = match (&self.verifier, &other.verifier) {
            (None, None) => true,
            (Some(a), Some(b)) => a.is_same(b),
            (None, Some(_)) | (Some(_), None) => false,
        };
        verifiers && self.config == other.config
    }
}

fn roots(config: &ClientTlsConfig) -> Result<Roots, String> {
    let mut roots = Roots {
        authorities: RootCertStore::from_iter(config.trust_anchors.iter().cloned()),
        certificates: Vec::new(),
    };
    #[cfg(feature = "tls-native-roots")]
    let missing = add_native_roots(config, &mut roots);
    #[cfg(not(feature = "tls-native-roots"))]
    let missing = "";
    #[cfg(feature = "tls-webpki-roots")]
    if config.webpki_roots {
        let authorities = &mut roots.authorities;
        authorities.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned());
    }
    for certificate in &config.ca_certificates {
        let certificates = certificate
            .parse()
            .map_err(|why| format!("CA certificate: {why}"))?;
        if !roots.add(certificates) {
            return Err("CA certificate: none of the PEM text is readable as X.509".to_owned());
        }
    }
    match roots.authorities.is_empty() {
        true => Err(format!(
            "no trust roots configured: set a `ca_certificate`, or enable the feature \
             `tls-native-roots` or `tls-webpki-roots` and call `with_enabled_roots`{missing}"
        )),
        false => Ok(roots),
    }
}

/// Adds the system's roots, if `config` wants them. Others may do without, so what is
/// returned only tells why there are none.
#[cfg(feature = "tls-native-roots")]
fn add_native_roots(config: &ClientTlsConfig, roots: &mut Roots) -> String {
    if !config.native_roots {
        return String::new();
    }
    let found = rustls_native_certs::load_native_certs();
    // A store has some that rustls has no use for.
    match roots.add(found.certs) {
        true => String::new(),
        false => {
            let errors: Vec<_> = found.errors.iter().map(ToString::to_string).collect();
            format!(
                "; the certificate store of the system has no authority: {}",
                errors.join(", ")
            )
        }
    }
}

/// Who computes: whom the process has chosen, else what the features bring; of two,
/// ring, as in tonic.
fn provider() -> Result<Arc<CryptoProvider>, String> {
    if let Some(chosen) = CryptoProvider::get_default() {
        return Ok(chosen.clone());
    }
    #[cfg(feature = "tls-ring")]
    let provider = Ok(tokio_rustls::rustls::crypto::ring::default_provider());
    #[cfg(all(feature = "tls-aws-lc", not(feature = "tls-ring")))]
    let provider = Ok(tokio_rustls::rustls::crypto::aws_lc_rs::default_provider());
    #[cfg(not(any(feature = "tls-ring", feature = "tls-aws-lc")))]
    let provider =
        Err("no TLS crypto provider: enable the feature `tls-ring` or `tls-aws-lc`".to_owned());
    provider.map(Arc::new)
}

pub(super) fn server_name(host: &str) -> Result<ServerName<'static>, String> {
    let bare = host.trim_matches(['[', ']']);
    ServerName::try_from(bare.to_owned())
        .map_err(|_| format!("`{host}` is not a valid server name in a certificate"))
}
