//! From `-addr` to an endpoint.

use std::{borrow::Cow, net::Ipv6Addr};

use http::Uri;
use tonic_health_channel::Endpoint;

use crate::spelling::unescaped_path;

/// What `:port` connects to, as in Go. No name has to be looked up for it.
const THIS_HOST: &str = "127.0.0.1";

/// The endpoint at `addr`, as gRPC for Go names servers: `host:port`, `:port` for this
/// host, both also after `dns:` or `passthrough:`, and Unix sockets.
///
/// # Errors
///
/// What is wrong with the address.
pub(super) fn endpoint(addr: &str, tls: bool) -> Result<Endpoint, String> {
    if addr.starts_with("unix:") || addr.starts_with("unix-abstract:") {
        let endpoint = Endpoint::from_shared(unescaped_path(addr));
        return endpoint.map_err(|error| error.to_string());
    }
    let (host, port) = host_and_port(addr)?;
    let scheme = match tls {
        true => "https",
        false => "http",
    };
    let reached_at = match host {
        "" => THIS_HOST,
        host => host,
    };
    let endpoint = Endpoint::from_shared(format!("{scheme}://{reached_at}:{port}"));
    let endpoint = endpoint.map_err(|error| error.to_string())?;
    Ok(match host {
        "" => endpoint.origin(uri(scheme, &format!("localhost:{port}"))?),
        _ => endpoint,
    })
}

/// `scheme://authority/`.
///
/// # Errors
///
/// That it is no such thing.
pub(super) fn uri(scheme: &str, authority: &str) -> Result<Uri, String> {
    let parts = Uri::builder().scheme(scheme).authority(authority);
    let uri = parts.path_and_query("/").build();
    uri.map_err(|_| format!("`{authority}` is not a valid server name"))
}

/// A name as an authority has it: an IPv6 address is in brackets.
pub(super) fn bracketed(name: &str) -> Cow<'_, str> {
    match name.parse::<Ipv6Addr>() {
        Ok(_) => format!("[{name}]").into(),
        Err(_) => name.into(),
    }
}

/// Whether it is `:port`, whose server is called localhost.
pub(super) fn is_this_host(addr: &str) -> bool {
    host_and_port(addr).is_ok_and(|(host, _)| host.is_empty())
}

fn host_and_port(addr: &str) -> Result<(&str, u16), String> {
    let invalid = |why: &str| format!("address `{addr}`: {why}");
    let bare = ["dns:///", "dns:", "passthrough:///", "passthrough:"]
        .iter()
        .find_map(|scheme| addr.strip_prefix(scheme))
        .unwrap_or(addr);
    if bare.contains("://") {
        return Err(invalid(
            "write `host:port` without a scheme, and -tls for TLS",
        ));
    }
    if bare.contains(['/', '?', '#', '@']) {
        return Err(invalid("write `host:port` and nothing else"));
    }
    let Some((host, port)) = bare.rsplit_once(':') else {
        return Err(invalid("there is no port; write `host:port`"));
    };
    let is_bracketed = host.starts_with('[') && host.ends_with(']');
    if host.contains(':') && !is_bracketed {
        return Err(invalid("write an IPv6 address as `[::1]:port`"));
    }
    match port.parse() {
        Ok(port) => Ok((host, port)),
        Err(_) => Err(invalid(&format!(
            "the port must be 0 to 65535, not `{port}`"
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::{endpoint, is_this_host};

    #[track_caller]
    fn is_at(addr: &str, uri: &str) {
        let endpoint = endpoint(addr, false).expect(addr);
        assert_eq!(endpoint.uri(), uri, "{addr}");
    }

    #[test]
    fn addresses_are_those_of_grpc_for_go() {
        is_at("shop.example:50051", "http://shop.example:50051");
        is_at("10.0.0.1:50051", "http://10.0.0.1:50051");
        is_at("[::1]:50051", "http://[::1]:50051");
        is_at("dns:///shop.example:50051", "http://shop.example:50051");
        is_at("dns:shop.example:50051", "http://shop.example:50051");
        is_at("passthrough:///10.0.0.1:1", "http://10.0.0.1:1");
        is_at(":50051", "http://127.0.0.1:50051");
        is_at("unix:/run/shop.sock", "http://localhost");
        is_at("unix:///run/shop.sock", "http://localhost");
        assert!(is_this_host(":50051"));
        assert!(!is_this_host("localhost:50051"));
        assert!(!is_this_host("unix:/run/shop.sock"));
    }

    #[test]
    fn with_tls_the_scheme_says_so() {
        let endpoint = endpoint("shop.example:443", true).expect("an address");
        assert_eq!(endpoint.uri(), "https://shop.example:443");
    }

    #[test]
    fn what_is_no_address_is_refused() {
        for (addr, expected) in [
            ("shop.example", "there is no port"),
            ("shop.example:", "the port must be 0 to 65535, not ``"),
            ("shop.example:http", "not `http`"),
            ("shop.example:70000", "not `70000`"),
            ("http://shop.example:1", "without a scheme"),
            ("dns://1.1.1.1/shop.example:1", "nothing else"),
            ("shop.example:1/path", "nothing else"),
            ("me@shop.example:1", "nothing else"),
            ("::1:50051", "[::1]:port"),
            ("shop example:1", "not a URI"),
            ("unix:", "no path"),
        ] {
            let why = endpoint(addr, false).expect_err(addr);
            assert!(
                why.contains(expected) && why.contains(addr),
                "{addr}: {why}"
            );
        }
    }
}
