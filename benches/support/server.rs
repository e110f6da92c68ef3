//! A tonic server in a process of its own: greeter and health, on any number of
//! ports, flipped by orders.

use std::{future::pending, net::Ipv4Addr, pin::Pin, time::Duration};

use futures_util::{Stream, StreamExt};
use testing::Tapped;
use tokio::{net::TcpSocket, time::timeout};
use tonic::{
    Request, Response, Status, Streaming,
    transport::{Server, server::TcpIncoming},
};
use tonic_health::{
    ServingStatus,
    pb::{
        HealthCheckRequest, HealthCheckResponse,
        health_server::{Health, HealthServer},
    },
    server::{HealthReporter, HealthService},
};

use super::{
    Result,
    child::{self, Child},
    clock,
    greeter::{
        HelloReply, HelloRequest,
        greeter_server::{Greeter, GreeterServer},
    },
    runtime,
    stamp::Stamp,
};

/// The role of a child that is a server.
pub(crate) const ROLE: &str = "server";
/// The service whose health clients ask for.
pub(crate) const GREETER: &str = "demo.v1.Greeter";
/// The service config that asks for it.
pub(crate) const CONFIG: &str = r#"{"healthCheckConfig":{"serviceName":"demo.v1.Greeter"}}"#;

/// Connections that may wait to be accepted, on each port, if the kernel agrees.
const BACKLOG: u32 = 4096;
const PATIENCE: Duration = Duration::from_secs(10);

/// A server, as its parent has it.
#[derive(Debug)]
pub(crate) struct ServerProcess {
    child: Child,
    pub(crate) uris: Vec<String>,
}

/// When a server changed its health, by [`clock::now`].
#[derive(Clone, Copy, Debug)]
pub(crate) struct Flipped {
    /// The application said so.
    pub(crate) told: u64,
    /// The socket had taken the message of the Watch.
    pub(crate) sent: u64,
}

impl ServerProcess {
    /// Starts a server that listens on `ports` ports, with `workers` threads.
    pub(crate) async fn start(name: &str, ports: usize, workers: usize) -> Result<Self> {
        let [ports, workers] = [ports, workers].map(|number| number.to_string());
        let mut child = Child::start(&[ROLE, name, &ports, &workers])?;
        let uris = child.hear(PATIENCE).await?;
        Ok(Self { child, uris })
    }

    /// Has it report another health. There must be one Watch, and one thread.
    pub(crate) async fn flip(&mut self, serving: bool) -> Result<Flipped> {
        let order = if serving { "serving" } else { "not_serving" };
        self.child.order(order).await?;
        let words = self.child.hear(PATIENCE).await?;
        let [told, sent] = words.as_slice() else {
            return Err(format!("a server said {words:?} instead of two times").into());
        };
        Ok(Flipped {
            told: told.parse()?,
            sent: sent.parse()?,
        })
    }
}

/// The child's life, after the word [`ROLE`].
pub(crate) fn be_server(arguments: &[String]) -> Result<()> {
    let [name, ports, workers] = arguments else {
        return Err("a server takes a name, a number of ports and one of workers".into());
    };
    runtime(workers.parse()?)?.block_on(serve(name.clone(), ports.parse()?))
}

async fn serve(name: String, ports: usize) -> Result<()> {
    let mut orders = child::orders();
    let reporter = HealthReporter::new();
    reporter
        .set_service_status(GREETER, ServingStatus::Serving)
        .await;
    let stamp = Stamp::default();
    let mut uris = Vec::new();
    for _ in 0..ports {
        let socket = TcpSocket::new_v4()?;
        socket.bind((Ipv4Addr::LOCALHOST, 0).into())?;
        let listener = socket.listen(BACKLOG)?;
        uris.push(format!("http://{}", listener.local_addr()?));
        let stamp_of = stamp.clone();
        let incoming = TcpIncoming::from(listener)
            .with_nodelay(Some(true))
            .map(move |io| {
                let tap = stamp_of.clone();
                io.map(|io| Tapped { io, tap })
            });
        let health = TimedHealth {
            inner: HealthService::from_health_reporter(reporter.clone()),
            stamp: stamp.clone(),
        };
        let server = Server::builder()
            .add_service(HealthServer::new(health))
            .add_service(GreeterServer::new(Named(name.clone())))
            .serve_with_incoming(incoming);
        tokio::spawn(server);
    }
    println!("{}", uris.join(" "));
    while let Some(order) = orders.recv().await {
        let status = match order.as_str() {
            "serving" => ServingStatus::Serving,
            "not_serving" => ServingStatus::NotServing,
            other => return Err(format!("the parent said `{other}`").into()),
        };
        let mut sent = stamp.written();
        let told = clock::now();
        reporter.set_service_status(GREETER, status).await;
        let nobody = |_| "no Watch sent the new health";
        timeout(PATIENCE, sent.changed()).await.map_err(nobody)??;
        println!("{told} {}", *sent.borrow());
    }
    pending().await
}

/// tonic's health service, which marks each message of a Watch as handed over.
struct TimedHealth {
    inner: HealthService,
    stamp: Stamp,
}

type Answers = Pin<Box<dyn Stream<Item = Result<HealthCheckResponse, Status>> + Send>>;

#[tonic::async_trait]
impl Health for TimedHealth {
    type WatchStream = Answers;

    async fn check(
        &self,
        request: Request<HealthCheckRequest>,
    ) -> Result<Response<HealthCheckResponse>, Status> {
        self.inner.check(request).await
    }

    async fn watch(
        &self,
        request: Request<HealthCheckRequest>,
    ) -> Result<Response<Answers>, Status> {
        let answers = self.inner.watch(request).await?.into_inner();
        let stamp = self.stamp.clone();
        let marked = answers.inspect(move |_| stamp.mark());
        Ok(Response::new(Box::pin(marked)))
    }
}

/// Answers at once, with its name.
struct Named(String);

type Replies = Pin<Box<dyn Stream<Item = Result<HelloReply, Status>> + Send>>;

#[tonic::async_trait]
impl Greeter for Named {
    type SayHelloManyStream = Replies;
    type ChatStream = Replies;

    async fn say_hello(
        &self,
        request: Request<HelloRequest>,
    ) -> Result<Response<HelloReply>, Status> {
        Ok(Response::new(HelloReply {
            message: request.into_inner().name,
            backend: self.0.clone(),
        }))
    }

    async fn say_hello_many(&self, _: Request<HelloRequest>) -> Result<Response<Replies>, Status> {
        Err(Status::unimplemented("no bench needs it"))
    }

    async fn greet_all(
        &self,
        _: Request<Streaming<HelloRequest>>,
    ) -> Result<Response<HelloReply>, Status> {
        Err(Status::unimplemented("no bench needs it"))
    }

    async fn chat(&self, _: Request<Streaming<HelloRequest>>) -> Result<Response<Replies>, Status> {
        Err(Status::unimplemented("no bench needs it"))
    }
}
