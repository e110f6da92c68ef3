//! The shapes of a call, and a closed loop of each.

use std::{iter::repeat_n, time::Duration};

use futures_util::stream;
use tokio::{task::JoinSet, time::Instant};
use tonic::{body::Body, client::GrpcService, codegen::StdError};

use crate::{
    common::{
        Result,
        greeter::{HelloRequest, greeter_client::GreeterClient},
    },
    cpu_time,
};

/// Of the name in a large request.
const LARGE: usize = 1 << 20;
/// Of the name in a message of a stream: with tag and length, and gRPC's prefix left
/// out, the message has 100.
const SMALL: usize = 98;
/// In one stream. The next begins when all have come.
const MESSAGES: u32 = 5_000;

/// What a side needs to have for the generated client to call on it.
pub(crate) trait Callable:
    GrpcService<Body, ResponseBody = Body, Future: Send, Error: Into<StdError>> + Clone + Send + 'static
{
}

impl<T> Callable for T where
    T: GrpcService<Body, ResponseBody = Body, Future: Send, Error: Into<StdError>>
        + Clone
        + Send
        + 'static
{
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Shape {
    /// 1 MiB there and back, in a unary call.
    Large,
    /// Messages from the server.
    ServerStream,
    /// Messages to the server.
    ClientStream,
    /// Messages to the server, each of which it repeats.
    Bidi,
}

impl Shape {
    pub(crate) const ALL: [Self; 4] = [
        Self::Large,
        Self::ServerStream,
        Self::ClientStream,
        Self::Bidi,
    ];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Large => "unary_1_mib",
            Self::ServerStream => "server_stream",
            Self::ClientStream => "client_stream",
            Self::Bidi => "bidi_stream",
        }
    }

    /// Makes one call and sees that all came; how many units that was.
    async fn call<T: Callable>(self, client: &mut GreeterClient<T>) -> Result<u64> {
        let small = || HelloRequest {
            name: "x".repeat(SMALL),
            count: 0,
        };
        let requests = || stream::iter(repeat_n(small(), MESSAGES as usize));
        let (came, expected) = match self {
            Self::Large => {
                let request = HelloRequest {
                    name: "x".repeat(LARGE),
                    count: 0,
                };
                let reply = client.say_hello(request).await?;
                let whole = reply.get_ref().message.len() == LARGE;
                (u32::from(whole), 1)
            }
            Self::ServerStream => {
                let request = HelloRequest {
                    count: MESSAGES,
                    ..small()
                };
                let replies = client.say_hello_many(request).await?;
                (count(replies.into_inner()).await?, MESSAGES)
            }
            Self::ClientStream => {
                let reply = client.greet_all(requests()).await?;
                let whole = reply.get_ref().message.len() == SMALL;
                (if whole { MESSAGES } else { 0 }, MESSAGES)
            }
            Self::Bidi => {
                let replies = client.chat(requests()).await?;
                (count(replies.into_inner()).await?, MESSAGES)
            }
        };
        match came == expected {
            true => Ok(u64::from(came)),
            false => Err(format!("{}: {came} of {expected} came", self.name()).into()),
        }
    }
}

async fn count(mut replies: tonic::Streaming<crate::common::greeter::HelloReply>) -> Result<u32> {
    let mut came = 0;
    while let Some(reply) = replies.message().await? {
        came += u32::from(reply.message.len() == SMALL);
    }
    Ok(came)
}

/// What one slice was.
#[derive(Debug)]
pub(crate) struct Measured {
    pub(crate) units: u64,
    pub(crate) elapsed: Duration,
    /// Of the whole process.
    pub(crate) cpu: Duration,
    pub(crate) p99: Option<Duration>,
}

impl Measured {
    /// A row of the table; `words` are shape and side.
    pub(crate) fn row(
        &self,
        workers: usize,
        words: [String; 2],
        in_flight: usize,
        servers: Option<Duration>,
    ) -> Vec<String> {
        let [shape, side] = words;
        let units = self.units as f64;
        let seconds = self.elapsed.as_secs_f64();
        let p99 = self
            .p99
            .map(|p99| format!("{:.1}", p99.as_secs_f64() * 1e6));
        let busy = servers.map(|busy| format!("{:.0}", 100.0 * busy.as_secs_f64() / seconds));
        vec![
            workers.to_string(),
            shape,
            side,
            in_flight.to_string(),
            format!("{:.0}", units / seconds),
            format!("{:.4}", self.cpu.as_secs_f64() * 1e6 / units),
            p99.unwrap_or_default(),
            busy.unwrap_or_default(),
        ]
    }
}

/// So many callers, each with one call after the other, for a slice of time. The first
/// call of each is not counted.
pub(crate) async fn measure<T: Callable>(
    channel: &T,
    shape: Shape,
    in_flight: usize,
    slice: Duration,
) -> Result<Measured> {
    call_until(channel, shape, in_flight, Instant::now()).await?;
    let (started, cpu) = (Instant::now(), cpu_time());
    let units = call_until(channel, shape, in_flight, started + slice).await?;
    Ok(Measured {
        units,
        elapsed: started.elapsed(),
        cpu: cpu_time() - cpu,
        p99: None,
    })
}

async fn call_until<T: Callable>(
    channel: &T,
    shape: Shape,
    in_flight: usize,
    until: Instant,
) -> Result<u64> {
    let mut callers = JoinSet::new();
    for _ in 0..in_flight {
        let mut client = GreeterClient::new(channel.clone());
        callers.spawn(async move {
            let mut units = 0;
            loop {
                units += shape.call(&mut client).await?;
                if Instant::now() >= until {
                    return Ok::<_, crate::common::Error>(units);
                }
            }
        });
    }
    let mut units = 0;
    while let Some(ended) = callers.join_next().await {
        units += ended??;
    }
    Ok(units)
}
