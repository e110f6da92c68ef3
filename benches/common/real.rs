//! Servers as people run them: tonic, `tonic-health` and a greeter that repeats what
//! it is told, on one thread.

use std::{
    net::{Ipv4Addr, SocketAddr},
    pin::Pin,
};

use futures_util::{Stream, TryStreamExt, stream};
use tokio::{net::TcpListener, task::JoinSet};
use tonic::{
    Request, Response, Status, Streaming,
    transport::{Server, server::TcpIncoming},
};

use super::{
    Result,
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
        Ok(Response::new(echo(request.into_inner())))
    }

    async fn say_hello_many(
        &self,
        request: Request<HelloRequest>,
    ) -> std::result::Result<Response<Replies>, Status> {
        let request = request.into_inner();
        let count = usize::try_from(request.count).expect("32 bits fit");
        let replies = std::iter::repeat_with(move || Ok(echo(request.clone()))).take(count);
        Ok(Response::new(Box::pin(stream::iter(replies))))
    }

    async fn greet_all(
        &self,
        request: Request<Streaming<HelloRequest>>,
    ) -> std::result::Result<Response<HelloReply>, Status> {
        let mut requests = request.into_inner();
        let mut last = HelloRequest::default();
        while let Some(request) = requests.message().await? {
            last = request;
        }
        Ok(Response::new(echo(last)))
    }

    async fn chat(
        &self,
        request: Request<Streaming<HelloRequest>>,
    ) -> std::result::Result<Response<Replies>, Status> {
        let replies = request.into_inner().map_ok(echo);
        Ok(Response::new(Box::pin(replies)))
    }
}

fn echo(request: HelloRequest) -> HelloReply {
    HelloReply {
        message: request.name,
        backend: String::new(),
    }
}
