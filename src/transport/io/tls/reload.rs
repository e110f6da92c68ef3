//! Certificates that change while channels live.

use std::{fmt, sync::Arc};

use arc_swap::ArcSwap;

use super::{config::ClientTlsConfig, prepared::Prepared};
use crate::error::{Error, ErrorKind};

/// A TLS config that can be exchanged while endpoints have it, for certificates
/// that are renewed more often than the program is restarted.
///
/// Give it to endpoints with [`Endpoint::tls_reload`](crate::Endpoint::tls_reload).
/// Each connection is made with the config of its time; those that are there stay.
/// Clones hold the same config.
///
/// ```no_run
/// use tonic_health_channel::{
///     Certificate, Channel, ClientTlsConfig, Endpoint, Identity, discover, tls::TlsReload,
/// };
///
/// fn config() -> std::io::Result<ClientTlsConfig> {
///     let (chain, key) = (std::fs::read("me.pem")?, std::fs::read("me.key")?);
///     Ok(ClientTlsConfig::new()
///         .ca_certificate(Certificate::from_pem(std::fs::read("ca.pem")?))
///         .identity(Identity::from_pem(chain, key)))
/// }
///
/// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
/// let tls = TlsReload::new(config()?)?;
/// let endpoint = Endpoint::from_static("https://greeter.example:443").tls_reload(&tls)?;
/// let channel = Channel::balance(discover::list([endpoint])?).build();
/// // Whenever the files have changed:
/// tls.set(config()?)?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct TlsReload(Arc<ArcSwap<Prepared>>);

impl TlsReload {
    /// Begins with `config`.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidOption`] for what
    /// [`Endpoint::tls_config`](crate::Endpoint::tls_config) would not take either.
    pub fn new(config: ClientTlsConfig) -> Result<Self, Error> {
        let prepared = prepare(config)?;
        Ok(Self(Arc::new(ArcSwap::from_pointee(prepared))))
    }

    /// Makes connections with `config` that are begun from now on.
    ///
    /// # Errors
    ///
    /// As [`new`](Self::new). Then the config that was there stays.
    pub fn set(&self, config: ClientTlsConfig) -> Result<(), Error> {
        self.0.store(Arc::new(prepare(config)?));
        Ok(())
    }

    pub(super) fn prepared(&self) -> Arc<Prepared> {
        self.0.load_full()
    }
}

fn prepare(config: ClientTlsConfig) -> Result<Prepared, Error> {
    Prepared::new(config, None)
        .map_err(|why| Error::new(ErrorKind::InvalidOption, format!("TLS config: {why}")))
}

/// Two handles are equal if what is set by one is set for the other.
impl PartialEq for TlsReload {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl fmt::Debug for TlsReload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TlsReload").finish_non_exhaustive()
    }
}
