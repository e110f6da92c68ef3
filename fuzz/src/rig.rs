//! A channel in memory and in paused time: nothing takes time but what waits for it.

use std::{future::Future, time::Duration};

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::BodyExt;
use hyper_util::rt::TokioIo;
use tokio::{
    io::{DuplexStream, duplex},
    runtime::Builder,
    sync::mpsc,
    time::{Instant, sleep, timeout},
};
use tonic::{Code, body::Body};
use tonic_health_channel::{Channel, ChannelBuilder, Endpoint, Error, discover};
use tower::Service;

/// Bytes that either side may write ahead of the other.
const PIPE: usize = 64 << 10;

/// What a timer may be late, in paused time.
const TICK: Duration = Duration::from_millis(2);

/// What a connection may take to close, and a bit.
const FAREWELL: Duration = Duration::from_secs(6);

/// Longer than anything here is given.
const FOR_EVER: Duration = Duration::from_secs(24 * 60 * 60);

/// Runs a scene to its end. Whatever it started has to have ended soon after.
pub(crate) fn play(scene: impl Future<Output = ()>) {
    let runtime = Builder::new_current_thread()
        .enable_all()
        .start_paused(true)
        .build()
        .expect("a runtime");
    runtime.block_on(async {
        timeout(FOR_EVER, scene).await.expect("a scene that ends");
        sleep(FAREWELL).await;
    });
    let left = runtime.metrics().num_alive_tasks();
    assert_eq!(left, 0, "tasks outlive their channel");
}

pub(crate) type Dials = mpsc::UnboundedReceiver<DuplexStream>;

/// An endpoint whose every dial brings us the server's side of a new connection.
pub(crate) fn dialled() -> (Endpoint, Dials) {
    let (dialled, dials) = mpsc::unbounded_channel();
    let connector = tower::service_fn(move |_: http::Uri| {
        let (ours, theirs) = duplex(PIPE);
        // Nobody takes it any more: an end of file.
        let _ = dialled.send(theirs);
        std::future::ready(Ok::<_, std::io::Error>(TokioIo::new(ours)))
    });
    let endpoint = Endpoint::from_static("http://backend.test:50051");
    (endpoint.connector(connector), dials)
}

/// A channel over that one endpoint. With `health`, it asks for that of any service.
pub(crate) fn channel(endpoint: Endpoint, health: bool) -> ChannelBuilder {
    let config = match health {
        true => r#"{"healthCheckConfig": {"serviceName": "any"}}"#,
        false => "{}",
    };
    let list = discover::list([endpoint]).expect("an endpoint");
    Channel::balance(list).service_config(config.parse().expect("a service config"))
}

/// How a call went: its last word, whatever it was.
pub(crate) type Outcome = Result<Option<http::HeaderMap>, Code>;

/// A call that has to end within `seconds`, however it ends.
pub(crate) async fn call(channel: &Channel, body: Body, seconds: u64) -> Outcome {
    let started = Instant::now();
    let request = Request::post("/any.Service/Any")
        .header("grpc-timeout", format!("{seconds}S"))
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .body(body)
        .expect("a request");
    let outcome = match channel.clone().call(request).await {
        Ok(response) => read(response).await,
        Err(error) => Err(code(&error)),
    };
    let took = started.elapsed();
    let allowed = Duration::from_secs(seconds);
    assert!(
        took <= allowed + TICK,
        "{outcome:?} after {took:?} of {allowed:?}"
    );
    outcome
}

async fn read<B>(response: Response<B>) -> Outcome
where
    B: http_body::Body<Data = Bytes, Error = tonic::Status> + Unpin,
{
    let mut body = response.into_body();
    let mut trailers = None;
    while let Some(frame) = body.frame().await {
        match frame {
            Ok(frame) => trailers = frame.into_trailers().ok(),
            Err(status) => {
                assert!(!status.message().is_empty(), "{status:?} says nothing");
                return Err(status.code());
            }
        }
    }
    Ok(trailers)
}

fn code(error: &Error) -> Code {
    assert!(!error.message().is_empty(), "{error:?} says nothing");
    error.code()
}

/// Lets everybody do what can be done now.
pub(crate) async fn settle() {
    sleep(Duration::from_millis(1)).await;
}
