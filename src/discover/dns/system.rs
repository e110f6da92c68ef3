//! The system's resolver.
//!
//! It is asked for both families at a time, which gives their order. Where one of them cannot be
//! looked up it gives the other alone, or fails. So a family that is missing is asked for alone.

use std::net::SocketAddr;

use dns_lookup::{AddrFamily, AddrInfoHints, LookupErrorKind, SockType, getaddrinfo};
use futures_util::future::join;

use super::found::{Families, Found};
use crate::util::blocking;

/// What `getaddrinfo` finds, on threads. Of the families that were `known` it finds out what
/// became of them.
pub(super) async fn ask(name: &str, port: u16, known: Families) -> Result<Found, String> {
    let (addresses, unknown) = match look_up(name, port, None).await {
        Answer::Found(addresses) => {
            let found = Families::of(&addresses);
            let unknown = Families {
                v4: known.v4 && !found.v4 && !is_without(name, port, AddrFamily::Inet).await,
                v6: known.v6 && !found.v6 && !is_without(name, port, AddrFamily::Inet6).await,
            };
            (addresses, unknown)
        }
        Answer::None(why) => return Err(format!("does not resolve: {why}")),
        Answer::Unknown(why) => {
            let v6 = look_up(name, port, Some(AddrFamily::Inet6));
            match join(v6, look_up(name, port, Some(AddrFamily::Inet))).await {
                (Answer::Found(mut v6), Answer::Found(v4)) => {
                    v6.extend(v4);
                    (v6, Families::default())
                }
                (Answer::Found(v6), other) => (v6, other.unknown(AddrFamily::Inet)),
                (other, Answer::Found(v4)) => (v4, other.unknown(AddrFamily::Inet6)),
                _ => return Err(format!("does not resolve: {why}")),
            }
        }
    };
    Ok(Found {
        addresses,
        valid: None,
        unknown,
    })
}

enum Answer {
    Found(Vec<SocketAddr>),
    /// There are none, for certain.
    None(String),
    Unknown(String),
}

impl Answer {
    /// The family that this is the answer to, if it could not be looked up.
    fn unknown(&self, family: AddrFamily) -> Families {
        let is_unknown = matches!(self, Self::Unknown(_));
        Families {
            v4: is_unknown && family == AddrFamily::Inet,
            v6: is_unknown && family == AddrFamily::Inet6,
        }
    }
}

/// Whether the name has no address of the family, for certain.
async fn is_without(name: &str, port: u16, family: AddrFamily) -> bool {
    matches!(look_up(name, port, Some(family)).await, Answer::None(_))
}

/// The addresses of one family, or of both.
async fn look_up(name: &str, port: u16, family: Option<AddrFamily>) -> Answer {
    let name = name.to_owned();
    let hints = AddrInfoHints {
        address: family.map_or(0, Into::into),
        socktype: SockType::Stream.into(),
        ..AddrInfoHints::default()
    };
    let asked = blocking::run(move || match getaddrinfo(Some(&name), None, Some(hints)) {
        Ok(found) => {
            let addresses = found.flatten().map(|info| {
                let mut address = info.sockaddr;
                address.set_port(port);
                address
            });
            Answer::Found(addresses.collect())
        }
        Err(error) => {
            let kind = error.kind();
            let why = std::io::Error::from(error).to_string();
            match kind {
                LookupErrorKind::Again
                | LookupErrorKind::Fail
                | LookupErrorKind::Memory
                | LookupErrorKind::System => Answer::Unknown(why),
                _ => Answer::None(why),
            }
        }
    });
    asked.await.unwrap_or_else(Answer::Unknown)
}
