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

/// Bytes that either side may write ahead of the other, mostly.
pub(crate) const PIPE: usize = 64 << 10;

/// What a timer may be late, in paused time.
const TICK: Duration = Duration::from_millis(2);

/// What a connection may take to close, and a bit.
pub(crate) const FAREWELL: Duration = Duration::from_secs(6);

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

/// An endpoint whose every dial brings us the server's side of a new connection, on which
/// either side may write `pipe` bytes ahead of the other.
pub(crate) fn dialled(pipe: usize) -> (Endpoint, Dials) {
    let (dialled, dials) = mpsc::unbounded_channel();
    let connector = tower::service_fn(move |_: http::Uri| {
        let (ours, theirs) = duplex(pipe);
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
    let due = Due::within(seconds);
    let outcome = request(channel, body, seconds).await;
    due.assert_met(&outcome);
    outcome
}

/// A call with a deadline, which begins when this is first polled.
pub(crate) async fn request(channel: &Channel, body: Body, seconds: u64) -> Outcome {
    read(respond(channel, body, seconds).await?).await
}

/// The response of such a call, once its headers are there.
pub(crate) async fn respond(
    channel: &Channel,
    body: Body,
    seconds: u64,
) -> Result<Response<impl http_body::Body<Data = Bytes, Error = tonic::Status> + Unpin>, Code> {
    let request = Request::post("/any.Service/Any")
        .header("grpc-timeout", format!("{seconds}S"))
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .body(body)
        .expect("a request");
    let response = channel.clone().call(request).await;
    response.map_err(|error| code(&error))
}

/// When a call has to be over.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Due(Instant);

impl Due {
    /// The deadline of a call that begins now.
    pub(crate) fn within(seconds: u64) -> Self {
        Self(Instant::now() + Duration::from_secs(seconds))
    }

    /// The same of one that is polled again only now: it may have its last word to say.
    pub(crate) fn or_now(self) -> Self {
        Self(self.0.max(Instant::now()))
    }

    pub(crate) fn assert_met(self, outcome: &Outcome) {
        let late = Instant::now().saturating_duration_since(self.0);
        assert!(late <= TICK, "{outcome:?} {late:?} late");
    }
}

/// Reads on to the end.
pub(crate) async fn read<B>(response: Response<B>) -> Outcome
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
