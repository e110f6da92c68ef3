//! What is dialled: host and port, or the name of a Unix socket.

use std::{
    fmt,
    net::{IpAddr, SocketAddr},
};

/// Host and port, taken apart.
#[derive(Clone, Debug)]
pub(in crate::transport) struct HostPort {
    pub(in crate::transport) host: String,
    pub(in crate::transport) port: u16,
}

/// Where an endpoint is, if its URI does not say.
#[derive(Clone, Debug, PartialEq)]
pub(in crate::transport) enum Located {
    /// Somebody has looked the host of the URI up already.
    Tcp(SocketAddr),
    Unix(UnixName),
}

/// The name of a Unix socket.
#[derive(Clone, Debug, PartialEq)]
pub(in crate::transport) enum UnixName {
    Path(String),
    /// In Linux's namespace of its own, without the leading zero byte.
    Abstract(String),
}

impl HostPort {
    /// An address, without a name.
    pub(in crate::transport) fn of(address: SocketAddr) -> Self {
        Self {
            host: address.ip().to_string(),
            port: address.port(),
        }
    }

    /// Whether the host is `0.0.0.0` or `::`, which is nowhere.
    pub(in crate::transport) fn is_unspecified(&self) -> bool {
        let address = self.host.parse();
        address.is_ok_and(|address: IpAddr| address.is_unspecified())
    }
}

impl UnixName {
    /// Of a target as gRPC writes it: `unix:path`, `unix:///path` or
    /// `unix-abstract:name`. `None` if it is of another kind.
    ///
    /// # Errors
    ///
    /// If there is no name.
    pub(in crate::transport) fn parse(target: &str) -> Option<Result<Self, &'static str>> {
        if let Some(name) = target.strip_prefix("unix-abstract:") {
            return Some(match name {
                "" => Err("there is no name after `unix-abstract:`"),
                name => Ok(Self::Abstract(name.to_owned())),
            });
        }
        let rest = target.strip_prefix("unix:")?;
        Some(match rest.strip_prefix("//").unwrap_or(rest) {
            "" => Err("there is no path after `unix:`"),
            path if path.contains('\0') => Err("a path must not contain a zero byte"),
            path => Ok(Self::Path(path.to_owned())),
        })
    }
}

impl fmt::Display for HostPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.host.contains(':') {
            true => write!(f, "[{}]:{}", self.host, self.port),
            false => write!(f, "{}:{}", self.host, self.port),
        }
    }
}

impl fmt::Display for Located {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(f),
            Self::Unix(name) => name.fmt(f),
        }
    }
}

impl fmt::Display for UnixName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Path(path) => write!(f, "unix:{path}"),
            Self::Abstract(name) => write!(f, "unix-abstract:{name}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::UnixName;

    #[track_caller]
    fn check(target: &str, name: Option<&str>) {
        let parsed = UnixName::parse(target).and_then(Result::ok);
        assert_eq!(parsed.map(|name| name.to_string()).as_deref(), name);
    }

    #[test]
    fn unix_sockets_are_named_as_in_grpc() {
        check("unix:/run/greeter.sock", Some("unix:/run/greeter.sock"));
        check("unix:///run/greeter.sock", Some("unix:/run/greeter.sock"));
        check("unix:greeter.sock", Some("unix:greeter.sock"));
        check("unix-abstract:greeter", Some("unix-abstract:greeter"));
        check("unix:", None);
        check("unix://", None);
        check("unix-abstract:", None);
        check("unix:/a\0b", None);
        check("http://unix:1", None);
    }
}
