//! Names of algorithms, moments and things of TLS.

use std::fmt::Debug;

use tokio_rustls::rustls::pki_types::UnixTime;
use x509_parser::{
    der_parser::{asn1_rs::FromDer, oid::Oid},
    time::ASN1Time,
};

/// `HandshakeFailure` as `handshake failure`, with `between` for the blank. What follows the
/// name of a variant is left out.
pub(super) fn spaced(name: &impl Debug, between: char) -> String {
    let name = format!("{name:?}");
    let mut words = String::new();
    let mut after_small = false;
    for letter in name.chars().take_while(char::is_ascii_alphanumeric) {
        if letter.is_ascii_uppercase() && after_small {
            words.push(between);
        }
        after_small = !letter.is_ascii_uppercase();
        words.push(letter.to_ascii_lowercase());
    }
    words
}

/// A moment, as `2030-01-31 23:59:59 UTC`.
pub(super) fn moment(time: UnixTime) -> String {
    let seconds = i64::try_from(time.as_secs()).ok();
    let Some(time) = seconds.and_then(|seconds| ASN1Time::from_timestamp(seconds).ok()) else {
        return "a day after the year 9999".to_owned();
    };
    let time = time.to_datetime();
    let ((year, month, day), (hour, minute, second)) = (time.to_calendar_date(), time.to_hms());
    let month = u8::from(month);
    format!("{year:04}-{month:02}-{day:02} {hour:02}:{minute:02}:{second:02} UTC")
}

/// An algorithm and its parameters, as DER has it: an OID and what follows. Unknown ones are
/// told by their OID.
pub(super) fn algorithm(der: &[u8]) -> String {
    let Ok((_, oid)) = Oid::from_der(der) else {
        return "an unknown algorithm".to_owned();
    };
    let oid = oid.to_id_string();
    let known = match oid.as_str() {
        "1.2.840.10045.2.1" if is_p521(der) => "P-521",
        "1.2.840.10045.2.1" => "an elliptic curve",
        "1.2.840.10045.4.1" => "ECDSA with SHA-1",
        "1.2.840.10045.4.3.1" => "ECDSA with SHA-224",
        "1.2.840.10045.4.3.2" => "ECDSA with SHA-256",
        "1.2.840.10045.4.3.3" => "ECDSA with SHA-384",
        "1.2.840.10045.4.3.4" => "ECDSA with SHA-512",
        "1.2.840.113549.1.1.1" => "RSA",
        "1.2.840.113549.1.1.4" => "RSA with MD5",
        "1.2.840.113549.1.1.5" => "RSA with SHA-1",
        "1.2.840.113549.1.1.10" => "RSA-PSS",
        "1.2.840.113549.1.1.11" => "RSA with SHA-256",
        "1.2.840.113549.1.1.12" => "RSA with SHA-384",
        "1.2.840.113549.1.1.13" => "RSA with SHA-512",
        "1.2.840.113549.1.1.14" => "RSA with SHA-224",
        "1.2.840.10040.4.1" | "1.2.840.10040.4.3" => "DSA",
        "1.3.101.112" => "Ed25519",
        "1.3.101.113" => "Ed448",
        "2.16.840.1.101.3.4.3.17" => "ML-DSA-44",
        "2.16.840.1.101.3.4.3.18" => "ML-DSA-65",
        "2.16.840.1.101.3.4.3.19" => "ML-DSA-87",
        _ => return format!("the algorithm {oid}"),
    };
    known.to_owned()
}

/// Whether an algorithm is of keys of the curve P-521: its parameters end with that OID.
pub(super) fn is_p521(der: &[u8]) -> bool {
    der.ends_with(&[0x06, 0x05, 0x2b, 0x81, 0x04, 0x00, 0x23])
}

/// Whether it is what rustls verifies for keys of P-521, and with SHA-512 for other curves.
pub(super) fn is_ecdsa_with_sha512(der: &[u8]) -> bool {
    der == [0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x03, 0x04]
}
