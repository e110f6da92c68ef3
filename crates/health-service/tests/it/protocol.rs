//! Each status as clients see it, over real sockets.

use std::future::pending;

use grpc_health_service::{
    HealthService,
    ServingStatus::{self, NotServing, Serving},
};
use testing::{NOT_SERVING, SERVICE_UNKNOWN, SERVING, UNKNOWN, within};
use tokio::net::TcpListener;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::{
    Code, Request, Status, server::NamedService, service::interceptor::InterceptedService,
    transport::Server,
};

use super::server::{check, connect, list, open_watch, serve, serve_until};

const GREETER: &str = "demo.v1.Greeter";

struct GreeterServer;

impl NamedService for GreeterServer {
    const NAME: &'static str = GREETER;
}

// S01
#[tokio::test]
async fn check_tells_the_status() {
    let (health, service) = HealthService::new();
    let client = serve(service).await;
    assert_eq!(check(&client, "").await.expect("known"), SERVING);
    health.set_serving::<GreeterServer>();
    assert_eq!(check(&client, GREETER).await.expect("known"), SERVING);
    health.set_not_serving::<GreeterServer>();
    assert_eq!(check(&client, GREETER).await.expect("known"), NOT_SERVING);
    health.set("", ServingStatus::Unknown);
    assert_eq!(check(&client, "").await.expect("known"), UNKNOWN);
    health.set_all(Serving);
    assert_eq!(check(&client, GREETER).await.expect("known"), SERVING);
}

// S03
#[tokio::test]
async fn check_of_an_unknown_name_is_not_found() {
    let (_health, service) = HealthService::new();
    let client = serve(service).await;
    let unknown = check(&client, GREETER).await.expect_err("unknown");
    assert_eq!(unknown.code(), Code::NotFound);
    assert_eq!(unknown.message(), "unknown service");
}

// S04
#[tokio::test]
async fn several_clients_see_each_change() {
    let (health, service) = HealthService::new();
    let (address, _served) = serve_until(service, pending()).await;
    let clients = [connect(address).await, connect(address).await];
    let mut first = open_watch(&clients[0], GREETER).await;
    let mut second = open_watch(&clients[1], GREETER).await;
    first.expect(SERVICE_UNKNOWN).await;
    second.expect(SERVICE_UNKNOWN).await;
    health.set(GREETER, NotServing);
    first.expect(NOT_SERVING).await;
    second.expect(NOT_SERVING).await;
}

// S05, S07
#[tokio::test]
async fn a_status_that_is_set_again_is_not_sent_again() {
    let (health, service) = HealthService::new();
    let client = serve(service).await;
    let mut watch = open_watch(&client, GREETER).await;
    watch.expect(SERVICE_UNKNOWN).await;
    health.set(GREETER, Serving);
    watch.expect(SERVING).await;
    health.set(GREETER, Serving);
    // A second client, whose answer comes after the task of the first could run.
    assert_eq!(check(&client, GREETER).await.expect("known"), SERVING);
    health.set(GREETER, NotServing);
    watch.expect(NOT_SERVING).await;
}

// S06
#[tokio::test]
async fn a_status_that_is_set_before_the_server_starts_is_the_first_message() {
    let (health, service) = HealthService::new();
    health.set_each([GREETER, "orders"], Serving);
    let client = serve(service).await;
    open_watch(&client, GREETER).await.expect(SERVING).await;
    open_watch(&client, "orders").await.expect(SERVING).await;
}

// S08
#[tokio::test]
async fn a_status_that_is_set_before_the_watch_is_its_first_message() {
    let (health, service) = HealthService::new();
    let client = serve(service).await;
    assert_eq!(check(&client, "").await.expect("known"), SERVING);
    health.set(GREETER, Serving);
    open_watch(&client, GREETER).await.expect(SERVING).await;
}

// S09
#[tokio::test]
async fn the_server_as_a_whole_changes_like_a_service() {
    let (health, service) = HealthService::new();
    let client = serve(service).await;
    let mut watch = open_watch(&client, "").await;
    watch.expect(SERVING).await;
    health.set("", NotServing);
    watch.expect(NOT_SERVING).await;
}

// S10
#[tokio::test]
async fn the_error_of_an_interceptor_is_the_answer() {
    let (_health, service) = HealthService::new();
    let refuse = |_: Request<()>| Err(Status::unauthenticated("no token"));
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    let server = Server::builder()
        .add_service(InterceptedService::new(service, refuse))
        .serve_with_incoming(TcpListenerStream::new(listener));
    tokio::spawn(server);
    let client = connect(address).await;
    let refused = check(&client, "").await.expect_err("refused");
    assert_eq!(refused.code(), Code::Unauthenticated);
}

// S11
#[tokio::test]
async fn a_shutdown_is_not_serving_until_it_is_resumed() {
    let (health, service) = HealthService::new();
    health.set(GREETER, Serving);
    let client = serve(service).await;
    let mut server = open_watch(&client, "").await;
    let mut greeter = open_watch(&client, GREETER).await;
    server.expect(SERVING).await;
    greeter.expect(SERVING).await;

    health.shutdown();
    server.expect(NOT_SERVING).await;
    greeter.expect(NOT_SERVING).await;
    health.set(GREETER, Serving);
    health.set_all(Serving);
    assert_eq!(check(&client, GREETER).await.expect("known"), NOT_SERVING);

    health.resume();
    server.expect(SERVING).await;
    greeter.expect(SERVING).await;
    health.set(GREETER, NotServing);
    greeter.expect(NOT_SERVING).await;
}

// S12
#[tokio::test]
async fn list_tells_all_names_up_to_100() {
    let (health, service) = HealthService::new();
    let client = serve(service).await;
    health.set(GREETER, NotServing);
    let _unknown = open_watch(&client, "unknown").await;
    let all = list(&client).await.expect("a list");
    let expected = [(String::new(), SERVING), (GREETER.to_owned(), NOT_SERVING)];
    assert_eq!(all, expected);

    health.set_each((2..100).map(|number| number.to_string()), Serving);
    assert_eq!(list(&client).await.expect("a list").len(), 100);
    health.set("the 101st", Serving);
    let refused = list(&client).await.expect_err("too many");
    assert_eq!(refused.code(), Code::ResourceExhausted);
    assert_eq!(
        refused.message(),
        "server health list exceeds maximum capacity: 100"
    );
    health.clear("the 101st");
    assert_eq!(list(&client).await.expect("a list").len(), 100);
}

// S13
#[tokio::test]
async fn a_cleared_name_is_unknown_and_its_watch_stays_open() {
    let (health, service) = HealthService::new();
    health.set(GREETER, Serving);
    let client = serve(service).await;
    let mut watch = open_watch(&client, GREETER).await;
    watch.expect(SERVING).await;
    health.clear(GREETER);
    watch.expect(SERVICE_UNKNOWN).await;
    let unknown = check(&client, GREETER).await.expect_err("cleared");
    assert_eq!(unknown.code(), Code::NotFound);
    health.set(GREETER, Serving);
    watch.expect(SERVING).await;
    health.shutdown();
    watch.expect(NOT_SERVING).await;
    health.clear(GREETER);
    assert_eq!(check(&client, GREETER).await.expect("known"), NOT_SERVING);
}

// S13
#[tokio::test]
async fn a_client_that_cancels_leaves_nothing_behind() {
    let (health, service) = HealthService::new();
    let client = serve(service).await;
    let mut watch = open_watch(&client, GREETER).await;
    watch.expect(SERVICE_UNKNOWN).await;
    assert_eq!(health.watchers(), 1);
    drop(watch);
    let gone = async {
        while health.watchers() > 0 {
            tokio::task::yield_now().await;
        }
    };
    within("the Watch to be removed", gone).await;
}
