//! Backends in memory, in paused time.

use std::{io::ErrorKind, time::Duration};

use tokio::time::Instant;
use tonic::Code;
use tonic_health_channel::{Channel, Endpoint, Uri};
use tonic_health_channel_testing::{
    Backend, Network, ServingStatus::Serving, until_ready_backends, within,
};
use tower_service::Service;

use super::{greeter, hello};

const HOUR: Duration = Duration::from_secs(3600);

fn channel(backends: &[&Backend]) -> Channel {
    let endpoints = backends.iter().map(|backend| backend.endpoint());
    Channel::list(endpoints)
        .expect("endpoints")
        .health_check("")
        .build()
}

#[tokio::test(start_paused = true)]
async fn hours_of_backoff_take_no_time() {
    let network = Network::new();
    let backend = greeter("a").in_network(&network, "a").reserve();
    let channel = channel(&[&backend]);
    backend.play_health("", [(HOUR, Serving)]).await;
    let refused = hello(&channel).await.expect_err("it is down");
    assert_eq!(refused.code(), Code::Unavailable);
    assert!(
        refused.message().contains("refuses connections"),
        "{refused}"
    );
    backend.restart().await;
    channel.wait_until_ready().await.expect("it is up");
    assert_eq!(hello(&channel).await.expect("an answer"), "a");
}

#[tokio::test(start_paused = true)]
async fn a_kill_is_a_reset_and_a_name_is_free_after_its_backend() {
    let network = Network::new();
    let backend = greeter("a").in_network(&network, "a").start();
    let channel = channel(&[&backend]);
    until_ready_backends(&channel, 1).await;
    backend.hold();
    let held = tokio::spawn({
        let channel = channel.clone();
        async move { hello(&channel).await }
    });
    backend.open_calls().until_exactly(1).await;
    backend.kill().await;
    let lost = held.await.expect("no panic").expect_err("it was in flight");
    assert!(lost.message().contains("reset"), "{lost}");

    let mut connector = network.connector();
    let uri = |host| Uri::from_static(host);
    let refused = connector
        .call(uri("http://a"))
        .await
        .expect_err("it is down");
    assert_eq!(refused.kind(), ErrorKind::ConnectionRefused);
    drop(backend);
    let unknown = connector
        .call(uri("http://a"))
        .await
        .expect_err("it has gone");
    assert_eq!(unknown.kind(), ErrorKind::NotFound);
    let _again = greeter("a").in_network(&network, "a").start();
    assert!(connector.call(uri("http://a:50051")).await.is_ok());
}

#[tokio::test(start_paused = true)]
#[should_panic(expected = "already has a backend of the name `a`")]
async fn a_name_belongs_to_one_backend() {
    let network = Network::new();
    let _first = greeter("a").in_network(&network, "a").start();
    let _second = greeter("a").in_network(&network, "a").start();
}

#[tokio::test(start_paused = true)]
#[should_panic(expected = "is not the address of a backend")]
async fn a_name_is_a_host() {
    let _backend = greeter("a").in_network(&Network::new(), "a name").start();
}

#[tokio::test(start_paused = true)]
async fn a_delay_takes_its_time_and_a_deadline_ends_it() {
    let network = Network::new();
    let backend = greeter("a").in_network(&network, "a").start();
    let channel = backend.endpoint().connect_lazy();
    backend.set_delay(Duration::from_secs(2));
    let began = Instant::now();
    hello(&channel).await.expect("an answer");
    assert_eq!(began.elapsed().as_secs(), 2);

    let short: Channel = backend
        .endpoint()
        .timeout(Duration::from_secs(1))
        .connect_lazy();
    let late = hello(&short).await.expect_err("too late");
    assert_eq!(late.code(), Code::DeadlineExceeded);
    assert_eq!(began.elapsed().as_secs(), 3);
    backend.open_calls().until_exactly(0).await;

    backend.set_delay(Duration::ZERO);
    hello(&channel).await.expect("an answer");
    assert_eq!(began.elapsed().as_secs(), 3);
}

#[tokio::test(start_paused = true)]
async fn endpoints_by_uri_lead_to_the_backend_of_the_name() {
    let network = Network::new();
    let _backends = ["a", "b"].map(|name| greeter(name).in_network(&network, name).start());
    for name in ["b", "a"] {
        let endpoint = Endpoint::from_shared(format!("http://{name}:50051")).expect("a URI");
        let channel = endpoint.connector(network.connector()).connect_lazy();
        assert_eq!(hello(&channel).await.expect("an answer"), name);
    }
}

/// tonic's own endpoint takes the connector, too.
#[tokio::test(start_paused = true)]
async fn tonics_channel_reaches_it() {
    let network = Network::new();
    let backend = greeter("a").in_network(&network, "a").start();
    let endpoint = tonic::transport::Endpoint::from_static("http://a");
    let channel = endpoint.connect_with_connector_lazy(network.connector());
    let mut client = testing::greeter::greeter_client::GreeterClient::new(channel);
    let call = client.say_hello(testing::greeter::HelloRequest::default());
    within("an answer", call).await.expect("an answer");
    assert_eq!(backend.calls().get(), 1);
}

#[tokio::test(start_paused = true)]
#[should_panic(expected = "waited for 2 READY backends, in vain")]
async fn a_wait_in_vain_tells_the_backends() {
    let network = Network::new();
    let backend = greeter("a").in_network(&network, "a").start();
    let channel = channel(&[&backend]);
    until_ready_backends(&channel, 2).await;
}

/// The order of the answers is drawn neither by tokio nor by the clock.
#[tokio::test(start_paused = true)]
async fn held_calls_go_on_in_their_order() {
    let network = Network::new();
    let backend = greeter("a").in_network(&network, "a").start();
    let channel = backend.endpoint().connect_lazy();
    backend.hold();
    let (tell, mut answered) = tokio::sync::mpsc::unbounded_channel();
    for number in 0..20 {
        let (channel, tell) = (channel.clone(), tell.clone());
        tokio::spawn(async move {
            hello(&channel).await.expect("an answer");
            let _ = tell.send(number);
        });
        backend.calls().until_at_least(number + 1).await;
    }
    drop(tell);
    backend.release();
    let mut order = Vec::new();
    while let Some(number) = answered.recv().await {
        order.push(number);
    }
    assert_eq!(order, (0..20).collect::<Vec<_>>());
}
