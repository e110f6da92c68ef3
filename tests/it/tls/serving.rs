//! Behind TLS everything is as it is without.

use testing::{
    Authority, Backend, Chat, GREETER, TlsFront, hello, refusal, spread, until, until_backends,
    until_that,
};
use tonic_health_channel::{
    Channel,
    ConnectivityState::{Ready, TransientFailure},
    channel::Change,
    discover,
};

use super::over;

// D147
#[tokio::test]
async fn calls_follow_the_health_of_two_backends_behind_tls() {
    let authority = Authority::new();
    let [a, b] = Backend::builder().scripted().start_each(["A", "B"]).await;
    let fronts = [
        TlsFront::of(&a, &authority).await,
        TlsFront::of(&b, &authority).await,
    ];
    let endpoints = fronts
        .each_ref()
        .map(|front| front.endpoint(authority.trusted()));
    let channel = over(endpoints, Some(GREETER)).build();
    until_backends(&channel, &[Ready, Ready]).await;
    assert_eq!(spread(&channel, 10, &[&a, &b]).await, [5, 5]);
    let backends = channel.backends();
    let labels = backends.iter().map(|backend| backend.label().to_owned());
    let addresses = fronts.iter().map(|front| front.addr().to_string());
    assert!(labels.eq(addresses), "{backends:?}");

    a.set_not_serving(GREETER).await;
    until_backends(&channel, &[TransientFailure, Ready]).await;
    assert_eq!(spread(&channel, 10, &[&a, &b]).await, [0, 10]);
    b.set_not_serving(GREETER).await;
    until(&channel, TransientFailure).await;
    let text = refusal(&channel).await;
    assert!(text.contains("NOT_SERVING"), "{text}");

    a.set_serving(GREETER).await;
    until(&channel, Ready).await;
    assert_eq!(spread(&channel, 4, &[&a, &b]).await, [4, 0]);
    assert_eq!((a.connections(), b.connections()), (1, 1));
}

// D147
#[tokio::test]
async fn a_single_channel_streams_reconnects_and_lets_go() {
    let (backend, authority) = (Backend::start().await, Authority::new());
    let front = TlsFront::of(&backend, &authority).await;
    let channel = front.endpoint(authority.trusted()).connect_lazy();
    let mut chat = Chat::start(&channel).await;
    for name in ["a", "b"] {
        let greeting = chat.greet(name).await.expect("a greeting");
        assert_eq!(greeting.message, format!("Hello {name}!"));
    }
    chat.end().await;

    backend.cut_connections();
    until_that(&channel, "the loss of the connection", |status| {
        status.backends()[0].last_error().is_some()
    })
    .await;
    hello(&channel).await.expect("on a new connection");
    assert_eq!(backend.connections(), 2);
    drop(channel);
    backend.until_open_connections(0).await;
}

// D147
#[tokio::test]
async fn a_source_that_repeats_an_equal_config_changes_nothing() {
    let (backend, authority) = (Backend::start().await, Authority::new());
    let front = TlsFront::of(&backend, &authority).await;
    let (changes, source) = discover::push(4);
    let channel = Channel::balance(source).build();
    let insert = async |config| {
        let change = Change::Insert("a", front.endpoint(config));
        changes.send(change).await.expect("the channel listens");
    };
    insert(authority.trusted()).await;
    until(&channel, Ready).await;
    insert(authority.trusted()).await;
    hello(&channel).await.expect("a greeting");
    assert_eq!(front.handshakes.get(), 1);

    let identity = authority.client("me").identity();
    insert(authority.trusted().identity(identity)).await;
    front.handshakes.until_at_least(2).await;
    backend.until_open_connections(1).await;
    hello(&channel).await.expect("a greeting");
    assert_eq!(front.handshakes.get(), 2);
}
