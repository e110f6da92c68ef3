//! Why there is no TLS: what rustls and webpki know by names of types, in sentences.
//!
//! The same failure has the same text however often it happens, so a text has no time of now:
//! rustls counts the seconds since a certificate has expired.

mod alert;
mod certificate;
pub(in crate::transport) mod error;
pub(in crate::transport) mod handshake_result;
mod names;
pub(in crate::transport) mod offered;
mod protocol;
#[cfg(test)]
mod tests;
