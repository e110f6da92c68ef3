//! The other end: a server of bytes behind a link.

use std::time::Duration;

use bytes::Bytes;
use h2::{SendStream, server};
use http::{HeaderMap, HeaderValue, Response};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, DuplexStream, duplex},
    net::TcpListener,
    sync::mpsc,
    time::{Instant, sleep_until},
};

use crate::support::{Error, Result, child, runtime};

pub(crate) const ROLE: &str = "other_end";

/// Bytes that the link reads at a time.
const CHUNK: usize = 64 << 10;

/// The role's arguments: Mbit/s, and milliseconds there and back.
pub(crate) fn be_the_other_end(role: &[String]) -> Result<()> {
    let [_, mbit, rtt] = role else {
        return Err("the other end has a rate and a round trip time".into());
    };
    let rate = mbit.parse::<f64>()? * 1e6 / 8.0;
    let delay = Duration::from_millis(rtt.parse()?) / 2;
    let mut orders = child::orders();
    runtime(2)?.block_on(async {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        println!("http://{}", listener.local_addr()?);
        let accept = async {
            loop {
                let (socket, _) = listener.accept().await?;
                socket.set_nodelay(true)?;
                let (ours, theirs) = duplex(1 << 20);
                let (from_client, to_client) = socket.into_split();
                let (from_server, to_server) = tokio::io::split(ours);
                tokio::spawn(carry(from_client, to_server, rate, delay));
                tokio::spawn(carry(from_server, to_client, rate, delay));
                tokio::spawn(serve(theirs));
            }
        };
        tokio::select! {
            outcome = accept => outcome,
            _ = orders.recv() => Ok(()),
        }
    })
}

/// One direction of the link. Each chunk leaves when the one before it has left, and
/// arrives a delay later.
async fn carry(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin + Send + 'static,
    rate: f64,
    delay: Duration,
) -> Result<()> {
    let (depart, mut arrivals) = mpsc::unbounded_channel::<(Instant, Bytes)>();
    tokio::spawn(async move {
        while let Some((at, chunk)) = arrivals.recv().await {
            sleep_until(at).await;
            to.write_all(&chunk).await?;
        }
        to.shutdown().await
    });
    let mut free_at = Instant::now();
    let mut chunk = vec![0; CHUNK];
    loop {
        let read = from.read(&mut chunk).await?;
        if read == 0 {
            return Ok(());
        }
        let takes = Duration::from_secs_f64(read as f64 / rate);
        free_at = free_at.max(Instant::now()) + takes;
        let bytes = Bytes::copy_from_slice(&chunk[..read]);
        depart.send((free_at + delay, bytes))?;
    }
}

async fn serve(io: DuplexStream) -> Result<()> {
    let mut connection = server::handshake(io).await?;
    while let Some(call) = connection.accept().await {
        let (request, mut respond) = call?;
        let path = request.uri().path().to_owned();
        let head = Response::builder().header("content-type", "application/grpc");
        let stream = respond.send_response(head.body(())?, false)?;
        tokio::spawn(send(stream, path));
    }
    Ok(())
}

/// `/bench/<bytes>/<bytes of a frame>`
async fn send(mut stream: SendStream<Bytes>, path: String) -> Result<()> {
    let mut numbers = path.rsplit('/').map(str::parse::<usize>);
    let mut next = || Ok::<_, Error>(numbers.next().ok_or("a path has two numbers")??);
    let (frame, mut left) = (next()?, next()?);
    let content = Bytes::from(vec![0; frame]);
    while left > 0 {
        let wanted = frame.min(left);
        stream.reserve_capacity(wanted);
        while stream.capacity() < wanted {
            let more = std::future::poll_fn(|cx| stream.poll_capacity(cx)).await;
            more.ok_or("the client has ended the stream")??;
        }
        stream.send_data(content.slice(..wanted), false)?;
        left -= wanted;
        tokio::task::consume_budget().await;
    }
    let mut trailers = HeaderMap::new();
    trailers.insert("grpc-status", HeaderValue::from_static("0"));
    Ok(stream.send_trailers(trailers)?)
}
