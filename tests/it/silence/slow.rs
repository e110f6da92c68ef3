//! Peers that send, and take their time over it.

use std::time::Duration;

use testing::{
    Backend, Flow, Valve, balanced, by_hand, hello, outcome, request_within, start, until,
    until_backends,
};
use tonic_health_channel::{
    Channel,
    ConnectivityState::{Ready, TransientFailure},
};

use super::{DEADLINE, run_out, withholding};

/// A backend, and a READY channel to it alone.
async fn connected() -> (Backend, Channel) {
    let backend = Backend::start().await;
    let channel = balanced(&[&backend], None).build();
    until(&channel, Ready).await;
    (backend, channel)
}

fn text_in_the_body(from: impl std::fmt::Display) -> String {
    format!("deadline exceeded while the response of {from} was received")
}

/// Asserts that a call which is answered only in part ends at its deadline, frees what
/// it held on both sides, and leaves the calls beside it alone.
async fn check_withheld(what: &'static str) {
    let (backend, channel) = connected().await;
    let beside = start(&channel, "hold");
    backend.until_held(1).await;
    let text = run_out(&channel, withholding(what)).await;
    assert_eq!(text, text_in_the_body(backend.addr()));
    backend.until_open_calls(1).await;
    assert_eq!(channel.backends()[0].calls_in_flight(), 1, "the one beside");
    backend.release();
    outcome(beside).await.expect("it had nothing to do with it");
    hello(&channel).await.expect("nor has the next");
    assert_eq!(backend.connections(), 1);
}

// D198
#[tokio::test]
async fn a_message_that_comes_byte_by_byte_ends_at_the_deadline() {
    check_withheld("bytes").await;
}

// D198
#[tokio::test]
async fn a_response_without_an_end_ends_at_the_deadline() {
    check_withheld("trailers").await;
}

// D198
#[tokio::test]
async fn headers_that_come_byte_by_byte_end_at_the_deadline() {
    let behind = Backend::builder().name("A").start().await;
    let other = Backend::builder().name("B").start().await;
    let valve = Valve::before(behind.addr());
    let (backends, builder) = by_hand(None);
    let channel = builder.build();
    backends.insert("A", valve.uri()).await;
    until(&channel, Ready).await;
    hello(&channel).await.expect("an answer in one piece");
    valve.to_client(Flow::Drips);

    let text = run_out(&channel, request_within("you", DEADLINE)).await;
    let from = valve.addr();
    let expected =
        format!("deadline exceeded after {DEADLINE:?}, waiting for the response of {from}");
    assert_eq!(text, expected);
    assert_eq!(channel.backends()[0].calls_in_flight(), 0);
    backends.insert("B", other.uri()).await;
    until_backends(&channel, &[Ready, Ready]).await;
    let calls = (0..4).map(|_| testing::call(&channel, request_within("you", DEADLINE)));
    let outcomes = futures_util::future::join_all(calls).await;
    let answered = outcomes.iter().filter(|outcome| outcome.is_ok()).count();
    assert_eq!(answered, 2, "every other");
    assert_eq!(other.hits(), 2);
}

/// Asserts that a backend whose every byte takes its time is not connected to.
async fn check_connect(channel: Channel, waiting: &str) {
    until(&channel, TransientFailure).await;
    let failed = channel.backends()[0].to_string();
    let text = format!("no connection within 300ms: {waiting}");
    assert!(failed.contains(&text), "{failed}");
}

const CONNECT: Duration = Duration::from_millis(300);

// D199
#[tokio::test]
async fn settings_that_come_byte_by_byte_cost_the_connect_timeout() {
    let backend = Backend::start().await;
    let valve = Valve::before(backend.addr());
    valve.to_client(Flow::Drips);
    let (backends, builder) = by_hand(None);
    let endpoint = testing::endpoint(valve.uri()).connect_timeout(CONNECT);
    backends.insert_as("A", endpoint).await;
    let channel = builder.build();
    check_connect(channel.clone(), "waiting for the peer's HTTP/2 SETTINGS").await;
    valve.to_client(Flow::Passes);
    until(&channel, Ready).await;
    hello(&channel).await.expect("it is as quick as others now");
}

// D199
#[cfg(feature = "tls-ring")]
#[tokio::test]
async fn a_tls_handshake_byte_by_byte_costs_the_connect_timeout() {
    use testing::{Authority, TlsFront};

    let (backend, authority) = (Backend::start().await, Authority::new());
    let front = TlsFront::of(&backend, &authority).await;
    let valve = Valve::before(front.addr());
    valve.to_client(Flow::Drips);
    let (backends, builder) = by_hand(None);
    let endpoint = testing::endpoint(format!("https://{}", valve.addr()))
        .connect_timeout(CONNECT)
        .tls_config(authority.trusted())
        .expect("a TLS config that makes sense");
    backends.insert_as("A", endpoint).await;
    let channel = builder.build();
    let waiting = format!("waiting for the TLS handshake with {}", valve.addr());
    check_connect(channel.clone(), &waiting).await;
    valve.to_client(Flow::Passes);
    until(&channel, Ready).await;
    hello(&channel).await.expect("it is as quick as others now");
}
