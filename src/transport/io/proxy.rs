//! A way through an HTTP proxy (CONNECT, gRFC A1).

use std::{fmt, sync::Arc};

use http::{HeaderValue, Uri};
use hyper_util::client::proxy::matcher::{Intercept, Matcher};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};

use super::{address::HostPort, connector::BoxIo, no_proxy::NoProxy};
use crate::{error::sanitize_peer_text, transport::words::failure::Failure};

/// The most that a proxy may say before the tunnel begins.
const LONGEST_ANSWER: u64 = 8 << 10;

/// A proxy, and whom it is not for.
#[derive(Clone)]
pub(in crate::transport) struct Proxy {
    uri: String,
    /// `None`: for all.
    except: Option<NoProxy>,
    matcher: Arc<Matcher>,
}

/// What the matcher takes for a target that goes through the proxy.
const ANYWHERE: &str = "https://backend.invalid";

impl Proxy {
    /// A proxy for everything.
    ///
    /// # Errors
    ///
    /// If `uri` names no HTTP proxy. The text does not repeat it, as it may have a
    /// password in it.
    pub(in crate::transport) fn new(uri: &str) -> Result<Self, &'static str> {
        let matcher = Matcher::builder().https(uri).build();
        let proxy = matcher.intercept(&Uri::from_static(ANYWHERE));
        let proxy = proxy.ok_or("not a URI")?;
        match proxy.uri().scheme_str() {
            Some("http") => {}
            _ => return Err("the scheme must be http"),
        }
        Ok(Self {
            uri: uri.to_owned(),
            except: None,
            matcher: Arc::new(matcher),
        })
    }

    /// The proxy of an environment: `https_proxy` and `no_proxy`, in small letters or
    /// in capitals. `None` if it has none.
    pub(in crate::transport) fn of(
        variable: impl Fn(&str) -> Option<String>,
    ) -> Option<Result<Self, &'static str>> {
        let either = |names: [&str; 2]| {
            let set = names.into_iter().filter_map(&variable);
            set.map(|value| value.trim().to_owned())
                .find(|value| !value.is_empty())
        };
        let uri = either(["https_proxy", "HTTPS_PROXY"])?;
        let except = either(["no_proxy", "NO_PROXY"]).unwrap_or_default();
        let except = Some(NoProxy::parse(&except));
        Some(Self::new(&uri).map(|proxy| Self { except, ..proxy }))
    }

    /// The way to `target`, unless it is to be reached without a proxy.
    pub(in crate::transport) fn to(&self, target: &HostPort) -> Option<Hop> {
        let is_excepted = |except: &NoProxy| except.excepts(target);
        if self.except.as_ref().is_some_and(is_excepted) {
            return None;
        }
        self.matcher.intercept(&Uri::from_static(ANYWHERE)).map(Hop)
    }
}

impl PartialEq for Proxy {
    fn eq(&self, other: &Self) -> bool {
        (&self.uri, &self.except) == (&other.uri, &other.except)
    }
}

/// Not the URI: there may be a password in it.
impl fmt::Debug for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Proxy").finish_non_exhaustive()
    }
}

/// A proxy on the way to one target.
pub(in crate::transport) struct Hop(Intercept);

impl Hop {
    /// The proxy itself.
    pub(in crate::transport) fn target(&self) -> HostPort {
        let host = self.0.uri().host().unwrap_or_default();
        HostPort {
            host: host.trim_matches(['[', ']']).to_owned(),
            port: self.0.uri().port_u16().unwrap_or(80),
        }
    }

    /// Asks the proxy at the other end of `io` for a tunnel.
    ///
    /// The peer may speak first, and an HTTP/2 server does. What of that comes
    /// together with the proxy's answer stays in the buffer of the IO returned.
    pub(in crate::transport) async fn tunnel(
        &self,
        io: BoxIo,
        authority: &str,
    ) -> Result<BoxIo, Failure> {
        let mut io = BufReader::new(io);
        let ask = ask(authority, self.0.basic_auth());
        io.write_all(&ask).await?;
        let mut answer = (&mut io).take(LONGEST_ANSWER);
        let mut status = Vec::new();
        let mut line = Vec::new();
        loop {
            line.clear();
            answer.read_until(b'\n', &mut line).await?;
            match line.as_slice() {
                [.., b'\n'] => {}
                _ if answer.limit() == 0 => return Err("its answer is too long".into()),
                _ => return Err("it closed the connection".into()),
            }
            if status.is_empty() {
                status.extend_from_slice(&line);
            }
            if line.trim_ascii().is_empty() {
                break;
            }
        }
        match verdict(&status) {
            Ok(()) => Ok(Box::new(io)),
            Err(why) => Err(why.into()),
        }
    }
}

fn ask(authority: &str, auth: Option<&HeaderValue>) -> Vec<u8> {
    let mut ask = format!("CONNECT {authority} HTTP/1.1\r\nhost: {authority}\r\n").into_bytes();
    if let Some(auth) = auth {
        ask.extend_from_slice(b"proxy-authorization: ");
        ask.extend_from_slice(auth.as_bytes());
        ask.extend_from_slice(b"\r\n");
    }
    ask.extend_from_slice(b"\r\n");
    ask
}

/// Any status of the 200s opens the tunnel (RFC 9110 §9.3.6).
fn verdict(status_line: &[u8]) -> Result<(), String> {
    let line = String::from_utf8_lossy(status_line);
    let Some((version, status)) = line.trim().split_once(' ') else {
        return Err("it does not speak HTTP/1".to_owned());
    };
    match (version.starts_with("HTTP/1."), status.as_bytes()) {
        (true, [b'2', _, _, ..]) => Ok(()),
        (true, _) => Err(format!("it answered {}", sanitize_peer_text(status))),
        (false, _) => Err("it does not speak HTTP/1".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::{BoxIo, Failure, HostPort, Proxy, verdict};

    fn proxied(proxy: &Proxy, host: &str) -> Option<String> {
        let target = HostPort {
            host: host.to_owned(),
            port: 50051,
        };
        proxy.to(&target).map(|hop| hop.target().to_string())
    }

    fn environment(set: &'static [(&str, &str)]) -> Option<Result<Proxy, &'static str>> {
        Proxy::of(|name| {
            let found = set.iter().find(|(set, _)| *set == name);
            found.map(|(_, value)| (*value).to_owned())
        })
    }

    #[test]
    fn the_environment_may_name_a_proxy() {
        assert!(environment(&[]).is_none());
        assert!(environment(&[("http_proxy", "http://proxy:1")]).is_none());
        assert!(environment(&[("https_proxy", " ")]).is_none());
        for name in ["https_proxy", "HTTPS_PROXY"] {
            let set: &[_] = Box::leak(Box::new([(name, "http://proxy:3128")]));
            let proxy = environment(set).expect("set").expect("a URI");
            let to = proxied(&proxy, "backend.test");
            assert_eq!(to.as_deref(), Some("proxy:3128"));
        }
    }

    #[test]
    fn what_is_no_http_proxy_is_an_error() {
        for uri in [
            "socks5://proxy:1",
            "https://proxy:1",
            "http://",
            "not a URI",
        ] {
            assert!(Proxy::new(uri).is_err(), "{uri}");
        }
        assert!(Proxy::new("proxy:3128").is_ok());
    }

    // D294
    #[test]
    fn exceptions_are_names_their_subdomains_addresses_and_networks() {
        let proxy = environment(&[
            ("https_proxy", "http://proxy"),
            (
                "no_proxy",
                "backend.test, 10.0.0.0/8,::3,.sub.test,PORT.test:50051,[::4]:1",
            ),
        ]);
        let proxy = proxy.expect("set").expect("a URI");
        for host in [
            "backend.test",
            "a.backend.test",
            "10.1.2.3",
            "::3",
            "a.sub.test",
            "port.test",
            "localhost",
            "127.0.0.1",
            "::1",
        ] {
            assert_eq!(proxied(&proxy, host), None, "{host}");
        }
        for host in [
            "other.test",
            "notbackend.test",
            "11.1.2.3",
            "::2",
            "sub.test",
            "::4",
        ] {
            assert_eq!(proxied(&proxy, host).as_deref(), Some("proxy:80"), "{host}");
        }
        let for_all = Proxy::new("http://proxy").expect("a URI");
        let to = proxied(&for_all, "localhost");
        assert_eq!(to.as_deref(), Some("proxy:80"), "it was asked for by name");
    }

    async fn through(answer: &[u8]) -> Result<BoxIo, Failure> {
        let proxy = Proxy::new("http://proxy").expect("a URI");
        let target = HostPort {
            host: "backend.test".to_owned(),
            port: 50051,
        };
        let (ours, mut theirs) = tokio::io::duplex(16 << 10);
        theirs.write_all(answer).await.expect("a reader");
        let _ = theirs.shutdown().await;
        let hop = proxy.to(&target).expect("it is for all");
        hop.tunnel(Box::new(ours), "backend.test:50051").await
    }

    #[tokio::test]
    async fn what_the_peer_says_together_with_the_proxy_is_not_lost() {
        let tunnel = through(b"HTTP/1.1 200 OK\r\nx: y\r\n\r\nSETTINGS").await;
        let mut said = String::new();
        let mut tunnel = tunnel.map_err(drop).expect("a tunnel");
        tunnel.read_to_string(&mut said).await.expect("text");
        assert_eq!(said, "SETTINGS");
    }

    #[tokio::test]
    async fn a_proxy_that_says_too_little_or_too_much_is_no_way() {
        let short = through(b"HTTP/1.1 200 OK\r\n").await;
        let why = short.err().expect("no tunnel");
        assert_eq!(why.text(), "it closed the connection");
        let long = [b"HTTP/1.1 200 OK\r\n", [b'x'; 10_000].as_slice()].concat();
        let long = through(&long).await;
        let why = long.err().expect("no tunnel");
        assert_eq!(why.text(), "its answer is too long");
    }

    #[test]
    fn the_answer_of_a_proxy_is_its_status() {
        assert_eq!(verdict(b"HTTP/1.1 200 Connection established\r\n"), Ok(()));
        assert_eq!(verdict(b"HTTP/1.0 204\r\n"), Ok(()));
        let refused = verdict(b"HTTP/1.1 407 Proxy Authentication Required\r\n");
        let text = "it answered 407 Proxy Authentication Required";
        assert_eq!(refused, Err(text.to_owned()));
        let odd = format!("HTTP/1.1 500 \x1b[2J{}", "x".repeat(5_000));
        let odd = verdict(odd.as_bytes()).expect_err("it refuses");
        assert!(odd.starts_with("it answered 500 \\u{1b}[2Jxxx"), "{odd}");
        assert!(odd.len() < 300, "{} bytes", odd.len());
        assert!(verdict(b"220 smtp.test\r\n").is_err());
        assert!(verdict(b"\r\n").is_err());
    }
}
