//! Whom a client asks for, and whom it believes.

use std::sync::Arc;

use testing::{Authority, Backend, ByName, Hello, ServerTls, TlsFront, endpoint, hello, until};
use tokio_rustls::rustls::Error;
use tonic_health_channel::{Channel, ClientTlsConfig, ConnectivityState::Ready, Endpoint, Uri};

use super::over;

// D95
#[tokio::test]
async fn the_host_of_the_uri_is_asked_for() {
    let (backend, authority) = (Backend::start().await, Authority::new());
    let tls = ServerTls::new(&authority.only("localhost"));
    let front = TlsFront::start(&backend, tls).await;
    let uri = format!("https://localhost:{}", front.addr().port());
    let endpoint = endpoint(uri).tls_config(authority.trusted());
    let channel = endpoint
        .expect("a config")
        .connect()
        .await
        .expect("connects");
    hello(&channel).await.expect("a greeting");
    let asked_for = front.last_hello().server_name;
    assert_eq!(asked_for.as_deref(), Some("localhost"));
    let authority = backend.last_authority().expect("there was a call");
    assert_eq!(authority, format!("localhost:{}", front.addr().port()));
}

/// A target has no scheme to write.
// D311
#[tokio::test]
async fn tls_that_a_target_is_given_secures_it() {
    let (backend, authority) = (Backend::start().await, Authority::new());
    let tls = ServerTls::new(&authority.only("localhost"));
    let front = TlsFront::start(&backend, tls).await;
    let port = front.addr().port();
    let secured = |endpoint: Endpoint| endpoint.tls_config(authority.trusted());
    for target in [
        format!("passthrough:///localhost:{port}"),
        format!("https://localhost:{port}"),
    ] {
        let builder = Channel::target(&target).expect("a target");
        let channel = builder.endpoint(secured).expect("a config").connect().await;
        hello(&channel.expect("connects"))
            .await
            .expect("a greeting");
    }
    let plain = format!("http://localhost:{port}");
    let builders = [Channel::target(&plain), Channel::list([&plain])];
    for builder in builders {
        let error = builder.expect("a builder").endpoint(secured).err();
        let error = error.expect("it would stay in plain text");
        assert!(error.message().contains("write `https://`"), "{error}");
    }
    for target in ["unix:/run/shop", "unix-abstract:shop"] {
        let builder = Channel::target(target).expect("a target");
        assert!(
            builder.endpoint(secured).is_err(),
            "{target}: in plain text, too"
        );
    }
}

// D95
#[tokio::test]
async fn a_domain_name_stands_for_the_host() {
    let (backend, authority) = (Backend::start().await, Authority::new());
    let tls = ServerTls::new(&authority.only("greeter.example"));
    let front = TlsFront::start(&backend, tls).await;
    let config = authority.trusted().domain_name("greeter.example");
    let channel = over([front.endpoint(config)], None).build();
    until(&channel, Ready).await;
    hello(&channel).await.expect("a greeting");
    let hello = front.last_hello();
    assert_eq!(hello.server_name.as_deref(), Some("greeter.example"));
    let authority = backend.last_authority().expect("there was a call");
    assert_eq!(
        authority,
        front.addr().to_string(),
        "calls go where they went"
    );
}

// D95
#[tokio::test]
async fn an_origin_is_for_calls_and_not_for_tls() {
    let (backend, authority) = (Backend::start().await, Authority::new());
    let front = TlsFront::of(&backend, &authority).await;
    let origin = Uri::from_static("https://greeter.example");
    let endpoint = front.endpoint(authority.trusted()).origin(origin);
    let channel = over([endpoint], None).build();
    until(&channel, Ready).await;
    hello(&channel).await.expect("a greeting");
    assert_eq!(front.last_hello(), Hello::default());
    assert_eq!(backend.last_authority().as_deref(), Some("greeter.example"));
}

// D96
#[tokio::test]
async fn a_client_that_is_asked_says_who_it_is() {
    let (backend, authority) = (Backend::start().await, Authority::new());
    let tls = ServerTls::new(&authority.server(&[])).asks_for(&authority);
    let front = TlsFront::start(&backend, tls).await;
    let identity = authority.client("me").identity();
    let endpoint = front.endpoint(authority.trusted().identity(identity));
    let channel = over([endpoint], None).build();
    until(&channel, Ready).await;
    hello(&channel).await.expect("a greeting");
    assert!(front.last_hello().has_certificate);
}

// D91
#[tokio::test]
async fn http2_can_be_assumed_where_a_server_does_not_say_it() {
    let (backend, authority) = (Backend::start().await, Authority::new());
    let tls = ServerTls::new(&authority.server(&[])).alpn(&[]);
    let front = TlsFront::start(&backend, tls).await;
    let text = super::failure(front.endpoint(authority.trusted())).await;
    let expected = "TLS handshake failed: the server did not select HTTP/2 (missing selected ALPN \
                    property `h2`)";
    assert!(text.starts_with(expected), "{text}");

    let endpoint = front.endpoint(authority.trusted().assume_http2(true));
    let channel = endpoint.connect().await.expect("connects");
    hello(&channel).await.expect("a greeting");
}

// D95
#[tokio::test]
async fn a_verifier_decides_alone() {
    let (backend, authority) = (Backend::start().await, Authority::new());
    let front = TlsFront::of(&backend, &authority).await;
    let verified = |name: &'static str, config| {
        let endpoint = endpoint(format!("https://{}", front.addr()));
        let verifier = ByName(move |shown: &str| match shown == name {
            true => Ok(()),
            false => Err(Error::General(format!("who is {shown}"))),
        });
        endpoint.dangerous_tls_config_with_verifier(config, Arc::new(verifier))
    };
    let believes = verified("127.0.0.1", ClientTlsConfig::new()).expect("a config");
    let channel = believes.connect().await.expect("connects");
    hello(&channel).await.expect("a greeting");

    let doubts = verified("greeter.example", ClientTlsConfig::new()).expect("a config");
    let text = super::failure(doubts).await;
    assert!(text.ends_with("who is 127.0.0.1"), "{text}");
    let both = verified("127.0.0.1", authority.trusted()).expect_err("who decides?");
    assert!(
        both.message()
            .contains("a verifier replaces the trust roots"),
        "{both}"
    );
}
