//! IP addresses with the zone that a link-local address of IPv6 needs (RFC 4007 §11).

use std::{
    fmt,
    net::{IpAddr, Ipv6Addr, SocketAddr, SocketAddrV6, ToSocketAddrs},
    str::FromStr,
};

/// An address, and the link it is on: an interface, by its name or its index.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ZonedIp {
    pub(crate) ip: IpAddr,
    zone: Option<String>,
}

impl ZonedIp {
    #[cfg(any(test, feature = "hickory"))]
    pub(crate) fn has_zone(&self) -> bool {
        self.zone.is_some()
    }

    /// The socket address at `port`, with the index of the interface as it is now.
    ///
    /// # Errors
    ///
    /// There is no such interface.
    pub(crate) fn at(&self, port: u16) -> Result<SocketAddr, String> {
        let (ip, zone) = match (self.ip, &self.zone) {
            (IpAddr::V6(ip), Some(zone)) => (ip, zone),
            (ip, _) => return Ok(SocketAddr::new(ip, port)),
        };
        let index = match zone.parse() {
            Ok(index) => Some(index),
            Err(_) => index_of(ip, zone),
        };
        let index = index.ok_or_else(|| {
            format!("this system has no network interface `{zone}` with link-local addresses")
        })?;
        Ok(SocketAddrV6::new(ip, port, 0, index).into())
    }
}

impl From<IpAddr> for ZonedIp {
    fn from(ip: IpAddr) -> Self {
        Self { ip, zone: None }
    }
}

/// The system's resolver reads an address with the name of an interface, and asks no name server.
fn index_of(ip: Ipv6Addr, zone: &str) -> Option<u32> {
    let mut found = (format!("{ip}%{zone}").as_str(), 0)
        .to_socket_addrs()
        .ok()?;
    found.find_map(|address| match address {
        SocketAddr::V6(address) if address.scope_id() != 0 => Some(address.scope_id()),
        _ => None,
    })
}

/// The host of a URI, in which `%25` stands for the `%` before a zone (RFC 6874), as the system's
/// resolver reads it. A lone `%25` is the zone 25.
pub(crate) fn decode_zone(host: &str) -> String {
    match host.split_once("%25") {
        Some((ip, zone)) if !zone.is_empty() => format!("{ip}%{zone}"),
        _ => host.to_owned(),
    }
}

/// `address`, `address%zone` or `address%25zone`, without brackets.
impl FromStr for ZonedIp {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let text = decode_zone(text);
        let (ip, zone) = match text.split_once('%') {
            Some((ip, zone)) => (ip, Some(zone.to_owned())),
            None => (&*text, None),
        };
        let ip: IpAddr = ip.parse().map_err(drop)?;
        let is_name = |zone: &String| {
            let is_letter = |c: char| c.is_ascii_graphic() && !"%/@[]".contains(c);
            !zone.is_empty() && zone.chars().all(is_letter)
        };
        match &zone {
            Some(zone) if ip.is_ipv4() || !is_name(zone) => Err(()),
            _ => Ok(Self { ip, zone }),
        }
    }
}

impl fmt::Display for ZonedIp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.zone {
            Some(zone) => write!(f, "{}%{zone}", self.ip),
            None => self.ip.fmt(f),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::ZonedIp;

    // D295
    #[test]
    fn a_zone_is_an_index_or_the_name_of_an_interface() {
        for (text, at) in [
            ("10.0.0.1", "10.0.0.1:1"),
            ("fe80::1", "[fe80::1]:1"),
            ("fe80::1%7", "[fe80::1%7]:1"),
            ("fe80::1%257", "[fe80::1%7]:1"),
            ("fe80::1%25", "[fe80::1%25]:1"),
            #[cfg(target_os = "linux")]
            ("fe80::1%lo", "[fe80::1%1]:1"),
            #[cfg(target_os = "linux")]
            ("fe80::1%25lo", "[fe80::1%1]:1"),
        ] {
            let address: ZonedIp = text.parse().expect(text);
            let at_port = address.at(1).map(|address| address.to_string());
            assert_eq!(at_port.as_deref(), Ok(at));
        }
        for text in [
            "fe80::1%",
            "10.0.0.1%lo",
            "%lo",
            "fe80::1%a%b",
            "fe80::1%a/b",
            "fe80::1% ",
        ] {
            assert!(text.parse::<ZonedIp>().is_err(), "{text}");
        }
        let unknown: ZonedIp = "fe80::1%none0".parse().expect("an address");
        let why = unknown.at(1).expect_err("there is none");
        assert!(why.contains("no network interface `none0`"), "{why}");
    }
}
