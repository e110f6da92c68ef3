//! A server that breaks the rules of TLS, or with which a client has too little in common.

use tokio_rustls::rustls::{InvalidMessage, PeerIncompatible, PeerMisbehaved};

use super::names::spaced;

/// A message that cannot be read.
pub(super) fn describe_message(why: &InvalidMessage) -> String {
    use InvalidMessage as Why;
    let text = match why {
        Why::CertificatePayloadTooLarge => "its certificates are larger than 64 KiB",
        Why::HandshakePayloadTooLarge => "a message of the handshake is larger than 64 KiB",
        Why::InvalidCcs => "its change of ciphers is malformed",
        Why::InvalidContentType => "its first byte is of no kind of TLS record",
        Why::InvalidCertificateStatusType => "its certificate status is of an unknown type",
        Why::InvalidCertRequest => "its request for a certificate has a context",
        Why::InvalidDhParams => "its Diffie-Hellman parameters are malformed",
        Why::InvalidEmptyPayload => "a record is empty that must not be",
        Why::InvalidKeyUpdate => "its key update is malformed",
        Why::InvalidServerName => "its server name is malformed",
        Why::MessageTooLarge => "a record is larger than TLS allows",
        Why::MessageTooShort => "a message is shorter than it says",
        Why::MissingKeyExchange => "it names no groups for the key exchange",
        Why::NoSignatureSchemes => "its list of signature schemes is empty",
        Why::UnknownProtocolVersion => "a record is of an unknown version of TLS",
        Why::UnsupportedCompression => "it compresses, which TLS no longer does",
        Why::UnsupportedCurveType => "its elliptic curve is of an unknown kind",
        Why::UnsupportedKeyExchangeAlgorithm(_) => "its key exchange is not ECDHE",
        Why::EmptyTicketValue => "its session ticket is empty",
        Why::IllegalEmptyValue => "a value is empty that must not be",
        Why::PreSharedKeyIsNotFinalExtension => "its pre-shared key is not the last extension",
        Why::UnknownHelloRetryRequestExtension => "it asks again with an unknown extension",
        Why::UnknownCertificateExtension => "its certificate comes with an unknown extension",
        Why::MissingData(of) => return malformed(&format!("`{of}` is cut short")),
        Why::TrailingData(of) => return malformed(&format!("`{of}` is longer than it should be")),
        Why::UnexpectedMessage(of) => return malformed(&format!("`{of}` is unexpected")),
        Why::IllegalEmptyList(of) => return malformed(&format!("the list `{of}` is empty")),
        Why::DuplicateExtension(number) => {
            return malformed(&format!("the extension {number} comes twice"));
        }
        other => return malformed(&spaced(other, ' ')),
    };
    malformed(text)
}

fn malformed(why: &str) -> String {
    format!("the server sent a malformed message: {why}")
}

/// What a server may not do. What only a server could hear of clients is told by its name, and
/// so is what rustls has learned to tell since its version 0.23.31.
pub(super) fn describe_misbehaviour(why: &PeerMisbehaved) -> String {
    use PeerMisbehaved as Why;
    let text = match why {
        Why::AttemptedDowngradeToTls12WhenTls13IsSupported => {
            "it chose TLS 1.2 though both sides speak TLS 1.3; a host between may have interfered"
        }
        Why::BadCertChainExtensions => "an extension beside a certificate is malformed",
        Why::SelectedDifferentCipherSuiteAfterRetry => {
            "it chose another cipher suite after it asked again"
        }
        Why::DisallowedEncryptedExtension => "it encrypted an extension that belongs elsewhere",
        Why::DuplicateEncryptedExtensions
        | Why::DuplicateHelloRetryRequestExtensions
        | Why::DuplicateNewSessionTicketExtensions
        | Why::DuplicateServerHelloExtensions => "it sent an extension twice",
        Why::EarlyDataExtensionWithoutResumption
        | Why::EarlyDataOfferedWithVariedCipherSuite
        | Why::InvalidMaxEarlyDataSize
        | Why::RejectedEarlyDataInterleavedWithHandshakeMessage
        | Why::TooMuchEarlyDataReceived => "it broke the rules of early data",
        Why::UnsolicitedEchExtension => {
            "it answered an encrypted client hello, which there was not"
        }
        Why::HandshakeHashVariedAfterRetry => "it took another hash after it asked again",
        Why::IllegalHelloRetryRequestWithEmptyCookie
        | Why::IllegalHelloRetryRequestWithNoChanges
        | Why::IllegalHelloRetryRequestWithOfferedGroup
        | Why::IllegalHelloRetryRequestWithUnofferedCipherSuite
        | Why::IllegalHelloRetryRequestWithUnofferedNamedGroup
        | Why::IllegalHelloRetryRequestWithUnsupportedVersion
        | Why::IllegalHelloRetryRequestWithWrongSessionId
        | Why::IllegalHelloRetryRequestWithInvalidEch => {
            "it asked again for what the client had said, or cannot say"
        }
        Why::IllegalMiddleboxChangeCipherSpec => "it changed ciphers at the wrong moment",
        Why::IllegalTlsInnerPlaintext => "what it encrypted has no kind of record",
        Why::InvalidCertCompression => "its compressed certificate cannot be decompressed",
        Why::InvalidKeyShare => "its part of the key exchange is not a key",
        Why::KeyEpochWithPendingFragment | Why::MessageInterleavedWithHandshakeMessage => {
            "it cut a message of the handshake in two by another"
        }
        Why::MissingKeyShare => "its part of the key exchange is missing",
        Why::ResumptionAttemptedWithVariedEms
        | Why::ResumptionOfferedWithVariedCipherSuite
        | Why::ResumptionOfferedWithVariedEms
        | Why::ResumptionOfferedWithIncompatibleCipherSuite => {
            "it resumed a session by other means than it began with"
        }
        Why::SelectedInvalidPsk | Why::SelectedUnofferedPsk => {
            "it chose a pre-shared key that the client did not offer"
        }
        Why::SelectedTls12UsingTls13VersionExtension => {
            "it chose TLS 1.2 in the extension of TLS 1.3"
        }
        Why::SelectedUnofferedApplicationProtocol => {
            "it chose a protocol that the client did not offer (ALPN)"
        }
        Why::SelectedUnofferedCertCompression => {
            "it compressed its certificate in a way that the client did not offer"
        }
        Why::SelectedUnofferedCipherSuite => {
            "it chose a cipher suite that the client did not offer"
        }
        Why::SelectedUnofferedCompression => "it chose to compress, which the client did not offer",
        Why::SelectedUnofferedKxGroup | Why::WrongGroupForKeyShare => {
            "it chose a group for the key exchange that the client did not offer"
        }
        Why::SelectedUnusableCipherSuiteForVersion => {
            "it chose a cipher suite of another version of TLS"
        }
        Why::ServerEchoedCompatibilitySessionId => "it repeated a session that is made up",
        Why::ServerHelloMustOfferUncompressedEcPoints => "it takes compressed curve points alone",
        Why::SignedKxWithWrongAlgorithm => {
            "it signed the key exchange by another algorithm than it chose"
        }
        Why::SignedHandshakeWithUnadvertisedSigScheme => {
            "it signed the handshake in a way that the client did not offer"
        }
        Why::TooManyEmptyFragments => "it sent too many empty records",
        Why::TooManyKeyUpdateRequests => "it asked for too many key updates",
        Why::TooManyRenegotiationRequests => "it asked to negotiate again too often",
        Why::TooManyWarningAlertsReceived => "it sent too many warnings",
        Why::UnexpectedCleartextExtension => "it sent in the clear what has to be encrypted",
        Why::UnsolicitedCertExtension
        | Why::UnsolicitedEncryptedExtension
        | Why::UnsolicitedSctList
        | Why::UnsolicitedServerHelloExtension => "it sent an extension without being asked",
        other => return broke(&spaced(other, ' ')),
    };
    broke(text)
}

fn broke(why: &str) -> String {
    format!("the server broke the rules of TLS: {why}")
}

/// What both sides lack in common.
pub(super) fn describe_incompatibility(why: &PeerIncompatible) -> String {
    use PeerIncompatible as Why;
    let text = match why {
        Why::ExtendedMasterSecretExtensionRequired => {
            "the server lacks extended master secrets (RFC 7627), which this client requires"
        }
        Why::IncorrectCertificateTypeExtension | Why::UnsolicitedCertificateTypeExtension => {
            "the server shows a bare key, or wants one, where the client has certificates"
        }
        Why::KeyShareExtensionRequired => "the server misses a key share",
        Why::NamedGroupsExtensionRequired => "the server misses the groups of the key exchange",
        Why::NoCertificateRequestSignatureSchemesInCommon | Why::NoSignatureSchemesInCommon => {
            "the server and the client have no signature scheme in common"
        }
        Why::NoCipherSuitesInCommon => "the server and the client have no cipher suite in common",
        Why::EcPointsExtensionRequired
        | Why::NoEcPointFormatsInCommon
        | Why::UncompressedEcPointsRequired => {
            "the server and the client have no format of curve points in common"
        }
        Why::NoKxGroupsInCommon => {
            "the server and the client have no group for the key exchange in common"
        }
        Why::NullCompressionRequired => "the server wants to compress, which TLS no longer does",
        Why::ServerDoesNotSupportTls12Or13 => "the server speaks neither TLS 1.2 nor TLS 1.3",
        Why::ServerSentHelloRetryRequestWithUnknownExtension => {
            "the server asks again with an unknown extension"
        }
        Why::ServerTlsVersionIsDisabledByOurConfig => {
            "the server chose a version of TLS that this client does not speak"
        }
        Why::SignatureAlgorithmsExtensionRequired => "the server misses the signature algorithms",
        Why::SupportedVersionsExtensionRequired
        | Why::Tls12NotOffered
        | Why::Tls12NotOfferedOrEnabled
        | Why::Tls13RequiredForQuic => "the server and the client have no version of TLS in common",
        Why::ServerRejectedEncryptedClientHello(_) => {
            "the server does not take encrypted client hellos"
        }
        other => return format!("the server is not compatible: {}", spaced(other, ' ')),
    };
    text.to_owned()
}
