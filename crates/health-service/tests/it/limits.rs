//! Requests that the service refuses, over real sockets, and many that it takes, in memory.

use grpc_health_service::{
    HealthOptions, HealthService,
    ServingStatus::{NotServing, Serving},
};
use testing::{SERVICE_UNKNOWN, SERVING, within};
use tonic::Code;

use super::{
    in_memory::{Polled, Stream},
    server::{check, open_watch, serve, watch},
};

#[tokio::test]
async fn a_name_of_more_than_200_bytes_is_an_invalid_argument() {
    let (health, service) = HealthService::new();
    let longest = "é".repeat(100);
    let too_long = format!("{longest}x");
    health.set_each([&longest, &too_long], Serving);
    let client = serve(service).await;
    assert_eq!(check(&client, &longest).await.expect("known"), SERVING);
    let refused = [
        check(&client, &too_long).await.expect_err("too long"),
        watch(&client, &too_long).await.expect_err("too long"),
    ];
    for refused in refused {
        assert_eq!(refused.code(), Code::InvalidArgument);
        assert_eq!(
            refused.message(),
            "the service name has 201 bytes, and at most 200 are allowed"
        );
    }
    assert_eq!(health.watchers(), 0);
}

#[tokio::test]
async fn a_request_of_more_than_4_kib_is_out_of_range() {
    let (health, service) = HealthService::new();
    let client = serve(service).await;
    // 3 bytes are the field and its length.
    let longest = "x".repeat(4 * 1024 - 3);
    let refused = check(&client, &longest).await.expect_err("too long");
    assert_eq!(refused.code(), Code::InvalidArgument);
    let too_long = format!("{longest}x");
    let refused = watch(&client, &too_long).await.expect_err("too long");
    assert_eq!(refused.code(), Code::OutOfRange);
    assert_eq!(health.watchers(), 0);
}

#[tokio::test]
async fn a_watch_above_the_limit_is_resource_exhausted() {
    let (health, service) = HealthService::with_options(HealthOptions::default().max_watchers(2));
    let client = serve(service).await;
    let mut first = open_watch(&client, "a").await;
    let mut second = open_watch(&client, "").await;
    first.expect(SERVICE_UNKNOWN).await;
    second.expect(SERVING).await;
    let refused = watch(&client, "b").await.expect_err("a third");
    assert_eq!(refused.code(), Code::ResourceExhausted);
    assert_eq!(
        refused.message(),
        "the server has 2 open Watch streams, which is its limit"
    );
    drop(first);
    let gone = async {
        while health.watchers() > 1 {
            tokio::task::yield_now().await;
        }
    };
    within("the first Watch to be removed", gone).await;
    open_watch(&client, "b").await.expect(SERVICE_UNKNOWN).await;
}

#[tokio::test]
async fn a_change_reaches_10_000_watchers() {
    let (health, service) = HealthService::new();
    let mut streams = Vec::with_capacity(10_000);
    for _ in 0..10_000 {
        let mut stream = Stream::open(&service, "").await;
        assert_eq!(stream.poll(), Polled::Status(1));
        streams.push(stream);
    }
    health.set("", NotServing);
    assert!(streams.iter_mut().all(|it| it.poll() == Polled::Status(2)));
    assert!(streams.iter_mut().all(|it| it.poll() == Polled::Pending));
}
