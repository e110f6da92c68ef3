//! The health RPCs, on the backend's own connection.
//!
//! They are ordinary calls of a generated client, with no channel around them:
//! no deadline, no retry, no balancing (gRFC A17). Their stream is the one that
//! was reserved before any call could use the connection, so a `Watch` that ends
//! can always be started again.

use std::{
    future::{Future, ready},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use futures_util::{Stream, StreamExt, stream};
use http::{HeaderMap, HeaderValue, Request, Response};
use tokio::sync::OnceCell;
use tonic::{Code, Status, Streaming, body::Body};
use tower_service::Service;

use super::{
    action::Rpc,
    machine::{EndKind, Ended},
};
use crate::{
    error::{Error, ErrorKind, sanitize_peer_text},
    pb::{HealthCheckRequest, HealthCheckResponse, health_client::HealthClient},
    transport::{
        CallSlot, Connection, Deadline, OutgoingRequest, Reservation, ResponseBody, SendError,
    },
};

/// More than any answer of this protocol takes.
const MAX_MESSAGE: usize = 4 << 10;

/// What an RPC brings, in the terms of the machine.
#[derive(Debug)]
pub(crate) enum Event {
    Response(i32),
    Ended(Ended),
    Checked(Result<i32, Ended>),
}

/// Health RPCs on one connection, one at a time.
#[derive(Clone)]
pub(crate) struct HealthRpc {
    connection: Connection,
    /// Made by the first RPC, kept until the last clone is gone.
    reservation: Arc<OnceCell<Reservation>>,
}

/// An RPC that runs. Dropping it cancels the RPC.
pub(crate) type RunningRpc = Pin<Box<dyn Stream<Item = Event> + Send>>;

impl HealthRpc {
    pub(crate) fn new(connection: Connection) -> Self {
        Self {
            connection,
            reservation: Arc::default(),
        }
    }

    /// Asks about `service`.
    pub(crate) fn start(&self, rpc: Rpc, service: &str) -> RunningRpc {
        let request = HealthCheckRequest {
            service: service.to_owned(),
        };
        match rpc {
            Rpc::Watch => Box::pin(watch(self.clone(), request)),
            Rpc::Check => Box::pin(stream::once(check(self.clone(), request))),
        }
    }

    /// A client for one RPC. Waits while the peer allows no stream at all.
    async fn client(&self) -> HealthClient<OneCall> {
        let reserve = || self.connection.reserve();
        let reservation = self.reservation.get_or_init(reserve).await;
        HealthClient::new(OneCall(Some(reservation.lend()))).max_decoding_message_size(MAX_MESSAGE)
    }
}

/// One answer for each message, then how it ended.
fn watch(health_rpc: HealthRpc, request: HealthCheckRequest) -> impl Stream<Item = Event> {
    let started = async move {
        let service = request.service.clone();
        match health_rpc.client().await.watch(request).await {
            Ok(response) => answers(response.into_inner(), service).left_stream(),
            Err(status) => {
                let ended = ready(Event::Ended(Ended::of(&status, &service)));
                stream::once(ended).right_stream()
            }
        }
    };
    stream::once(started).flatten()
}

fn answers(messages: Streaming<HealthCheckResponse>, service: String) -> impl Stream<Item = Event> {
    stream::unfold(Some((messages, service)), async |watch| {
        let (mut messages, service) = watch?;
        let status = match messages.message().await {
            Ok(Some(answer)) => {
                return Some((Event::Response(answer.status), Some((messages, service))));
            }
            Ok(None) => Status::ok(""),
            Err(status) => status,
        };
        Some((Event::Ended(Ended::of(&status, &service)), None))
    })
}

async fn check(health_rpc: HealthRpc, request: HealthCheckRequest) -> Event {
    let service = request.service.clone();
    let answer = health_rpc.client().await.check(request).await;
    Event::Checked(match answer {
        Ok(answer) => Ok(answer.into_inner().status),
        Err(status) => Err(Ended::of(&status, &service)),
    })
}

impl Ended {
    /// A server that does not know the name seldom says which.
    fn of(status: &Status, service: &str) -> Self {
        let kind = match status.code() {
            Code::Unimplemented => EndKind::Unimplemented,
            Code::NotFound => EndKind::NotFound,
            _ => EndKind::Other,
        };
        let mut text = match status.message() {
            "" => format!("{:?}", status.code()),
            message => format!("{:?}: {}", status.code(), sanitize_peer_text(message)),
        };
        if kind == EndKind::NotFound {
            text += &format!(" (asked for {service:?})");
        }
        Self {
            kind,
            text,
            reason: reason(status),
        }
    }
}

/// Why an RPC has failed, as metrics call it. The errors of tonic's decoder have no type.
fn reason(status: &Status) -> &'static str {
    match Error::of(status).map(|error| (error.kind(), error.code())) {
        Some((ErrorKind::Credentials, _)) => return "credentials",
        Some((ErrorKind::Unavailable, _) | (ErrorKind::CallFailed, Code::Unavailable)) => {
            return "disconnected";
        }
        Some(_) | None => {}
    }
    let has = |text| status.message().contains(text);
    match status.code() {
        Code::Unimplemented => "unimplemented",
        Code::NotFound => "not_found",
        Code::OutOfRange if has("message length too large") => "too_large",
        Code::Internal if has("failed to decode Protobuf") || has("protocol error:") => "malformed",
        _ => "status",
    }
}

fn compressed_by(headers: &HeaderMap) -> Option<&HeaderValue> {
    headers
        .get("grpc-encoding")
        .filter(|encoding| *encoding != "identity")
}

/// For the generated client this is UNIMPLEMENTED, as if the server had said that it
/// has no health service.
fn not_offered(encoding: &HeaderValue) -> Error {
    let encoding = String::from_utf8_lossy(encoding.as_bytes());
    let encoding = sanitize_peer_text(&encoding);
    let text = format!(
        "decompressor is not installed for grpc-encoding `{encoding}`, which the client did not \
         offer"
    );
    Error::with_status(ErrorKind::CallFailed, Status::internal(text))
}

/// A service that carries one call, on the stream it was lent.
struct OneCall(Option<CallSlot>);

impl Service<Request<Body>> for OneCall {
    type Response = Response<ResponseBody>;
    type Error = Error;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Error>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let slot = self.0.take();
        Box::pin(async move {
            let slot = slot.expect("one RPC for each client");
            let mut request = OutgoingRequest::new(request);
            let mut deadline = Deadline::none();
            let response = slot.send(&mut request, &mut deadline, |body, _| body);
            let response = response.await.map_err(|error| match error {
                SendError::Failed(failed) => failed.error,
                // Whatever its code is, it is not the server's: the server may well have
                // a health service, and know the name.
                SendError::Refused(error) => Error::new(error.kind(), error.message()),
                SendError::Unsent => Error::new(
                    ErrorKind::Unavailable,
                    "the connection is draining or closed",
                ),
            })?;
            match compressed_by(response.headers()) {
                None => Ok(response),
                Some(encoding) => Err(not_offered(encoding)),
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use tonic::Status;

    use super::reason;
    use crate::{Error, ErrorKind};

    // D410
    #[test]
    fn each_status_has_a_reason() {
        let ours = |kind| Status::from(Error::new(kind, "ours"));
        for (status, expected) in [
            (ours(ErrorKind::Credentials), "credentials"),
            (ours(ErrorKind::Unavailable), "disconnected"),
            (Status::unavailable("the server's own"), "status"),
            (Status::ok(""), "status"),
            (Status::unimplemented(""), "unimplemented"),
            (Status::not_found(""), "not_found"),
            (
                Status::out_of_range("Error, decoded message length too large: found 100 bytes"),
                "too_large",
            ),
            (
                Status::internal("failed to decode Protobuf message"),
                "malformed",
            ),
            (Status::internal("the server's own"), "status"),
        ] {
            assert_eq!(reason(&status), expected, "{status}");
        }
    }
}
