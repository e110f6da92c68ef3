//! Where the TLS config of a connection comes from.

use std::sync::{Arc, OnceLock};

use super::{
    config::ClientTlsConfig,
    handshake::Client,
    prepared::{Prepared, server_name},
    reload::TlsReload,
};

/// Where the config of an endpoint comes from.
#[derive(Clone, Default)]
pub(in crate::transport) enum TlsSource {
    /// Nobody said anything: the roots that are enabled by feature.
    #[default]
    EnabledRoots,
    Fixed(Arc<Prepared>),
    Reloaded(TlsReload),
}

impl TlsSource {
    /// What secures one connection to `host`.
    ///
    /// # Errors
    ///
    /// Why nothing can.
    pub(in crate::transport) fn client(&self, host: &str) -> Result<Client, String> {
        let prepared = match self {
            Self::EnabledRoots => enabled_roots()?,
            Self::Fixed(prepared) => prepared.clone(),
            Self::Reloaded(reload) => reload.prepared(),
        };
        let name = match &prepared.name {
            Some(name) => name.clone(),
            None => server_name(host)?,
        };
        Ok(Client { prepared, name })
    }
}

/// Configs that say the same are equal, so a source that makes a new one each time
/// changes nothing.
impl PartialEq for TlsSource {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::EnabledRoots, Self::EnabledRoots) => true,
            (Self::Fixed(a), Self::Fixed(b)) => Arc::ptr_eq(a, b) || a.says_the_same_as(b),
            (Self::Reloaded(a), Self::Reloaded(b)) => a == b,
            (Self::EnabledRoots | Self::Fixed(_) | Self::Reloaded(_), _) => false,
        }
    }
}

/// The config of an endpoint that has none of its own. The system's roots are read
/// for the first, for all.
fn enabled_roots() -> Result<Arc<Prepared>, String> {
    static ENABLED_ROOTS: OnceLock<Arc<Prepared>> = OnceLock::new();
    if let Some(prepared) = ENABLED_ROOTS.get() {
        return Ok(prepared.clone());
    }
    let config = ClientTlsConfig::new().with_enabled_roots();
    let prepared =
        Prepared::new(config, None).map_err(|why| format!("https without a TLS config: {why}"))?;
    Ok(ENABLED_ROOTS.get_or_init(|| Arc::new(prepared)).clone())
}
