//! Through an HTTP proxy, by CONNECT.

use testing::{
    Backend, HttpProxy, Logs, UnixDoor, dead_addr, endpoint, hello, refusal, until_ready,
};
use tonic_health_channel::{Channel, Endpoint, ErrorKind};
use tracing::Level;

const YES: &str = "HTTP/1.1 200 Connection established\r\nvia: test\r\n\r\n";

/// To a name that nobody but the proxy can resolve.
fn through(proxy: &str) -> Channel {
    let endpoint = Endpoint::from_static("http://greeter.invalid:50051");
    let endpoint = endpoint.http_proxy(proxy).expect("a proxy");
    endpoint.connect_lazy()
}

#[tokio::test]
async fn calls_go_through_the_proxy_which_resolves_the_name() {
    let backend = Backend::start().await;
    let proxy = HttpProxy::start(backend.addr(), YES);
    let channel = through(&format!("http://{}", proxy.addr()));
    let reply = hello(&channel).await.expect("a reply");
    assert_eq!(reply.backend, backend.name());
    let authority = backend.last_authority();
    assert_eq!(authority.as_deref(), Some("greeter.invalid:50051"));
    let asked = "CONNECT greeter.invalid:50051 HTTP/1.1\r\nhost: greeter.invalid:50051\r\n\r\n";
    assert_eq!(proxy.asked(), [asked]);
}

#[tokio::test]
async fn a_proxy_is_told_name_and_password() {
    let backend = Backend::start().await;
    let proxy = HttpProxy::start(backend.addr(), YES);
    let channel = through(&format!("http://me:secret@{}", proxy.addr()));
    hello(&channel).await.expect("a reply");
    let asked = proxy.asked().concat();
    let line = "proxy-authorization: Basic bWU6c2VjcmV0\r\n";
    assert!(asked.contains(line), "{asked}");
}

#[tokio::test]
async fn a_proxy_that_refuses_is_quoted() {
    let dead = dead_addr();
    let proxy = HttpProxy::start(dead.addr(), "HTTP/1.1 403 Forbidden\r\n\r\n");
    let text = refusal(&through(&format!("http://{}", proxy.addr()))).await;
    let why = format!("connect: proxy {}: it answered 403 Forbidden", proxy.addr());
    assert!(text.contains(&why), "{text}");
}

#[tokio::test]
async fn a_proxy_that_is_not_there_is_named() {
    let dead = dead_addr();
    let text = refusal(&through(&dead.uri())).await;
    let why = format!("connect: proxy {}: connection refused", dead.addr());
    assert!(text.contains(&why), "{text}");
}

// D307
#[tokio::test]
async fn a_target_behind_a_proxy_is_one_backend_by_its_name() {
    let backend = Backend::start().await;
    let logs = Logs::capture_from("tonic_health_channel::discover");
    let targets = [
        "dns:///greeter.invalid:50051",
        "dns:greeter.invalid:50051",
        "greeter.invalid:50051",
        "passthrough:///greeter.invalid:50051",
        "http://greeter.invalid:50051",
    ];
    for target in targets {
        let proxy = HttpProxy::start(backend.addr(), YES);
        let template = endpoint("http://template")
            .http_proxy(&format!("http://{}", proxy.addr()))
            .expect("a proxy");
        let channel = Channel::target_with(target, template).expect("a target");
        let channel = channel.build();
        until_ready(&channel, &["greeter.invalid:50051"]).await;
        hello(&channel).await.expect("a reply");
        let asked = "CONNECT greeter.invalid:50051 HTTP/1.1\r\nhost: greeter.invalid:50051\r\n\r\n";
        assert_eq!(proxy.asked(), [asked], "{target}");
    }
    let text = "the proxy resolves this name, so the channel has 1 backend for it";
    let warned = logs.at(Level::WARN, "tonic_health_channel::discover");
    let warned = warned.iter().filter(|line| line.starts_with(text));
    assert_eq!(warned.count(), 3, "once for each `dns` target");
}

#[cfg(unix)]
#[tokio::test]
async fn a_unix_socket_needs_no_proxy() {
    let backend = Backend::start().await;
    let door = UnixDoor::to(backend.addr());
    let dead = dead_addr();
    let endpoint = Endpoint::from_shared(format!("unix:{}", door.path())).expect("a socket");
    let endpoint = endpoint.http_proxy(&dead.uri()).expect("a proxy");
    hello(&endpoint.connect_lazy()).await.expect("a reply");
}

#[test]
fn what_is_no_proxy_is_refused_without_telling_its_password() {
    let endpoint = Endpoint::from_static("http://greeter.invalid");
    let refused = endpoint.http_proxy("socks5://me:secret@proxy:1080");
    let error = refused.expect_err("not HTTP");
    assert_eq!(error.kind(), ErrorKind::InvalidOption);
    assert!(!error.message().contains("secret"), "{error}");
    assert!(error.message().contains("http://host:port"), "{error}");
}
