//! How the TLS of an [`Endpoint`] is set.

use std::sync::Arc;

use tokio_rustls::rustls::client::danger::ServerCertVerifier;

use super::endpoint::Endpoint;
use crate::{
    error::{Error, ErrorKind},
    transport::io::{ClientTlsConfig, Prepared, TlsReload, TlsSource},
};

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
        self.with_tls(TlsSource::Reloaded(reload.clone()))
    }

    fn prepared(
        self,
        config: ClientTlsConfig,
        verifier: Option<Arc<dyn ServerCertVerifier>>,
    ) -> Result<Self, Error> {
        self.refuse_unix()?;
        match Prepared::new(config, verifier) {
            Ok(prepared) => self.with_tls(TlsSource::Fixed(Arc::new(prepared))),
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

    fn with_tls(mut self, source: TlsSource) -> Result<Self, Error> {
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
