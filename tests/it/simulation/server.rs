//! A server in memory: tonic's services over hyper's HTTP/2.
//!
//! tonic's own server does not run the same way twice. It ends its connections in the order in
//! which a watch wakes them, which tokio draws. It draws whether a connection or its end is
//! polled first. Its answers tell the time of day.

use std::{convert::Infallible, time::Duration};

use hyper::{body::Incoming, server::conn::http2};
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    service::TowerToHyperService,
};
use tokio::{
    io::DuplexStream,
    pin, select,
    sync::{mpsc, oneshot},
    time::timeout,
};
use tonic::{
    Status,
    body::Body,
    codegen::http::{HeaderMap, Request, Response},
    service::Routes,
};
use tower::{Service, service_fn};

/// Serves every line that is dialled, until `stop`; then until the calls of all have ended.
pub(super) async fn serve(
    routes: Routes,
    mut dials: mpsc::UnboundedReceiver<DuplexStream>,
    stop: oneshot::Receiver<()>,
) {
    let mut lines = Vec::new();
    let accept = async {
        while let Some(io) = dials.recv().await {
            let (stop, stopped) = oneshot::channel();
            let line = tokio::spawn(serve_line(routes.clone(), io, stopped));
            lines.push((stop, line));
        }
    };
    select! {
        biased;
        _ = stop => {}
        () = accept => {}
    }
    // Refuses dials from now on, as tonic's server does.
    drop(dials);
    let (stops, lines): (Vec<_>, Vec<_>) = lines.into_iter().unzip();
    for stop in stops {
        // A line that has ended does not listen.
        let _ = stop.send(());
    }
    for line in lines {
        line.await.expect("a line does not panic");
    }
}

/// Until the line breaks, or its calls have ended after `stop`. A sender that is dropped stops
/// nothing: the host then cuts the line.
async fn serve_line(routes: Routes, io: DuplexStream, stop: oneshot::Receiver<()>) {
    let service = service_fn(move |request| answer(routes.clone(), request));
    let connection = http2::Builder::new(TokioExecutor::new())
        .timer(TokioTimer::new())
        .auto_date_header(false)
        .serve_connection(TokioIo::new(io), TowerToHyperService::new(service));
    pin!(connection);
    select! {
        biased;
        _ = connection.as_mut() => return,
        Ok(()) = stop => connection.as_mut().graceful_shutdown(),
    }
    // A line that breaks is an error here.
    let _ = connection.await;
}

/// Within the deadline of the call, which tonic's server keeps in the same way.
async fn answer(
    mut routes: Routes,
    request: Request<Incoming>,
) -> Result<Response<Body>, Infallible> {
    let deadline = deadline(request.headers()).unwrap_or(Duration::MAX);
    match timeout(deadline, routes.call(request)).await {
        Ok(response) => response,
        Err(_) => Ok(Status::cancelled("Timeout expired").into_http()),
    }
}

fn deadline(headers: &HeaderMap) -> Option<Duration> {
    let text = headers.get("grpc-timeout")?.to_str().ok()?;
    let (number, unit) = text.split_at(text.len() - 1);
    let number = number.parse().ok()?;
    match unit {
        "n" => Some(Duration::from_nanos(number)),
        "u" => Some(Duration::from_micros(number)),
        unit => panic!("grpc-timeout has the unit {unit:?}"),
    }
}
