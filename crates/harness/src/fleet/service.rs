//! What the backends of a fleet do with a call.

use std::{io, pin::Pin, time::Duration};

use futures_util::{Stream, stream::once};
use tokio::time::sleep;
use tonic::{Request, Response, Status, Streaming};

use super::greeter::{HelloReply, HelloRequest, greeter_server::Greeter};

/// The service whose health they tell.
pub const SERVICE: &str = "demo.v1.Greeter";

/// Notes the number that a call is, takes up to 15 times as long as `unit`, and answers
/// with the number. A server stream has its headers before that time, and 1 reply.
pub struct Numbered<N> {
    pub note: N,
    pub unit: Duration,
}

impl<N: Fn(u64) -> io::Result<()>> Numbered<N> {
    /// Notes the call. How long it takes, and its reply.
    fn take(&self, name: String) -> Result<(Duration, HelloReply), Status> {
        let number: u64 = name
            .parse()
            .map_err(|_| Status::invalid_argument("not a number"))?;
        (self.note)(number).map_err(|error| Status::data_loss(error.to_string()))?;
        let reply = HelloReply {
            message: name,
            backend: String::new(),
        };
        Ok((self.unit * (number % 16) as u32, reply))
    }
}

type Replies = Pin<Box<dyn Stream<Item = Result<HelloReply, Status>> + Send>>;

#[tonic::async_trait]
impl<N> Greeter for Numbered<N>
where
    N: Fn(u64) -> io::Result<()> + Send + Sync + 'static,
{
    type SayHelloManyStream = Replies;
    type ChatStream = Replies;

    async fn say_hello(
        &self,
        request: Request<HelloRequest>,
    ) -> Result<Response<HelloReply>, Status> {
        let (time, reply) = self.take(request.into_inner().name)?;
        sleep(time).await;
        Ok(Response::new(reply))
    }

    async fn say_hello_many(
        &self,
        request: Request<HelloRequest>,
    ) -> Result<Response<Replies>, Status> {
        let (time, reply) = self.take(request.into_inner().name)?;
        let replies = once(async move {
            sleep(time).await;
            Ok(reply)
        });
        Ok(Response::new(Box::pin(replies)))
    }

    async fn greet_all(
        &self,
        _: Request<Streaming<HelloRequest>>,
    ) -> Result<Response<HelloReply>, Status> {
        Err(Status::unimplemented("nobody calls it"))
    }

    async fn chat(&self, _: Request<Streaming<HelloRequest>>) -> Result<Response<Replies>, Status> {
        Err(Status::unimplemented("nobody calls it"))
    }
}
