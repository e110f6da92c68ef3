//! Peers that stop reading, over TCP and over a Unix socket.
//!
//! What callers send to such a peer, and give up, is not kept for it.

use std::{future::Future, sync::Arc, time::Duration};

use testing::{
    Backend, Chat, RawPeer, assert_growth, by_hand, endpoint, greeter, hello, http2,
    request_within, until_that, within,
};
use tokio::{sync::Notify, task::JoinSet, time::Instant};
use tonic::Code;
use tonic_health_channel::{Channel, ConnectivityState::Ready, Endpoint, status::CauseKind};

/// What the callers of a peer that does not read may take, in bytes.
const MOST: u64 = 64 << 20;
const CALLERS: usize = 200;
const MESSAGE: usize = 16 << 10;
const DEADLINE: Duration = Duration::from_millis(5);
const TIME: Duration = Duration::from_secs(3);

/// A channel over a good backend and one that says `settings` and reads nothing more, until
/// the outcome of `test` is there.
async fn beside_a_deaf_peer<F: Future<Output = ()>>(
    settings: Vec<u8>,
    reach: impl FnOnce(&RawPeer) -> Endpoint,
    test: impl FnOnce(Channel) -> F,
) {
    let over = Arc::new(Notify::new());
    let script = {
        let over = Arc::clone(&over);
        move |mut wire: testing::RawConnection| {
            let (settings, over) = (settings.clone(), Arc::clone(&over));
            async move {
                wire.open_with(&settings).await?;
                over.notified().await;
                Ok(())
            }
        }
    };
    let good = Backend::builder().name("good").start().await;
    let deaf = RawPeer::start(script).await;
    let (backends, channel) = by_hand(None);
    let channel = channel.build();
    backends.insert("good", good.uri()).await;
    let mut chat = Chat::start(&channel).await;
    chat.greet("before").await.expect("the good one greets");
    backends.insert_as("deaf", reach(&deaf)).await;
    until_that(&channel, "both to be READY", |status| {
        let backends = status.backends();
        backends.len() == 2 && backends.iter().all(|backend| backend.state() == Ready)
    })
    .await;
    test(channel.clone()).await;
    backends.remove("deaf").await;
    until_that(&channel, "without it", |status| {
        status.backends().len() == 1
    })
    .await;
    over.notify_waiters();
    let after = chat.greet("after").await.expect("the call goes on");
    assert_eq!(after.message, "Hello after!");
    chat.end().await;
    assert_eq!(good.connections(), 1, "the good one is left in peace");
    for _ in 0..4 {
        hello(&channel).await.expect("the good one answers");
    }
}

/// Callers whose calls have a deadline of 5 ms, for 3 s.
async fn call_for_a_while(channel: Channel) {
    let end = Instant::now() + TIME;
    let mut callers = JoinSet::new();
    for _ in 0..CALLERS {
        let mut client = greeter(&channel);
        callers.spawn(async move {
            let name = "x".repeat(MESSAGE);
            while Instant::now() < end {
                if let Err(status) = client.say_hello(request_within(&name, DEADLINE)).await {
                    assert_eq!(status.code(), Code::DeadlineExceeded, "{status}");
                }
            }
        });
    }
    within("the callers to end", callers.join_all()).await;
}

async fn check_callers(name: &str, settings: Vec<u8>, reach: impl FnOnce(&RawPeer) -> Endpoint) {
    let test = beside_a_deaf_peer(settings, reach, call_for_a_while);
    assert_growth(&format!("hostile::deaf::{name}"), MOST, test).await;
}

fn by_tcp(peer: &RawPeer) -> Endpoint {
    endpoint(peer.uri())
}

// D265
#[tokio::test]
async fn callers_by_tcp_of_a_peer_without_a_limit() {
    let name = "callers_by_tcp_of_a_peer_without_a_limit";
    check_callers(name, http2::settings(None), by_tcp).await;
}

// D265
#[tokio::test]
async fn callers_by_tcp_of_a_peer_with_100_streams() {
    let name = "callers_by_tcp_of_a_peer_with_100_streams";
    check_callers(name, http2::settings(Some(100)), by_tcp).await;
}

// D265
#[tokio::test]
async fn callers_by_tcp_of_a_peer_with_wide_windows() {
    let name = "callers_by_tcp_of_a_peer_with_wide_windows";
    check_callers(name, http2::largest_windows(), by_tcp).await;
}

#[cfg(unix)]
async fn check_callers_by_unix_socket(name: &str, settings: Vec<u8>) {
    let mut door = None;
    let reach = |peer: &RawPeer| {
        let door = door.insert(testing::UnixDoor::to(peer.addr()));
        Endpoint::from_shared(format!("unix:{}", door.path())).expect("a path")
    };
    check_callers(name, settings, reach).await;
}

// D265
#[cfg(unix)]
#[tokio::test]
async fn callers_by_a_unix_socket_of_a_peer_without_a_limit() {
    let name = "callers_by_a_unix_socket_of_a_peer_without_a_limit";
    check_callers_by_unix_socket(name, http2::largest_windows()).await;
}

// D265
#[cfg(unix)]
#[tokio::test]
async fn callers_by_a_unix_socket_of_a_peer_with_100_streams() {
    let name = "callers_by_a_unix_socket_of_a_peer_with_100_streams";
    check_callers_by_unix_socket(name, http2::settings(Some(100))).await;
}

// D267
#[tokio::test]
async fn a_peer_that_takes_nothing_is_given_up_in_time() {
    let limit = Duration::from_millis(300);
    let reach = |peer: &RawPeer| endpoint(peer.uri()).write_timeout(Some(limit));
    let test = |channel: Channel| async move {
        // More than the buffers of both sockets.
        let big = "x".repeat(2 << 20);
        let calls = (0..20).map(|_| {
            let mut client = greeter(&channel);
            let request = testing::request(&big);
            async move { client.say_hello(request).await }
        });
        let outcomes = within("the calls", futures_util::future::join_all(calls)).await;
        let failed = outcomes.into_iter().filter_map(Result::err);
        let failed: Vec<_> = failed.collect();
        assert_eq!(failed.len(), 10, "the backends take turns: {failed:?}");
        let why = "write timeout: the peer has read nothing for 300ms";
        for status in failed {
            assert_eq!(status.code(), Code::Unavailable);
            assert!(status.message().ends_with(why), "{status}");
        }
        until_that(&channel, "told of it", |status| {
            status.backends().iter().any(|backend| {
                backend.last_error().is_some_and(|(cause, _)| {
                    cause.kind() == CauseKind::Disconnected && cause.text() == why
                })
            })
        })
        .await;
    };
    beside_a_deaf_peer(http2::largest_windows(), reach, test).await;
}
