//! Health decides who gets calls: the life of a backend set, told in flips.

use tonic_health_channel::ConnectivityState::{Ready, TransientFailure};

use crate::support::{
    Backend, GREETER, balanced, health_checked, hello, refusal, spread, until, until_backends,
};

// C01–C06
#[tokio::test]
async fn calls_go_where_health_says_serving() {
    let start = Backend::builder().scripted().no_services();
    let [a, b, c] = start.start_each(["A", "B", "C"]).await;
    let all = [&a, &b, &c];
    let channel = health_checked(&all);

    until(&channel, TransientFailure).await;
    let text = refusal(&channel).await;
    assert!(text.contains("health check: SERVICE_UNKNOWN"), "{text}");

    a.set_serving(GREETER).await;
    until(&channel, Ready).await;
    assert_eq!(spread(&channel, 10, &all).await, [10, 0, 0]);

    c.set_serving(GREETER).await;
    until_backends(&channel, &[Ready, TransientFailure, Ready]).await;
    assert_eq!(spread(&channel, 10, &all).await, [5, 0, 5]);

    b.set_serving(GREETER).await;
    until_backends(&channel, &[Ready, Ready, Ready]).await;
    assert_eq!(spread(&channel, 9, &all).await, [3, 3, 3]);

    a.set_not_serving(GREETER).await;
    until_backends(&channel, &[TransientFailure, Ready, Ready]).await;
    assert_eq!(spread(&channel, 10, &all).await, [0, 5, 5]);

    b.set_not_serving(GREETER).await;
    c.set_not_serving(GREETER).await;
    until(&channel, TransientFailure).await;
    let text = refusal(&channel).await;
    for backend in all {
        let named = format!("{} health check: NOT_SERVING", backend.addr());
        assert!(text.contains(&named), "{text}");
    }
    let (_, _) = (balanced, hello);
}
