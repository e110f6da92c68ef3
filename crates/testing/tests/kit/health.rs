//! A backend's health, as clients see it.

use std::time::Duration;

use testing::health::{HealthCheckRequest, HealthCheckResponse, health_client::HealthClient};
use tokio::time::Instant;
use tonic::{Code, Status, Streaming};
use tonic_health_channel::Channel;
use tonic_health_channel_testing::{
    Backend, Network,
    ServingStatus::{self, NotServing, Serving, Unknown},
    within,
};

use super::greeter;

// The protocol's numbers.
const UNKNOWN: i32 = 0;
const SERVING: i32 = 1;
const NOT_SERVING: i32 = 2;
const SERVICE_UNKNOWN: i32 = 3;

async fn watch(backend: &Backend, service: &str) -> Result<Streaming<HealthCheckResponse>, Status> {
    let channel: Channel = backend.endpoint().connect_lazy();
    let request = HealthCheckRequest {
        service: service.into(),
    };
    let mut client = HealthClient::new(channel);
    within("headers of Watch", client.watch(request))
        .await
        .map(tonic::Response::into_inner)
}

async fn next(watch: &mut Streaming<HealthCheckResponse>) -> Result<i32, Status> {
    let message = within("a message of Watch", watch.message()).await?;
    Ok(message.expect("the stream is open").status)
}

#[tokio::test]
async fn watchers_get_what_is_set_and_a_restart_keeps_it() {
    let backend = greeter("a").health("shop", Unknown).start();
    let mut shop = watch(&backend, "shop").await.expect("a stream");
    assert_eq!(next(&mut shop).await.expect("open"), UNKNOWN);
    assert_eq!(backend.flip_health("shop"), Serving);
    assert_eq!(next(&mut shop).await.expect("open"), SERVING);
    assert_eq!(backend.flip_health("shop"), NotServing);
    assert_eq!(next(&mut shop).await.expect("open"), NOT_SERVING);
    backend.set_health("shop", None);
    assert_eq!(next(&mut shop).await.expect("open"), SERVICE_UNKNOWN);
    assert_eq!(backend.watchers().get(), 1);

    backend.kill().await;
    backend.watchers().until_exactly(0).await;
    backend.set_health("shop", NotServing);
    backend.set_health("", None);
    backend.restart().await;
    for (name, expected) in [("shop", NOT_SERVING), ("", SERVICE_UNKNOWN)] {
        let mut again = watch(&backend, name).await.expect("a stream");
        assert_eq!(next(&mut again).await.expect("open"), expected, "{name}");
    }
}

#[tokio::test]
async fn a_stop_tells_watchers_and_ends_their_streams() {
    let backend = greeter("a").start();
    let mut server = watch(&backend, "").await.expect("a stream");
    assert_eq!(next(&mut server).await.expect("open"), SERVING);
    let stopped = backend.stop();
    assert_eq!(next(&mut server).await.expect("open"), NOT_SERVING);
    let end = next(&mut server).await.expect_err("the stream ends");
    assert_eq!(end.code(), Code::Unavailable);
    within("the stop", stopped).await;
    backend.restart().await;
    let mut server = watch(&backend, "").await.expect("a stream");
    assert_eq!(next(&mut server).await.expect("open"), SERVING);
}

#[tokio::test(start_paused = true)]
async fn a_script_plays_in_its_time() {
    let network = Network::new();
    let backend = greeter("a").in_network(&network, "a").start();
    let mut server = watch(&backend, "").await.expect("a stream");
    let began = Instant::now();
    let (second, minute) = (Duration::from_secs(1), Duration::from_secs(60));
    let script: [(_, Option<ServingStatus>); 3] = [
        (second, Some(NotServing)),
        (second, None),
        (minute * 60, Some(Serving)),
    ];
    let played = backend.play_health("", script);
    let seen = async {
        let mut seen = Vec::new();
        for _ in 0..4 {
            let message = server.message().await.expect("open");
            let status = message.expect("open").status;
            seen.push((began.elapsed().as_secs(), status));
        }
        seen
    };
    let ((), seen) = tokio::join!(played, seen);
    assert_eq!(
        seen,
        [
            (0, SERVING),
            (1, NOT_SERVING),
            (2, SERVICE_UNKNOWN),
            (3602, SERVING)
        ]
    );
}

#[tokio::test]
async fn a_backend_may_lack_health_or_never_tell_it() {
    let without = greeter("a").without_health().start();
    let end = watch(&without, "").await.expect_err("no service");
    assert_eq!(end.code(), Code::Unimplemented);

    let silent = greeter("a").silent_health().start();
    let watching = tokio::spawn({
        let channel: Channel = silent.endpoint().connect_lazy();
        async move {
            let mut client = HealthClient::new(channel);
            client.watch(HealthCheckRequest::default()).await.map(drop)
        }
    });
    silent.watchers().until_exactly(1).await;
    watching.abort();
    silent.watchers().until_exactly(0).await;
}

#[tokio::test]
#[should_panic(expected = "no health service whose statuses can be set")]
async fn a_status_without_a_health_service_is_a_mistake() {
    greeter("a")
        .without_health()
        .start()
        .set_health("", Serving);
}
