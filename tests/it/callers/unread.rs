//! A deadline ends its stream on time, whether the answer is read or not.

use std::time::{Duration, Instant};

use futures_util::FutureExt;
use testing::{Backend, GREETER, balanced, greeter::greeter_client::GreeterClient, within};
use tokio::task::yield_now;
use tonic::{Code, Request};
use tonic_health_channel::Channel;

const DEADLINE: Duration = Duration::from_millis(300);

/// Resolves when no call is in flight.
async fn all_ended(channel: &Channel) {
    while channel.backends()[0].calls_in_flight() > 0 {
        yield_now().await;
    }
}

// D264
#[tokio::test]
async fn streams_that_are_not_read_end_at_their_deadline() {
    for polls in [0, 1] {
        let backend = Backend::builder().serving(GREETER).start().await;
        let channel = balanced(&[&backend], None).build();
        within("a backend", channel.wait_until_ready())
            .await
            .expect("READY");
        let mut client = GreeterClient::new(channel.clone());
        let mut request = Request::new(testing::request("hold"));
        request.set_timeout(DEADLINE);
        let start = Instant::now();
        let answer = within("headers", client.say_hello_many(request)).await;
        let mut messages = answer.expect("headers").into_inner();
        for _ in 0..polls {
            assert!(messages.message().now_or_never().is_none(), "it is on hold");
        }
        assert_eq!(channel.backends()[0].calls_in_flight(), 1);
        within("the stream to end", all_ended(&channel)).await;
        let took = start.elapsed();
        assert!((DEADLINE..DEADLINE * 4).contains(&took), "after {took:?}");
        within("the server to hear of it", backend.until_held(0)).await;

        let late = within("what a late reader gets", messages.message()).await;
        let status = late.expect_err("it is too late");
        assert_eq!(status.code(), Code::DeadlineExceeded, "{status}");
    }
}
