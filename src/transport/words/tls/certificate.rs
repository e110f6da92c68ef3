//! Why a certificate is refused.

use tokio_rustls::rustls::{
    CertRevocationListError, CertificateError, ExtendedKeyPurpose, pki_types::ServerName,
};
use webpki::Error as Webpki;

use super::{
    names::{algorithm, is_ecdsa_with_sha512, is_p521, moment, spaced},
    offered::{Offered, P521_NEEDS},
};
use crate::error::sanitize_peer_text;

/// The names of a certificate that a text repeats.
const NAMES: usize = 8;

/// Why the server's certificate is refused, or one between it and its root.
pub(super) fn describe_certificate(why: &CertificateError, offered: Offered) -> String {
    use CertificateError as Why;
    let text = match why {
        Why::BadEncoding => "the server's certificate is not well-formed X.509",
        Why::Expired => "the server's certificate has expired",
        Why::ExpiredContext { not_after, .. } => {
            return format!("the server's certificate expired on {}", moment(*not_after));
        }
        Why::NotValidYet => "the server's certificate is not valid yet",
        Why::NotValidYetContext { not_before, .. } => {
            let begins = moment(*not_before);
            return format!(
                "the server's certificate is not valid yet: it begins on {begins}; the clock of \
                 this host may be wrong"
            );
        }
        Why::Revoked => "the server's certificate is revoked",
        Why::UnhandledCriticalExtension => {
            "the server's certificate has a critical extension that rustls does not know"
        }
        Why::UnknownIssuer => "the server's certificate is signed by an unknown authority",
        Why::UnknownRevocationStatus => {
            "no revocation list tells whether the server's certificate is revoked"
        }
        Why::ExpiredRevocationList => "the revocation list of the server's certificate has expired",
        Why::ExpiredRevocationListContext { next_update, .. } => {
            let end = moment(*next_update);
            return format!("the revocation list of the server's certificate expired on {end}");
        }
        Why::BadSignature => {
            "a signature is wrong: the server does not have the key of its certificate, or the \
             certificate is not signed by its issuer"
        }
        #[allow(deprecated, reason = "older versions of rustls say it")]
        Why::UnsupportedSignatureAlgorithm => {
            "the server's certificate is signed by an algorithm that rustls does not support"
        }
        Why::UnsupportedSignatureAlgorithmContext {
            signature_algorithm_id: signature,
            ..
        } => return unsupported(signature, None, offered),
        Why::UnsupportedSignatureAlgorithmForPublicKeyContext {
            signature_algorithm_id: signature,
            public_key_algorithm_id: key,
        } => return unsupported(signature, Some(key), offered),
        Why::NotValidForName => "the server's certificate is not valid for the requested name",
        Why::NotValidForNameContext {
            expected,
            presented,
        } => return not_for(expected, presented),
        Why::InvalidPurpose => "the server's certificate is not for servers",
        Why::InvalidPurposeContext { presented, .. } => return not_for_servers(presented),
        Why::InvalidOcspResponse => "the OCSP response for the server's certificate is invalid",
        Why::ApplicationVerificationFailure => {
            "the verifier of the application refuses the server's certificate"
        }
        Why::Other(other) => {
            return match other.0.downcast_ref() {
                Some(why) => describe_webpki(why),
                // A verifier of the application's.
                None => of_certificate(&other.0.to_string()),
            };
        }
        other => return of_certificate(&other.to_string()),
    };
    text.to_owned()
}

fn of_certificate(why: &str) -> String {
    format!("the server's certificate: {}", sanitize_peer_text(why))
}

fn unsupported(signature: &[u8], key: Option<&[u8]>, offered: Offered) -> String {
    let by = algorithm(signature);
    let p521 = is_ecdsa_with_sha512(signature) || key.is_some_and(is_p521);
    match key {
        _ if p521 && !offered.p521 => format!(
            "the server's certificate is signed by {by}, perhaps with a P-521 key: {P521_NEEDS}"
        ),
        Some(key) => {
            let key = algorithm(key);
            format!("a signature by {by} does not match its key, which is of {key}")
        }
        None => {
            format!("the server's certificate is signed by {by}, which rustls does not support")
        }
    }
}

fn not_for(expected: &ServerName<'_>, presented: &[String]) -> String {
    let expected = expected.to_str();
    if presented.is_empty() {
        return format!(
            "the server's certificate is not valid for `{expected}`: it has no names \
             (`subjectAltName`)"
        );
    }
    let names = presented.iter().take(NAMES).map(|name| bare(name));
    let mut names: Vec<_> = names.map(|name| format!("`{name}`")).collect();
    match presented.len().saturating_sub(NAMES) {
        0 => {}
        more => names.push(format!("{more} more")),
    }
    let names = names.join(", ");
    let names = sanitize_peer_text(&names);
    format!("the server's certificate is not valid for `{expected}`, but for {names}")
}

/// A name as it is, of `DnsName("…")` or `IpAddress(…)`.
fn bare(name: &str) -> &str {
    let inner = name
        .split_once('(')
        .and_then(|(_, rest)| rest.strip_suffix(')'));
    inner.map_or(name, |inner| inner.trim_matches('"'))
}

fn not_for_servers(presented: &[ExtendedKeyPurpose]) -> String {
    let purposes = presented.iter().map(|purpose| match purpose {
        ExtendedKeyPurpose::ClientAuth => "client authentication".to_owned(),
        ExtendedKeyPurpose::ServerAuth => "server authentication".to_owned(),
        ExtendedKeyPurpose::Other(oid) => {
            let parts: Vec<_> = oid.iter().map(usize::to_string).collect();
            parts.join(".")
        }
    });
    let purposes: Vec<_> = purposes.take(NAMES).collect();
    let purposes = match purposes.is_empty() {
        true => "empty".to_owned(),
        false => purposes.join(", "),
    };
    format!("the server's certificate is not for servers: its extended key usage is {purposes}")
}

/// What rustls does not translate into an error of its own. What webpki has learned to tell
/// since its version 0.103.10 is told by its name.
fn describe_webpki(why: &Webpki) -> String {
    let text = match why {
        Webpki::BadDer | Webpki::BadDerTime | Webpki::TrailingData(_) => {
            "the server's certificate is not well-formed X.509"
        }
        Webpki::CaUsedAsEndEntity => {
            "the server's certificate is a CA certificate (CA:TRUE); it is accepted only if it is \
             a trust root itself"
        }
        Webpki::EmptyEkuExtension => "the extended key usage of the server's certificate is empty",
        Webpki::EndEntityUsedAsCa => {
            "the server's certificate is signed by a certificate that is not a CA (CA:FALSE)"
        }
        Webpki::ExtensionValueInvalid | Webpki::MalformedExtensions => {
            "an extension of the server's certificate is malformed"
        }
        Webpki::InvalidCertValidity => "the server's certificate ends before it begins",
        Webpki::InvalidNetworkMaskConstraint | Webpki::MalformedNameConstraint => {
            "the name constraints of an authority of the server are malformed"
        }
        Webpki::InvalidSerialNumber => "the serial number of the server's certificate is malformed",
        Webpki::MalformedDnsIdentifier => "a DNS name in the server's certificate is malformed",
        Webpki::MaximumNameConstraintComparisonsExceeded
        | Webpki::MaximumPathBuildCallsExceeded
        | Webpki::MaximumPathDepthExceeded
        | Webpki::MaximumSignatureChecksExceeded => {
            "the server's certificates are too many, or too complex, to be verified"
        }
        Webpki::NameConstraintViolation => {
            "the authority of the server's certificate may not sign its names"
        }
        Webpki::PathLenConstraintViolated => {
            "the chain of the server's certificate is longer than its authority allows"
        }
        Webpki::SignatureAlgorithmMismatch => {
            "the server's certificate names 2 algorithms for 1 signature"
        }
        Webpki::UnsupportedCertVersion => {
            "the server's certificate is of X.509 version 1 or 2, which has no field for names; \
             issue one of version 3"
        }
        Webpki::UnsupportedCriticalExtension => {
            "the server's certificate has a critical extension that rustls does not know"
        }
        Webpki::UnsupportedNameType => {
            "the server's certificate has names of a kind that rustls does not know"
        }
        Webpki::UnknownIssuer => "the server's certificate is signed by an unknown authority",
        Webpki::CertRevoked => "the server's certificate is revoked",
        Webpki::UnknownRevocationStatus => {
            "no revocation list tells whether the server's certificate is revoked"
        }
        Webpki::InvalidCrlNumber
        | Webpki::InvalidCrlSignatureForPublicKey
        | Webpki::IssuerNotCrlSigner
        | Webpki::UnsupportedCrlIssuingDistributionPoint
        | Webpki::UnsupportedCrlVersion
        | Webpki::UnsupportedDeltaCrl
        | Webpki::UnsupportedIndirectCrl
        | Webpki::UnsupportedRevocationReason
        | Webpki::UnsupportedRevocationReasonsPartitioning => {
            "a revocation list for the server's certificate cannot be used"
        }
        other => return of_certificate(&spaced(other, ' ')),
    };
    text.to_owned()
}

/// What is wrong with a revocation list, which only a verifier of the application's has.
pub(super) fn describe_crl(why: &CertRevocationListError) -> String {
    use CertRevocationListError as Why;
    let text = match why {
        Why::BadSignature => "its signature is wrong",
        #[allow(deprecated, reason = "older versions of rustls say it")]
        Why::UnsupportedSignatureAlgorithm => "its signature algorithm is unknown",
        Why::UnsupportedSignatureAlgorithmContext {
            signature_algorithm_id: signature,
            ..
        } => return crl(&format!("it is signed by {}", algorithm(signature))),
        Why::UnsupportedSignatureAlgorithmForPublicKeyContext {
            signature_algorithm_id: signature,
            public_key_algorithm_id: key,
        } => {
            let (by, key) = (algorithm(signature), algorithm(key));
            return crl(&format!("it is signed by {by} with a key of {key}"));
        }
        Why::InvalidCrlNumber => "its number is malformed",
        Why::InvalidRevokedCertSerialNumber => "the serial number of a certificate is malformed",
        Why::IssuerInvalidForCrl => "its issuer may not sign revocation lists",
        Why::ParseError => "it is malformed",
        Why::UnsupportedCrlVersion => "it is not of version 2",
        Why::UnsupportedCriticalExtension => {
            "it has a critical extension that rustls does not know"
        }
        Why::UnsupportedDeltaCrl => "it lists changes only",
        Why::UnsupportedIndirectCrl => "it lists certificates of other issuers",
        Why::UnsupportedRevocationReason => "it gives an unknown reason for a revocation",
        Why::Other(_) => "rustls cannot use it",
        _ => "rustls cannot use it",
    };
    crl(text)
}

fn crl(why: &str) -> String {
    format!("a revocation list cannot be used: {why}")
}
