//! What a client brings into its handshakes, as far as it explains how they fail.

use tokio_rustls::rustls::{SignatureScheme, crypto::CryptoProvider};

/// What the client offers.
#[derive(Clone, Copy, Debug)]
pub(in crate::transport) struct Offered {
    pub(in crate::transport) certificate: bool,
    /// Whether it verifies signatures, and makes its own, with keys of P-521.
    pub(in crate::transport) p521: bool,
}

/// What a key of P-521 takes.
pub(in crate::transport) const P521_NEEDS: &str = "P-521 needs the feature `tls-aws-lc` without \
     `tls-ring`, or aws-lc-rs as the `CryptoProvider` of the process";

impl Offered {
    pub(in crate::transport) fn new(provider: &CryptoProvider, certificate: bool) -> Self {
        let schemes = provider.signature_verification_algorithms.mapping;
        let p521 = SignatureScheme::ECDSA_NISTP521_SHA512;
        Self {
            certificate,
            p521: schemes.iter().any(|(scheme, _)| *scheme == p521),
        }
    }
}
