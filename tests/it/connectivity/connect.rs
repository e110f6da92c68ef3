//! Channels that are awaited until they are READY, for a while.

use std::time::Duration;

use testing::{Backend, RawPeer, balanced, hello, within};
use tonic::Code;
use tonic_health_channel::{Channel, ConnectivityState::Ready, ErrorKind, discover};

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
