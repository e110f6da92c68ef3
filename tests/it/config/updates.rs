//! Which service config is in force, and what calls do until one is (gRFC A21).

use std::time::Duration;

use futures_util::stream;
use testing::{
    Backend, Configs, GREETER, Logs, balanced, by_hand, call, checking, hello, of_all_methods,
    order, outcome, refusal, request_within, start, start_patient, until, until_backends,
    waiting_for_ready,
};
use tonic::Code;
use tonic_health_channel::{
    Channel,
    ConnectivityState::{Connecting, Ready, TransientFailure},
    Error, ServiceConfig,
    status::CauseKind,
};
use tracing::Level;

const ZERO_TIMEOUT: &str = r#""timeout": "0s""#;

const INVALID: &str = r#"{"methodConfig": [{"timeout": "soon"}]}"#;

/// What a call gets that must fail with it.
const WHY_INVALID: &str =
    r#"service config error: methodConfig[0].timeout: must be a duration like "1.5s", got "soon""#;

fn asks_health_of(service: &str) -> String {
    format!(r#"{{"healthCheckConfig": {{"serviceName": "{service}"}}}}"#)
}

// P06
#[tokio::test]
async fn calls_wait_for_the_first_config_and_obey_it() {
    let backend = Backend::start().await;
    let (configs, channel) = Configs::of(balanced(&[&backend], None));
    let held = start(&channel, "hold");
    let hurried = request_within("you", Duration::from_millis(100));
    let status = call(&channel, hurried).await.expect_err("no config yet");
    assert_eq!(status.code(), Code::DeadlineExceeded, "{status}");
    assert_eq!((channel.state(), backend.connections()), (Connecting, 0));
    assert!(!held.is_finished());

    configs.say(&of_all_methods(r#""timeout": "0.2s""#));
    let status = outcome(held).await.expect_err("it takes longer than that");
    assert_eq!(status.code(), Code::DeadlineExceeded, "{status}");
    assert!(status.message().contains("after 200ms"), "{status}");
    assert_eq!(backend.hits(), 1, "it was sent");
}

// P06
#[tokio::test]
async fn a_call_waits_for_ready_if_the_config_it_waited_for_says_so() {
    let backend = Backend::builder().reserve().await;
    let (configs, channel) = Configs::of(balanced(&[&backend], None));
    let patient = start(&channel, "you");
    let hasty = {
        let channel = channel.clone();
        tokio::spawn(async move { call(&channel, waiting_for_ready("you", false)).await })
    };
    tokio::task::yield_now().await;
    assert_eq!(channel.state(), Connecting);

    configs.say(&of_all_methods(r#""waitForReady": true"#));
    let status = hasty.await.expect("no panic").expect_err("nobody listens");
    assert_eq!(status.code(), Code::Unavailable, "{status}");
    until(&channel, TransientFailure).await;
    assert!(!patient.is_finished(), "its config says to wait");
    backend.restart().await;
    outcome(patient).await.expect("a backend came");
}

// V12, V13
#[tokio::test]
async fn an_invalid_first_config_fails_calls_until_there_is_a_valid_one() {
    let backend = Backend::start().await;
    let (configs, channel) = Configs::of(balanced(&[&backend], None));
    let waiting = start(&channel, "you");
    configs.say(INVALID);
    until(&channel, TransientFailure).await;
    let status = outcome(waiting).await.expect_err("nobody knows the rules");
    assert_eq!(status.code(), Code::Unavailable, "{status}");
    let text = refusal(&channel).await;
    assert!(text.contains(WHY_INVALID), "{text}");
    let status = channel.status();
    let cause = status.cause().expect("it is why");
    assert_eq!(cause.kind(), CauseKind::ServiceConfig);
    assert_eq!(backend.connections(), 0, "nothing is started");

    let patient = start_patient(&channel, "you");
    refusal(&channel).await;
    assert!(!patient.is_finished());
    configs.say("{}");
    outcome(patient).await.expect("a valid config came");
    hello(&channel).await.expect("a valid config came");
    assert_eq!((channel.state(), channel.status().cause()), (Ready, None));
}

// V13
#[tokio::test]
async fn an_invalid_later_config_changes_nothing() {
    let logs = Logs::capture();
    let [a, b] = Backend::builder().start_each(["A", "B"]).await;
    let (backends, builder) = by_hand(None);
    let (configs, channel) = Configs::of(builder);
    backends.insert("A", a.uri()).await;
    let only_many = r#"{"methodConfig": [
        {"name": [{"service": "demo.v1.Greeter", "method": "SayHelloMany"}], "timeout": "0s"}
    ]}"#;
    configs.say(only_many);
    until(&channel, Ready).await;

    configs.say(INVALID);
    let line = logs.until("a word about it", |line| line.level == Level::WARN);
    let line = line.await;
    assert!(line.target.ends_with("::service_config"), "{line:?}");
    assert!(line.text.contains("methodConfig[0].timeout"), "{line:?}");
    assert_eq!((channel.state(), channel.status().cause()), (Ready, None));

    backends.insert("B", b.uri()).await;
    until_backends(&channel, &[Ready; 2]).await;
    let mut who = order(&channel, 2).await;
    who.sort();
    assert_eq!(who, ["A", "B"], "new backends are used");
    let many = testing::greeter(&channel)
        .say_hello_many(testing::request("you"))
        .await;
    let status = many.expect_err("the old config is in force");
    assert_eq!(status.code(), Code::DeadlineExceeded, "{status}");
}

/// A READY channel with this config of its own, and the service whose health it
/// asked for.
async fn asked(own: Option<&str>, source: impl FnOnce(&Configs)) -> (Channel, String) {
    let build = Backend::builder().scripted();
    let backend = build.serving("own").serving("source").start().await;
    let builder = balanced(&[&backend], None);
    let builder = match own {
        Some(own) => builder.service_config(checking(own)),
        None => builder,
    };
    let (configs, channel) = Configs::of(builder);
    source(&configs);
    until(&channel, Ready).await;
    hello(&channel).await.expect("it is READY");
    (channel, backend.asked().join(", "))
}

// V14
#[tokio::test]
async fn the_applications_config_counts_where_the_source_has_none() {
    let (_channel, service) = asked(Some("own"), Configs::say_none).await;
    assert_eq!(service, "own");
    let (_channel, service) = asked(None, Configs::say_none).await;
    assert_eq!(service, "", "nobody says a word about health");
    let (_channel, service) = asked(Some("own"), |configs| configs.say(INVALID)).await;
    assert_eq!(service, "own", "what is invalid is not there");
}

// V14
#[tokio::test]
async fn the_applications_config_does_not_count_where_the_source_has_one() {
    let source = |configs: &Configs| configs.say(&asks_health_of("source"));
    let (_channel, service) = asked(Some("own"), source).await;
    assert_eq!(service, "source");
    let (_channel, service) = asked(Some("own"), |configs| configs.say("{}")).await;
    assert_eq!(service, "", "it counts in all that it says");
}

// V14
#[tokio::test]
async fn a_source_that_ends_without_a_word_has_no_config() {
    let backend = Backend::start().await;
    let updates = stream::empty::<Result<Option<ServiceConfig>, Error>>();
    let builder = balanced(&[&backend], Some(GREETER)).service_config_updates(updates);
    let channel = builder.build();
    until(&channel, Ready).await;
    assert_eq!(backend.asked(), [GREETER]);
}

// V14
#[tokio::test]
async fn a_source_that_is_disabled_is_not_asked() {
    let build = Backend::builder().scripted();
    let backend = build.serving("own").start().await;
    let builder = balanced(&[&backend], Some("own")).disable_service_config_updates(true);
    let updates = stream::poll_fn(
        |_| -> std::task::Poll<Option<Result<Option<ServiceConfig>, Error>>> {
            panic!("nobody is to ask")
        },
    );
    let channel = builder.service_config_updates(updates).build();
    until(&channel, Ready).await;
    assert_eq!(backend.asked(), ["own"]);
}

// V14
#[test]
fn an_invalid_config_of_the_application_is_refused_before_there_is_a_channel() {
    let error = INVALID.parse::<ServiceConfig>().expect_err("no duration");
    assert_eq!(
        error.message(),
        r#"service config: methodConfig[0].timeout: must be a duration like "1.5s", got "soon""#
    );
}

// V13, V15
#[tokio::test]
async fn the_source_may_change_its_mind_and_go_back_to_no_config() {
    let backend = Backend::start().await;
    let own: ServiceConfig = of_all_methods(ZERO_TIMEOUT).parse().expect("valid");
    let (configs, channel) = Configs::of(balanced(&[&backend], None).service_config(own));
    configs.say("{}");
    until(&channel, Ready).await;
    hello(&channel)
        .await
        .expect("the source says nothing of a timeout");

    let mut published = channel.watch_status();
    published.status();
    configs.say_none();
    published.changed().await.expect("the channel is open");
    let status = hello(&channel).await.expect_err("the application does");
    assert_eq!(status.code(), Code::DeadlineExceeded, "{status}");

    configs.put_in_force(&channel, "{}").await;
    hello(&channel).await.expect("as in the beginning");
    assert_eq!(backend.connections(), 1, "the connection stayed");
}
