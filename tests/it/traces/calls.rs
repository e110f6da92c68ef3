//! Traces, as they are told of calls and attempts.

use std::time::Duration;

use bytes::Bytes;
use futures_util::stream;
use http_body::Frame;
use http_body_util::StreamBody;
use testing::{
    Answer, Backend, Chat, Configs, GREETER, H2Peer, Logs, balanced, balanced_at, call, dead_addr,
    greeter, hello, of_all_methods, outcome, request, request_within, say, start, until,
    waiting_for_ready, within,
};
use tonic::{Code, Status, body::Body};
use tonic_health_channel::{
    ConnectivityState::{Ready, TransientFailure},
    channel::RequestInfo,
};
use tower::ServiceExt;
use tracing::Level;

use super::notebook::{Notebook, Settings, build, noted};

const BEGUN: &str = "call demo.v1.Greeter/SayHello of channel:///shop at /demo.v1.Greeter/SayHello";

fn plain() -> Settings {
    Settings::default()
}

fn with_messages() -> Settings {
    Settings {
        messages: true,
        ..plain()
    }
}

/// Without the first line, which is `BEGUN`.
fn rest(notebook: &Notebook) -> Vec<String> {
    let mut lines = notebook.take();
    assert_eq!(lines.remove(0), BEGUN);
    lines
}

// Q01, Q02
#[tokio::test]
async fn a_unary_call_is_one_attempt_and_a_call_that_is_not_wanted_none() {
    let backend = Backend::start().await;
    let (channel, notebook) = build(balanced(&[&backend], Some(GREETER)), plain());
    until(&channel, Ready).await;
    assert_eq!(notebook.lines(), [""; 0], "health checks are not calls");
    hello(&channel).await.expect("an answer");
    let to = format!("0 to {}", backend.addr());
    assert_eq!(
        rest(&notebook),
        ["0 new after 0", &to, "0 ended OK: ", "call ended OK: "]
    );

    let is_off = Settings {
        is_off: true,
        ..plain()
    };
    let (channel, notebook) = noted(&[&backend], is_off);
    hello(&channel).await.expect("an answer");
    assert_eq!(notebook.calls(), 1);
    assert_eq!(notebook.lines(), [""; 0]);
}

// Q02
#[tokio::test]
async fn a_path_without_a_generated_client_is_other() {
    let backend = Backend::start().await;
    let (channel, notebook) = noted(&[&backend], plain());
    let request = http::Request::post("/made.up.By/AClient").body(Body::empty());
    let answer = channel.oneshot(request.expect("a request"));
    let answer = within("an answer", answer).await.expect("a status");
    assert_eq!(answer.headers()["grpc-status"], "12");
    let lines = notebook.take();
    assert_eq!(
        lines[0],
        "call other of channel:///shop at /made.up.By/AClient"
    );
    assert_eq!(lines.last().expect("an end"), "call ended UNIMPLEMENTED: ");
}

// Q03
#[tokio::test]
async fn a_transparent_retry_is_an_attempt_that_counts_for_none() {
    let peer = H2Peer::start().await;
    let (channel, notebook) = build(balanced_at([peer.uri()], None), plain());
    until(&channel, Ready).await;
    peer.answer_next_calls(1, Answer::Reset(h2::Reason::REFUSED_STREAM));
    hello(&channel).await.expect("an answer to the second");
    let lines = rest(&notebook);
    let to = |n: usize| format!("{n} to {}", peer.addr());
    assert_eq!(lines[..2], ["0 new after 0".to_owned(), to(0)]);
    assert!(lines[2].starts_with("0 ended UNAVAILABLE: "), "{lines:?}");
    assert_eq!(lines[3..5], ["1 again after 0".to_owned(), to(1)]);
    assert_eq!(lines[5..], ["1 ended OK: ", "call ended OK: "]);
}

// Q04
#[tokio::test]
async fn a_call_that_waits_for_the_first_config_was_delayed_once() {
    let backend = Backend::start().await;
    let notebook = Notebook::new(plain());
    let builder = balanced(&[&backend], None).name("shop");
    let builder = builder.call_tracer(std::sync::Arc::new(notebook.clone()));
    let (configs, channel) = Configs::of(builder);
    let waiting = tokio::spawn({
        let channel = channel.clone();
        async move { call(&channel, waiting_for_ready("again:1", true)).await }
    });
    notebook.until(BEGUN).await;
    configs.say(&retrying());
    within("an answer", waiting)
        .await
        .expect("it runs")
        .expect("an answer");
    let lines = rest(&notebook);
    assert_eq!(lines[..2], ["call was delayed", "0 new after 0"]);
    let delays = lines.iter().filter(|line| *line == "call was delayed");
    assert_eq!(delays.count(), 1, "{lines:?}");

    hello(&channel).await.expect("an answer");
    assert_eq!(rest(&notebook)[0], "0 new after 0");
}

fn retrying() -> String {
    of_all_methods(
        r#""retryPolicy": {"maxAttempts": 4, "initialBackoff": "0.01s", "maxBackoff": "0.01s",
            "backoffMultiplier": 1, "retryableStatusCodes": ["UNAVAILABLE"]}"#,
    )
}

// Q05
#[tokio::test]
async fn an_attempt_that_waits_for_a_stream_was_delayed() {
    let backend = Backend::builder().max_concurrent_streams(1).start().await;
    let (channel, notebook) = noted(&[&backend], plain());
    until(&channel, Ready).await;
    let held = start(&channel, "hold");
    backend.until_held(1).await;
    let lines = rest(&notebook);
    assert_eq!(
        lines.last().expect("it is sent"),
        &format!("0 to {}", backend.addr())
    );

    let waits = start(&channel, "you");
    notebook.until("0 new after 0").await;
    backend.release();
    outcome(held).await.expect("an answer");
    outcome(waits).await.expect("an answer");
    let lines = notebook.take();
    let of_second = lines
        .iter()
        .position(|line| line == "0 waited")
        .expect("it has waited");
    assert_eq!(lines[of_second + 1], format!("0 to {}", backend.addr()));
}

// Q06
#[tokio::test]
async fn a_call_and_its_attempt_end_with_the_error_of_the_caller() {
    let backend = Backend::start().await;
    let (channel, notebook) = noted(&[&backend], plain());
    until(&channel, Ready).await;
    say(&channel, "fail:5").await.expect_err("it is to fail");
    let lines = rest(&notebook);
    assert!(lines[2].starts_with("0 ended NOT_FOUND: "), "{lines:?}");
    assert!(lines[3].starts_with("call ended NOT_FOUND: "), "{lines:?}");

    let late = call(&channel, request_within("hold", Duration::from_millis(50)));
    let late = late.await.expect_err("it is held");
    let lines = rest(&notebook);
    let text = format!("call ended DEADLINE_EXCEEDED: {}", late.message());
    assert_eq!(lines.last().expect("an end"), &text);

    let lost = start(&channel, "hold");
    backend.until_held(1).await;
    backend.cut_connections();
    let lost = outcome(lost).await.expect_err("its connection is gone");
    let lines = rest(&notebook);
    assert_eq!(
        lines.last().expect("an end"),
        &format!("call ended UNAVAILABLE: {}", lost.message())
    );
}

// Q06
#[tokio::test]
async fn a_call_without_a_backend_is_an_attempt_that_is_not_sent() {
    let (channel, notebook) = build(balanced_at([dead_addr().uri()], None), plain());
    until(&channel, TransientFailure).await;
    let refused = hello(&channel).await.expect_err("there is no backend");
    let text = refused.message();
    assert_eq!(
        rest(&notebook),
        [
            "0 new after 0".to_owned(),
            format!("0 ended UNAVAILABLE: {text}"),
            format!("call ended UNAVAILABLE: {text}"),
        ]
    );

    let backend = Backend::start().await;
    let credentials = |_: RequestInfo| async { Err(Status::unauthenticated("no token")) };
    let builder = balanced(&[&backend], None)
        .call_credentials(credentials)
        .allow_plaintext_credentials(true);
    let (channel, notebook) = build(builder, plain());
    until(&channel, Ready).await;
    let refused = hello(&channel).await.expect_err("it has no token");
    assert_eq!(refused.code(), Code::Unauthenticated);
    let lines = rest(&notebook);
    assert!(
        !lines.iter().any(|line| line.starts_with("0 to")),
        "{lines:?}"
    );
    assert!(
        lines[1].starts_with("0 ended UNAUTHENTICATED: "),
        "{lines:?}"
    );
}

// Q07
#[tokio::test]
async fn messages_are_told_by_number_and_size_in_both_directions() {
    let backend = Backend::start().await;
    let (channel, notebook) = noted(&[&backend], with_messages());
    let mut chat = Chat::start(&channel).await;
    let first = chat.greet("Ada").await.expect("an answer");
    let second = chat.greet("Grace").await.expect("an answer");
    chat.end().await;
    let size = |reply: &testing::greeter::HelloReply| 4 + reply.message.len() + reply.backend.len();
    let lines = notebook.take();
    let messages: Vec<_> = lines
        .iter()
        .filter(|line| line.contains("ent ") || line.contains("received"))
        .collect();
    assert_eq!(
        messages,
        [
            "0 sent 0: 5",
            &format!("0 received 0: {}", size(&first)),
            "0 sent 1: 7",
            &format!("0 received 1: {}", size(&second)),
        ]
    );
    assert!(lines.contains(&"call ended OK: ".to_owned()), "{lines:?}");
}

/// A body whose messages come in several frames, and are compressed.
// Q07
#[tokio::test]
async fn a_message_is_told_with_its_size_on_the_wire_wherever_frames_end() {
    let peer = H2Peer::start().await;
    let (channel, notebook) = build(balanced_at([peer.uri()], None), with_messages());
    let frames = [
        &[1, 0, 0][..],
        &[0, 7, 1, 2],
        &[3, 4, 5, 6, 7, 0, 0, 0, 0, 0],
    ];
    let frames = frames.map(|frame| Ok::<_, Status>(Frame::data(Bytes::from_static(frame))));
    let body = Body::new(StreamBody::new(stream::iter(frames)));
    let request = http::Request::post("/demo.v1.Greeter/SayHello").body(body);
    let response = within("an answer", channel.oneshot(request.expect("a request"))).await;
    drop(response.expect("an answer"));
    let lines = notebook.take();
    let sent: Vec<_> = lines.iter().filter(|line| line.contains("sent")).collect();
    assert_eq!(sent, ["0 sent 0: 7 compressed", "0 sent 1: 0"]);
}

// Q07
#[tokio::test]
async fn each_attempt_tells_the_messages_of_its_own() {
    let backend = Backend::start().await;
    let config = retrying().parse().expect("a config");
    let builder = balanced(&[&backend], None).service_config(config);
    let (channel, notebook) = build(builder, with_messages());
    until(&channel, Ready).await;
    say(&channel, "again:2").await.expect("the third attempt");
    let lines = rest(&notebook);
    for n in 0..3 {
        let begun = format!("{n} new after {n}");
        let at = lines
            .iter()
            .position(|line| *line == begun)
            .expect("an attempt");
        assert_eq!(
            lines[at + 1..at + 3],
            [
                format!("{n} to {}", backend.addr()),
                format!("{n} sent 0: 9")
            ]
        );
    }
    assert_eq!(
        lines[lines.len() - 2..],
        ["2 ended OK: ", "call ended OK: "]
    );
}

// Q07
#[tokio::test]
async fn a_request_that_streams_is_told_anew_by_each_attempt() {
    let peer = H2Peer::start().await;
    let config = retrying().parse().expect("a config");
    let builder = balanced_at([peer.uri()], None).service_config(config);
    let (channel, notebook) = build(builder, with_messages());
    peer.answer_next_calls(1, Answer::Status(Code::Unavailable));
    let names = stream::iter(["Ada", "Grace"].map(request));
    let answer = within("an answer", greeter(&channel).greet_all(names)).await;
    answer.expect("the second attempt");
    let lines = notebook.take();
    let second = lines.iter().filter(|line| line.starts_with("1 sent"));
    assert_eq!(second.collect::<Vec<_>>(), ["1 sent 0: 5", "1 sent 1: 7"]);
}

// Q07
#[tokio::test]
async fn hedges_are_attempts_beside_each_other_and_the_losers_are_cancelled() {
    let backend = Backend::start().await;
    let hedging = r#""hedgingPolicy": {"maxAttempts": 3, "hedgingDelay": "0.02s"}"#;
    let config = of_all_methods(hedging).parse().expect("a config");
    let builder = balanced(&[&backend], None).service_config(config);
    let (channel, notebook) = build(builder, plain());
    let held = start(&channel, "hold");
    backend.until_held(3).await;
    backend.release();
    outcome(held).await.expect("an answer");
    let lines = rest(&notebook);
    let ends = |end: &str| {
        lines
            .iter()
            .filter(|line| line.contains(end) && !line.starts_with("call"))
            .count()
    };
    for n in 0..3 {
        assert!(lines.contains(&format!("{n} new after {n}")), "{lines:?}");
    }
    assert_eq!(
        [ends(" ended OK"), ends(" ended CANCELLED")],
        [1, 2],
        "{lines:?}"
    );
    assert_eq!(lines.last().expect("an end"), "call ended OK: ");
}

// Q12
#[tokio::test]
async fn a_call_that_is_dropped_is_cancelled_at_both_levels() {
    const GIVEN_UP: [&str; 2] = [
        "0 ended CANCELLED: the caller has dropped the call",
        "call ended CANCELLED: the caller has dropped the call",
    ];
    let backend = Backend::start().await;
    let (channel, notebook) = noted(&[&backend], plain());
    let held = start(&channel, "hold");
    backend.until_held(1).await;
    held.abort();
    held.await.expect_err("it was given up");
    let lines = rest(&notebook);
    assert_eq!(lines[lines.len() - 2..], GIVEN_UP);

    let mut wanted = request("hold");
    wanted.count = 3;
    let replies = within("headers", greeter(&channel).say_hello_many(wanted)).await;
    let mut replies = replies.expect("a stream").into_inner();
    within("a reply", replies.message()).await.expect("a reply");
    assert!(!notebook.lines().iter().any(|line| line.contains("ended")));
    drop(replies);
    let lines = notebook.take();
    assert_eq!(lines[lines.len() - 2..], GIVEN_UP);
}

// D437
#[tokio::test]
async fn a_tracer_that_panics_harms_no_call() {
    let backend = Backend::start().await;
    let methods = [
        "start",
        "attempt",
        "wants_messages",
        "sending",
        "sent",
        "received",
        "ended",
        "call_ended",
    ];
    let logs = Logs::capture();
    for method in methods {
        let settings = Settings {
            panics: Some(method),
            ..with_messages()
        };
        let (channel, notebook) = noted(&[&backend], settings);
        hello(&channel).await.expect(method);
        let mut chat = Chat::start(&channel).await;
        chat.greet("Ada").await.expect(method);
        chat.end().await;
        let lines = notebook.take();
        let ends = ["call ended OK: ", "0 ended OK: "];
        let ends = ends.map(|end| lines.iter().filter(|line| *line == end).count());
        let expected = match method {
            "start" => [0, 0],
            "attempt" => [2, 0],
            _ => [2, 2],
        };
        assert_eq!(ends, expected, "{method}: {lines:?}");
    }
    let told = [Level::ERROR, Level::DEBUG].map(|level| {
        let lines = logs.at(level, "tonic_health_channel::channel");
        let told = lines
            .iter()
            .filter(|line| line.contains("the call tracer of the application"));
        told.count()
    });
    assert!(told[0] <= 1, "1 error in a process: {told:?}");
    assert!(told[0] + told[1] >= methods.len(), "{told:?}");
}
