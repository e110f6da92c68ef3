//! Whether an endpoint's bytes are encrypted: its scheme decides, and the features
//! of this crate whether that can be done.

use std::future::Future;

#[cfg(feature = "_tls-any")]
use super::tls::Source;
use super::{
    connector::{BoxIo, Progress},
    endpoint::Endpoint,
};

/// What an endpoint says about TLS.
#[derive(Clone, Default, PartialEq)]
pub(super) struct Security {
    #[cfg(feature = "_tls-any")]
    pub(super) tls: Source,
}

/// The bytes of `plain`, behind TLS if the endpoint asks for that. What cannot be
/// secured is not connected to.
///
/// # Errors
///
/// Why there is no connection, in a sentence.
#[cfg(feature = "_tls-any")]
pub(super) async fn secured(
    endpoint: &Endpoint,
    progress: &Progress,
    plain: impl Future<Output = Result<BoxIo, String>>,
) -> Result<BoxIo, String> {
    if !endpoint.is_secure() {
        return plain.await;
    }
    let client = endpoint.security.tls.client(endpoint.host())?;
    let plain = plain.await?;
    progress.set(format!(
        "waiting for the TLS handshake with {}",
        endpoint.address()
    ));
    client.handshake(plain).await
}

/// Without TLS there are only the bytes as they are.
///
/// # Errors
///
/// Why there is no connection, in a sentence.
#[cfg(not(feature = "_tls-any"))]
pub(super) async fn secured(
    endpoint: &Endpoint,
    _: &Progress,
    plain: impl Future<Output = Result<BoxIo, String>>,
) -> Result<BoxIo, String> {
    match endpoint.is_secure() {
        false => plain.await,
        true => Err("https needs TLS: enable the feature `tls-ring` or `tls-aws-lc`".to_owned()),
    }
}
