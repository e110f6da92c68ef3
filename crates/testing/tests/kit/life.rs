//! Starts, stops, kills, and what calls see of them.

use std::{io::ErrorKind, net::Ipv4Addr, time::Duration};

use futures_util::FutureExt;
use tokio::net::{TcpSocket, TcpStream};
use tonic::{Code, service::Routes};
use tonic_health_channel::Channel;
use tonic_health_channel_testing::{Backend, until_ready_backends, within};

use super::{greeter, hello};

fn address(backend: &Backend) -> String {
    backend.uri().replace("http://", "")
}

fn channel(backend: &Backend) -> Channel {
    backend.endpoint().connect_lazy()
}

async fn reconnect(channel: &Channel) {
    channel.reset_connect_backoff();
    let ready = within("a connection", channel.wait_until_ready()).await;
    ready.expect("the backend is up");
}

#[tokio::test]
async fn a_killed_backend_resets_refuses_and_comes_back_at_its_address() {
    let backend = greeter("a").start();
    let before = backend.uri();
    let channel = channel(&backend);
    backend.hold();
    let held = tokio::spawn({
        let channel = channel.clone();
        async move { hello(&channel).await }
    });
    backend.open_calls().until_exactly(1).await;

    within("the kill", backend.kill()).await;
    let lost = held.await.expect("the call does not panic");
    assert_eq!(
        lost.expect_err("it was in flight").code(),
        Code::Unavailable
    );
    backend.open_calls().until_exactly(0).await;
    let refused = TcpStream::connect(address(&backend)).await;
    assert_eq!(
        refused.expect_err("it is down").kind(),
        ErrorKind::ConnectionRefused
    );

    backend.release();
    backend.restart().await;
    assert_eq!(backend.uri(), before);
    reconnect(&channel).await;
    assert_eq!(hello(&channel).await.expect("an answer"), "a");
    assert_eq!(backend.connections().get(), 2);
}

#[tokio::test]
async fn a_stop_waits_for_calls_in_flight_and_needs_nobody_to_poll_it() {
    let backend = greeter("a").start();
    let channel = channel(&backend);
    backend.hold();
    let held = tokio::spawn(async move { hello(&channel).await });
    backend.open_calls().until_exactly(1).await;

    let mut stopped = Box::pin(backend.stop());
    assert!((&mut stopped).now_or_never().is_none(), "a call is open");
    drop(stopped);
    backend.release();
    within("the stop", backend.stop()).await;
    let answer = held.await.expect("the call does not panic");
    assert_eq!(answer.expect("it was in flight"), "a");
    within("a stop while it is down", backend.stop()).await;
}

#[tokio::test]
async fn a_kill_cuts_a_stop_off() {
    let backend = greeter("a").start();
    let channel = channel(&backend);
    backend.hold();
    let held = tokio::spawn(async move { hello(&channel).await });
    backend.open_calls().until_exactly(1).await;
    let stopped = backend.stop();
    within("the kill", backend.kill()).await;
    within("the stop", stopped).await;
    held.await
        .expect("the call does not panic")
        .expect_err("the connection was reset");
}

#[tokio::test]
async fn connections_are_reset_one_by_one_or_all() {
    let backend = greeter("a").start();
    let mut streams = Vec::new();
    for n in 1..=3 {
        streams.push(
            TcpStream::connect(address(&backend))
                .await
                .expect("it is up"),
        );
        backend.connections().until_at_least(n).await;
    }
    backend.reset_connection(1);
    backend.open_connections().until_exactly(2).await;
    let second = &streams[1];
    within("the reset", second.readable())
        .await
        .expect("a socket");
    backend.reset_connections();
    backend.open_connections().until_exactly(0).await;
    assert!(TcpStream::connect(address(&backend)).await.is_ok());
}

#[tokio::test]
async fn a_reserved_backend_refuses_until_it_is_started() {
    let backend = greeter("a").reserve();
    let channel = channel(&backend);
    let refused = hello(&channel).await.expect_err("it is down");
    assert_eq!(refused.code(), Code::Unavailable);
    backend.restart().await;
    reconnect(&channel).await;
    hello(&channel).await.expect("it is up");
}

#[tokio::test]
async fn a_backend_takes_a_socket_and_several_services() {
    let socket = TcpSocket::new_v4().expect("a socket");
    socket
        .bind((Ipv4Addr::LOCALHOST, 0).into())
        .expect("a free port");
    let port = socket.local_addr().expect("bound").port();
    let routes = Routes::new(testing::greeter::greeter_server::GreeterServer::new(
        testing::GreeterService::new("a"),
    ));
    let backend = Backend::builder(routes).listen_on(socket).start();
    assert_eq!(backend.uri(), format!("http://127.0.0.1:{port}"));
    assert_eq!(hello(&channel(&backend)).await.expect("an answer"), "a");
    assert_eq!((backend.calls().get(), backend.watchers().get()), (1, 0));
}

#[tokio::test]
async fn a_connection_ends_at_its_age_and_streams_have_a_limit() {
    let backend = greeter("a")
        .max_connection_age(Duration::from_millis(20))
        .max_concurrent_streams(1)
        .start();
    let channel = channel(&backend);
    hello(&channel).await.expect("an answer");
    backend.open_connections().until_exactly(0).await;

    backend.hold();
    let calls = [channel.clone(), channel.clone()];
    let calls = calls.map(|channel| tokio::spawn(async move { hello(&channel).await }));
    backend.open_calls().until_exactly(1).await;
    assert_eq!(
        backend.calls().get(),
        2,
        "the second call waits in the client"
    );
    backend.release();
    for call in calls {
        call.await.expect("no panic").expect("an answer");
    }
}

#[tokio::test]
async fn dropping_a_backend_ends_its_connections() {
    let backend = greeter("a").start();
    let channel = channel(&backend);
    hello(&channel).await.expect("an answer");
    let open = backend.open_connections().clone();
    drop(backend);
    open.until_exactly(0).await;
    hello(&channel).await.expect_err("it has gone");
}

#[tokio::test]
async fn a_rolling_restart_fails_no_call() {
    let backends = ["a", "b"].map(|name| greeter(name).start());
    let endpoints = backends.iter().map(Backend::endpoint);
    let channel = Channel::list(endpoints)
        .expect("2 endpoints")
        .health_check("")
        .build();
    for backend in &backends {
        until_ready_backends(&channel, 2).await;
        within("the stop", backend.stop()).await;
        hello(&channel).await.expect("the other is up");
        backend.restart().await;
        channel.reset_connect_backoff();
    }
    until_ready_backends(&channel, 2).await;
}
