//! The meter as a service: it answers each GET with its text.

use std::{
    convert::Infallible,
    future::{Ready, ready},
    pin::Pin,
    task::{Context, Poll},
};

use bytes::Bytes;
use http::{HeaderValue, Method, Request, Response, StatusCode, header};
use http_body::{Frame, SizeHint};
use tonic::{Status, body::Body};
use tower_service::Service;

use super::registry::Prometheus;

const TEXT: HeaderValue = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");

/// Answers GET and HEAD, whatever the path is, and 405 to other methods.
impl<B> Service<Request<B>> for Prometheus {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Ready<Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let mut response = Response::new(Body::empty());
        match *request.method() {
            Method::GET | Method::HEAD => {
                let text = Bytes::from(self.render());
                let headers = response.headers_mut();
                headers.insert(header::CONTENT_TYPE, TEXT);
                headers.insert(header::CONTENT_LENGTH, text.len().into());
                if *request.method() == Method::GET {
                    *response.body_mut() = Body::new(Whole(Some(text)));
                }
            }
            _ => {
                *response.status_mut() = StatusCode::METHOD_NOT_ALLOWED;
                let allowed = HeaderValue::from_static("GET, HEAD");
                response.headers_mut().insert(header::ALLOW, allowed);
            }
        }
        ready(Ok(response))
    }
}

/// A body of one frame.
struct Whole(Option<Bytes>);

impl http_body::Body for Whole {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        Poll::Ready(self.0.take().map(|text| Ok(Frame::data(text))))
    }

    fn is_end_stream(&self) -> bool {
        self.0.as_ref().is_none_or(Bytes::is_empty)
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.0.as_ref().map_or(0, Bytes::len) as u64)
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;
    use http::{Method, Request, header};
    use http_body_util::BodyExt;
    use tower_service::Service;

    use super::Prometheus;
    use crate::metrics::{Instrument, Label, Meter};

    fn answer(meter: &mut Prometheus, method: Method) -> (u16, http::HeaderMap, String) {
        let request = Request::builder().method(method).body(());
        let response = meter.call(request.expect("a request"));
        let response = response.into_inner().expect("it never fails");
        let (head, body) = response.into_parts();
        let body = body.collect().now_or_never().expect("it is there");
        let body = body.expect("it never fails").to_bytes();
        let text = String::from_utf8(body.to_vec()).expect("it is text");
        (head.status.as_u16(), head.headers, text)
    }

    // D406
    #[test]
    fn each_get_is_answered_with_the_text() {
        let mut meter = Prometheus::new();
        assert_eq!(answer(&mut meter, Method::GET).2, "");
        let started = Instrument::all()[0];
        let labels = [
            Label::new("grpc.method", "a\\b\"c\nd"),
            Label::new("grpc.target", "dns:///größe"),
        ];
        meter.counter(started, &labels).add(3);
        let text = "# HELP grpc_client_attempt_started_total Attempts of calls that were started, \
                    also those that have not ended.\n\
                    # TYPE grpc_client_attempt_started_total counter\n\
                    grpc_client_attempt_started_total{grpc_method=\"a\\\\b\\\"c\\nd\",\
                    grpc_target=\"dns:///größe\"} 3\n";
        let (status, headers, body) = answer(&mut meter, Method::GET);
        assert_eq!((status, &*body), (200, text));
        assert_eq!(
            headers[header::CONTENT_TYPE],
            "text/plain; version=0.0.4; charset=utf-8"
        );
        assert_eq!(headers[header::CONTENT_LENGTH], text.len().to_string());
        let (status, headers, body) = answer(&mut meter, Method::HEAD);
        assert_eq!((status, &*body), (200, ""));
        assert_eq!(headers[header::CONTENT_LENGTH], text.len().to_string());
        let (status, headers, body) = answer(&mut meter, Method::POST);
        assert_eq!((status, &*body), (405, ""));
        assert_eq!(headers[header::ALLOW], "GET, HEAD");
    }
}
