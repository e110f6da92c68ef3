//! Whether a server's certificate is good: by its issuer, or because it is itself trusted.

use std::{fmt, sync::Arc, time::Duration};

use tokio_rustls::rustls::{
    CertificateError, DigitallySignedStruct, Error, ExtendedKeyPurpose, OtherError, RootCertStore,
    SignatureScheme,
    client::{
        WebPkiServerVerifier,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
        verify_server_name,
    },
    crypto::CryptoProvider,
    pki_types::{CertificateDer, ServerName, UnixTime},
    server::ParsedCertificate,
};
use x509_parser::{
    certificate::X509Certificate, extensions::ExtendedKeyUsage, prelude::FromDer,
    public_key::PublicKey,
};

/// Whom to trust: authorities, and servers that show one of these certificates byte for byte.
#[derive(Clone, Debug)]
pub(super) struct Roots {
    pub(super) authorities: RootCertStore,
    pub(super) certificates: Vec<CertificateDer<'static>>,
}

impl Roots {
    /// Takes those that webpki can read, and says whether it took any.
    pub(super) fn add(&mut self, certificates: Vec<CertificateDer<'static>>) -> bool {
        let before = self.certificates.len();
        for certificate in certificates {
            if self.authorities.add(certificate.clone()).is_ok() {
                self.certificates.push(certificate);
            }
        }
        self.certificates.len() > before
    }
}

/// The verifier of rustls, which takes a root for an authority alone: it refuses a server that
/// shows it, as one with a self-signed certificate does. OpenSSL and Go take it.
#[derive(Debug)]
pub(super) struct Verifier {
    by_issuer: Arc<WebPkiServerVerifier>,
    certificates: Vec<CertificateDer<'static>>,
}

impl Verifier {
    /// # Errors
    ///
    /// That the roots are of no use.
    pub(super) fn new(roots: Roots, provider: Arc<CryptoProvider>) -> Result<Self, String> {
        let authorities = Arc::new(roots.authorities);
        let builder = WebPkiServerVerifier::builder_with_provider(authorities, provider);
        Ok(Self {
            by_issuer: builder.build().map_err(|error| error.to_string())?,
            certificates: roots.certificates,
        })
    }
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let verifier = &self.by_issuer;
        let by_issuer =
            verifier.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now);
        match by_issuer {
            Err(_) if self.certificates.contains(end_entity) => {
                verify_itself(end_entity, server_name, now)
            }
            verdict => verdict,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let verdict = self.by_issuer.verify_tls12_signature(message, cert, dss);
        verdict.map_err(|error| blame_key(error, cert))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let verdict = self.by_issuer.verify_tls13_signature(message, cert, dss);
        verdict.map_err(|error| blame_key(error, cert))
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.by_issuer.supported_verify_schemes()
    }
}

/// A certificate that is trusted as it is: its validity, its purpose and its names. Whether the
/// server has its key shows in the handshake.
fn verify_itself(
    certificate: &CertificateDer<'_>,
    name: &ServerName<'_>,
    now: UnixTime,
) -> Result<ServerCertVerified, Error> {
    let (_, parsed) =
        X509Certificate::from_der(certificate).map_err(|_| CertificateError::BadEncoding)?;
    let seconds = i64::try_from(now.as_secs()).unwrap_or(i64::MAX);
    let validity = parsed.validity();
    let (begins, ends) = (
        validity.not_before.timestamp(),
        validity.not_after.timestamp(),
    );
    if seconds < begins {
        return Err(Error::InvalidCertificate(
            CertificateError::NotValidYetContext {
                time: now,
                not_before: unix_time(begins),
            },
        ));
    }
    if seconds > ends {
        return Err(Error::InvalidCertificate(
            CertificateError::ExpiredContext {
                time: now,
                not_after: unix_time(ends),
            },
        ));
    }
    let usage = parsed.extended_key_usage();
    let usage = usage.map_err(|_| CertificateError::BadEncoding)?;
    if let Some(usage) = usage.map(|usage| usage.value)
        && !(usage.any || usage.server_auth)
    {
        return Err(Error::InvalidCertificate(
            CertificateError::InvalidPurposeContext {
                required: ExtendedKeyPurpose::ServerAuth,
                presented: purposes(usage),
            },
        ));
    }
    verify_server_name(&ParsedCertificate::try_from(certificate)?, name)?;
    Ok(ServerCertVerified::assertion())
}

fn unix_time(seconds: i64) -> UnixTime {
    UnixTime::since_unix_epoch(Duration::from_secs(seconds.try_into().unwrap_or(0)))
}

fn purposes(usage: &ExtendedKeyUsage<'_>) -> Vec<ExtendedKeyPurpose> {
    let client = usage.client_auth.then_some(ExtendedKeyPurpose::ClientAuth);
    let signing = [
        (usage.code_signing, 3),
        (usage.email_protection, 4),
        (usage.time_stamping, 8),
        (usage.ocsp_signing, 9),
    ];
    let signing = signing.into_iter().filter(|(given, _)| *given);
    let known = signing.map(|(_, last)| vec![1, 3, 6, 1, 5, 5, 7, 3, last]);
    let other = usage.other.iter().filter_map(|oid| {
        let parts = oid.iter()?;
        parts.map(|part| usize::try_from(part).ok()).collect()
    });
    let others = known.chain(other).map(ExtendedKeyPurpose::Other);
    client.into_iter().chain(others).collect()
}

/// The least that ring and aws-lc-rs take of an RSA key.
const RSA_BITS: usize = 2048;

/// A key that is too short for the provider is told as such: to webpki its signature is wrong.
fn blame_key(error: Error, certificate: &CertificateDer<'_>) -> Error {
    if error != Error::InvalidCertificate(CertificateError::BadSignature) {
        return error;
    }
    match rsa_bits(certificate) {
        Some(bits) if (1..RSA_BITS).contains(&bits) => {
            let why = Arc::new(ShortKey { bits });
            Error::InvalidCertificate(CertificateError::Other(OtherError(why)))
        }
        Some(_) | None => error,
    }
}

fn rsa_bits(certificate: &CertificateDer<'_>) -> Option<usize> {
    let (_, parsed) = X509Certificate::from_der(certificate).ok()?;
    match parsed.public_key().parsed().ok()? {
        PublicKey::RSA(key) => Some(key.key_size()),
        _ => None,
    }
}

#[derive(Debug)]
struct ShortKey {
    bits: usize,
}

impl fmt::Display for ShortKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bits = self.bits;
        write!(
            f,
            "its RSA key has {bits} bits, and TLS requires at least {RSA_BITS} bits"
        )
    }
}

impl std::error::Error for ShortKey {}

/// Whether the key of a certificate is of P-521.
pub(super) fn is_p521(certificate: &CertificateDer<'_>) -> bool {
    let Ok((_, parsed)) = X509Certificate::from_der(certificate) else {
        return false;
    };
    let curve = parsed.public_key().algorithm.parameters.as_ref();
    curve.is_some_and(|curve| {
        let oid = curve.as_oid();
        oid.is_ok_and(|oid| oid.to_id_string() == "1.3.132.0.35")
    })
}
