//! From bytes to a connection that is driven.

use std::{
    future::{Future, poll_fn},
    pin::Pin,
    task::Poll,
};

use bytes::Bytes;
use tokio::runtime::Handle;

use super::{
    driver::Driver,
    limits::{builder, has_settings, max_frame_size},
    liveness::Liveness,
    windows::Windows,
    wire::WireIo,
    write_timeout::WriteTimeout,
};
use crate::transport::{
    connection::{BackendContext, Connection, Streams},
    endpoint::Endpoint,
    io::{BoxIo, SniffedIo},
    words::{failure::Failure, h2_error::why_ended},
};

/// Speaks HTTP/2 on `io`, and hands out the connection once the peer's SETTINGS
/// have come. From then on the endpoint's executor drives it,
/// and the runtime in context keeps the time of its calls.
pub(in crate::transport) async fn handshake(
    io: BoxIo,
    endpoint: &Endpoint,
    context: BackendContext,
) -> Result<Connection, Failure> {
    let (io, first_bytes) = SniffedIo::under_h2(io);
    let read_activity = io.read_activity.clone();
    let streams = Streams::default();
    let (send, mut h2) = builder(&endpoint.http2)
        .handshake::<_, Bytes>(WireIo::new(
            io,
            streams.clone(),
            max_frame_size(&endpoint.http2),
        ))
        .await
        .map_err(|error| first_bytes.blame(Some(&error)))?;
    let ended = poll_fn(|cx| match Pin::new(&mut h2).poll(cx) {
        Poll::Ready(outcome) => Poll::Ready(Some(outcome)),
        Poll::Pending if has_settings(h2.max_concurrent_send_streams()) => Poll::Ready(None),
        Poll::Pending => Poll::Pending,
    })
    .await;
    if let Some(outcome) = ended {
        return Err(match why_ended(outcome, &send) {
            Some(error) if has_settings(h2.max_concurrent_send_streams()) => {
                first_bytes.failure(&error)
            }
            error => first_bytes.blame(error.as_ref()),
        });
    }
    let liveness = Liveness::new(endpoint, &context, read_activity, h2.ping_pong());
    let connection = Connection::new(
        send,
        h2.max_concurrent_send_streams(),
        streams,
        endpoint.connection_config(Handle::current()),
        context,
    );
    let write_timeout = WriteTimeout::new(endpoint.write_timeout, endpoint.uses_sockets());
    let windows = Windows::new(&endpoint.http2);
    let driver = Driver::new(h2, liveness, write_timeout, windows, &connection);
    connection.executor().spawn(driver);
    Ok(connection)
}
