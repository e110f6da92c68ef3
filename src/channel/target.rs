//! Channels from one string: the targets of gRPC's naming document.

use std::{
    convert::Infallible,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    str::FromStr,
};

use futures_util::stream;

#[cfg(feature = "hickory")]
use super::builder::config_updates;
use super::{
    Change, Channel,
    builder::{ChannelBuilder, MadeOf},
};
use crate::{
    discover::{self, Dns},
    error::{Error, ErrorKind},
    transport::{Endpoint, USERINFO, hide_userinfo},
    util::zone::ZonedIp,
};

const KNOWN: &str = "`dns:///host:port`, `ipv4:address:port,…`, `ipv6:[address]:port,…`, `file:///path`, \
     `passthrough:///host:port`, `http://host:port`, `https://host:port`, `unix:path`, `unix:///path`, `unix-abstract:name`, or \
     `host:port`";

const XDS: &str = "this channel does not support xDS; the crate `tonic-xds` has a channel that \
                   does";

/// Where a name server listens, unless it is said.
#[cfg(feature = "hickory")]
const NAME_SERVER_PORT: u16 = 53;

/// A target, taken apart.
#[derive(Debug, PartialEq, Eq)]
enum Target<'a> {
    Dns {
        server: Option<&'a str>,
        name: &'a str,
    },
    /// With a port where one is given.
    Addresses(Vec<(ZonedIp, Option<u16>)>),
    File(&'a str),
    Passthrough(&'a str),
    Uri(&'a str),
}

/// Channels by the name of a service.
impl Channel {
    /// A channel over the backends of `target`, in plain text and with default options:
    ///
    /// | target | backends |
    /// |---|---|
    /// | `dns:///host:port`, `dns:host:port`, `host:port` | one for each address of the host, looked up again and again; see [`discover::dns`] |
    /// | `dns://1.1.1.1/host:port` | the same, asking this name server; needs the feature `hickory` |
    /// | `ipv4:10.0.0.1:50051,10.0.0.2:50051` | these |
    /// | `ipv6:[2001:db8::1]:50051,[fe80::1%25eth0]:50051` | these; a link-local address has a zone, `%eth0` or `%25eth0` |
    /// | `file:///etc/shop/backends.json` | those that the file names, as it changes; see [`discover::file`](discover::file()) |
    /// | `passthrough:///host:port`, `passthrough:host:port` | one, at whichever address of the host answers |
    /// | `http://host:port` | one, at whichever address of the host answers |
    /// | `unix:path`, `unix:///path` | one, at this Unix socket |
    /// | `unix-abstract:name` | one, at this Unix socket in Linux's abstract namespace |
    ///
    /// A port that is left out is that of the scheme, 80 here. (gRPC's is always 443.)
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidEndpoint`] if it is none of these, or has a user or a password;
    /// the text says what is wrong.
    ///
    /// ```no_run
    /// use tonic_health_channel::Channel;
    ///
    /// # async fn example() -> Result<(), tonic_health_channel::Error> {
    /// let channel = Channel::target("dns:///shop.example:50051")?
    ///     .service_config(r#"{"healthCheckConfig": {"serviceName": ""}}"#.parse()?)
    ///     .build();
    /// # Ok(())
    /// # }
    /// ```
    pub fn target(target: &str) -> Result<ChannelBuilder, Error> {
        Self::target_with(target, Endpoint::from_static("http://target"))
    }

    /// The same with the scheme and the options of `template`. Its host and port are not
    /// used. A target that is a URI has its own scheme, and so have those in a file.
    ///
    /// # Errors
    ///
    /// As [`target`](Self::target).
    ///
    /// ```no_run
    /// use std::time::Duration;
    /// use tonic_health_channel::{Channel, Endpoint};
    ///
    /// # async fn example() -> Result<(), tonic_health_channel::Error> {
    /// let template = Endpoint::from_static("http://shop.example")
    ///     .connect_timeout(Duration::from_secs(5));
    /// let channel = Channel::target_with("shop.example:50051", template)?.build();
    /// # Ok(())
    /// # }
    /// ```
    pub fn target_with(target: &str, template: Endpoint) -> Result<ChannelBuilder, Error> {
        let mut builder = Self::over_target(target, template.clone())?.named(target);
        if let Ok(parsed) = Target::parse(target) {
            builder.target = parsed.canonical();
        }
        builder.backends.timeout = template.call_timeout();
        builder.made_of = MadeOf::Target {
            target: target.to_owned(),
            template: Box::new(template),
        };
        Ok(builder)
    }

    fn over_target(target: &str, template: Endpoint) -> Result<ChannelBuilder, Error> {
        template.refuse_userinfo()?;
        if has_userinfo(target) {
            return Err(invalid(&hide_userinfo(target), USERINFO));
        }
        match Target::parse(target).map_err(|why| invalid(target, &why))? {
            Target::Dns { server, name } => {
                let dns = discover::dns(name, template)?;
                let dns = match server {
                    Some(server) => asking(dns, server).map_err(|why| invalid(target, &why))?,
                    None => dns,
                };
                Ok(Self::dns(dns))
            }
            Target::Addresses(addresses) => {
                let port = template.default_port();
                let changes = addresses.into_iter().map(move |(ip, given)| {
                    let port = given.unwrap_or(port);
                    let address = ip.at(port)?;
                    // A zone means nothing to a server (RFC 6874 §4).
                    let authority = SocketAddr::new(ip.ip, port).to_string().parse();
                    let authority = authority.expect("an address and a port are an authority");
                    let endpoint = template.with_authority(authority).with_address(address);
                    Ok(Change::Insert(address, endpoint))
                });
                let changes = changes.collect::<Result<Vec<_>, String>>();
                let changes = changes.map_err(|why| invalid(target, &why))?;
                let changes = changes.into_iter().map(Ok::<_, Infallible>);
                Ok(Self::balance(stream::iter(changes)))
            }
            Target::File(path) => {
                let backends =
                    discover::file(path).map_err(|why| invalid(target, why.message()))?;
                Ok(Self::balance(backends.template(template)))
            }
            Target::Passthrough(name) => {
                let backends = discover::list([discover::by_name(name, &template)?])?;
                Ok(Self::balance(backends))
            }
            Target::Uri(uri) => {
                let there = Endpoint::from_shared(uri.to_owned())?;
                let backends = discover::list([template.with_target_of(&there)])?;
                Ok(Self::balance(backends))
            }
        }
    }

    /// A channel over the addresses of a name. It has the name looked up when backends
    /// are in trouble, and takes the service configs that are found with it, if they are
    /// asked for.
    ///
    /// ```no_run
    /// use std::time::Duration;
    /// use tonic_health_channel::{Channel, Endpoint, discover};
    ///
    /// # async fn example() -> Result<(), tonic_health_channel::Error> {
    /// let template = Endpoint::from_static("http://shop.example");
    /// let backends = discover::dns("shop.example:50051", template)?
    ///     .refresh_interval(Duration::from_secs(300));
    /// let channel = Channel::dns(backends).build();
    /// # Ok(())
    /// # }
    /// ```
    pub fn dns(dns: Dns) -> ChannelBuilder {
        #[cfg(feature = "hickory")]
        let (dns, configs) = {
            let mut dns = dns;
            let configs = dns.config_updates();
            (dns, configs)
        };
        let refresh = dns.refresh_handle();
        let name = format!("dns:///{}", dns.name());
        let mut builder = Self::balance(dns);
        builder.target = Some(name);
        builder.backends.trouble = Some(refresh);
        #[cfg(feature = "hickory")]
        if let Some(configs) = configs {
            builder.backends.config_updates = Some(config_updates(configs));
        }
        builder
    }
}

impl<'a> Target<'a> {
    fn parse(target: &'a str) -> Result<Self, String> {
        match target.split_once(':') {
            Some(("dns", rest)) => Self::dns(rest),
            Some(("ipv4", rest)) => Self::addresses(rest, IpAddr::is_ipv4),
            Some(("ipv6", rest)) => Self::addresses(rest, IpAddr::is_ipv6),
            Some(("file", rest)) => Self::file(rest),
            Some(("passthrough", rest)) => Self::passthrough(rest),
            Some(("http" | "https", rest)) if rest.starts_with("//") => Ok(Self::Uri(target)),
            Some(("unix" | "unix-abstract", _)) => Ok(Self::Uri(target)),
            Some(("xds", _)) => Err(XDS.to_owned()),
            _ if target.contains(',') => Err(Self::how_to_list(target)),
            Some((scheme, rest)) if !is_port(rest) && is_scheme(scheme) => Err(format!(
                "`{scheme}` is not a known scheme; known are {KNOWN}"
            )),
            _ => Ok(Self::Dns {
                server: None,
                name: target,
            }),
        }
    }

    /// In gRPC's canonical form. A URI has no path. None for several addresses.
    fn canonical(&self) -> Option<String> {
        Some(match self {
            Self::Dns { server, name } => format!("dns://{}/{name}", server.unwrap_or_default()),
            Self::Addresses(_) => return None,
            Self::File(path) => format!("file://{path}"),
            Self::Passthrough(name) => format!("passthrough:///{name}"),
            Self::Uri(uri) => match uri.split_once("://") {
                Some((scheme @ ("http" | "https"), rest)) => {
                    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
                    format!("{scheme}://{}", &rest[..end])
                }
                _ => (*uri).to_owned(),
            },
        })
    }

    /// What to write in place of a list of backends.
    fn how_to_list(target: &str) -> String {
        let all_are = |is_of_family: fn(&IpAddr) -> bool| {
            let mut parts = target.split(',').map(address);
            parts.all(|part| part.is_some_and(|(ip, _)| is_of_family(&ip.ip)))
        };
        let family = match (all_are(IpAddr::is_ipv4), all_are(IpAddr::is_ipv6)) {
            (true, _) => Some("ipv4"),
            (_, true) => Some("ipv6"),
            _ => None,
        };
        match family {
            Some(family) => {
                format!("a list of addresses needs a scheme; write `{family}:{target}`")
            }
            None => "a list of names is not a valid target; pass their URIs to `Channel::list`"
                .to_owned(),
        }
    }

    /// What follows `dns:`.
    fn dns(rest: &'a str) -> Result<Self, String> {
        let (server, name) = match rest.strip_prefix("//").map(|rest| rest.split_once('/')) {
            Some(Some((server, name))) => (server, name),
            Some(None) => {
                let text = "after `//` come a name server, a `/` and the host; write \
                            `dns:///host:port`";
                return Err(text.to_owned());
            }
            None => ("", rest.strip_prefix('/').unwrap_or(rest)),
        };
        Ok(Self::Dns {
            server: (!server.is_empty()).then_some(server),
            name,
        })
    }

    /// What follows `passthrough:`. gRPC looks at no authority there either.
    fn passthrough(rest: &'a str) -> Result<Self, String> {
        let name = match rest.strip_prefix("//").map(|rest| rest.split_once('/')) {
            Some(Some((_, name))) => name,
            Some(None) => return Err(format!("write `passthrough:/{rest}`")),
            None => rest.strip_prefix('/').unwrap_or(rest),
        };
        Ok(Self::Passthrough(name))
    }

    /// What follows `file:`.
    fn file(rest: &'a str) -> Result<Self, String> {
        let path = rest.strip_prefix("//").unwrap_or(rest);
        match path.starts_with('/') {
            true => Ok(Self::File(path)),
            false => Err("the path must be absolute; write `file:///path`".to_owned()),
        }
    }

    fn addresses(list: &str, is_of_family: fn(&IpAddr) -> bool) -> Result<Self, String> {
        let list = list.strip_prefix("///").unwrap_or(list);
        let family = match is_of_family(&Ipv4Addr::UNSPECIFIED.into()) {
            true => "IPv4",
            false => "IPv6",
        };
        let addresses = list.split(',').map(|text| match address(text) {
            Some((ip, port)) if is_of_family(&ip.ip) => Ok((ip, port)),
            _ => Err(format!("`{text}` is not an {family} address")),
        });
        Ok(Self::Addresses(addresses.collect::<Result<_, _>>()?))
    }
}

/// An IP address, with or without a port. One of IPv6 may have a zone.
fn address(text: &str) -> Option<(ZonedIp, Option<u16>)> {
    let inner = text.strip_prefix('[').and_then(|t| t.strip_suffix(']'));
    if let Ok(ip) = ZonedIp::from_str(inner.unwrap_or(text)) {
        return Some((ip, None));
    }
    let (host, port) = text.rsplit_once(':')?;
    let port = port.parse().ok().filter(|_| is_port(port))?;
    let inner = host.strip_prefix('[').and_then(|t| t.strip_suffix(']'));
    let ip = ZonedIp::from_str(inner.unwrap_or(host)).ok()?;
    (ip.ip.is_ipv6() == inner.is_some()).then_some((ip, Some(port)))
}

/// Whether a target has a user or a password. A path may have an `@`, and a name has none.
fn has_userinfo(target: &str) -> bool {
    match target.split_once(':') {
        Some(("file" | "unix" | "unix-abstract", _)) => false,
        // What comes of its text says more.
        Some(("http" | "https", rest)) if rest.starts_with("//") => false,
        _ => target.contains('@'),
    }
}

fn is_port(text: &str) -> bool {
    text.chars().all(|c| c.is_ascii_digit())
}

fn is_scheme(text: &str) -> bool {
    let is_letter = |c: char| c.is_ascii_alphanumeric() || matches!(c, '+' | '-' | '.');
    text.starts_with(|c: char| c.is_ascii_alphabetic()) && text.chars().all(is_letter)
}

#[cfg(feature = "hickory")]
fn asking(dns: Dns, server: &str) -> Result<Dns, String> {
    match address(server) {
        Some((ip, _)) if ip.has_zone() => {
            Err(format!("the name server `{server}` must not have a zone"))
        }
        Some((ip, port)) => {
            Ok(dns.name_server(SocketAddr::new(ip.ip, port.unwrap_or(NAME_SERVER_PORT))))
        }
        None => Err(format!("`{server}` is not the address of a name server")),
    }
}

#[cfg(not(feature = "hickory"))]
fn asking(_: Dns, server: &str) -> Result<Dns, String> {
    Err(format!(
        "the name server `{server}` needs the feature `hickory`; `dns:///host:port` uses the name \
         servers of the system"
    ))
}

fn invalid(target: &str, why: &str) -> Error {
    Error::new(
        ErrorKind::InvalidEndpoint,
        format!("target `{target}`: {why}"),
    )
}

#[cfg(test)]
mod tests {
    use super::{KNOWN, Target};
    use crate::{Channel, error::ErrorKind};

    #[track_caller]
    fn is_dns(target: &str, server: Option<&str>, name: &str) {
        let expected = Target::Dns { server, name };
        assert_eq!(Target::parse(target), Ok(expected));
    }

    #[track_caller]
    fn is_rejected(target: &str, why: &str) {
        let error = Channel::target(target).expect_err("must be rejected");
        assert_eq!(error.kind(), ErrorKind::InvalidEndpoint);
        let message = error.message();
        assert!(message.contains(why), "{message}");
    }

    #[test]
    fn what_has_no_scheme_is_dns() {
        for target in ["host", "host:50051", "h.example:1", "[::1]:1", "10.0.0.1:1"] {
            is_dns(target, None, target);
            assert!(Channel::target(target).is_ok(), "{target}");
        }
    }

    #[test]
    fn dns_may_name_the_server_to_ask() {
        is_dns("dns:host:1", None, "host:1");
        is_dns("dns:///host:1", None, "host:1");
        is_dns("dns:/host:1", None, "host:1");
        is_dns("dns://1.1.1.1/host:1", Some("1.1.1.1"), "host:1");
        let text = "write `dns:///host:port`";
        is_rejected("dns://host:1", text);
        is_rejected("dns:///", "there is no host");
        #[cfg(not(feature = "hickory"))]
        is_rejected("dns://1.1.1.1/host", "needs the feature `hickory`");
        #[cfg(feature = "hickory")]
        {
            is_rejected(
                "dns://one/host",
                "`one` is not the address of a name server",
            );
            for server in ["1.1.1.1", "1.1.1.1:5353", "[::1]:53", "[::1]"] {
                let target = format!("dns://{server}/host");
                assert!(Channel::target(&target).is_ok(), "{target}");
            }
        }
    }

    // M05
    #[test]
    fn metrics_call_a_channel_by_its_canonical_target() {
        for (target, canonical) in [
            ("shop:50051", "dns:///shop:50051"),
            ("dns:shop:50051", "dns:///shop:50051"),
            ("dns:///shop", "dns:///shop"),
            ("http://shop:50051/path?query", "http://shop:50051"),
            ("file:///etc/backends.json", "file:///etc/backends.json"),
            ("file:/etc/backends.json", "file:///etc/backends.json"),
            ("passthrough:shop:1", "passthrough:///shop:1"),
            ("unix:/run/shop.sock", "unix:/run/shop.sock"),
            ("ipv4:10.0.0.1:1,10.0.0.2:1", "balance:///"),
        ] {
            let builder = Channel::target(target).expect(target);
            assert_eq!(builder.canonical_target(), canonical);
            let named = builder.name("orders").canonical_target();
            match canonical {
                "balance:///" => assert_eq!(named, "channel:///orders"),
                _ => assert_eq!(named, canonical),
            }
        }
    }

    #[track_caller]
    fn are_addresses(target: &str, expected: &[(&str, Option<u16>)]) {
        let expected = expected
            .iter()
            .map(|(ip, port)| (ip.parse().expect("an address"), *port));
        let expected = Target::Addresses(expected.collect());
        assert_eq!(Target::parse(target), Ok(expected));
        assert!(Channel::target(target).is_ok());
    }

    #[test]
    fn addresses_are_listed_by_family() {
        let two = [("10.0.0.1", Some(1)), ("10.0.0.2", Some(2))];
        are_addresses("ipv4:10.0.0.1:1,10.0.0.2:2", &two);
        are_addresses("ipv4:///10.0.0.1", &[("10.0.0.1", None)]);
        let two = [("::1", Some(1)), ("2001:db8::2", None)];
        are_addresses("ipv6:[::1]:1,[2001:db8::2]", &two);
        let two = [("fe80::1%1", Some(1)), ("fe80::2%1", None)];
        are_addresses("ipv6:[fe80::1%251]:1,fe80::2%1", &two);
        is_rejected("ipv6:[fe80::1%none0]:1", "no network interface `none0`");
        is_rejected("ipv4:10.0.0.1%lo:1", "is not an IPv4 address");
        is_rejected(
            "127.0.0.1:1,127.0.0.1:2",
            "write `ipv4:127.0.0.1:1,127.0.0.1:2`",
        );
        is_rejected("[::1]:1,[::1]:2", "write `ipv6:[::1]:1,[::1]:2`");
        is_rejected("localhost:1,localhost:2", "`Channel::list`");
        is_rejected("xds:///shop", "`tonic-xds`");
        is_rejected("ipv4:[::1]:1", "`[::1]:1` is not an IPv4 address");
        is_rejected("ipv6:10.0.0.1:1", "`10.0.0.1:1` is not an IPv6 address");
        is_rejected("ipv4:10.0.0.1:1,", "`` is not an IPv4 address");
        is_rejected("ipv4:10.0.0.1:65536", "is not an IPv4 address");
        is_rejected("ipv4:host:1", "`host:1` is not an IPv4 address");
    }

    #[test]
    fn a_uri_is_one_backend() {
        for target in ["http://host:1", "https://host"] {
            assert_eq!(Target::parse(target), Ok(Target::Uri(target)));
            assert!(Channel::target(target).is_ok(), "{target}");
        }
        is_rejected("http://", "not a URI");
    }

    // D306
    #[test]
    fn what_is_passed_through_is_one_backend() {
        for target in [
            "passthrough:///host:1",
            "passthrough:host:1",
            "passthrough:/host:1",
        ] {
            assert_eq!(Target::parse(target), Ok(Target::Passthrough("host:1")));
            assert!(Channel::target(target).is_ok(), "{target}");
        }
        assert!(Channel::target("passthrough:///[fe80::1%251]:1").is_ok());
        is_rejected("passthrough://host:1", "write `passthrough:///host:1`");
        is_rejected("passthrough:///", "there is no host");
        is_rejected("passthrough:///a b", "a host must consist of letters");
        is_rejected(
            "passthrough:///_grpc._tcp.shop",
            "looked up as SRV records by `dns:///_grpc._tcp.shop`",
        );
    }

    #[test]
    fn a_file_is_named_by_its_absolute_path() {
        for target in ["file:///etc/shop.json", "file:/etc/shop.json"] {
            let expected = Target::File("/etc/shop.json");
            assert_eq!(Target::parse(target), Ok(expected));
            assert!(Channel::target(target).is_ok(), "{target}");
        }
        for target in ["file:shop.json", "file://host/shop.json", "file:"] {
            is_rejected(target, "the path must be absolute; write `file:///path`");
        }
        is_rejected("file:///", "the path `/` names no file");
    }

    #[test]
    fn a_unix_socket_is_a_backend() {
        for target in ["unix:/run/x", "unix:x", "unix:///run/x", "unix-abstract:x"] {
            assert_eq!(Target::parse(target), Ok(Target::Uri(target)));
            assert!(Channel::target(target).is_ok(), "{target}");
        }
        is_rejected("unix:", "there is no path");
    }

    #[test]
    fn an_unknown_scheme_is_told_the_known_ones() {
        for target in ["eureka:///x", "zookeeper://x/y", "vsock:1:2"] {
            is_rejected(target, KNOWN);
        }
        is_rejected("::1", "an IPv6 address needs brackets");
        is_rejected("host:", "the port must be 0 to 65535");
        is_rejected("", "there is no host");
    }
}
