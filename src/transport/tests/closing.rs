//! How a connection ends that nobody holds any more, whose tasks go where, and
//! requests that get nowhere.

use std::{future::Future, pin::Pin};

use futures_util::FutureExt;
use h2::server;
use http::Request;
use http_body_util::BodyExt;
use tokio::{io::duplex, sync::watch};
use tonic::{Code, body::Body};

use super::{
    Connection, PIPE, Peer, connected, connected_by, data, endpoint_over, open, read, slots_taken,
    soon, streaming, unary,
    wire::{ACK, GOAWAY, RST_STREAM, SETTINGS, wired},
};
use crate::{
    error::ErrorKind,
    transport::{OutgoingRequest, SendError, Stage},
};

type Task = Pin<Box<dyn Future<Output = ()> + Send>>;

/// Counts the tasks it runs.
#[derive(Clone)]
struct Counting(watch::Sender<usize>);

impl hyper::rt::Executor<Task> for Counting {
    fn execute(&self, task: Task) {
        let running = self.0.clone();
        running.send_modify(|running| *running += 1);
        tokio::spawn(async move {
            task.await;
            running.send_modify(|running| *running -= 1);
        });
    }
}

/// A connection, its peer, and how many tasks it has.
async fn counted() -> (Connection, Peer, watch::Receiver<usize>) {
    let running = watch::Sender::new(0);
    let tasks = running.subscribe();
    let (ours, theirs) = duplex(PIPE);
    let endpoint = endpoint_over(ours).executor(Counting(running));
    let (connection, peer) = connected_by(endpoint, &server::Builder::new(), theirs).await;
    (connection, peer, tasks)
}

async fn becomes(tasks: &mut watch::Receiver<usize>, count: usize) {
    soon(tasks.wait_for(|running| *running == count))
        .await
        .expect("a counter");
}

#[tokio::test(start_paused = true)]
async fn without_handles_and_streams_a_connection_says_goaway_and_closes() {
    let (connection, mut wire) = wired(100).await;
    drop(connection);
    let goaway = wire.read_until(GOAWAY).await;
    assert_eq!(goaway.payload[4..8], [0; 4], "NO_ERROR");
    assert!(wire.read().await.is_none(), "and closes");
}

/// Of 40 calls that are cancelled together 24 are not reset before the peer says something.
#[tokio::test(start_paused = true)]
async fn calls_that_are_yet_to_be_reset_keep_no_connection_that_nobody_holds() {
    let (connection, mut wire) = wired(100).await;
    let mut calls = Vec::new();
    for _ in 0..40 {
        calls.push(open(&connection, unary("")).await);
    }
    drop(calls);
    slots_taken(&connection, 24).await;
    drop(connection);
    wire.read_until(GOAWAY).await;
    assert!(wire.read().await.is_none(), "and closes");
}

#[tokio::test(start_paused = true)]
async fn any_handle_keeps_a_connection_open() {
    let (connection, mut peer) = connected().await;
    let other = connection.clone();
    drop(connection);
    super::assert_usable(&other, &mut peer).await;
    drop(other);
    peer.ended().await;
}

#[tokio::test(start_paused = true)]
async fn an_open_stream_outlives_the_last_handle() {
    let (connection, mut peer) = connected().await;
    let exchange = open(&connection, unary("")).await;
    drop(connection);
    peer.next_call()
        .await
        .answer_whole(b"answered all the same");
    let mut body = soon(exchange).await.expect("headers").into_body();
    assert!(!peer.ended.is_finished());
    let (answer, _) = read(&mut body).await.expect("a body");
    assert_eq!(answer, "answered all the same");
    peer.ended().await;
}

#[tokio::test(start_paused = true)]
async fn cancelling_the_last_stream_closes_a_connection_without_handles() {
    let (connection, mut wire) = wired(100).await;
    let exchange = open(&connection, unary("")).await;
    drop(connection);
    wire.next_request().await;
    drop(exchange);
    wire.read_until(RST_STREAM).await;
    wire.read_until(GOAWAY).await;
    assert!(wire.read().await.is_none());
}

// D204
#[tokio::test(start_paused = true)]
async fn what_a_peer_never_takes_keeps_no_connection_that_nobody_holds() {
    const INITIAL_WINDOW_SIZE: u16 = 4;
    let (connection, mut wire) = wired(100).await;
    wire.settings(&[(INITIAL_WINDOW_SIZE, 0)]).await;
    while wire.read_until(SETTINGS).await.flags & ACK == 0 {}
    let exchange = open(&connection, unary("more than nothing")).await;
    let stream = wire.next_request().await;
    wire.answer(stream, b"enough").await;
    let mut body = soon(exchange).await.expect("headers").into_body();
    assert_eq!(read(&mut body).await.expect("a body").0, "enough");
    slots_taken(&connection, 0).await;
    drop((body, connection));
    while soon(wire.read()).await.is_some() {}
}

#[tokio::test(start_paused = true)]
async fn the_driver_runs_on_the_endpoints_executor_and_ends_with_the_connection() {
    let (connection, peer, mut tasks) = counted().await;
    assert_eq!(*tasks.borrow(), 1, "the driver");
    drop(connection);
    becomes(&mut tasks, 0).await;
    peer.ended().await;
}

#[tokio::test(start_paused = true)]
async fn the_driver_ends_when_the_peer_is_gone_though_handles_are_held() {
    let (connection, peer, mut tasks) = counted().await;
    drop(peer);
    becomes(&mut tasks, 0).await;
    assert!(matches!(*connection.stage().borrow(), Stage::Closed(_)));
}

#[tokio::test(start_paused = true)]
async fn a_pump_has_a_task_only_from_headers_to_the_end_of_the_request() {
    let (connection, mut peer, mut tasks) = counted().await;
    let (frames, request) = streaming();
    frames.send(data(b"one")).expect("a reader");
    let exchange = open(&connection, request).await;
    let mut at_peer = peer.next_call().await;
    assert_eq!(*tasks.borrow(), 1, "the driver");
    let _answers = at_peer.answer();
    let _response = soon(exchange).await.expect("headers");
    assert_eq!(*tasks.borrow(), 2, "the driver and the pump");
    drop(frames);
    becomes(&mut tasks, 1).await;
}

#[tokio::test(start_paused = true)]
async fn a_pump_ends_with_its_response_body() {
    let (connection, mut peer, mut tasks) = counted().await;
    let (_frames, request) = streaming();
    let exchange = open(&connection, request).await;
    let _answers = peer.next_call().await.answer();
    let response = soon(exchange).await.expect("headers");
    assert_eq!(*tasks.borrow(), 2, "the driver and the pump");
    drop(response);
    becomes(&mut tasks, 1).await;
}

#[tokio::test(start_paused = true)]
async fn unary_calls_have_no_task() {
    let (connection, mut peer, mut tasks) = counted().await;
    assert_eq!(*tasks.borrow_and_update(), 1, "the driver");
    super::assert_usable(&connection, &mut peer).await;
    assert!(!tasks.has_changed().expect("a counter"));
}

/// An executor that lets go of its tasks, as a runtime that shuts down.
struct Forgetful;

impl hyper::rt::Executor<Task> for Forgetful {
    fn execute(&self, task: Task) {
        drop(task);
    }
}

#[tokio::test(start_paused = true)]
async fn a_connection_whose_driver_is_dropped_is_closed() {
    let (ours, theirs) = duplex(PIPE);
    let endpoint = endpoint_over(ours).executor(Forgetful);
    let (connection, _peer) = connected_by(endpoint, &server::Builder::new(), theirs).await;
    assert_eq!(
        super::closes(&connection).await,
        "disconnected: the connection's runtime has ended"
    );
    assert!(connection.admit().is_none());
}

#[tokio::test(start_paused = true)]
async fn a_request_that_http2_cannot_carry_is_refused_and_frees_its_slot() {
    let (connection, mut peer) = connected().await;
    let request = Request::post("backend.test:50051").body(Body::empty());
    let mut request = OutgoingRequest::new(request.expect("an authority is a URI"));
    request.prefetch().await.expect("a sound body");
    let admitted = connection.admit().expect("a slot");
    match admitted.open(&mut request).map(drop) {
        Err(SendError::Refused(error)) => {
            assert_eq!(error.kind(), ErrorKind::InvalidRequest);
            assert_eq!(error.code(), Code::Internal);
            let start = "HTTP/2 cannot carry a request without a path: ";
            assert!(error.message().starts_with(start), "{error}");
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(connection.streams(), 0);
    super::assert_usable(&connection, &mut peer).await;
}

#[tokio::test(start_paused = true)]
async fn odd_requests_are_carried_and_panic_nowhere() {
    let (connection, mut peer) = connected().await;
    for (method, uri) in [
        ("POST", "*".to_owned()),
        ("OPTIONS", "*".to_owned()),
        ("CONNECT", "/".to_owned()),
        ("GET", "http://elsewhere.test".to_owned()),
        ("POST", "http://elsewhere.test?query".to_owned()),
        ("BREW", format!("/{}", "p".repeat(10_000))),
    ] {
        let request = Request::builder().method(method).uri(&uri);
        let request = request.body(Body::empty()).expect("a request");
        let mut request = OutgoingRequest::new(request);
        request.prefetch().await.expect("a sound body");
        let admitted = connection.admit().expect("a slot");
        if let Ok(exchange) = admitted.open(&mut request) {
            // The peer takes it or refuses it.
            soon(async {
                tokio::select! {
                    _ = exchange => {}
                    call = peer.calls.recv() => drop(call),
                }
            })
            .await;
        }
        slots_taken(&connection, 0).await;
    }
    super::assert_usable(&connection, &mut peer).await;
}

#[tokio::test(start_paused = true)]
async fn a_body_past_its_deadline_fails_and_cancels_the_call() {
    let (connection, mut peer) = connected().await;
    let exchange = open(&connection, unary("")).await;
    let mut answers = peer.next_call().await.answer();
    let mut body = soon(exchange).await.expect("headers").into_body();
    let before = tokio::time::Instant::now();
    body.set_deadline(Some(before + std::time::Duration::from_secs(2)));
    let status = read(&mut body).await.expect_err("too late");
    assert_eq!(before.elapsed().as_secs(), 2);
    assert_eq!(status.code(), Code::DeadlineExceeded);
    slots_taken(&connection, 0).await;
    let reset = soon(std::future::poll_fn(|cx| answers.poll_reset(cx))).await;
    assert_eq!(reset.expect("a reset"), h2::Reason::CANCEL);
}

// D67
/// Nobody has to wait for such a body, so no timer ends it.
#[tokio::test(start_paused = true)]
async fn a_body_that_is_always_ready_ends_at_its_deadline_too() {
    const TIME: std::time::Duration = std::time::Duration::from_secs(2);
    for (passed, in_time) in [(TIME / 2, true), (TIME, false)] {
        let (connection, mut peer) = connected().await;
        let exchange = open(&connection, unary("")).await;
        let mut answers = peer.next_call().await.answer();
        for chunk in ["one", "two"] {
            answers
                .send_data(chunk.into(), false)
                .expect("the stream is open");
        }
        let mut body = soon(exchange).await.expect("headers").into_body();
        let deadline = tokio::time::Instant::now() + TIME;
        body.set_deadline(Some(deadline));
        let first = soon(body.frame()).await.expect("a frame");
        assert_eq!(first.expect("in time").into_data().expect("data"), "one");
        tokio::time::advance(passed).await;
        let second = body.frame().now_or_never().expect("it is there");
        let code = second.expect("a frame").err().map(|status| status.code());
        let expected = (!in_time).then_some(Code::DeadlineExceeded);
        assert_eq!(code, expected, "after {passed:?}");
    }
}

// D222
/// It is the one that the client told the peer.
#[tokio::test(start_paused = true)]
async fn a_body_that_the_peer_cancels_at_its_deadline_is_past_it() {
    const TIME: std::time::Duration = std::time::Duration::from_secs(2);
    for (passed, code) in [(TIME / 2, Code::Cancelled), (TIME, Code::DeadlineExceeded)] {
        let (connection, mut wire) = wired(100).await;
        let exchange = open(&connection, unary("")).await;
        let stream = wire.next_request().await;
        wire.headers(stream).await;
        let mut body = soon(exchange).await.expect("headers").into_body();
        body.set_deadline(Some(tokio::time::Instant::now() + TIME));
        wire.reset(stream, h2::Reason::CANCEL.into()).await;
        tokio::time::advance(passed).await;
        let status = read(&mut body).await.expect_err("it was reset");
        assert_eq!(status.code(), code, "after {passed:?}: {status:?}");
    }
}
