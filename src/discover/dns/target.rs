//! `host:port`, read.

use std::fmt;

use http::uri::Authority;

use crate::{
    error::{Error, ErrorKind},
    transport::{USERINFO, hide_userinfo},
    util::zone::ZonedIp,
};

/// What is looked up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct DnsTarget {
    pub(super) host: Host,
    /// `None`: that of the scheme, or of the records.
    pub(super) port: Option<u16>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Host {
    Address(ZonedIp),
    Name(String),
    /// `_service._proto.name`, whose records name hosts and ports.
    Service {
        full: String,
        name: String,
    },
}

impl DnsTarget {
    /// Reads `host`, `host:port`, `1.2.3.4:port`, `[::1]:port`, or
    /// `_service._proto.name`.
    pub(super) fn parse(text: &str) -> Result<Self, Error> {
        let invalid = |why: &str| {
            let message = format!("target `{}`: {why}", hide_userinfo(text));
            Err(Error::new(ErrorKind::InvalidEndpoint, message))
        };
        if text.contains('@') {
            return invalid(USERINFO);
        }
        let (host, port) = match text.strip_prefix('[').map(|rest| rest.split_once(']')) {
            Some(Some((host, port))) => (host, port),
            Some(None) => return invalid("the bracket is not closed"),
            None => text.split_at(text.find(':').unwrap_or(text.len())),
        };
        let is_bracketed = text.starts_with('[');
        let port = match port.strip_prefix(':') {
            None if port.is_empty() => None,
            Some(more) if !is_bracketed && more.contains(':') => {
                return invalid("an IPv6 address needs brackets: `[::1]:50051`");
            }
            Some(digits) => match digits.parse() {
                // `parse` would take a sign.
                Ok(port) if !digits.starts_with('+') => Some(port),
                _ => return invalid("the port must be 0 to 65535"),
            },
            None => return invalid("only a port may follow the bracket"),
        };
        let host = match (host.parse::<ZonedIp>(), is_bracketed) {
            (Ok(address), true) if address.ip.is_ipv6() => Host::Address(address),
            (_, true) => return invalid("only an IPv6 address may have brackets"),
            (Ok(address), false) => Host::Address(address),
            (Err(()), false) => match Host::named(host) {
                Ok(host) => host,
                Err(why) => return invalid(why),
            },
        };
        if matches!(host, Host::Service { .. }) && port.is_some() {
            return invalid("SRV records contain the ports; remove this port");
        }
        Ok(Self { host, port })
    }

    /// How requests name the server (gRPC's naming document: the target as it is
    /// given). Of a service, the name that has it. A zone means nothing to a server (RFC 6874
    /// §4).
    pub(super) fn authority(&self) -> Authority {
        let authority = match &self.host {
            Host::Service { name, .. } => name.clone(),
            Host::Address(address) => Self {
                host: Host::Address(address.ip.into()),
                port: self.port,
            }
            .to_string(),
            Host::Name(_) => self.to_string(),
        };
        authority
            .parse()
            .expect("a name of known letters, and a port")
    }
}

impl Host {
    fn named(name: &str) -> Result<Self, &'static str> {
        let is_letter = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
        // One dot at the end makes a name absolute.
        let mut labels = name.strip_suffix('.').unwrap_or(name).split('.');
        match () {
            () if name.is_empty() => Err("there is no host"),
            () if !name.chars().all(is_letter) => {
                Err("a host must consist of letters, digits, `-`, `_` and `.`; write `host:port`")
            }
            () if labels.any(|label| label.is_empty() || label.len() > 63) => {
                Err("each part between dots must have 1 to 63 letters")
            }
            () if name.len() > 254 => Err("a name must have at most 253 letters"),
            () => Ok(Self::service(name).unwrap_or_else(|| Self::Name(name.to_owned()))),
        }
    }

    /// The form of the names of SRV records (RFC 2782).
    fn service(name: &str) -> Option<Self> {
        let (service, rest) = name.split_once('.')?;
        let (proto, of) = rest.split_once('.')?;
        let is_service = service.starts_with('_') && proto.starts_with('_') && !of.is_empty();
        is_service.then(|| Self::Service {
            full: name.to_owned(),
            name: of.to_owned(),
        })
    }
}

/// As it was given.
impl fmt::Display for DnsTarget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.host {
            Host::Address(address) if address.ip.is_ipv6() => write!(f, "[{address}]")?,
            Host::Address(address) => write!(f, "{address}")?,
            Host::Name(name) => f.write_str(name)?,
            Host::Service { full, .. } => f.write_str(full)?,
        }
        match self.port {
            Some(port) => write!(f, ":{port}"),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{DnsTarget, Host};
    use crate::error::ErrorKind;

    #[track_caller]
    fn is_read(text: &str, port: Option<u16>, authority: &str) -> Host {
        let target = DnsTarget::parse(text).expect("a target");
        assert_eq!(target.port, port);
        assert_eq!(target.to_string(), text);
        assert_eq!(target.authority(), authority);
        target.host
    }

    #[track_caller]
    fn is_rejected(text: &str, rule: &str) {
        let error = DnsTarget::parse(text).expect_err("must be rejected");
        assert_eq!(error.kind(), ErrorKind::InvalidEndpoint);
        assert_eq!(error.message(), format!("target `{text}`: {rule}"));
    }

    #[test]
    fn hosts_and_ports_are_read() {
        for (text, port) in [
            ("backends.example:50051", Some(50051)),
            ("backends.example", None),
            ("backends.example.:1", Some(1)),
            ("localhost:0", Some(0)),
            ("under_score.example:65535", Some(65535)),
        ] {
            assert!(matches!(is_read(text, port, text), Host::Name(_)), "{text}");
        }
        for (text, port) in [
            ("10.0.0.1:50051", Some(50051)),
            ("10.0.0.1", None),
            ("[::1]:50051", Some(50051)),
            ("[2001:db8::1]", None),
        ] {
            let host = is_read(text, port, text);
            assert!(matches!(host, Host::Address(_)), "{text}");
        }
        let host = is_read("[fe80::1%eth0]:1", Some(1), "[fe80::1]:1");
        assert!(matches!(host, Host::Address(address) if address.has_zone()));
    }

    #[test]
    fn a_name_with_two_underscores_is_that_of_srv_records() {
        let host = is_read("_grpc._tcp.shop.example", None, "shop.example");
        let (full, name) = ("_grpc._tcp.shop.example".into(), "shop.example".into());
        assert_eq!(host, Host::Service { full, name });
        let rule = "SRV records contain the ports; remove this port";
        is_rejected("_grpc._tcp.shop.example:1", rule);
    }

    #[test]
    fn nonsense_is_rejected_by_name() {
        is_rejected("", "there is no host");
        is_rejected(":50051", "there is no host");
        is_rejected("[::1", "the bracket is not closed");
        is_rejected("[::1]50051", "only a port may follow the bracket");
        is_rejected("[10.0.0.1]:1", "only an IPv6 address may have brackets");
        let rule = "an IPv6 address needs brackets: `[::1]:50051`";
        is_rejected("::1", rule);
        is_rejected("::1:50051", rule);
        for text in ["host:", "host:x", "host:65536", "host:+1", "host:50051/"] {
            is_rejected(text, "the port must be 0 to 65535");
        }
        let rule = "a host must consist of letters, digits, `-`, `_` and `.`; write `host:port`";
        for text in ["ho st:1", "/host", "höst"] {
            is_rejected(text, rule);
        }
        let hidden = "target `…@host:1`: a URI with a user or a password is refused; ";
        let error = DnsTarget::parse("me:secret@host:1").expect_err("must be rejected");
        assert!(error.message().starts_with(hidden), "{error}");
        let rule = "each part between dots must have 1 to 63 letters";
        for text in ["a..b", ".", ".a", &"a".repeat(64)] {
            is_rejected(text, rule);
        }
        let long = ["abcdefg."; 32].concat();
        is_rejected(&long, "a name must have at most 253 letters");
    }
}
