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
            "the server asks for a client certificate, and the client's is not of a kind that it \
             takes"
        }
        Alert::CertificateRequired => return "the server asks for a client certificate".to_owned(),
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
        Alert::UnexpectedMessage => "the server got a message that it did not expect",
        Alert::BadRecordMac => {
            "the server got bytes that the client cannot have sent; a host between may have \
             changed them"
        }
        Alert::DecryptionFailed => "the server could not decrypt what it got",
        Alert::RecordOverflow => "the server got a record that is too large for it",
        Alert::DecompressionFailure => "the server could not decompress what it got",
        Alert::IllegalParameter => "the server does not take a value that the client sent",
        Alert::DecodeError => "the server could not read a message of the client",
        Alert::DecryptError if offered.certificate => {
            "the server found a signature wrong, perhaps that of the client's key"
        }
        Alert::DecryptError => "the server found a signature or a key wrong",
        Alert::ExportRestriction => "the server keeps to limits of export that the client breaks",
        Alert::ProtocolVersion => "the server speaks neither TLS 1.2 nor TLS 1.3",
        Alert::InsufficientSecurity => {
            "the server wants stronger cipher suites or keys than the client offers"
        }
        Alert::InternalError => "the server had an internal error",
        Alert::InappropriateFallback => "the server takes the client's TLS version for a downgrade",
        Alert::UserCanceled => "the server cancelled the handshake",
        Alert::NoRenegotiation => "the server does not negotiate again",
        Alert::MissingExtension => "the server misses an extension in what the client sent",
        Alert::UnsupportedExtension => "the server got an extension that it did not ask for",
        Alert::CertificateUnobtainable => "the server could not fetch the client's certificate",
        Alert::UnrecognisedName => {
            "the server does not know the name that it is asked for (SNI); `domain_name` sets \
             another"
        }
        Alert::BadCertificateStatusResponse => "the server does not take an OCSP response",
        Alert::BadCertificateHashValue => {
            "the server fetched a certificate of the client that is another than the client's"
        }
        Alert::UnknownPSKIdentity => "the server does not know the client's pre-shared key",
        Alert::EncryptedClientHelloRequired => {
            "the server wants its name to be asked for in secret"
        }
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
        return "the server does not take the client, which has no certificate; `identity` sets \
                one"
        .to_owned();
    }
    let why = match alert {
        Alert::BadCertificate => "it is malformed, or wrongly signed",
        Alert::UnsupportedCertificate => "it is of a kind that the server does not take",
        Alert::CertificateRevoked => "it is revoked",
        Alert::CertificateExpired => "it has expired, or is not valid yet",
        Alert::UnknownCA => "the server does not know its issuer",
        Alert::AccessDenied => "it gives no access",
        _ => "the server does not say why",
    };
    format!("the server does not take the client's certificate: {why}")
}

/// The server took nothing of what the client offered. With TLS 1.2 some say so of a client
/// without a certificate, too.
fn no_common_ground(offered: Offered) -> String {
    let mut text = "the server takes none of the client's TLS versions, cipher suites and \
                    signatures (alert handshake_failure)"
        .to_owned();
    if !offered.certificate {
        text.push_str("; or it wants a client certificate");
    }
    if !offered.p521 {
        text.push_str("; or its key is one that this client cannot verify: ");
        text.push_str(P521_NEEDS);
    }
    text
}
