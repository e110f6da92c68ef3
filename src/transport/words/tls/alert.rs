//! What a server says by an alert.

use tokio_rustls::rustls::AlertDescription as Alert;

use super::{
    names::spaced,
    offered::{Offered, P521_NEEDS},
};

/// An alert of the server, with its name in TLS where that says more than the sentence.
pub(super) fn describe_alert(alert: Alert, offered: Offered) -> String {
    let text = match alert {
        Alert::CertificateRequired if offered.certificate => {
            "the server requires a client certificate, and does not accept the kind of this one"
        }
        Alert::CertificateRequired => return "the server requires a client certificate".to_owned(),
        Alert::NoApplicationProtocol => {
            return "the server does not speak HTTP/2 (ALPN `h2`)".to_owned();
        }
        Alert::HandshakeFailure => return no_common_ground(offered),
        Alert::Unknown(number) => return format!("the server sent the unknown alert {number}"),
        Alert::BadCertificate
        | Alert::UnsupportedCertificate
        | Alert::CertificateRevoked
        | Alert::CertificateExpired
        | Alert::CertificateUnknown
        | Alert::UnknownCA
        | Alert::NoCertificate
        | Alert::AccessDenied => {
            return format!("{} ({})", of_clients(alert, offered), name(alert));
        }
        Alert::CloseNotify => "the server closed the connection",
        Alert::UnexpectedMessage => "the server received an unexpected message",
        Alert::BadRecordMac => {
            "the server received a record with a wrong MAC; a host in between may have changed it"
        }
        Alert::DecryptionFailed => "the server could not decrypt a record",
        Alert::RecordOverflow => "the server received a record that is too large",
        Alert::DecompressionFailure => "the server could not decompress a message",
        Alert::IllegalParameter => "the server does not accept a value that the client sent",
        Alert::DecodeError => "the server could not decode a message of the client",
        Alert::DecryptError if offered.certificate => {
            "the server could not verify a signature, perhaps that of the client's key"
        }
        Alert::DecryptError => "the server could not verify a signature or a key",
        Alert::ExportRestriction => "the client exceeds the export limits of the server",
        Alert::ProtocolVersion => "the server speaks neither TLS 1.2 nor TLS 1.3",
        Alert::InsufficientSecurity => {
            "the server requires stronger cipher suites or keys than the client offers"
        }
        Alert::InternalError => "the server had an internal error",
        Alert::InappropriateFallback => "the server treats the client's TLS version as a downgrade",
        Alert::UserCanceled => "the server cancelled the handshake",
        Alert::NoRenegotiation => "the server does not renegotiate",
        Alert::MissingExtension => "the client did not send an extension that the server requires",
        Alert::UnsupportedExtension => "the server received an extension that it did not request",
        Alert::CertificateUnobtainable => "the server could not fetch the client's certificate",
        Alert::UnrecognisedName => {
            "the server does not know the requested name (SNI); `domain_name` sets another"
        }
        Alert::BadCertificateStatusResponse => "the server does not accept an OCSP response",
        Alert::BadCertificateHashValue => {
            "the server fetched a client certificate that does not match its hash"
        }
        Alert::UnknownPSKIdentity => "the server does not know the client's pre-shared key",
        Alert::EncryptedClientHelloRequired => "the server requires an encrypted client hello",
        _ => "the server ended the handshake",
    };
    format!("{text} ({})", name(alert))
}

fn name(alert: Alert) -> String {
    format!("alert {}", spaced(&alert, '_'))
}

/// What a server says of the client's certificate, or of the lack of one.
fn of_clients(alert: Alert, offered: Offered) -> String {
    if alert == Alert::AccessDenied && !offered.certificate {
        return "the server denies access to a client without a certificate".to_owned();
    }
    if !offered.certificate {
        return "the server does not accept a client without a certificate; `identity` sets one"
            .to_owned();
    }
    let why = match alert {
        Alert::BadCertificate => "it is malformed, or its signature is wrong",
        Alert::UnsupportedCertificate => "the server does not accept its kind",
        Alert::CertificateRevoked => "it is revoked",
        Alert::CertificateExpired => "it has expired, or is not valid yet",
        Alert::UnknownCA => "the server does not know its issuer",
        Alert::AccessDenied => "it does not permit access",
        _ => "the server does not say why",
    };
    format!("the server does not accept the client's certificate: {why}")
}

/// The server took nothing of what the client offered. With TLS 1.2 some say so of a client
/// without a certificate, too.
fn no_common_ground(offered: Offered) -> String {
    let mut text = "the server accepts none of the client's TLS versions, cipher suites and \
                    signatures (alert handshake_failure)"
        .to_owned();
    if !offered.certificate {
        text.push_str("; or it requires a client certificate");
    }
    if !offered.p521 {
        text.push_str("; or this client cannot verify its key: ");
        text.push_str(P521_NEEDS);
    }
    text
}
