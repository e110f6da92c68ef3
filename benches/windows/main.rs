//! What the size of HTTP/2 windows costs: throughput where it is small, memory
//! where it is large.
//!
//! `cargo bench --bench windows -- [--quick] [--csv FILE] [--mbit N]`
//!
//! ```text
//!   server ──► link, of so many bits a second and so long ──► client
//!   in another process, both
//! ```
//!
//! Large responses, one and sixteen at a time, over links of a rate and several
//! round trips: how much of the link the responses fill, headers and the growth of
//! a window that adapts included, as each cell has a connection of its own. Then
//! what sixteen responses pin that nobody reads: how much the client grows until
//! nothing comes any more.
//!
//! - The link is a relay: what it reads it writes later, one thing after the other at
//!   its rate. It loses nothing and reorders nothing, and its queue has no end, so
//!   windows are the only limit there is.
//! - A response of an `h2` server is bytes in DATA frames; the client counts them as
//!   they come. No message is decoded.

mod link;

#[path = "../support/mod.rs"]
mod support;

use std::{process::ExitCode, time::Duration};

use http::{Request, Response, Uri};
use http_body::Body as _;
use tokio::{task::JoinSet, time::timeout};
use tonic::body::Body;
use tower_service::Service;

use support::{
    Error, Result,
    arguments::{Arguments, exit_code},
    child::{self, Child},
    clock,
    resources::resident_kib,
    runtime,
    table::Table,
};

const USAGE: &str = "\
usage: cargo bench --bench windows -- [options]
  --quick       one round trip time, small responses
  --csv FILE    writes the table to FILE as well
  --mbit N      rate of the link in Mbit/s, 10 to 10000 (default 1000)
";

/// The role of who does not read: a process of its own, as none gives memory back.
const READER: &str = "reader";
const ROUND_TRIPS: [u64; 4] = [0, 10, 50, 100];
const PATIENCE: Duration = Duration::from_secs(60);
const MIB: usize = 1 << 20;

fn main() -> ExitCode {
    exit_code(run(), USAGE)
}

fn run() -> Result<()> {
    if let Some(role) = child::role() {
        return match role.split_first() {
            Some((role, arguments)) if role == READER => be_the_reader(arguments),
            _ => link::be_the_other_end(&role),
        };
    }
    let arguments = Arguments::parse(&[("--mbit", 10..=10_000)])?;
    let mbit = arguments.number("--mbit").unwrap_or(1_000);
    let (table, pinned) = runtime(2)?.block_on(async {
        let table = throughput(mbit, arguments.quick).await?;
        Ok::<_, Error>((table, pinned(arguments.quick).await?))
    })?;
    println!("link of {mbit} Mbit/s; percent of it that the responses fill");
    table.print();
    table.write_csv(arguments.csv.as_deref())?;
    println!("\nMiB that 16 unread responses pin, by the payload of their frames");
    pinned.print();
    Ok(())
}

/// A way to open a channel.
#[derive(Clone, Copy)]
struct Side {
    name: &'static str,
    ours: bool,
    adaptive: bool,
}

const SIDES: [Side; 4] = [
    Side::new("ours, 2/5 MiB", true, false),
    Side::new("ours, 16/16 MiB", true, true),
    Side::new("tonic, 2/5 MiB", false, false),
    Side::new("tonic, adaptive", false, true),
];

impl Side {
    const fn new(name: &'static str, ours: bool, adaptive: bool) -> Self {
        Self {
            name,
            ours,
            adaptive,
        }
    }

    fn tonic(self, uri: &str) -> Result<tonic::transport::Channel> {
        let endpoint = tonic::transport::Endpoint::from_shared(uri.to_owned())?;
        // What hyper has without being asked, which tonic does not change.
        Ok(match self.adaptive {
            true => endpoint.http2_adaptive_window(true),
            false => endpoint,
        }
        .connect_lazy())
    }

    fn ours(self, uri: &str) -> Result<tonic_health_channel::Channel> {
        let endpoint = tonic_health_channel::Endpoint::from_shared(uri.to_owned())?;
        let endpoint = endpoint.http2_adaptive_window(self.adaptive);
        Ok(endpoint.connect_lazy())
    }

    /// Seconds from the first request until all of `streams` responses are here.
    async fn fetch(self, uri: &str, streams: usize, bytes: usize) -> Result<f64> {
        match self.ours {
            true => fetch(self.ours(uri)?, streams, bytes).await,
            false => fetch(self.tonic(uri)?, streams, bytes).await,
        }
    }

    async fn pin(self, uri: &str, frame: usize) -> Result<f64> {
        match self.ours {
            true => pin(self.ours(uri)?, frame).await,
            false => pin(self.tonic(uri)?, frame).await,
        }
    }
}

async fn throughput(mbit: usize, quick: bool) -> Result<Table> {
    let mut table = Table::new(&["side", "streams", "rtt_ms", "mib_per_s", "percent_of_link"]);
    let round_trips = if quick {
        &ROUND_TRIPS[1..2]
    } else {
        &ROUND_TRIPS
    };
    for &rtt in round_trips {
        let mut other_end = Child::start(&[link::ROLE, &mbit.to_string(), &rtt.to_string()])?;
        let uri = other_end.hear(PATIENCE).await?.remove(0);
        for (streams, each) in [(1, 48 * MIB), (16, 8 * MIB)] {
            let each = if quick { each / 16 } else { each };
            for side in SIDES {
                let seconds = timeout(PATIENCE, side.fetch(&uri, streams, each)).await??;
                let rate = (streams * each) as f64 / seconds;
                table.row(vec![
                    side.name.replace(',', ""),
                    streams.to_string(),
                    rtt.to_string(),
                    format!("{:.1}", rate / MIB as f64),
                    format!("{:.0}", rate * 8e-4 / mbit as f64),
                ]);
            }
        }
    }
    Ok(table)
}

/// By side and frame. The smallest frames of messages have five bytes.
async fn pinned(quick: bool) -> Result<Table> {
    let mut table = Table::new(&["side", "frame_bytes", "mib"]);
    let frames = if quick {
        &[16 << 10][..]
    } else {
        &[16 << 10, 100, 5]
    };
    for (number, side) in SIDES.iter().enumerate() {
        for &frame in frames {
            let mut other_end = Child::start(&[link::ROLE, "10000", "0"])?;
            let uri = other_end.hear(PATIENCE).await?.remove(0);
            let [number, size] = [number, frame].map(|number| number.to_string());
            let mut reader = Child::start(&[READER, &number, &uri, &size])?;
            let mib = reader.hear(PATIENCE).await?.remove(0);
            table.row(vec![side.name.replace(',', ""), size, mib]);
        }
    }
    Ok(table)
}

/// The role's arguments: number of the side, URI, bytes of a frame.
fn be_the_reader(role: &[String]) -> Result<()> {
    let [side, uri, frame] = role else {
        return Err("a reader has a side, a server and a frame".into());
    };
    let side = SIDES[side.parse::<usize>()?];
    let mib = runtime(2)?.block_on(side.pin(uri, frame.parse()?));
    match mib {
        Ok(mib) => println!("{mib:.0}"),
        // `h2` has a guard that others leave on.
        Err(_) => println!("ended"),
    }
    Ok(())
}

/// A response of so many bytes, in frames of so many.
async fn ask<C>(channel: &mut C, bytes: usize, frame: usize) -> Result<Response<Body>>
where
    C: Service<Request<Body>, Response = Response<Body>>,
    C::Error: Into<Error>,
{
    let path: Uri = format!("/bench/{bytes}/{frame}").parse()?;
    let request = Request::post(path)
        .header("content-type", "application/grpc")
        .body(Body::empty())?;
    std::future::poll_fn(|cx| channel.poll_ready(cx))
        .await
        .map_err(Into::into)?;
    channel.call(request).await.map_err(Into::into)
}

async fn fetch<C>(channel: C, streams: usize, bytes: usize) -> Result<f64>
where
    C: Service<Request<Body>, Response = Response<Body>> + Clone + Send + 'static,
    C::Error: Into<Error>,
    C::Future: Send,
{
    // The connection is there, and its first window.
    read(ask(&mut channel.clone(), 1, 1).await?).await?;
    let began = clock::now();
    let mut fetching = JoinSet::new();
    for _ in 0..streams {
        let mut channel = channel.clone();
        fetching.spawn(async move {
            let response = ask(&mut channel, bytes, 16 << 10).await?;
            read(response).await
        });
    }
    while let Some(fetched) = fetching.join_next().await {
        let read = fetched??;
        if read != bytes {
            return Err(format!("{read} bytes came of {bytes}").into());
        }
    }
    Ok((clock::now() - began) as f64 / 1e9)
}

async fn read(response: Response<Body>) -> Result<usize> {
    let mut body = std::pin::pin!(response.into_body());
    let mut read = 0;
    while let Some(frame) = std::future::poll_fn(|cx| body.as_mut().poll_frame(cx)).await {
        read += frame?.data_ref().map_or(0, |data| data.len());
    }
    Ok(read)
}

/// MiB by which this process grows until nothing comes any more.
async fn pin<C>(mut channel: C, frame: usize) -> Result<f64>
where
    C: Service<Request<Body>, Response = Response<Body>>,
    C::Error: Into<Error>,
{
    read(ask(&mut channel, 1, 1).await?).await?;
    let before = resident_kib()?;
    let mut unread = Vec::new();
    for _ in 0..16 {
        unread.push(ask(&mut channel, 64 * MIB, frame).await?);
    }
    let mut last = before;
    let mut same = 0;
    while same < 5 {
        tokio::time::sleep(Duration::from_millis(100)).await;
        let now = resident_kib()?;
        same = if now - last < 64.0 { same + 1 } else { 0 };
        last = now;
    }
    // Still there, or what was pinned has been given up with the connection.
    let first = unread.swap_remove(0);
    let mut body = std::pin::pin!(first.into_body());
    match std::future::poll_fn(|cx| body.as_mut().poll_frame(cx)).await {
        Some(Ok(_)) => {}
        _ => return Err("the connection ended".into()),
    }
    Ok((last - before) / 1024.0)
}
