//! Peers that do not read what they are sent.

use std::{
    pin::Pin,
    task::{Context, Poll},
};

use futures_util::Stream;
use testing::{
    Peer, PeerScript, balanced_at, greeter,
    greeter::{HelloReply, HelloRequest},
    request, until, within,
};
use tokio::{sync::watch, task::JoinHandle, time::Instant};
use tonic::{Code, Request, Response, Status};
use tonic_health_channel::{Channel, ConnectivityState::Ready};

use super::{DEADLINE, on_time};

const MESSAGE: usize = 64 << 10;

/// What the sockets' buffers may have of it, and the megabyte that HTTP/2 may. The
/// peer's windows would let through a hundred times as much.
const BOUND: usize = 20 << 20;

/// As many messages as are asked for. Who watches sees how many, and the end.
struct Source {
    yielded: watch::Sender<usize>,
}

impl Stream for Source {
    type Item = HelloRequest;

    fn poll_next(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<HelloRequest>> {
        self.yielded.send_modify(|yielded| *yielded += 1);
        Poll::Ready(Some(request(&"x".repeat(MESSAGE))))
    }
}

type Streaming = JoinHandle<Result<Response<HelloReply>, Status>>;

/// A call that streams to a peer without bounds, and how many messages it was asked for.
async fn streaming() -> (Peer, Channel, Streaming, watch::Receiver<usize>) {
    let peer = Peer::start(PeerScript::NeverReads).await;
    let channel = balanced_at([peer.uri()], None).build();
    until(&channel, Ready).await;
    let (yielded, progress) = watch::channel(0);
    let mut request = Request::new(Source { yielded });
    request.set_timeout(DEADLINE);
    let mut client = greeter(&channel);
    let call = tokio::spawn(async move { client.greet_all(request).await });
    (peer, channel, call, progress)
}

async fn until_dropped(progress: &mut watch::Receiver<usize>) {
    let dropped = async { while progress.changed().await.is_ok() {} };
    within("the request to be dropped", dropped).await;
}

// D202
#[tokio::test]
async fn a_peer_that_never_reads_holds_a_bounded_part_of_a_request_until_the_deadline() {
    let started = Instant::now();
    let (peer, channel, call, mut progress) = streaming().await;
    let status = within("the deadline", call).await.expect("no panic");
    let status = status.expect_err("nobody reads it");
    on_time(started);
    assert_eq!(status.code(), Code::DeadlineExceeded, "{status}");
    let waited = format!("waiting for the response of {}", peer.addr());
    assert!(status.message().ends_with(&waited), "{status}");
    until_dropped(&mut progress).await;
    let bytes = *progress.borrow() * MESSAGE;
    assert!(bytes < BOUND, "{bytes} bytes were taken of the request");
    assert_eq!(channel.backends()[0].calls_in_flight(), 0);
}

// D202
#[tokio::test]
async fn a_call_to_a_peer_that_never_reads_can_be_cancelled() {
    let (_peer, channel, call, mut progress) = streaming().await;
    let begun = progress.wait_for(|yielded| *yielded > 10);
    within("the request to be on its way", begun)
        .await
        .expect("the call goes on");
    call.abort();
    until_dropped(&mut progress).await;
    assert_eq!(channel.backends()[0].calls_in_flight(), 0);
}
