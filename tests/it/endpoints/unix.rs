//! Backends at Unix sockets.

use testing::{
    Backend, GREETER, UnixDoor, checking, hello, refusal, spread, until_backends, within,
};
use tonic_health_channel::{
    Channel,
    ConnectivityState::{Ready, TransientFailure},
    Endpoint, discover,
};

async fn connected(target: String) -> Channel {
    let endpoint = Endpoint::from_shared(target).expect("the name of a socket");
    let channel = within("the endpoint to connect", endpoint.connect()).await;
    channel.expect("somebody listens")
}

#[tokio::test]
async fn an_endpoint_may_be_a_unix_socket() {
    let backend = Backend::start().await;
    let door = UnixDoor::to(backend.addr());
    for target in [
        format!("unix:{}", door.path()),
        format!("unix://{}", door.path()),
    ] {
        let channel = connected(target).await;
        let reply = hello(&channel).await.expect("a reply");
        assert_eq!(reply.backend, backend.name());
        assert_eq!(backend.last_authority().as_deref(), Some("localhost"));
        let label = format!("unix:{}", door.path());
        assert_eq!(channel.backends()[0].label(), label);
        assert_eq!(channel.backends()[0].address(), label);
    }
}

#[tokio::test]
async fn the_origin_is_the_name_of_a_server_at_a_socket() {
    let backend = Backend::start().await;
    let door = UnixDoor::to(backend.addr());
    let endpoint = Endpoint::from_shared(format!("unix:{}", door.path())).expect("a socket");
    let endpoint = endpoint.origin("http://greeter.test".parse().expect("a URI"));
    hello(&endpoint.connect_lazy()).await.expect("a reply");
    assert_eq!(backend.last_authority().as_deref(), Some("greeter.test"));
}

#[tokio::test]
async fn a_target_may_be_a_unix_socket() {
    let backend = Backend::start().await;
    let door = UnixDoor::to(backend.addr());
    let target = format!("unix://{}", door.path());
    let channel = Channel::target(&target).expect("a target");
    let channel = channel.service_config(checking(GREETER)).build();
    let reply = hello(&channel).await.expect("a reply");
    assert_eq!(reply.backend, backend.name());
    let label = format!("unix:{}", door.path());
    assert_eq!(channel.backends()[0].label(), label);
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn an_endpoint_may_be_an_abstract_unix_socket() {
    let backend = Backend::start().await;
    let name = format!("tonic-health-channel-{}", backend.addr());
    let listener = tokio::net::UnixListener::bind(format!("\0{name}")).expect("a socket");
    let _relay = testing::relay_unix(listener, backend.addr());
    let channel = connected(format!("unix-abstract:{name}")).await;
    let reply = hello(&channel).await.expect("a reply");
    assert_eq!(reply.backend, backend.name());
    let label = format!("unix-abstract:{name}");
    assert_eq!(channel.backends()[0].label(), label);
}

#[tokio::test]
async fn a_list_may_mix_sockets_and_ports_and_their_health_is_checked() {
    let [a, b, c] = Backend::builder().start_each(["a", "b", "c"]).await;
    let doors = [&a, &b].map(|backend| UnixDoor::to(backend.addr()));
    let [at_a, at_b] = [0, 1].map(|i| format!("unix:{}", doors[i].path()));
    let backends = discover::list([at_a, at_b, c.uri()]).expect("three endpoints");
    let channel = Channel::balance(backends)
        .service_config(checking(GREETER))
        .build();
    until_backends(&channel, &[Ready, Ready, Ready]).await;
    assert_eq!(spread(&channel, 9, &[&a, &b, &c]).await, [3, 3, 3]);
    b.set_not_serving(GREETER).await;
    until_backends(&channel, &[Ready, TransientFailure, Ready]).await;
    assert_eq!(spread(&channel, 8, &[&a, &b, &c]).await, [4, 0, 4]);
}

#[tokio::test]
async fn a_socket_that_is_not_there_says_so() {
    let path = std::env::temp_dir().join("tonic-health-channel-nobody");
    let target = format!("unix:{}", path.display());
    let endpoint = Endpoint::from_shared(target.clone()).expect("the name of a socket");
    let text = refusal(&endpoint.connect_lazy()).await;
    assert!(text.contains(&target), "{text}");
    assert!(text.contains("No such file"), "{text}");
}

#[cfg(feature = "tls-ring")]
#[test]
fn a_socket_takes_no_tls_config() {
    let endpoint = Endpoint::from_static("unix:/run/greeter.sock");
    let config = tonic_health_channel::ClientTlsConfig::new();
    let error = endpoint
        .tls_config(config)
        .expect_err("it would be plain text");
    let text = "endpoint `unix:/run/greeter.sock`: TLS config: there is no TLS over a Unix socket";
    assert_eq!(error.message(), text);
}
