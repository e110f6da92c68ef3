//! A server without tonic: HTTP/2 by hand, and one thing that it does to every
//! call.

use std::{net::SocketAddr, time::Duration};

use bytes::Bytes;
use h2::{Reason, server};
use http::{HeaderMap, HeaderValue, Response};
use tokio::{
    net::{TcpListener, TcpStream},
    time::{Instant, sleep_until},
};

/// Long enough for response headers to go out before what follows them, which
/// might otherwise overtake them.
const A_MOMENT: Duration = Duration::from_millis(20);

/// What becomes of every call.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Script {
    /// Whether there are response headers, before the rest.
    pub(crate) headers: bool,
    pub(crate) then: Then,
}

#[derive(Clone, Copy, Debug)]
pub(crate) enum Then {
    /// An empty message and OK. Needs headers.
    Answer,
    /// RST_STREAM.
    Reset(Reason),
    /// Nothing.
    Silence,
    /// The end of the connection, without a word.
    Close,
}

/// Follows `script` for as long as the runtime runs.
pub(crate) async fn start(script: Script) -> SocketAddr {
    let listener = TcpListener::bind(("127.0.0.1", 0))
        .await
        .expect("the loopback interface has a free port");
    let address = listener.local_addr().expect("a listener has an address");
    tokio::spawn(async move {
        while let Ok((socket, _)) = listener.accept().await {
            // An error says that the client is gone, and so is the need to serve.
            tokio::spawn(serve(socket, script));
        }
    });
    address
}

async fn serve(socket: TcpStream, script: Script) -> Result<(), h2::Error> {
    let mut connection = server::handshake(socket).await?;
    // Whatever is dropped is reset, so nothing is.
    let mut calls = Vec::new();
    let mut due = None;
    loop {
        tokio::select! {
            accepted = connection.accept() => {
                let Some(accepted) = accepted else { return Ok(()) };
                let (request, mut respond) = accepted?;
                let stream = match script.headers {
                    true => Some(respond.send_response(headers(), false)?),
                    false => None,
                };
                calls.push((request, respond, stream));
                due = Some(Instant::now() + A_MOMENT);
            }
            () = sleep_until(due.unwrap_or_else(Instant::now)), if due.is_some() => {
                due = None;
                for (_, respond, stream) in &mut calls {
                    match (script.then, stream) {
                        (Then::Answer, Some(stream)) => answer(stream)?,
                        (Then::Reset(reason), Some(stream)) => stream.send_reset(reason),
                        (Then::Reset(reason), None) => respond.send_reset(reason),
                        (Then::Close, _) => return Ok(()),
                        (Then::Silence | Then::Answer, _) => {}
                    }
                }
            }
        }
    }
}

fn headers() -> Response<()> {
    let mut response = Response::new(());
    let grpc = HeaderValue::from_static("application/grpc");
    response.headers_mut().insert("content-type", grpc);
    response
}

fn answer(stream: &mut h2::SendStream<Bytes>) -> Result<(), h2::Error> {
    // An empty message, not compressed.
    stream.send_data(Bytes::from_static(&[0; 5]), false)?;
    let mut trailers = HeaderMap::new();
    trailers.insert("grpc-status", HeaderValue::from_static("0"));
    stream.send_trailers(trailers)
}
