//! No name of a type of rustls or webpki reaches a user.

use std::{fmt::Debug, sync::Arc, time::Duration};

use tokio_rustls::rustls::{
    AlertDescription, CertRevocationListError, CertificateError, ContentType,
    EncryptedClientHelloError, Error, ExtendedKeyPurpose, HandshakeType, InconsistentKeys,
    InvalidMessage, OtherError, PeerIncompatible, PeerMisbehaved,
    pki_types::{ServerName, UnixTime},
};
use webpki::Error as Webpki;

use super::{error::describe_tls, names::moment, offered::Offered};

/// 2001-09-09 01:46:40 UTC.
const BILLION: UnixTime = UnixTime::since_unix_epoch(Duration::from_secs(1_000_000_000));
const LATER: UnixTime = UnixTime::since_unix_epoch(Duration::from_secs(2_000_000_000));

const BARE: Offered = Offered {
    certificate: false,
    p521: false,
};
const FULL: Offered = Offered {
    certificate: true,
    p521: true,
};

const ECDSA_WITH_SHA512: [u8; 10] = [0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x03, 0x04];
const RSA_WITH_SHA1: [u8; 13] = [
    0x06, 0x09, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x05, 0x05, 0x00,
];
const KEY_OF_P521: [u8; 16] = [
    0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x05, 0x2b, 0x81, 0x04, 0x00, 0x23,
];

#[track_caller]
fn is_told(error: Error, offered: Offered, expected: &str) {
    assert_eq!(describe_tls(&error, offered), expected, "{error:?}");
}

#[track_caller]
fn is_told_bare(error: impl Into<Error>, expected: &str) {
    is_told(error.into(), BARE, expected);
}

fn of_webpki(error: Webpki) -> Error {
    CertificateError::Other(OtherError(Arc::new(error))).into()
}

/// A sentence of words: no name in the letters of a type, and not the name of the variant.
#[track_caller]
fn is_in_words(error: &Error, name: &dyn Debug) {
    const TERMS: [&str; 3] = ["subjectAltName", "CryptoProvider", "KiB"];
    for offered in [BARE, FULL] {
        let text = describe_tls(error, offered);
        let variant = format!("{name:?}");
        let variant = variant.split(['(', ' ', '{']).next().unwrap_or_default();
        assert!(!text.contains(variant), "{error:?}: {text}");
        for word in text.split(|c: char| !c.is_ascii_alphanumeric()) {
            let letters: Vec<_> = word.chars().collect();
            let joined = letters
                .windows(2)
                .any(|pair| pair[0].is_ascii_lowercase() && pair[1].is_ascii_uppercase());
            assert!(!joined || TERMS.contains(&word), "{error:?}: {text}");
        }
        assert!(text.split(' ').count() > 2, "{error:?}: {text}");
    }
}

// D303
#[test]
fn what_is_wrong_with_a_certificate() {
    use CertificateError as Why;
    is_told_bare(
        Why::ExpiredContext {
            time: LATER,
            not_after: BILLION,
        },
        "the server's certificate expired on 2001-09-09 01:46:40 UTC",
    );
    is_told_bare(
        Why::NotValidYetContext {
            time: BILLION,
            not_before: LATER,
        },
        "the server's certificate is not valid yet: it begins on 2033-05-18 03:33:20 UTC; the \
         clock of this host may be wrong",
    );
    let name = ServerName::try_from("a.example").expect("a name");
    let not_for = |presented: &[&str]| Why::NotValidForNameContext {
        expected: name.clone(),
        presented: presented.iter().map(ToString::to_string).collect(),
    };
    is_told_bare(
        not_for(&["DnsName(\"b.example\")", "IpAddress(::1)"]),
        "the server's certificate is not valid for `a.example`, but for `b.example`, `::1`",
    );
    is_told_bare(
        not_for(&[]),
        "the server's certificate is not valid for `a.example`: it has no names (`subjectAltName`)",
    );
    is_told_bare(
        not_for(&["DnsName(\"x\")"; 10]),
        "the server's certificate is not valid for `a.example`, but for `x`, `x`, `x`, `x`, `x`, \
         `x`, `x`, `x`, 2 more",
    );
    is_told_bare(
        Why::InvalidPurposeContext {
            required: ExtendedKeyPurpose::ServerAuth,
            presented: vec![
                ExtendedKeyPurpose::ClientAuth,
                ExtendedKeyPurpose::Other(vec![1, 2]),
            ],
        },
        "the server's certificate is not for servers: its extended key usage is client \
         authentication, 1.2",
    );
    let own = Why::Other(OtherError(Arc::new(std::fmt::Error)));
    let own_text = format!("the server's certificate: {}", std::fmt::Error);
    is_told_bare(own, &own_text);
    is_told_bare(
        of_webpki(Webpki::CaUsedAsEndEntity),
        "the server's certificate is a CA certificate (CA:TRUE); it is accepted only if it is a \
         trust root itself",
    );
}

// D298
#[test]
fn a_signature_that_needs_p521_names_the_feature() {
    use CertificateError as Why;
    let unsupported = |signature: &[u8]| Why::UnsupportedSignatureAlgorithmContext {
        signature_algorithm_id: signature.to_vec(),
        supported_algorithms: Vec::new(),
    };
    is_told_bare(
        unsupported(&ECDSA_WITH_SHA512),
        "the server's certificate is signed by ECDSA with SHA-512, perhaps with a P-521 key: P-521 \
         needs the feature `tls-aws-lc` without `tls-ring`, or aws-lc-rs as the `CryptoProvider` \
         of the process",
    );
    is_told_bare(
        unsupported(&RSA_WITH_SHA1),
        "the server's certificate is signed by RSA with SHA-1, which rustls does not support",
    );
    let of_key = Why::UnsupportedSignatureAlgorithmForPublicKeyContext {
        signature_algorithm_id: RSA_WITH_SHA1.to_vec(),
        public_key_algorithm_id: KEY_OF_P521.to_vec(),
    };
    let text = describe_tls(&of_key.clone().into(), BARE);
    assert!(text.contains("`tls-aws-lc`"), "{text}");
    is_told(
        of_key.into(),
        FULL,
        "a signature by RSA with SHA-1 does not match its key, which is of P-521",
    );
    let failure = Error::AlertReceived(AlertDescription::HandshakeFailure);
    let text = describe_tls(&failure, BARE);
    assert!(text.contains("`tls-aws-lc`"), "{text}");
    let text = describe_tls(&failure, FULL);
    assert!(!text.contains("P-521"), "{text}");
}

// D303
#[test]
fn alerts_about_the_clients_certificate_depend_on_whether_it_has_one() {
    let unknown = || Error::AlertReceived(AlertDescription::UnknownCA);
    is_told(
        unknown(),
        FULL,
        "the server does not accept the client's certificate: the server does not know its issuer \
         (alert unknown_ca)",
    );
    is_told(
        unknown(),
        BARE,
        "the server does not accept a client without a certificate; `identity` sets one (alert \
         unknown_ca)",
    );
}

// D304
#[test]
fn a_clock_before_1970_is_told_as_such() {
    is_told_bare(
        Error::FailedToGetCurrentTime,
        "the clock of this host is before 1970, so no certificate is valid yet; set the clock",
    );
}

#[test]
fn a_moment_that_no_calendar_has_is_told_as_late() {
    let never = UnixTime::since_unix_epoch(Duration::from_secs(u64::MAX));
    assert_eq!(moment(never), "a day after the year 9999");
    let epoch = UnixTime::since_unix_epoch(Duration::ZERO);
    assert_eq!(moment(epoch), "1970-01-01 00:00:00 UTC");
}

// D303
#[test]
fn every_alert_is_in_words() {
    for number in 0..=u8::MAX {
        let alert = AlertDescription::from(number);
        is_in_words(&Error::AlertReceived(alert), &alert);
    }
}

// D303
#[test]
fn every_certificate_error_is_in_words() {
    use CertificateError as Why;
    #[allow(deprecated, reason = "older versions of rustls say it")]
    let all = [
        Why::BadEncoding,
        Why::Expired,
        Why::NotValidYet,
        Why::Revoked,
        Why::UnhandledCriticalExtension,
        Why::UnknownIssuer,
        Why::UnknownRevocationStatus,
        Why::ExpiredRevocationList,
        Why::ExpiredRevocationListContext {
            time: LATER,
            next_update: BILLION,
        },
        Why::BadSignature,
        Why::UnsupportedSignatureAlgorithm,
        Why::NotValidForName,
        Why::InvalidPurpose,
        Why::InvalidOcspResponse,
        Why::ApplicationVerificationFailure,
    ];
    for why in all {
        is_in_words(&why.clone().into(), &why);
    }
}

// D303
#[test]
fn every_error_of_webpki_is_in_words() {
    let all = [
        Webpki::BadDer,
        Webpki::BadDerTime,
        Webpki::CaUsedAsEndEntity,
        Webpki::CertDistrusted,
        Webpki::CertRevoked,
        Webpki::EmptyEkuExtension,
        Webpki::EndEntityUsedAsCa,
        Webpki::ExtensionValueInvalid,
        Webpki::InvalidCertValidity,
        Webpki::InvalidCrlNumber,
        Webpki::InvalidNetworkMaskConstraint,
        Webpki::InvalidSerialNumber,
        Webpki::InvalidCrlSignatureForPublicKey,
        Webpki::InvalidSignatureForPublicKey,
        Webpki::IssuerNotCrlSigner,
        Webpki::MalformedDnsIdentifier,
        Webpki::MalformedExtensions,
        Webpki::MalformedNameConstraint,
        Webpki::MaximumNameConstraintComparisonsExceeded,
        Webpki::MaximumPathBuildCallsExceeded,
        Webpki::MaximumPathDepthExceeded,
        Webpki::MaximumSignatureChecksExceeded,
        Webpki::NameConstraintViolation,
        Webpki::PathLenConstraintViolated,
        Webpki::SignatureAlgorithmMismatch,
        Webpki::UnknownIssuer,
        Webpki::UnknownRevocationStatus,
        Webpki::UnsupportedCertVersion,
        Webpki::UnsupportedCriticalExtension,
        Webpki::UnsupportedCrlIssuingDistributionPoint,
        Webpki::UnsupportedCrlVersion,
        Webpki::UnsupportedDeltaCrl,
        Webpki::UnsupportedIndirectCrl,
        Webpki::UnsupportedNameType,
        Webpki::UnsupportedRevocationReason,
        Webpki::UnsupportedRevocationReasonsPartitioning,
    ];
    for why in all {
        is_in_words(&of_webpki(why.clone()), &why);
    }
}

// D303
#[test]
fn every_malformed_message_is_in_words() {
    use InvalidMessage as Why;
    for why in [
        Why::CertificatePayloadTooLarge,
        Why::HandshakePayloadTooLarge,
        Why::InvalidCcs,
        Why::InvalidContentType,
        Why::InvalidCertificateStatusType,
        Why::InvalidCertRequest,
        Why::InvalidDhParams,
        Why::InvalidEmptyPayload,
        Why::InvalidKeyUpdate,
        Why::InvalidServerName,
        Why::MessageTooLarge,
        Why::MessageTooShort,
        Why::MissingKeyExchange,
        Why::NoSignatureSchemes,
        Why::UnknownProtocolVersion,
        Why::UnsupportedCompression,
        Why::UnsupportedCurveType,
        Why::EmptyTicketValue,
        Why::IllegalEmptyList("groups"),
        Why::IllegalEmptyValue,
        Why::MissingData("groups"),
        Why::TrailingData("groups"),
        Why::UnexpectedMessage("groups"),
        Why::DuplicateExtension(7),
        Why::PreSharedKeyIsNotFinalExtension,
        Why::UnknownHelloRetryRequestExtension,
        Why::UnknownCertificateExtension,
    ] {
        is_in_words(&why.into(), &why);
    }
}

// D303
#[test]
fn every_broken_rule_and_every_lack_is_in_words() {
    use PeerIncompatible as Lacks;
    use PeerMisbehaved as Broke;
    for why in [
        Broke::AttemptedDowngradeToTls12WhenTls13IsSupported,
        Broke::BadCertChainExtensions,
        Broke::CipherSuiteDifferedOnRetry,
        Broke::DuplicateClientHelloExtensions,
        Broke::IllegalHelloRetryRequestWithNoChanges,
        Broke::IllegalMiddleboxChangeCipherSpec,
        Broke::InvalidKeyShare,
        Broke::MessageInterleavedWithHandshakeMessage,
        Broke::MissingKeyShare,
        Broke::SelectedUnofferedApplicationProtocol,
        Broke::SelectedUnofferedCipherSuite,
        Broke::SelectedUnofferedKxGroup,
        Broke::SignedHandshakeWithUnadvertisedSigScheme,
        Broke::SignedKxWithWrongAlgorithm,
        Broke::TooManyWarningAlertsReceived,
        Broke::UnsolicitedServerHelloExtension,
        Broke::RefusedToFollowHelloRetryRequest,
    ] {
        is_in_words(&why.clone().into(), &why);
    }
    for why in [
        Lacks::EcPointsExtensionRequired,
        Lacks::ExtendedMasterSecretExtensionRequired,
        Lacks::IncorrectCertificateTypeExtension,
        Lacks::KeyShareExtensionRequired,
        Lacks::NamedGroupsExtensionRequired,
        Lacks::NoCertificateRequestSignatureSchemesInCommon,
        Lacks::NoCipherSuitesInCommon,
        Lacks::NoKxGroupsInCommon,
        Lacks::NoSignatureSchemesInCommon,
        Lacks::NullCompressionRequired,
        Lacks::ServerDoesNotSupportTls12Or13,
        Lacks::ServerTlsVersionIsDisabledByOurConfig,
        Lacks::SupportedVersionsExtensionRequired,
        Lacks::ServerRejectedEncryptedClientHello(None),
    ] {
        is_in_words(&Error::PeerIncompatible(why.clone()), &why);
    }
}

// D303
#[test]
fn every_other_error_is_in_words() {
    use CertRevocationListError as Crl;
    let crls = [
        Crl::BadSignature,
        Crl::InvalidCrlNumber,
        Crl::InvalidRevokedCertSerialNumber,
        Crl::IssuerInvalidForCrl,
        Crl::ParseError,
        Crl::UnsupportedCrlVersion,
        Crl::UnsupportedCriticalExtension,
        Crl::UnsupportedDeltaCrl,
        Crl::UnsupportedIndirectCrl,
        Crl::UnsupportedRevocationReason,
        Crl::Other(OtherError(Arc::new(Webpki::BadDer))),
    ];
    let hellos = [
        EncryptedClientHelloError::InvalidConfigList,
        EncryptedClientHelloError::NoCompatibleConfig,
        EncryptedClientHelloError::SniRequired,
    ];
    let others = [
        Error::InappropriateMessage {
            expect_types: vec![ContentType::Handshake, ContentType::ChangeCipherSpec],
            got_type: ContentType::ApplicationData,
        },
        Error::InappropriateHandshakeMessage {
            expect_types: vec![HandshakeType::ServerHello],
            got_type: HandshakeType::CertificateRequest,
        },
        Error::NoCertificatesPresented,
        Error::UnsupportedNameType,
        Error::DecryptError,
        Error::EncryptError,
        Error::FailedToGetCurrentTime,
        Error::FailedToGetRandomBytes,
        Error::HandshakeNotComplete,
        Error::PeerSentOversizedRecord,
        Error::NoApplicationProtocol,
        Error::BadMaxFragmentSize,
        InconsistentKeys::KeyMismatch.into(),
        InconsistentKeys::Unknown.into(),
    ];
    let crls = crls.map(Error::from).into_iter();
    let all = crls.chain(hellos.map(Error::from)).chain(others);
    for error in all {
        is_in_words(&error, &error);
    }
    is_told_bare(
        Error::InappropriateHandshakeMessage {
            expect_types: vec![HandshakeType::ServerHello],
            got_type: HandshakeType::Unknown(99),
        },
        "the server sent the unknown message 99, where it must send `server hello`",
    );
    is_told_bare(Error::General("my\nown".to_owned()), "my\\nown");
}
