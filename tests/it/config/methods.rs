//! What `methodConfig` says of timeouts and of waiting for ready.

use std::time::Duration;

use testing::{
    Answer, Backend, Configs, H2Peer, balanced, balanced_at, call, greeter, hello, of_all_methods,
    outcome, refusal, request, request_within, say, start, start_patient, until, waiting_for_ready,
    within,
};
use tonic::{Code, Request};
use tonic_health_channel::{
    Channel, ChannelBuilder,
    ConnectivityState::{Ready, TransientFailure},
};

/// A time that runs out; in the config, `0.15s`.
const SHORT: Duration = Duration::from_millis(150);

const LONG: Duration = Duration::from_secs(60);

fn with_rules(builder: ChannelBuilder, rules: &str) -> Channel {
    let config = of_all_methods(rules).parse().expect("a valid config");
    builder.service_config(config).build()
}

/// A backend, and a READY channel to it with these rules for every method.
async fn connected(rules: &str) -> (Backend, Channel) {
    let backend = Backend::start().await;
    let channel = with_rules(balanced(&[&backend], None), rules);
    until(&channel, Ready).await;
    (backend, channel)
}

/// The code of SayHello and of SayHelloMany, to a server that answers both.
async fn codes(channel: &Channel) -> [Code; 2] {
    let code = |status: Result<(), tonic::Status>| status.err().map_or(Code::Ok, |s| s.code());
    let one = hello(channel).await.map(drop);
    let mut client = greeter(channel);
    let many = within("response headers", client.say_hello_many(request("you"))).await;
    [code(one), code(many.map(drop))]
}

// V15
#[tokio::test]
async fn the_most_specific_rules_are_a_calls_and_an_update_changes_them() {
    const DEFAULT: &str = r#"{"name": [{}], "timeout": "0s"}"#;
    const SERVICE: &str = r#"{"name": [{"service": "demo.v1.Greeter"}]}"#;
    const METHOD: &str =
        r#"{"name": [{"service": "demo.v1.Greeter", "method": "SayHello"}], "timeout": "0s"}"#;
    const OTHER: &str = r#"{"name": [{"service": "demo.v1.Other"}], "timeout": "0s"}"#;
    let backend = Backend::start().await;
    let (configs, channel) = Configs::of(balanced(&[&backend], None));
    configs.say("{}");
    until(&channel, Ready).await;
    assert_eq!(codes(&channel).await, [Code::Ok; 2]);

    let cases: [(&[&str], _); 5] = [
        (&[DEFAULT], [Code::DeadlineExceeded; 2]),
        (&[DEFAULT, SERVICE], [Code::Ok; 2]),
        (
            &[SERVICE, METHOD, DEFAULT],
            [Code::DeadlineExceeded, Code::Ok],
        ),
        (&[METHOD], [Code::DeadlineExceeded, Code::Ok]),
        (&[OTHER], [Code::Ok; 2]),
    ];
    for (methods, expected) in cases {
        let config = format!(r#"{{"methodConfig": [{}]}}"#, methods.join(", "));
        configs.put_in_force(&channel, &config).await;
        assert_eq!(codes(&channel).await, expected, "{config}");
    }
    assert_eq!(backend.connections(), 1, "no connection minds");
}

// V16
#[tokio::test]
async fn a_timeout_of_the_config_ends_calls_and_the_server_hears_of_it() {
    let peer = H2Peer::start().await;
    peer.answer_calls(Answer::KeepOpen);
    let channel = with_rules(balanced_at([peer.uri()], None), r#""timeout": "0.15s""#);
    until(&channel, Ready).await;
    let status = say(&channel, "you").await.expect_err("never answered");
    assert_eq!(status.code(), Code::DeadlineExceeded, "{status}");
    let expected = format!(
        "deadline exceeded after {SHORT:?}, waiting for the response of {}",
        peer.addr()
    );
    assert_eq!(status.message(), expected);
    peer.until_client_resets(1).await;
    peer.until_open_calls(0).await;
}

// V16
#[tokio::test]
async fn a_timeout_of_the_config_covers_the_response_stream() {
    let (backend, channel) = connected(r#""timeout": "0.8s""#).await;
    let held = testing::greeter::HelloRequest {
        name: "hold".into(),
        count: 1,
    };
    let call = greeter(&channel).say_hello_many(held).await;
    let mut stream = call.expect("response headers in time").into_inner();
    let reply = within("a reply", stream.message()).await;
    reply.expect("in time").expect("the only one");
    let end = within("the deadline", stream.message()).await;
    let status = end.expect_err("nothing more comes");
    assert_eq!(status.code(), Code::DeadlineExceeded, "{status}");
    backend.until_open_calls(0).await;
}

// V16
#[tokio::test]
async fn of_two_timeouts_the_shorter_counts_and_the_server_is_told_of_it() {
    let (backend, channel) = connected(r#""timeout": "0.15s""#).await;
    let status = call(&channel, request_within("hold", LONG)).await;
    let status = status.expect_err("the config is shorter");
    assert_eq!(status.code(), Code::DeadlineExceeded, "{status}");
    let seen = backend.last_timeout();
    assert!(seen <= SHORT, "{seen:?} is more than there was");

    let (backend, channel) = connected(r#""timeout": "60s""#).await;
    let status = call(&channel, request_within("hold", SHORT)).await;
    let status = status.expect_err("the caller is shorter");
    assert_eq!(status.code(), Code::DeadlineExceeded, "{status}");
    let seen = backend.last_timeout();
    assert!(seen <= SHORT, "{seen:?} is more than there was");

    let answer = call(&channel, Request::new(request("you"))).await;
    answer.expect("in time");
    let seen = backend.last_timeout();
    assert!(seen <= LONG, "{seen:?} is more than there was");
    assert!(seen > LONG / 2, "{seen:?} left of a prompt call");
}

// V16
#[tokio::test]
async fn a_timeout_that_changes_is_for_the_calls_from_then_on() {
    let backend = Backend::start().await;
    let (configs, channel) = Configs::of(balanced(&[&backend], None));
    configs.say(&of_all_methods(r#""timeout": "60s""#));
    until(&channel, Ready).await;
    let older = start(&channel, "hold");
    backend.until_held(1).await;

    let shorter = of_all_methods(r#""timeout": "0.15s""#);
    configs.put_in_force(&channel, &shorter).await;
    let status = say(&channel, "hold").await.expect_err("not released");
    assert_eq!(status.code(), Code::DeadlineExceeded, "{status}");
    backend.until_held(1).await;
    assert!(!older.is_finished(), "it has the rules it began with");

    configs.put_in_force(&channel, "{}").await;
    let newer = start(&channel, "hold");
    backend.until_held(2).await;
    let seen = backend.last_metadata().expect("there was a call");
    assert_eq!(seen.get("grpc-timeout"), None, "none is left");
    backend.release();
    outcome(older).await.expect("in time");
    outcome(newer).await.expect("it has all the time there is");
}

// V16
#[tokio::test]
async fn a_timeout_of_nothing_ends_a_call_before_it_is_sent() {
    let (backend, channel) = connected(r#""timeout": "0s""#).await;
    for request in [
        Request::new(request("you")),
        request_within("you", LONG),
        request_within("you", Duration::ZERO),
        waiting_for_ready("you", true),
    ] {
        let status = call(&channel, request).await.expect_err("out of time");
        assert_eq!(status.code(), Code::DeadlineExceeded, "{status}");
        let expected = "deadline exceeded before the call was sent: its timeout is 0 s";
        assert_eq!(status.message(), expected, "no backend is to blame");
    }
    assert_eq!(backend.hits(), 0, "nothing is sent");
    until(&channel, Ready).await;
}

// V16
#[tokio::test]
async fn what_a_call_says_of_waiting_stands_above_the_config_and_that_above_the_channel() {
    const WAIT: &str = r#""waitForReady": true"#;
    const FAIL: &str = r#""waitForReady": false"#;
    const NOTHING: &str = r#""timeout": null"#;
    let backend = Backend::builder().reserve().await;
    let failing = async |rules: &str, wait: bool| {
        let builder = balanced(&[&backend], None).wait_for_ready(wait);
        let channel = with_rules(builder, rules);
        until(&channel, TransientFailure).await;
        channel
    };

    let mut patient = Vec::new();
    for (rules, wait) in [(WAIT, false), (WAIT, true), (NOTHING, true)] {
        let channel = failing(rules, wait).await;
        patient.push(start(&channel, "you"));
        let hasty = call(&channel, waiting_for_ready("you", false)).await;
        let status = hasty.expect_err("the call says so");
        assert_eq!(status.code(), Code::Unavailable, "{status}");
    }
    for (rules, wait) in [(FAIL, true), (FAIL, false), (NOTHING, false)] {
        let channel = failing(rules, wait).await;
        patient.push(start_patient(&channel, "you"));
        refusal(&channel).await;
    }
    assert!(patient.iter().all(|call| !call.is_finished()));
    backend.restart().await;
    for call in patient {
        outcome(call).await.expect("a backend came");
    }
}
