//! Certificates and keys, as PEM texts.

use std::fmt;

use tokio_rustls::rustls::pki_types::{
    CertificateDer, PrivateKeyDer,
    pem::{self, PemObject},
};

/// X.509 certificates, as a PEM text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Certificate {
    pem: Vec<u8>,
}

/// A certificate chain and its private key, as PEM texts: who a client is.
#[derive(Clone, PartialEq, Eq)]
pub struct Identity {
    chain: Certificate,
    key: Vec<u8>,
}

impl Certificate {
    /// Takes a PEM text with at least one certificate. What is in it shows when it
    /// is used.
    pub fn from_pem(pem: impl AsRef<[u8]>) -> Self {
        Self {
            pem: pem.as_ref().to_vec(),
        }
    }

    /// The PEM text.
    pub fn get_ref(&self) -> &[u8] {
        &self.pem
    }

    /// The PEM text, to be changed in place.
    pub fn get_mut(&mut self) -> &mut [u8] {
        &mut self.pem
    }

    /// The PEM text, taken out.
    pub fn into_inner(self) -> Vec<u8> {
        self.pem
    }

    /// All certificates of the text; at least one.
    pub(super) fn parse(&self) -> Result<Vec<CertificateDer<'static>>, String> {
        let certificates: Vec<_> = CertificateDer::pem_slice_iter(&self.pem)
            .collect::<Result<_, _>>()
            .map_err(|error| format!("not a PEM text: {}", describe_pem(&error)))?;
        match certificates.is_empty() {
            true => Err("there is no certificate in the PEM text".to_owned()),
            false => Ok(certificates),
        }
    }
}

impl AsRef<[u8]> for Certificate {
    fn as_ref(&self) -> &[u8] {
        &self.pem
    }
}

impl AsMut<[u8]> for Certificate {
    fn as_mut(&mut self) -> &mut [u8] {
        &mut self.pem
    }
}

impl Identity {
    /// Takes the PEM texts of a certificate, with those between it and the root
    /// after it, and of its private key. What is in them shows when they are used.
    pub fn from_pem(cert: impl AsRef<[u8]>, key: impl AsRef<[u8]>) -> Self {
        Self {
            chain: Certificate::from_pem(cert),
            key: key.as_ref().to_vec(),
        }
    }

    pub(super) fn parse(
        &self,
    ) -> Result<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>), String> {
        let chain = self.chain.parse()?;
        let key = PrivateKeyDer::from_pem_slice(&self.key)
            .map_err(|error| format!("no private key in the PEM text: {}", describe_pem(&error)))?;
        Ok((chain, key))
    }
}

fn describe_pem(error: &pem::Error) -> String {
    let text = match error {
        pem::Error::MissingSectionEnd { .. } => "a section does not end (`-----END …-----`)",
        pem::Error::IllegalSectionStart { .. } => "a line `-----BEGIN …-----` is malformed",
        pem::Error::Base64Decode(_) => "a section is not base64",
        pem::Error::NoItemsFound => "there is no such section",
        pem::Error::SectionTooLarge => "a section is larger than 10 MB",
        other => return other.to_string(),
    };
    text.to_owned()
}

/// Without the key, which is nobody's business.
impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Identity")
            .field("chain", &self.chain)
            .finish_non_exhaustive()
    }
}
