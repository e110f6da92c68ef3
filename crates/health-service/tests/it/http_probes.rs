//! Probes over HTTP.

use grpc_health_service::{HealthHandle, HealthService, ServingStatus};
use testing::within;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};
use tonic::codegen::Service;

async fn answer(health: &HealthHandle, method: &str, uri: &str) -> (u16, String) {
    let request = http::Request::builder().method(method).uri(uri);
    let request = request.body(()).expect("a request");
    let mut probes = health.http_probes();
    let response = probes.call(request).await.expect("infallible");
    assert_eq!(
        response.headers()["content-type"],
        "text/plain; charset=utf-8"
    );
    (response.status().as_u16(), response.into_body())
}

#[tokio::test]
async fn readiness_is_the_status_and_liveness_is_not() {
    let (health, _service) = HealthService::new();
    health.set("demo.v1.Greeter", ServingStatus::NotServing);
    health.set("a b/c", ServingStatus::Unknown);
    for (method, uri, code, text) in [
        ("GET", "/healthz", 200, "ok"),
        ("HEAD", "/readyz", 200, "SERVING"),
        ("GET", "/readyz?service=", 200, "SERVING"),
        ("GET", "/readyz?service=demo.v1.Greeter", 503, "NOT_SERVING"),
        ("GET", "/readyz?verbose&service=a%20b%2Fc", 503, "UNKNOWN"),
        ("GET", "/readyz?service=orders", 503, "SERVICE_UNKNOWN"),
        ("GET", "/", 404, "not found"),
        ("POST", "/readyz", 405, "only GET and HEAD are allowed"),
    ] {
        let expected = (code, text.to_owned());
        assert_eq!(
            answer(&health, method, uri).await,
            expected,
            "{method} {uri}"
        );
    }
    health.shutdown();
    assert_eq!(answer(&health, "GET", "/readyz").await.0, 503);
    assert_eq!(answer(&health, "GET", "/healthz").await.0, 200);
}

#[tokio::test]
async fn a_router_of_axum_takes_the_probes() {
    let (health, _service) = HealthService::new();
    let router = axum::Router::new()
        .route_service("/healthz", health.http_probes())
        .route_service("/readyz", health.http_probes());
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    let server = async move { axum::serve(listener, router).await };
    tokio::spawn(server);
    health.set("orders", ServingStatus::NotServing);
    let mut stream = TcpStream::connect(address).await.expect("a connection");
    let request = b"GET /readyz?service=orders HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n";
    stream.write_all(request).await.expect("a request");
    let mut answer = String::new();
    let read = stream.read_to_string(&mut answer);
    within("the answer", read).await.expect("an answer");
    let is_503 = answer.starts_with("HTTP/1.1 503 ") && answer.ends_with("\r\n\r\nNOT_SERVING");
    assert!(is_503, "{answer}");
}
