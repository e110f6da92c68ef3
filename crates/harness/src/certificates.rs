//! Certificates with their keys, and those that `rcgen` cannot make. OpenSSL made them:
//! `certificates/make`.

use std::sync::Arc;

use tokio_rustls::rustls::{
    Error, SignatureAlgorithm, SignatureScheme,
    crypto::ring,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
    server::{ClientHello, ResolvesServerCert},
    sign::{CertifiedKey, Signer, SigningKey},
};

use tonic_health_channel::{Certificate, Identity};

/// A certificate and its key.
#[derive(Clone)]
pub struct Signed {
    chain: String,
    key: String,
}

impl Signed {
    pub(super) fn from_pem(chain: &str, key: &str) -> Self {
        Self {
            chain: chain.to_owned(),
            key: key.to_owned(),
        }
    }

    /// The certificate, for those who trust it as it is.
    pub fn certificate(&self) -> Certificate {
        Certificate::from_pem(&self.chain)
    }

    /// The certificate and its key.
    pub fn pem(&self) -> (String, String) {
        (self.chain.clone(), self.key.clone())
    }

    pub fn identity(&self) -> Identity {
        Identity::from_pem(&self.chain, &self.key)
    }

    /// A pair that does not fit.
    pub fn with_key_of(&self, other: &Self) -> Self {
        Self {
            chain: self.chain.clone(),
            key: other.key.clone(),
        }
    }

    fn chain(&self) -> Vec<CertificateDer<'static>> {
        let certificates = CertificateDer::pem_slice_iter(self.chain.as_bytes());
        certificates.map(|one| one.expect("PEM")).collect()
    }

    fn key(&self) -> PrivateKeyDer<'static> {
        PrivateKeyDer::from_pem_slice(self.key.as_bytes()).expect("PEM")
    }
}

macro_rules! file {
    ($name:literal) => {
        include_str!(concat!("../certificates/", $name))
    };
}

/// A certificate for `127.0.0.1` and `localhost` from a file, valid from 2020 to 2120.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Made {
    /// What `openssl req -x509` makes: its own issuer, and an authority (CA:TRUE).
    SelfSigned,
    /// Of X.509 v1, which has no place for names.
    V1,
    P521,
    /// Without its key.
    Rsa1024,
}

impl Made {
    pub fn signed(self) -> Signed {
        let (chain, key) = match self {
            Self::SelfSigned => (file!("self-signed.pem"), file!("self-signed.key")),
            Self::V1 => (file!("v1.pem"), file!("v1.key")),
            Self::P521 => (file!("p-521.pem"), file!("p-521.key")),
            Self::Rsa1024 => (file!("rsa-1024.pem"), ""),
        };
        Signed::from_pem(chain, key)
    }

    /// How its key signs a handshake, where ring cannot.
    fn scheme(self) -> Option<SignatureScheme> {
        match self {
            Self::SelfSigned | Self::V1 => None,
            Self::P521 => Some(SignatureScheme::ECDSA_NISTP521_SHA512),
            Self::Rsa1024 => Some(SignatureScheme::RSA_PSS_SHA256),
        }
    }
}

/// What a server shows, whether it is right or not.
#[derive(Debug)]
pub(super) struct Shown(Arc<CertifiedKey>);

impl Shown {
    /// The signatures of handshakes are worthless where ring cannot make them.
    pub(super) fn new(signed: &Signed, made: Option<Made>) -> Arc<Self> {
        let key: Arc<dyn SigningKey> = match made.and_then(Made::scheme) {
            Some(scheme) => Arc::new(Worthless(scheme)),
            None => ring::sign::any_supported_type(&signed.key()).expect("a key that ring takes"),
        };
        Arc::new(Self(Arc::new(CertifiedKey::new(signed.chain(), key))))
    }
}

impl ResolvesServerCert for Shown {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.0.clone())
    }
}

/// Signs nothing, by a scheme that the client has to offer.
#[derive(Clone, Copy, Debug)]
struct Worthless(SignatureScheme);

impl SigningKey for Worthless {
    fn choose_scheme(&self, offered: &[SignatureScheme]) -> Option<Box<dyn Signer>> {
        let is_offered = offered.contains(&self.0);
        is_offered.then(|| Box::new(*self) as Box<dyn Signer>)
    }

    fn algorithm(&self) -> SignatureAlgorithm {
        match self.0 {
            SignatureScheme::ECDSA_NISTP521_SHA512 => SignatureAlgorithm::ECDSA,
            _ => SignatureAlgorithm::RSA,
        }
    }
}

impl Signer for Worthless {
    fn sign(&self, _: &[u8]) -> Result<Vec<u8>, Error> {
        Ok(vec![0; 128])
    }

    fn scheme(&self) -> SignatureScheme {
        self.0
    }
}
