//! Requests that a peer gives back without having looked at them.
//!
//! It says so in one of two ways: it refuses the stream, or its GOAWAY counts the
//! stream out.

use std::time::Duration;

use futures_util::StreamExt;
use h2::Reason;
use testing::{
    Answer, Backend, H2Peer, balanced_at, call, dead_addr, greeter, hello, outcome, refusal,
    request, request_within, start, until, until_backends, waiting_for_ready, within,
};
use tokio::{sync::mpsc, task::JoinSet};
use tokio_stream::wrappers::UnboundedReceiverStream;
use tonic::{Code, body::Body};
use tonic_health_channel::{Channel, ConnectivityState::Ready, channel::Change};
use tower::{Service, ServiceExt};

const REFUSED: Answer = Answer::Reset(Reason::REFUSED_STREAM);

/// A peer, and a READY channel to it alone.
async fn connected() -> (H2Peer, Channel) {
    let peer = H2Peer::start().await;
    let channel = balanced_at([peer.uri()], None).build();
    until(&channel, Ready).await;
    (peer, channel)
}

/// The error of a call without a message on the channel as a tower service.
async fn error_of(channel: &Channel, timeout: &'static str) -> tonic_health_channel::Error {
    let request = http::Request::post("/demo.v1.Greeter/SayHello");
    let request = request.header("grpc-timeout", timeout);
    let request = request.body(Body::empty()).expect("a request");
    let outcome = within("an answer", channel.clone().oneshot(request)).await;
    outcome.expect_err("it fails")
}

// D316
#[tokio::test]
async fn an_error_says_whether_the_call_may_have_been_sent() {
    let (peer, channel) = connected().await;
    let long = "10S";
    for (answer, timeout, code, sent) in [
        (
            Answer::Reset(Reason::INTERNAL_ERROR),
            long,
            Code::Internal,
            true,
        ),
        (Answer::Reset(Reason::CANCEL), long, Code::Cancelled, true),
        (REFUSED, long, Code::Unavailable, false),
        (Answer::KeepOpen, "100m", Code::DeadlineExceeded, true),
        (Answer::KeepOpen, "0m", Code::DeadlineExceeded, false),
    ] {
        peer.answer_calls(answer);
        let error = error_of(&channel, timeout).await;
        assert_eq!(error.code(), code, "{answer:?}");
        assert_eq!(error.may_have_been_sent(), sent, "{answer:?}, {timeout}");
    }
    let nowhere = balanced_at([dead_addr().uri()], None).build();
    let error = error_of(&nowhere, "100m").await;
    assert!(!error.may_have_been_sent(), "{}", error.message());
    peer.close_connections();
    channel.close().await;
    assert!(!error_of(&channel, long).await.may_have_been_sent());
}

// D316
#[tokio::test]
async fn so_does_that_of_a_call_on_one_connection() {
    let (peer, channel) = connected().await;
    let change = within("a connection", channel.ready_backends().next()).await;
    let Some(Ok(Change::Insert(_, mut connection))) = change else {
        panic!("it is READY: {change:?}");
    };
    for (answer, sent) in [
        (Answer::Reset(Reason::INTERNAL_ERROR), true),
        (REFUSED, false),
    ] {
        peer.answer_calls(answer);
        let ready = within("a stream", connection.ready())
            .await
            .expect("a stream");
        let request = http::Request::post("/demo.v1.Greeter/SayHello").body(Body::empty());
        let call = ready.call(request.expect("a request"));
        let error = within("an answer", call).await.expect_err("it fails");
        assert_eq!(error.may_have_been_sent(), sent, "{answer:?}: {error}");
    }
}

// X01
#[tokio::test]
async fn a_call_that_is_refused_is_sent_again() {
    let (peer, channel) = connected().await;
    peer.answer_next_calls(1, REFUSED);
    hello(&channel).await.expect("the second time it is taken");
    assert_eq!(peer.calls(), 2);
    assert_eq!(peer.connections(), 1, "a stream is not its connection");
}

// X01, D224
#[tokio::test]
async fn a_call_that_is_sent_again_says_how_much_time_is_left_then() {
    const SHORT: Duration = Duration::from_millis(150);
    let (peer, backend) = (H2Peer::start().await, Backend::start().await);
    let channel = balanced_at([peer.uri(), backend.uri()], None).build();
    until_backends(&channel, &[Ready, Ready]).await;
    peer.answer_calls(Answer::KeepOpen);
    let deadline = Duration::from_secs(8);
    // One is answered by the backend, the other is kept.
    let mut two = JoinSet::new();
    for _ in 0..2 {
        let channel = channel.clone();
        two.spawn(async move { call(&channel, request_within("you", deadline)).await });
    }
    let mut next = async || {
        let next = within("a call to end", two.join_next()).await;
        let next = next.expect("there were two").expect("no panic");
        next.expect("the backend takes it");
    };
    next().await;
    peer.until_calls(1).await;
    assert_eq!(backend.last_timeout(), deadline, "it went out at once");
    // Of two more one waits SHORT beside it, in vain.
    let mut in_vain = 0;
    for _ in 0..2 {
        let hurried = call(&channel, request_within("you", SHORT)).await;
        in_vain += usize::from(hurried.is_err());
    }
    assert_eq!(in_vain, 1);
    peer.go_away_from_all(Reason::NO_ERROR);
    next().await;
    let told = backend.last_timeout();
    assert!(told <= deadline - SHORT, "{told:?} after {SHORT:?}");
    assert!(told > deadline / 2, "{told:?}");
}

// X01
#[tokio::test]
async fn a_call_that_is_refused_twice_is_unavailable() {
    let (peer, channel) = connected().await;
    peer.answer_next_calls(2, REFUSED);
    let text = refusal(&channel).await;
    assert!(text.contains(&peer.addr().to_string()), "{text}");
    assert_eq!(peer.calls(), 2);
    hello(&channel).await.expect("each call has its own two");
}

// X01
#[tokio::test]
async fn waiting_for_ready_changes_nothing_about_refusals() {
    for wait in [false, true] {
        let (peer, channel) = connected().await;
        peer.answer_next_calls(1, REFUSED);
        let answer = call(&channel, waiting_for_ready("Ada", wait)).await;
        answer.expect("the second time it is taken");
        peer.answer_next_calls(2, REFUSED);
        let answer = call(&channel, waiting_for_ready("Ada", wait)).await;
        let status = answer.expect_err("refused twice");
        assert_eq!(status.code(), Code::Unavailable, "{status}");
        assert_eq!(peer.calls(), 4, "with wait-for-ready {wait}");
    }
}

// X01
#[tokio::test]
async fn a_call_that_is_refused_after_its_headers_is_not_sent_again() {
    let (peer, channel) = connected().await;
    peer.answer_next_calls(1, Answer::Headers);
    let mut client = greeter(&channel);
    let replies = within("response headers", client.say_hello_many(request("you"))).await;
    let mut replies = replies.expect("there are headers").into_inner();

    peer.end_open_calls(REFUSED);
    let end = within("the end of the replies", replies.message()).await;
    let status = end.expect_err("the peer has begun to answer");
    assert_eq!(status.code(), Code::Unavailable, "{status}");
    hello(&channel).await.expect("nothing is wrong with others");
    assert_eq!(peer.calls(), 2, "this one and the next");
}

// X01
#[tokio::test]
async fn a_call_whose_request_goes_on_is_not_sent_again() {
    let (peer, channel) = connected().await;
    peer.answer_next_calls(1, REFUSED);
    let (names, requests) = mpsc::unbounded_channel();
    names.send(request("you")).expect("the stream is there");
    let mut client = greeter(&channel);
    let chat = client.chat(UnboundedReceiverStream::new(requests));

    let status = within("an answer", chat).await.expect_err("it is refused");
    assert_eq!(status.code(), Code::Unavailable, "{status}");
    hello(&channel).await.expect("nothing is wrong with others");
    assert_eq!(peer.calls(), 2, "this one and the next");
}

// X04
#[tokio::test]
async fn calls_that_goaway_counts_finish_and_the_others_are_sent_again() {
    let (peer, channel) = connected().await;
    peer.answer_calls(Answer::KeepOpen);
    let counted = start(&channel, "you");
    peer.until_open_calls(1).await;
    let not_counted = start(&channel, "you");
    peer.until_open_calls(2).await;

    peer.answer_calls(Answer::Ok);
    peer.go_away_counting(1);
    outcome(not_counted)
        .await
        .expect("the next connection takes it");
    assert_eq!((peer.calls(), peer.connections()), (3, 2));
    assert!(!counted.is_finished(), "its stream is still open");

    peer.end_open_calls(Answer::Ok);
    outcome(counted).await.expect("GOAWAY lets it end");
    peer.until_open_connections(1).await;
}

// X04
#[tokio::test]
async fn calls_that_goaway_counts_out_survive_the_end_that_follows() {
    let (peer, channel) = connected().await;
    peer.answer_calls(Answer::KeepOpen);
    let calls: Vec<_> = (0..5).map(|_| start(&channel, "you")).collect();
    peer.until_open_calls(5).await;

    peer.answer_calls(Answer::Ok);
    peer.go_away_from_all(Reason::NO_ERROR);
    for call in calls {
        outcome(call)
            .await
            .expect("the peer looked at none of them");
    }
    assert_eq!((peer.calls(), peer.connections()), (10, 2));
}
