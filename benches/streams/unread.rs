//! Unary calls beside a stream that nobody reads, on the same connection.
//!
//! The stream's window is full, 2 of the connection's 5 MiB: what the server may still
//! send is the others'.

use std::time::Duration;

use futures_util::FutureExt;
use tonic::Streaming;

use crate::{
    Result, Side, Sides,
    common::{
        greeter::{HelloReply, HelloRequest, greeter_client::GreeterClient},
        load::{Deadlines, Load, closed_loop},
        process::Servers,
    },
    in_turn,
    shapes::{Callable, Measured},
    support::table::Table,
};

const IN_FLIGHT: usize = 64;
/// Of one reply.
const MESSAGE: usize = 1 << 10;
/// What has waited in the end, or there was nothing to be stalled by.
const AT_LEAST: usize = 1 << 20;

/// Both sides that have one connection, with such a stream and without.
pub(crate) async fn round(
    sides: &Sides,
    servers: &Servers,
    round: usize,
    slice: Duration,
    workers: usize,
    table: &mut Table,
) -> Result<()> {
    for side in in_turn(&[Side::OursOne, Side::Tonic], round) {
        for unread in in_turn(&[false, true], round) {
            let before = servers.cpu_time();
            let measured = match side {
                Side::OursOne => beside(&sides.ours_one, unread, slice).await?,
                _ => beside(&sides.tonic, unread, slice).await?,
            };
            let busy = before.zip(servers.cpu_time()).map(|(was, is)| is - was);
            let shape = if unread {
                "unary_beside_unread"
            } else {
                "unary"
            };
            let words = [shape, side.name()].map(str::to_owned);
            table.row(measured.row(workers, words, IN_FLIGHT, busy));
        }
    }
    Ok(())
}

async fn beside<T: Callable>(channel: &T, unread: bool, slice: Duration) -> Result<Measured> {
    let mut client = GreeterClient::new(channel.clone());
    let stream = match unread {
        true => Some(open(&mut client).await?),
        false => None,
    };
    let load = |slice| Load {
        concurrency: IN_FLIGHT,
        slice,
        deadlines: Deadlines::None,
    };
    // Meanwhile the window fills.
    closed_loop(client.clone(), load(slice / 2)).await?;
    let sample = closed_loop(client, load(slice)).await?;
    if let Some(mut stream) = stream {
        let waited = read_what_waits(&mut stream)?;
        if waited < AT_LEAST {
            return Err(format!("only {waited} bytes waited to be read").into());
        }
    }
    Ok(Measured {
        units: sample.calls,
        elapsed: sample.elapsed,
        cpu: sample.cpu,
        p99: Some(Duration::from_nanos(sample.latency.value_at_quantile(0.99))),
    })
}

async fn open<T: Callable>(client: &mut GreeterClient<T>) -> Result<Streaming<HelloReply>> {
    let request = HelloRequest {
        name: "x".repeat(MESSAGE),
        count: u32::MAX,
    };
    Ok(client.say_hello_many(request).await?.into_inner())
}

fn read_what_waits(stream: &mut Streaming<HelloReply>) -> Result<usize> {
    let mut waited = 0;
    while waited < AT_LEAST
        && let Some(reply) = stream.message().now_or_never()
    {
        waited += reply?.ok_or("the stream ended")?.message.len();
    }
    Ok(waited)
}
