//! Servers as people run them: tonic, `tonic-health` and the greeter, on one
//! thread.

use std::{
    net::{Ipv4Addr, SocketAddr},
    pin::Pin,
};

use futures_util::Stream;
use tokio::{net::TcpListener, task::JoinSet};
use tonic::{
    Request, Response, Status, Streaming,
    transport::{Server, server::TcpIncoming},
};

use super::{
    Result,
    frames::PAYLOAD,
    greeter::{
        HelloReply, HelloRequest,
        greeter_server::{Greeter, GreeterServer},
    },
};

/// Listens on that many ports of loopback, tells the addresses, and serves for
/// ever.
pub(crate) fn serve(backends: usize, tell: impl FnOnce(&[SocketAddr])) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let mut addresses = Vec::new();
        let mut servers = JoinSet::new();
        for _ in 0..backends {
            let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
            addresses.push(listener.local_addr()?);
            servers.spawn(serve_one(listener));
        }
        tell(&addresses);
        while let Some(ended) = servers.join_next().await {
            ended??;
        }
        Ok(())
    })
}

async fn serve_one(listener: TcpListener) -> Result<()> {
    let (reporter, health) = tonic_health::server::health_reporter();
    reporter.set_serving::<GreeterServer<Echo>>().await;
    Server::builder()
        .add_service(health)
        .add_service(GreeterServer::new(Echo))
        .serve_with_incoming(TcpIncoming::from(listener).with_nodelay(Some(true)))
        .await?;
    Ok(())
}

struct Echo;

type Replies = Pin<Box<dyn Stream<Item = std::result::Result<HelloReply, Status>> + Send>>;

#[tonic::async_trait]
impl Greeter for Echo {
    type SayHelloManyStream = Replies;
    type ChatStream = Replies;

    async fn say_hello(
        &self,
        request: Request<HelloRequest>,
    ) -> std::result::Result<Response<HelloReply>, Status> {
        let mut message = request.into_inner().name;
        message.truncate(PAYLOAD);
        Ok(Response::new(HelloReply {
            message,
            backend: String::new(),
        }))
    }

    async fn say_hello_many(
        &self,
        _: Request<HelloRequest>,
    ) -> std::result::Result<Response<Replies>, Status> {
        Err(Status::unimplemented("the benches make unary calls"))
    }

    async fn greet_all(
        &self,
        _: Request<Streaming<HelloRequest>>,
    ) -> std::result::Result<Response<HelloReply>, Status> {
        Err(Status::unimplemented("the benches make unary calls"))
    }

    async fn chat(
        &self,
        _: Request<Streaming<HelloRequest>>,
    ) -> std::result::Result<Response<Replies>, Status> {
        Err(Status::unimplemented("the benches make unary calls"))
    }
}
