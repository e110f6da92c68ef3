//! One connection of a backend: HTTP/2 by hyper, as under tonic's server.
//!
//! It is not tonic's server, because that ends its connections in an order that tokio draws. In
//! memory and in paused time, a test with this one is the same run each time. And a client's
//! tests see tonic without its feature `server`, as the client's release does.

use std::{future::pending, sync::Arc, time::Duration};

use hyper::{server::conn::http2, service::service_fn};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::{pin, select, sync::watch, time::sleep};
use tonic::body::Body;

use crate::{connections::End, front::Front, socket::Socket};

#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Limits {
    pub(crate) max_concurrent_streams: Option<u32>,
    pub(crate) max_connection_age: Option<Duration>,
}

/// Until the connection has ended, or is to be reset. The caller then drops the socket.
pub(crate) async fn serve(
    socket: Socket,
    front: Arc<Front>,
    limits: Limits,
    mut end: watch::Receiver<End>,
) {
    let service = service_fn(move |request: http::Request<hyper::body::Incoming>| {
        Arc::clone(&front).answer(request.map(Body::new))
    });
    let connection = http2::Builder::new(TokioExecutor::new())
        .timer(TokioTimer::new())
        .auto_date_header(false)
        // As tonic's server has it. A call may end by its deadline while its request comes in.
        .max_local_error_reset_streams(None)
        .max_concurrent_streams(limits.max_concurrent_streams)
        .serve_connection(TokioIo::new(socket), service);
    pin!(connection);
    let mut reset = end.clone();
    let served = async {
        select! {
            biased;
            _ = connection.as_mut() => return,
            _ = end.wait_for(|end| *end >= End::Graceful) => {}
            () = age(limits.max_connection_age) => {}
        }
        connection.as_mut().graceful_shutdown();
        // A connection that breaks is an error here.
        let _ = connection.await;
    };
    select! {
        biased;
        _ = reset.wait_for(|end| *end == End::Reset) => {}
        () = served => {}
    }
}

async fn age(max: Option<Duration>) {
    match max {
        Some(max) => sleep(max).await,
        None => pending().await,
    }
}
