//! What is reached without a proxy, as Go's `golang.org/x/net/http/httpproxy` reads `no_proxy`.
//!
//! | entry | what it excepts |
//! |---|---|
//! | `*` | everything |
//! | `name` | the name and its subdomains |
//! | `.name`, `*.name` | its subdomains alone |
//! | `10.0.0.1`, `::1`, `[::1]` | the address |
//! | `10.0.0.0/8`, `fd00::/8` | the addresses of the network |
//! | `name:port`, `.name:port`, `10.0.0.1:port`, `[::1]:port` | the same, at that port alone |
//!
//! Commas separate entries, and neither spaces around them nor the case of letters count.
//! `localhost` and loopback addresses are excepted whatever the list says.

use std::net::IpAddr;

use super::address::HostPort;

/// A list of exceptions.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct NoProxy {
    entries: Vec<Entry>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Entry {
    what: What,
    /// As it is written; `None` for all.
    port: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum What {
    All,
    Address(IpAddr),
    Network(IpAddr, u32),
    /// `.name`, and whether the name itself is meant too.
    Domain(String, bool),
}

impl NoProxy {
    /// An entry that means nothing is left out, as in Go.
    pub(super) fn parse(list: &str) -> Self {
        let entries = list.split(',').filter_map(|entry| {
            let entry = entry.trim().to_ascii_lowercase();
            Entry::parse(&entry)
        });
        Self {
            entries: entries.collect(),
        }
    }

    pub(super) fn excepts(&self, target: &HostPort) -> bool {
        let host = target.host.trim().to_ascii_lowercase();
        // A zone says which link an address is on, and no list names one.
        let address = host.split('%').next().and_then(|host| host.parse().ok());
        let address = address.map(|address: IpAddr| address.to_canonical());
        let is_here = address.map_or(host == "localhost", |address| address.is_loopback());
        let port = target.port.to_string();
        let mut entries = self.entries.iter();
        is_here || entries.any(|entry| entry.excepts(&host, address, &port))
    }
}

impl Entry {
    fn parse(entry: &str) -> Option<Self> {
        let of = |what, port| Some(Self { what, port });
        if entry == "*" {
            return of(What::All, None);
        }
        if let Some(network) = network(entry) {
            return of(network, None);
        }
        let (host, port) = match entry.rsplit_once(':') {
            // More colons are those of an address.
            Some((host, port)) if !host.contains(':') || host.ends_with(']') => (host, port),
            _ => (entry, ""),
        };
        let port = (!port.is_empty()).then(|| port.to_owned());
        let bare = host.strip_prefix('[').and_then(|h| h.strip_suffix(']'));
        if let Ok(address) = bare.unwrap_or(host).parse::<IpAddr>() {
            return of(What::Address(address.to_canonical()), port);
        }
        let host = match host.strip_prefix('*') {
            Some(rest) if rest.starts_with('.') => rest,
            _ => host,
        };
        match host.as_bytes() {
            [] => None,
            [b'.', ..] => of(What::Domain(host.to_owned(), false), port),
            _ => of(What::Domain(format!(".{host}"), true), port),
        }
    }

    fn excepts(&self, host: &str, address: Option<IpAddr>, port: &str) -> bool {
        let is_meant = match (&self.what, address) {
            (What::All, _) => true,
            (What::Address(this), Some(address)) => *this == address,
            (What::Network(network, bits), Some(address)) => is_in(address, *network, *bits),
            (What::Domain(suffix, with_itself), None) => {
                host.ends_with(suffix.as_str()) || *with_itself && host == &suffix[1..]
            }
            (What::Address(_) | What::Network(..), None) | (What::Domain(..), Some(_)) => false,
        };
        is_meant && self.port.as_deref().is_none_or(|this| this == port)
    }
}

/// `address/bits`.
fn network(entry: &str) -> Option<What> {
    let (address, bits) = entry.split_once('/')?;
    let (address, bits): (IpAddr, u32) = (address.parse().ok()?, bits.parse().ok()?);
    let (most, canonical) = (width(address), address.to_canonical());
    let mapped = most - width(canonical);
    match bits {
        bits if bits > most => None,
        bits if bits >= mapped => Some(What::Network(canonical, bits - mapped)),
        _ => Some(What::Network(address, bits)),
    }
}

fn width(address: IpAddr) -> u32 {
    match address {
        IpAddr::V4(_) => 32,
        IpAddr::V6(_) => 128,
    }
}

fn is_in(address: IpAddr, network: IpAddr, bits: u32) -> bool {
    let prefix = |value: u128, width: u32| value.checked_shr(width - bits).unwrap_or(0);
    match (address, network) {
        (IpAddr::V4(a), IpAddr::V4(b)) => {
            prefix(u32::from(a).into(), 32) == prefix(u32::from(b).into(), 32)
        }
        (IpAddr::V6(a), IpAddr::V6(b)) => prefix(a.into(), 128) == prefix(b.into(), 128),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::{HostPort, NoProxy};

    /// What `list` excepts, and what not; ports are 80 where there is none.
    #[track_caller]
    fn check(list: &str, excepted: &[&str], proxied: &[&str]) {
        let no_proxy = NoProxy::parse(list);
        let cases = [(excepted, true), (proxied, false)];
        for (targets, expected) in cases {
            for target in targets {
                let (host, port) = target.split_once(' ').unwrap_or((target, "80"));
                let host_port = HostPort {
                    host: host.to_owned(),
                    port: port.parse().expect("a port"),
                };
                assert_eq!(no_proxy.excepts(&host_port), expected, "{list}: {target}");
            }
        }
    }

    // D294
    #[test]
    fn a_list_is_read_as_go_reads_it() {
        check("*", &["a.test", "10.0.0.1", "fe80::1"], &[]);
        check("b.test,*", &["a.test"], &[]);
        for list in [".a.test", "*.a.test"] {
            check(
                list,
                &["b.a.test", "c.b.a.test", "B.A.Test"],
                &["a.test", "ba.test"],
            );
        }
        check(
            "a.test",
            &["a.test", "b.a.test", "A.TEST"],
            &["ba.test", "a.test.b", "test"],
        );
        check(" A.Test , b.TEST ,,", &["a.test", "x.b.test"], &["c.test"]);
        check("a.test b.test", &[], &["a.test", "b.test"]);
        check(
            "a.test:81",
            &["a.test 81", "b.a.test 81"],
            &["a.test", "a.test 8"],
        );
        check(".a.test:81", &["b.a.test 81"], &["b.a.test", "a.test 81"]);
        check("*.a.test:81", &["b.a.test 81"], &["b.a.test", "a.test 81"]);
        check("a.test:", &["a.test", "a.test 81"], &["b.test"]);
        check(
            "10.0.0.1",
            &["10.0.0.1", "10.0.0.1 81", "::ffff:10.0.0.1"],
            &["10.0.0.2"],
        );
        check("10.0.0.1:81", &["10.0.0.1 81"], &["10.0.0.1"]);
        for list in ["fd00::1", "[fd00::1]", "FD00:0::1"] {
            check(
                list,
                &["fd00::1", "fd00::1 81", "fd00:0:0::1", "fd00::1%eth0"],
                &["fd00::2"],
            );
        }
        check("[fd00::1]:81", &["fd00::1 81"], &["fd00::1", "fd00::2 81"]);
        check(
            "10.1.0.0/16",
            &["10.1.2.3", "10.1.0.0"],
            &["10.2.0.0", "a.10.1.2.3"],
        );
        check("10.1.2.3/16", &["10.1.9.9"], &["10.2.0.0"]);
        check("0.0.0.0/0", &["10.0.0.1"], &["fd00::1", "a.test"]);
        check("::/0", &["fd00::1"], &["10.0.0.1"]);
        check("10.0.0.1/32", &["10.0.0.1"], &["10.0.0.2"]);
        check("fd00::/8", &["fd12::1"], &["fe80::1"]);
        check("::ffff:10.0.0.0/104", &["10.1.2.3"], &["11.0.0.1"]);
        for nothing in [
            "",
            " ",
            ",",
            ":81",
            "10.0.0.0/33",
            "10.0.0.0/x",
            "[fd00::1",
            "*a.test",
        ] {
            check(nothing, &[], &["a.test", "10.0.0.1", "fd00::1"]);
        }
        let here = ["localhost", "LocalHost", "127.0.0.1", "127.9.9.9 81", "::1"];
        check(
            "",
            &here,
            &["localhost.test", "a.localhost", "128.0.0.1", "::2"],
        );
    }
}
