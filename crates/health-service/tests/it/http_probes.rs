//! Probes over HTTP.

use grpc_health_service::{HealthHandle, HealthService, ServingStatus};
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
