//! An error of rustls in a sentence.

use tokio_rustls::rustls::{
    ContentType, EncryptedClientHelloError, Error, HandshakeType, InconsistentKeys,
};

use super::{
    alert::describe_alert,
    certificate::{describe_certificate, describe_crl},
    names::spaced,
    offered::Offered,
    protocol::{describe_incompatibility, describe_message, describe_misbehaviour},
};
use crate::error::sanitize_peer_text;

/// What failed, and at which side.
pub(in crate::transport) fn describe_tls(error: &Error, offered: Offered) -> String {
    let text = match error {
        Error::InvalidCertificate(why) => return describe_certificate(why, offered),
        Error::AlertReceived(alert) => return describe_alert(*alert, offered),
        Error::InvalidMessage(why) => return describe_message(why),
        Error::PeerIncompatible(why) => return describe_incompatibility(why),
        Error::PeerMisbehaved(why) => return describe_misbehaviour(why),
        Error::InvalidCertRevocationList(why) => return describe_crl(why),
        Error::InappropriateMessage {
            expect_types,
            got_type,
        } => {
            let expected = either(expect_types, record);
            let got = record(got_type);
            return format!("the server sent {got}, where it must send {expected}");
        }
        Error::InappropriateHandshakeMessage {
            expect_types,
            got_type,
        } => {
            let expected = either(expect_types, message);
            let got = message(got_type);
            return format!("the server sent {got}, where it must send {expected}");
        }
        Error::InvalidEncryptedClientHello(why) => match why {
            EncryptedClientHelloError::InvalidConfigList => {
                "the config for encrypted client hellos is invalid"
            }
            EncryptedClientHelloError::NoCompatibleConfig => {
                "no config for encrypted client hellos can be used"
            }
            EncryptedClientHelloError::SniRequired => {
                "an encrypted client hello needs a server name (SNI)"
            }
            _ => "the client hello cannot be encrypted",
        },
        Error::NoCertificatesPresented => "the server sent no certificate",
        Error::UnsupportedNameType => "the name of the server is neither a DNS name nor an address",
        Error::DecryptError => {
            "the server sent bytes that cannot be decrypted; a host in between may have changed \
             them"
        }
        Error::EncryptError => "a message is too large to be encrypted",
        Error::FailedToGetCurrentTime => {
            "the clock of this host is before 1970, so no certificate is valid yet; set the clock"
        }
        Error::FailedToGetRandomBytes => "the system gave no random bytes",
        Error::HandshakeNotComplete => "the handshake is not complete",
        Error::PeerSentOversizedRecord => "the server sent a record larger than TLS allows",
        Error::NoApplicationProtocol => "the server does not speak HTTP/2 (ALPN `h2`)",
        Error::BadMaxFragmentSize => "the maximum size of fragments is out of range",
        Error::InconsistentKeys(InconsistentKeys::KeyMismatch) => {
            "the private key does not match the certificate"
        }
        Error::InconsistentKeys(_) => "the public key of the private key is unknown",
        Error::General(why) => return sanitize_peer_text(why).into_owned(),
        Error::Other(why) => return sanitize_peer_text(&why.to_string()).into_owned(),
        other => return sanitize_peer_text(&other.to_string()).into_owned(),
    };
    text.to_owned()
}

fn either<T>(all: &[T], name: impl Fn(&T) -> String) -> String {
    let names: Vec<_> = all.iter().map(name).collect();
    match names.is_empty() {
        true => "nothing".to_owned(),
        false => names.join(" or "),
    }
}

fn record(kind: &ContentType) -> String {
    match kind {
        ContentType::ChangeCipherSpec => "a change of ciphers".to_owned(),
        ContentType::Alert => "an alert".to_owned(),
        ContentType::Handshake => "a message of the handshake".to_owned(),
        ContentType::ApplicationData => "data".to_owned(),
        ContentType::Heartbeat => "a heartbeat".to_owned(),
        other => format!("a record of type {}", u8::from(*other)),
    }
}

fn message(kind: &HandshakeType) -> String {
    match kind {
        HandshakeType::Unknown(number) => format!("the unknown message {number}"),
        known => format!("`{}`", spaced(known, ' ')),
    }
}
