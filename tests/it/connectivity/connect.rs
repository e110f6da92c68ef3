//! Channels that are awaited until they are READY, for a while.

use std::time::Duration;

use testing::{Backend, RawPeer, balanced, hello, until_backends, within};
use tonic::Code;
use tonic_health_channel::{
    Channel,
    ConnectivityState::{Connecting, Ready},
    Endpoint, ErrorKind, discover,
};

// D301
#[tokio::test]
async fn a_builder_connects() {
    let backend = Backend::start().await;
    let builder = balanced(&[&backend], None);
    let channel = within("the channel", builder.connect()).await;
    let channel = channel.expect("it connects");
    assert_eq!(channel.state(), Ready);
    hello(&channel).await.expect("it is answered");
}

/// The error says what that of a call would say.
// D301
#[tokio::test]
async fn a_wait_that_is_over_names_each_backend_and_its_reason() {
    let silent = RawPeer::start(|mut wire| async move { wire.listen().await }).await;
    let uris = [silent.uri()];
    let channel = Channel::balance(discover::list(&uris).expect("a list")).build();
    // A wait of 0 only looks, so the source is read before it.
    until_backends(&channel, &[Connecting]).await;
    for timeout in [Duration::ZERO, Duration::from_millis(50)] {
        let waited = channel.wait_until_ready_within(timeout);
        let error = within("the end of the wait", waited).await;
        let error = error.expect_err("it is silent");
        assert_eq!(error.kind(), ErrorKind::DeadlineExceeded, "{error}");
        assert_eq!(error.code(), Code::DeadlineExceeded);
        let text = error.message();
        let begin = format!("deadline exceeded after {timeout:?}, waiting for a backend: ");
        assert!(text.starts_with(&begin), "{text}");
        assert!(text.contains(&silent.addr().to_string()), "{text}");
    }
    channel.close().await;
    let error = channel.wait_until_ready_within(Duration::MAX).await;
    let error = error.expect_err("it is closed");
    assert_eq!(error.kind(), ErrorKind::Closed);
}

// D311
#[tokio::test]
async fn a_list_and_a_target_are_given_options_in_one_step() {
    let backend = Backend::start().await;
    let port = backend.addr().port();
    let with_origin = |endpoint: Endpoint| endpoint.user_agent("shop/2");
    let target = format!("127.0.0.1:{port}");
    let targets = [&target, &backend.uri()].map(|target| Channel::target(target));
    let list = Channel::list([backend.uri(), backend.uri()]);
    for builder in targets.into_iter().chain([list]) {
        let builder = builder.expect("a builder").endpoint(with_origin);
        let channel = builder.expect("options").connect().await;
        let channel = channel.expect("it connects");
        assert_eq!(channel.backends().len(), 1);
        hello(&channel).await.expect("a reply");
        let agent = backend.last_metadata().expect("just called");
        let agent = agent.get("user-agent").expect("it is sent");
        assert!(agent.to_str().expect("text").starts_with("shop/2 "));
    }
    let source = discover::list([backend.uri()]).expect("a list");
    let error = Channel::balance(source).endpoint(with_origin).err();
    assert_eq!(
        error.map(|error| error.kind()),
        Some(ErrorKind::InvalidOption)
    );
    let bad = Channel::target(&target).expect("a target");
    let error = bad.endpoint(|endpoint| endpoint.user_agent("\n")).err();
    assert_eq!(
        error.map(|error| error.kind()),
        Some(ErrorKind::InvalidEndpoint)
    );
}

// D302
#[tokio::test]
async fn lists_are_of_anything_that_is_text() {
    let backend = Backend::start().await;
    let text = format!("{},{}", backend.uri(), backend.uri());
    let owned: Vec<String> = text.split(',').map(str::to_owned).collect();
    let lists = [
        discover::list(text.split(',')),
        discover::list(&owned),
        discover::list(owned.clone()),
    ];
    for list in lists {
        let list = list.expect("a list");
        let channel = within("the channel", Channel::balance(list).connect()).await;
        let channel = channel.expect("it connects");
        assert_eq!(channel.backends().len(), 1, "the same twice is one");
    }
}
