//! Streams of `Watch` without a connection: a test polls the body of the answer by hand.

use std::{
    pin::Pin,
    task::{Context, Poll, Waker, ready},
};

use grpc_health_service::HealthService;
use http_body::Body as _;
use tonic::{body::Body, codegen::Service};

/// One frame of gRPC for the name, which is shorter than 120 bytes.
fn request(name: &str) -> http::Request<Body> {
    let length = u8::try_from(name.len()).expect("a short name");
    let mut frame = vec![0, 0, 0, 0, length + 2, 0x0a, length];
    frame.extend(name.as_bytes());
    http::Request::post("/grpc.health.v1.Health/Watch")
        .body(Body::new(http_body_util::Full::from(frame)))
        .expect("a request")
}

/// The result of one poll of a stream.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Polled {
    /// A message with this status.
    Status(u8),
    Pending,
    /// Trailers with this code.
    End(String),
}

pub(crate) struct Stream(Pin<Box<Body>>);

impl Stream {
    pub(crate) async fn open(service: &HealthService, name: &str) -> Self {
        let mut service = service.clone();
        let answer = service.call(request(name)).await.expect("infallible");
        Self(Box::pin(answer.into_body()))
    }

    pub(crate) fn poll(&mut self) -> Polled {
        let mut cx = Context::from_waker(Waker::noop());
        match self.poll_next(&mut cx) {
            Poll::Pending => Polled::Pending,
            Poll::Ready(polled) => polled,
        }
    }

    pub(crate) fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Polled> {
        let frame = ready!(self.0.as_mut().poll_frame(cx));
        let frame = frame.expect("trailers come first").expect("no error");
        Poll::Ready(match frame.into_data() {
            // Flags, length, and the message, which is empty for 0.
            Ok(data) => Polled::Status(data.get(6).copied().unwrap_or_default()),
            Err(frame) => {
                let trailers = frame.into_trailers().expect("data or trailers");
                let code = trailers["grpc-status"].to_str().expect("digits");
                Polled::End(code.to_owned())
            }
        })
    }
}
