//! Request bodies that are not there all at once.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering::Relaxed},
};

use bytes::Bytes;
use futures_util::FutureExt;
use h2::Reason;
use http_body::{Body as _, Frame};
use http_body_util::StreamBody;
use tokio::sync::mpsc::UnboundedSender;
use tonic::{Code, Status, body::Body};

use super::{
    connected, connected_to, data, frame, ok, open, read, request, slots_taken, soon, streaming,
};

const MESSAGES: usize = 1_000;

/// A kibibyte that knows its number; a thousand are more than a window.
fn message(number: usize) -> Bytes {
    vec![(number % 251) as u8; 1024].into()
}

fn send_all(frames: &UnboundedSender<Result<Frame<Bytes>, Status>>) {
    for number in 0..MESSAGES {
        let sent = frames.send(Ok(Frame::data(message(number))));
        sent.expect("the body is read");
    }
}

fn all_messages() -> Bytes {
    let messages: Vec<_> = (0..MESSAGES).map(message).collect();
    messages.concat().into()
}

#[tokio::test(start_paused = true)]
async fn headers_go_out_before_a_body_that_is_not_ready() {
    let (connection, mut peer) = connected().await;
    let (frames, request) = streaming();
    let exchange = tokio::spawn(open(&connection, request).await);
    let mut at_peer = peer.next_call().await;
    frames.send(data(b"late")).expect("a reader");
    assert_eq!(at_peer.chunk().await.expect("data").expect("sound"), "late");
    drop(frames);
    assert_eq!(at_peer.read().await.expect("ended by END_STREAM"), "");
    at_peer.answer_whole(b"");
    let response = soon(exchange).await.expect("no panic");
    response.map(drop).expect("headers");
}

#[tokio::test(start_paused = true)]
async fn trailers_of_a_request_body_are_sent() {
    let (connection, mut peer) = connected().await;
    let (frames, request) = streaming();
    frames.send(data(b"all")).expect("a reader");
    frames.send(Ok(Frame::trailers(ok()))).expect("a reader");
    let _exchange = tokio::spawn(open(&connection, request).await);
    let mut at_peer = peer.next_call().await;
    assert_eq!(at_peer.read().await.expect("all of it"), "all");
    let trailers = soon(at_peer.body.trailers()).await.expect("sound");
    assert_eq!(trailers, Some(ok()));
}

#[tokio::test(start_paused = true)]
async fn a_thousand_messages_go_out_before_the_first_answer_is_read() {
    let (connection, mut peer) = connected().await;
    let (frames, request) = streaming();
    let exchange = open(&connection, request).await;
    let mut at_peer = peer.next_call().await;
    let mut answers = at_peer.answer();
    let mut body = soon(exchange).await.expect("headers").into_body();

    send_all(&frames);
    drop(frames);
    // Nobody polls the response meanwhile.
    assert_eq!(at_peer.read().await.expect("all of it"), all_messages());

    answers
        .send_data(Bytes::from_static(b"got it"), false)
        .expect("open");
    answers.send_trailers(ok()).expect("open");
    let (answer, trailers) = read(&mut body).await.expect("a body");
    assert_eq!((&*answer, trailers), (&b"got it"[..], Some(ok())));
}

#[tokio::test(start_paused = true)]
async fn a_thousand_messages_go_out_to_a_peer_that_answers_last() {
    let (connection, mut peer) = connected().await;
    let (frames, request) = streaming();
    send_all(&frames);
    drop(frames);
    let exchange = open(&connection, request).await;
    let at_peer = async {
        let mut at_peer = peer.next_call().await;
        let whole = at_peer.read().await.expect("all of it");
        at_peer.answer_whole(b"");
        whole
    };
    let (response, whole) = soon(async { tokio::join!(exchange, at_peer) }).await;
    assert_eq!(whole, all_messages());
    response.map(drop).expect("headers");
}

#[tokio::test(start_paused = true)]
async fn a_request_is_not_read_ahead_of_a_peer_that_reads_nothing() {
    let (connection, mut peer) = connected().await;
    let taken = Arc::new(AtomicUsize::new(0));
    let counted = taken.clone();
    let endless = futures_util::stream::repeat_with(move || {
        counted.fetch_add(1, Relaxed);
        Ok::<_, Status>(Frame::data(message(0)))
    });
    let body = Body::new(StreamBody::new(endless));
    let mut exchange = open(&connection, request(body)).await;
    let mut at_peer = peer.next_call().await;
    assert!((&mut exchange).now_or_never().is_none());
    let _answers = at_peer.answer();
    let _response = soon(exchange).await.expect("headers");
    super::soon(async {
        // The driver, the pump and the peer each get their turns.
        for _ in 0..1_000 {
            tokio::task::yield_now().await;
        }
    })
    .await;
    let taken = taken.load(Relaxed);
    assert!(taken <= 2_048, "{taken} KiB read, and nobody wants them");
}

/// What is made is on its way before more is made: the other side can begin with it.
#[tokio::test(start_paused = true)]
async fn a_body_that_is_always_ready_is_written_as_it_is_made() {
    let mut large = h2::server::Builder::new();
    large
        .initial_window_size(1 << 24)
        .initial_connection_window_size(1 << 24);
    let (connection, mut peer) = connected_to(&large).await;
    let made = Arc::new(AtomicUsize::new(0));
    let counted = made.clone();
    let endless = futures_util::stream::repeat_with(move || {
        counted.fetch_add(1, Relaxed);
        Ok::<_, Status>(Frame::data(message(0)))
    });
    let at_first = tokio::spawn(async move {
        let mut at_peer = peer.next_call().await;
        at_peer.chunk().await.expect("data").expect("sound");
        made.load(Relaxed)
    });
    let body = Body::new(StreamBody::new(endless));
    let _sending = tokio::spawn(open(&connection, request(body)).await);
    let at_first = soon(at_first).await.expect("no panic");
    assert!(
        at_first <= 256,
        "{at_first} KiB made before the first was read"
    );
}

#[tokio::test(start_paused = true)]
async fn an_error_of_the_request_before_headers_is_the_calls() {
    let (connection, mut peer) = connected().await;
    let (frames, request) = streaming();
    let mut exchange = open(&connection, request).await;
    let mut at_peer = peer.next_call().await;
    frames.send(Err(Status::data_loss("torn"))).expect("a pump");
    let failed = soon(&mut exchange).await.map(drop);
    let failed = failed.expect_err("the body's error");
    // Not only because the call is dropped.
    assert_eq!(at_peer.reset().await, Reason::CANCEL);
    drop(exchange);
    assert_eq!(failed.error.code(), Code::DataLoss);
    assert_eq!(failed.error.message(), "torn");
    assert!(!failed.unprocessed);
    assert_eq!(connection.streams(), 0);
}

#[tokio::test(start_paused = true)]
async fn an_error_of_the_request_after_headers_is_the_calls() {
    let (connection, mut peer) = connected().await;
    let (frames, request) = streaming();
    let exchange = open(&connection, request).await;
    let mut answers = peer.next_call().await.answer();
    let mut body = soon(exchange).await.expect("headers").into_body();
    let reading = tokio::spawn(async move { (read(&mut body).await, body) });
    tokio::task::yield_now().await;
    frames.send(Err(Status::data_loss("torn"))).expect("a pump");
    let reset = soon(std::future::poll_fn(|cx| answers.poll_reset(cx))).await;
    assert_eq!(reset.expect("a reset"), Reason::CANCEL);
    let (outcome, body) = soon(reading).await.expect("no panic");
    let status = outcome.expect_err("the body's error");
    assert_eq!((status.code(), status.message()), (Code::DataLoss, "torn"));
    assert_eq!(connection.streams(), 0, "a failed body holds no slot");
    drop(body);
}

#[tokio::test(start_paused = true)]
async fn an_error_at_the_start_of_a_request_sends_nothing() {
    let (frames, request) = streaming();
    frames
        .send(Err(Status::data_loss("torn")))
        .expect("a reader");
    let mut request = super::OutgoingRequest::new(request);
    let error = request.prefetch().await.expect_err("the body's error");
    assert_eq!(error.code(), Code::DataLoss);
}

#[tokio::test(start_paused = true)]
async fn dropping_the_response_body_cancels_a_request_that_goes_on() {
    let (connection, mut peer) = connected().await;
    let (frames, request) = streaming();
    let exchange = open(&connection, request).await;
    let mut answers = peer.next_call().await.answer();
    let response = soon(exchange).await.expect("headers");
    drop(response);
    slots_taken(&connection, 0).await;
    let reset = soon(std::future::poll_fn(|cx| answers.poll_reset(cx))).await;
    assert_eq!(reset.expect("a reset"), Reason::CANCEL);
    soon(frames.closed()).await;
}

#[tokio::test(start_paused = true)]
async fn dropping_the_call_cancels_a_request_that_lacks_window() {
    let (connection, mut peer) = connected().await;
    let (frames, request) = streaming();
    send_all(&frames);
    let mut exchange = open(&connection, request).await;
    let mut at_peer = peer.next_call().await;
    assert!((&mut exchange).now_or_never().is_none());
    drop(exchange);
    slots_taken(&connection, 0).await;
    assert_eq!(at_peer.reset().await, Reason::CANCEL);
    soon(frames.closed()).await;
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_finishes_early_is_heard_and_the_request_goes_on() {
    let (connection, mut peer) = connected().await;
    let (frames, request) = streaming();
    let exchange = open(&connection, request).await;
    let mut at_peer = peer.next_call().await;
    let mut answers = at_peer.answer();
    answers
        .send_data(Bytes::from_static(b"enough"), false)
        .expect("open");
    answers.send_trailers(ok()).expect("open");
    let mut body = soon(exchange).await.expect("headers").into_body();
    let (answer, trailers) = read(&mut body).await.expect("a body");
    assert_eq!((&*answer, trailers), (&b"enough"[..], Some(ok())));
    assert_eq!(connection.streams(), 1, "the peer counts it");
    frames.send(data(b"more")).expect("a reader");
    drop(frames);
    assert_eq!(&*at_peer.read().await.expect("the rest"), b"more");
    assert_eq!(connection.streams(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_refuses_at_once_is_heard_and_the_request_cancelled() {
    let (connection, mut peer) = connected().await;
    let (frames, request) = streaming();
    let exchange = open(&connection, request).await;
    // Dropping the call resets what is left of it with NO_ERROR.
    peer.next_call().await.answer_trailers_only();
    let mut body = soon(exchange).await.expect("headers").into_body();
    assert!(body.is_end_stream());
    assert!(frame(&mut body).await.is_none());
    assert_eq!(connection.streams(), 0);
    soon(frames.closed()).await;
}

/// The response is held, unread; the request lets go of its source all the same.
#[tokio::test(start_paused = true)]
async fn a_peer_that_resets_ends_a_request_that_has_nothing_to_send() {
    let (connection, mut peer) = connected().await;
    let (frames, request) = streaming();
    let exchange = open(&connection, request).await;
    let mut answers = peer.next_call().await.answer();
    let _response = soon(exchange).await.expect("headers");
    answers.send_reset(Reason::INTERNAL_ERROR);
    soon(frames.closed()).await;
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_resets_ends_a_request_that_lacks_window() {
    let (connection, mut peer) = connected().await;
    let (frames, request) = streaming();
    send_all(&frames);
    let exchange = open(&connection, request).await;
    let mut at_peer = peer.next_call().await;
    let mut answers = at_peer.answer();
    let _response = soon(exchange).await.expect("headers");
    // A window's worth, and nothing of it is given back.
    let mut received = 0;
    while received < 65_535 {
        let chunk = soon(at_peer.body.data()).await.expect("data");
        received += chunk.expect("sound").len();
    }
    answers.send_reset(Reason::INTERNAL_ERROR);
    soon(frames.closed()).await;
}

/// "Clients MUST NOT discard responses as a result of receiving such a
/// RST_STREAM" (RFC 9113 §8.1).
#[tokio::test(start_paused = true)]
async fn a_whole_answer_outlives_the_reset_behind_it() {
    let (connection, mut wire) = super::wire::wired(100).await;
    let (frames, request) = streaming();
    let exchange = open(&connection, request).await;
    let stream = wire.next_request().await;
    wire.answer(stream, b"enough").await;
    wire.reset(stream, 0).await;
    // It was read from the wire before anyone reads it from the stream.
    let next = open(&connection, super::unary("")).await;
    let behind = wire.next_request().await;
    wire.answer(behind, b"").await;
    soon(next).await.map(drop).expect("headers");

    let mut body = soon(exchange).await.expect("headers").into_body();
    let (answer, trailers) = read(&mut body).await.expect("a body");
    assert_eq!((&*answer, trailers), (&b"enough"[..], Some(ok())));
    soon(frames.closed()).await;
}
