//! A server that calls another, and gives it what is left of its own time.
//!
//! The front asks the back for three items, 300 ms each, as long as the client's time lasts.
//!
//! ```text
//! $ cargo run --example deadline
//! within 5s: Ok, and the back was asked 3 times
//! within 450ms: DeadlineExceeded, and the back was asked 2 times
//! ```
//!
//! Exits with 1 if anything else happens.

mod common;

use std::{sync::atomic::AtomicUsize, sync::atomic::Ordering::SeqCst, time::Duration};

use common::backend::{self, GreeterService};
use common::greeter::greeter_client::GreeterClient;
use common::greeter::greeter_server::{Greeter, GreeterServer};
use common::greeter::{HelloReply, HelloRequest};
use futures_util::stream::Empty;
use tonic::transport::{Server, server::TcpIncoming};
use tonic::{Code, Request, Response, Status, Streaming};
use tonic_health_channel::{Channel, Endpoint, deadline};

type Answer<T> = Result<Response<T>, Status>;
type Nothing = Empty<Result<HelloReply, Status>>;

/// How often the back was asked.
static ASKED: AtomicUsize = AtomicUsize::new(0);

struct Front(GreeterClient<Channel>);

#[tonic::async_trait]
impl Greeter for Front {
    type SayHelloManyStream = Nothing;
    type ChatStream = Nothing;

    async fn say_hello(&self, request: Request<HelloRequest>) -> Answer<HelloReply> {
        // First of all: the time counts from here.
        let deadline = deadline::from(&request);
        for _ in 0..3 {
            let mut item = Request::new(HelloRequest::default());
            deadline.put_into(&mut item);
            ASKED.fetch_add(1, SeqCst);
            self.0.clone().say_hello(item).await?;
        }
        Ok(Response::new(HelloReply::default()))
    }
    async fn say_hello_many(&self, _: Request<HelloRequest>) -> Answer<Nothing> {
        Err(Status::unimplemented("one order at a time"))
    }
    async fn greet_all(&self, _: Request<Streaming<HelloRequest>>) -> Answer<HelloReply> {
        Err(Status::unimplemented("one order at a time"))
    }
    async fn chat(&self, _: Request<Streaming<HelloRequest>>) -> Answer<Nothing> {
        Err(Status::unimplemented("one order at a time"))
    }
}

#[tokio::main]
async fn main() -> common::Result<()> {
    let slow = GreeterService::new("back".into()).takes(Duration::from_millis(300));
    let (back, _control) = backend::start(slow).await?;
    let front = Front(GreeterClient::new(Endpoint::new(back)?.connect().await?));
    let listener = backend::listen(([127, 0, 0, 1], 0).into()).await?;
    let uri = format!("http://{}", listener.local_addr()?);
    let server = Server::builder().add_service(GreeterServer::new(front));
    tokio::spawn(server.serve_with_incoming(TcpIncoming::from(listener)));

    let mut client = GreeterClient::new(Endpoint::new(uri)?.connect().await?);
    for (millis, outcome) in [(5_000, (Code::Ok, 3)), (450, (Code::DeadlineExceeded, 2))] {
        let within = Duration::from_millis(millis);
        let mut order = Request::new(HelloRequest::default());
        order.set_timeout(within);
        let answer = client.say_hello(order).await;
        let code = answer.map_or_else(|status| status.code(), |_| Code::Ok);
        let asked = ASKED.swap(0, SeqCst);
        println!("within {within:?}: {code:?}, and the back was asked {asked} times");
        if (code, asked) != outcome {
            return Err(format!("expected {outcome:?}").into());
        }
    }
    Ok(())
}
