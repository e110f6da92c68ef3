//! Answers to probes over HTTP, for systems that do not speak gRPC.

use std::{
    convert::Infallible,
    future::{Ready, ready},
    task::{Context, Poll},
};

use tonic::codegen::{
    Service,
    http::{Method, Request, Response, StatusCode, header},
};

use crate::{handle::HealthHandle, status::ServingStatus};

/// A tower service that answers probes over HTTP; [`HealthHandle::http_probes`] makes it.
///
/// | request | answer |
/// |---|---|
/// | `GET /healthz` | 200 `ok`, as long as the process answers |
/// | `GET /readyz` | 200 `SERVING` if the server as a whole is, otherwise 503 with the status |
/// | `GET /readyz?service=NAME` | the same for a service; 503 `SERVICE_UNKNOWN` for an unknown name |
/// | another path | 404 |
/// | another method than GET and HEAD | 405 |
///
/// `/healthz` does not depend on any status. Otherwise a liveness probe would kill a server
/// that drains, or one whose database is away.
///
/// The service takes any body, and its errors are `Infallible`: axum's `route_service` takes it,
/// and any hyper server.
#[derive(Clone, Debug)]
pub struct HttpProbes {
    health: HealthHandle,
}

impl HealthHandle {
    /// A service that answers `/healthz` and `/readyz` from these statuses.
    #[must_use]
    pub fn http_probes(&self) -> HttpProbes {
        HttpProbes {
            health: self.clone(),
        }
    }
}

impl HttpProbes {
    fn answer(&self, method: &Method, path: &str, query: &str) -> (StatusCode, String) {
        if ![Method::GET, Method::HEAD].contains(method) {
            let text = "only GET and HEAD are allowed".to_owned();
            return (StatusCode::METHOD_NOT_ALLOWED, text);
        }
        match path {
            "/healthz" => (StatusCode::OK, "ok".to_owned()),
            "/readyz" => self.readiness(query),
            _ => (StatusCode::NOT_FOUND, "not found".to_owned()),
        }
    }

    fn readiness(&self, query: &str) -> (StatusCode, String) {
        let mut pairs = form_urlencoded::parse(query.as_bytes());
        let service = pairs.find(|(key, _)| key == "service");
        let status = match service {
            Some((_, name)) => self.health.status(name),
            None => self.health.status(""),
        };
        match status {
            Some(ServingStatus::Serving) => (StatusCode::OK, "SERVING".to_owned()),
            Some(status @ (ServingStatus::NotServing | ServingStatus::Unknown)) => {
                (StatusCode::SERVICE_UNAVAILABLE, status.to_string())
            }
            None => (
                StatusCode::SERVICE_UNAVAILABLE,
                "SERVICE_UNKNOWN".to_owned(),
            ),
        }
    }
}

impl<B> Service<Request<B>> for HttpProbes {
    type Response = Response<String>;
    type Error = Infallible;
    type Future = Ready<Result<Self::Response, Self::Error>>;

    fn poll_ready(&mut self, _cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let uri = request.uri();
        let query = uri.query().unwrap_or_default();
        let (status, text) = self.answer(request.method(), uri.path(), query);
        let mut response = Response::new(text);
        *response.status_mut() = status;
        let plain = header::HeaderValue::from_static("text/plain; charset=utf-8");
        response.headers_mut().insert(header::CONTENT_TYPE, plain);
        ready(Ok(response))
    }
}
