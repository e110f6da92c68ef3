//! The result of a TLS handshake in the words of gRFC A118.

use std::io;

use tokio_rustls::rustls::{AlertDescription, CertificateError, Error, PeerIncompatible};

/// The result of a handshake that ended with this error.
pub(in crate::transport) fn handshake_result(error: &io::Error) -> &'static str {
    let reason = error.get_ref().and_then(|error| error.downcast_ref());
    match (reason, error.kind()) {
        (Some(reason), _) => of_rustls(reason),
        (
            None,
            io::ErrorKind::UnexpectedEof
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::ConnectionAborted
            | io::ErrorKind::BrokenPipe,
        ) => "PEER_CONNECTION_CLOSED",
        (None, io::ErrorKind::TimedOut) => "HANDSHAKE_TIMEOUT",
        (None, _) => "UNKNOWN_FAILURE",
    }
}

fn of_rustls(error: &Error) -> &'static str {
    match error {
        Error::InvalidCertificate(why) => of_certificate(why),
        Error::AlertReceived(alert) => of_alert(*alert),
        Error::PeerIncompatible(why) => of_incompatibility(why),
        Error::NoCertificatesPresented | Error::InvalidCertRevocationList(_) => {
            "CERTIFICATE_VERIFICATION_FAILED"
        }
        Error::NoApplicationProtocol => "NO_APPLICATION_PROTOCOL",
        Error::DecryptError => "DECRYPTION_FAILED",
        Error::InappropriateMessage { .. }
        | Error::InappropriateHandshakeMessage { .. }
        | Error::InvalidMessage(_)
        | Error::PeerMisbehaved(_) => "UNEXPECTED_MESSAGE",
        _ => "UNKNOWN_FAILURE",
    }
}

fn of_certificate(why: &CertificateError) -> &'static str {
    use CertificateError as Why;
    match why {
        Why::BadEncoding => "CERTIFICATE_MALFORMED",
        Why::Expired | Why::ExpiredContext { .. } => "CERTIFICATE_EXPIRED",
        Why::NotValidYet | Why::NotValidYetContext { .. } => "CERTIFICATE_NOT_YET_VALID",
        Why::Revoked => "CERTIFICATE_REVOKED",
        Why::UnknownIssuer => "CERTIFICATE_AUTHORITY_INVALID",
        Why::NotValidForName | Why::NotValidForNameContext { .. } => {
            "CERTIFICATE_HOSTNAME_MISMATCH"
        }
        Why::BadSignature => "SIGNATURE_VERIFICATION_FAILED",
        _ => "CERTIFICATE_VERIFICATION_FAILED",
    }
}

/// The peer refuses what this side has sent.
fn of_alert(alert: AlertDescription) -> &'static str {
    use AlertDescription as Alert;
    match alert {
        Alert::BadCertificate | Alert::UnsupportedCertificate | Alert::CertificateUnknown => {
            "CERTIFICATE_VERIFICATION_FAILED"
        }
        Alert::CertificateRevoked => "CERTIFICATE_REVOKED",
        Alert::CertificateExpired => "CERTIFICATE_EXPIRED",
        Alert::UnknownCA => "CERTIFICATE_AUTHORITY_INVALID",
        Alert::HandshakeFailure => "CIPHER_SUITE_MISMATCH",
        Alert::ProtocolVersion => "PROTOCOL_VERSION_UNSUPPORTED",
        Alert::InappropriateFallback => "INAPPROPRIATE_FALLBACK",
        Alert::NoApplicationProtocol => "NO_APPLICATION_PROTOCOL",
        Alert::DecryptError => "SIGNATURE_VERIFICATION_FAILED",
        Alert::BadRecordMac | Alert::DecryptionFailed => "DECRYPTION_FAILED",
        Alert::UnexpectedMessage => "UNEXPECTED_MESSAGE",
        Alert::CloseNotify => "PEER_CONNECTION_CLOSED",
        _ => "UNKNOWN_FAILURE",
    }
}

fn of_incompatibility(why: &PeerIncompatible) -> &'static str {
    use PeerIncompatible as Why;
    match why {
        Why::NoCipherSuitesInCommon => "CIPHER_SUITE_MISMATCH",
        Why::ServerDoesNotSupportTls12Or13
        | Why::ServerTlsVersionIsDisabledByOurConfig
        | Why::SupportedVersionsExtensionRequired
        | Why::Tls12NotOffered
        | Why::Tls12NotOfferedOrEnabled => "PROTOCOL_VERSION_UNSUPPORTED",
        Why::NoKxGroupsInCommon
        | Why::KeyShareExtensionRequired
        | Why::NamedGroupsExtensionRequired => "KEY_EXCHANGE_FAILURE",
        _ => "UNKNOWN_FAILURE",
    }
}

#[cfg(test)]
mod tests {
    use std::io;

    use tokio_rustls::rustls::{AlertDescription, CertificateError, Error, PeerIncompatible};

    use super::handshake_result;

    // M21
    #[test]
    fn each_error_has_a_result() {
        let of =
            |error: Error| handshake_result(&io::Error::new(io::ErrorKind::InvalidData, error));
        for (error, result) in [
            (CertificateError::Expired, "CERTIFICATE_EXPIRED"),
            (
                CertificateError::UnknownIssuer,
                "CERTIFICATE_AUTHORITY_INVALID",
            ),
            (
                CertificateError::NotValidForName,
                "CERTIFICATE_HOSTNAME_MISMATCH",
            ),
            (
                CertificateError::InvalidPurpose,
                "CERTIFICATE_VERIFICATION_FAILED",
            ),
        ] {
            assert_eq!(of(Error::InvalidCertificate(error)), result);
        }
        let alert = Error::AlertReceived(AlertDescription::ProtocolVersion);
        assert_eq!(of(alert), "PROTOCOL_VERSION_UNSUPPORTED");
        let suites = Error::PeerIncompatible(PeerIncompatible::NoCipherSuitesInCommon);
        assert_eq!(of(suites), "CIPHER_SUITE_MISMATCH");
        assert_eq!(of(Error::General("odd".into())), "UNKNOWN_FAILURE");
        let closed = io::Error::from(io::ErrorKind::UnexpectedEof);
        assert_eq!(handshake_result(&closed), "PEER_CONNECTION_CLOSED");
    }
}
