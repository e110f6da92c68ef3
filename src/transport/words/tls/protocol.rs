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
        Why::InvalidContentType => "its first byte does not denote a TLS record",
        Why::InvalidCertificateStatusType => "its certificate status is of an unknown type",
        Why::InvalidCertRequest => "its request for a certificate has a context",
        Why::InvalidDhParams => "its Diffie-Hellman parameters are malformed",
        Why::InvalidEmptyPayload => "a record is empty",
        Why::InvalidKeyUpdate => "its key update is malformed",
        Why::InvalidServerName => "its server name is malformed",
        Why::MessageTooLarge => "a record is larger than TLS allows",
        Why::MessageTooShort => "a message is shorter than its length field",
        Why::MissingKeyExchange => "it names no groups for the key exchange",
        Why::NoSignatureSchemes => "its list of signature schemes is empty",
        Why::UnknownProtocolVersion => "a record is of an unknown version of TLS",
        Why::UnsupportedCompression => "it uses compression, which TLS no longer allows",
        Why::UnsupportedCurveType => "its elliptic curve is of an unknown kind",
        Why::UnsupportedKeyExchangeAlgorithm(_) => "its key exchange is not ECDHE",
        Why::EmptyTicketValue => "its session ticket is empty",
        Why::IllegalEmptyValue => "a value is empty",
        Why::PreSharedKeyIsNotFinalExtension => "its pre-shared key is not the last extension",
        Why::UnknownHelloRetryRequestExtension => {
            "its hello retry request has an unknown extension"
        }
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
            "it chose TLS 1.2 although both sides speak TLS 1.3; a host in between may have \
             interfered"
        }
        Why::BadCertChainExtensions => "an extension beside a certificate is malformed",
        Why::SelectedDifferentCipherSuiteAfterRetry => {
            "it chose another cipher suite after its hello retry request"
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
            "it answered an encrypted client hello that the client did not send"
        }
        Why::HandshakeHashVariedAfterRetry => "it chose another hash after its hello retry request",
        Why::IllegalHelloRetryRequestWithEmptyCookie
        | Why::IllegalHelloRetryRequestWithNoChanges
        | Why::IllegalHelloRetryRequestWithOfferedGroup
        | Why::IllegalHelloRetryRequestWithUnofferedCipherSuite
        | Why::IllegalHelloRetryRequestWithUnofferedNamedGroup
        | Why::IllegalHelloRetryRequestWithUnsupportedVersion
        | Why::IllegalHelloRetryRequestWithWrongSessionId
        | Why::IllegalHelloRetryRequestWithInvalidEch => {
            "its hello retry request asks for values that the client sent, or cannot send"
        }
        Why::IllegalMiddleboxChangeCipherSpec => "it changed ciphers at the wrong moment",
        Why::IllegalTlsInnerPlaintext => "an encrypted record has no type",
        Why::InvalidCertCompression => "its compressed certificate cannot be decompressed",
        Why::InvalidKeyShare => "its key share is not a valid key",
        Why::KeyEpochWithPendingFragment | Why::MessageInterleavedWithHandshakeMessage => {
            "it sent a message within another message of the handshake"
        }
        Why::MissingKeyShare => "its key share is missing",
        Why::ResumptionAttemptedWithVariedEms
        | Why::ResumptionOfferedWithVariedCipherSuite
        | Why::ResumptionOfferedWithVariedEms
        | Why::ResumptionOfferedWithIncompatibleCipherSuite => {
            "it resumed a session with other parameters"
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
            "it compressed its certificate by an algorithm that the client did not offer"
        }
        Why::SelectedUnofferedCipherSuite => {
            "it chose a cipher suite that the client did not offer"
        }
        Why::SelectedUnofferedCompression => "it chose compression, which the client did not offer",
        Why::SelectedUnofferedKxGroup | Why::WrongGroupForKeyShare => {
            "it chose a group for the key exchange that the client did not offer"
        }
        Why::SelectedUnusableCipherSuiteForVersion => {
            "it chose a cipher suite of another version of TLS"
        }
        Why::ServerEchoedCompatibilitySessionId => {
            "it resumed a session ID that the client made up"
        }
        Why::ServerHelloMustOfferUncompressedEcPoints => "it accepts only compressed curve points",
        Why::SignedKxWithWrongAlgorithm => {
            "it did not sign the key exchange by the algorithm that it chose"
        }
        Why::SignedHandshakeWithUnadvertisedSigScheme => {
            "it signed the handshake by a scheme that the client did not offer"
        }
        Why::TooManyEmptyFragments => "it sent too many empty records",
        Why::TooManyKeyUpdateRequests => "it asked for too many key updates",
        Why::TooManyRenegotiationRequests => "it requested too many renegotiations",
        Why::TooManyWarningAlertsReceived => "it sent too many warnings",
        Why::UnexpectedCleartextExtension => {
            "it sent an extension in plaintext that must be encrypted"
        }
        Why::UnsolicitedCertExtension
        | Why::UnsolicitedEncryptedExtension
        | Why::UnsolicitedSctList
        | Why::UnsolicitedServerHelloExtension => {
            "it sent an extension that the client did not request"
        }
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
            "the server sends or requires a raw public key, but the client uses certificates"
        }
        Why::KeyShareExtensionRequired => "the server lacks a key share",
        Why::NamedGroupsExtensionRequired => "the server lacks the groups of the key exchange",
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
        Why::NullCompressionRequired => {
            "the server requires compression, which TLS no longer allows"
        }
        Why::ServerDoesNotSupportTls12Or13 => "the server speaks neither TLS 1.2 nor TLS 1.3",
        Why::ServerSentHelloRetryRequestWithUnknownExtension => {
            "the hello retry request of the server has an unknown extension"
        }
        Why::ServerTlsVersionIsDisabledByOurConfig => {
            "the server chose a version of TLS that this client does not speak"
        }
        Why::SignatureAlgorithmsExtensionRequired => "the server lacks the signature algorithms",
        Why::SupportedVersionsExtensionRequired
        | Why::Tls12NotOffered
        | Why::Tls12NotOfferedOrEnabled
        | Why::Tls13RequiredForQuic => "the server and the client have no version of TLS in common",
        Why::ServerRejectedEncryptedClientHello(_) => {
            "the server does not accept encrypted client hellos"
        }
        other => return format!("the server is not compatible: {}", spaced(other, ' ')),
    };
    text.to_owned()
}
