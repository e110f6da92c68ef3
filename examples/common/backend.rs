//! A backend: the greeter and the health service on one address.

use std::{
    net::{Ipv4Addr, SocketAddr},
    pin::Pin,
    time::Duration,
};

use futures_util::{Stream, StreamExt, stream};
use tokio::{net::TcpListener, sync::watch};
use tonic::{
    Request, Response, Status, Streaming,
    transport::{Server, server::TcpIncoming},
};
use tonic_health::{
    ServingStatus,
    pb::health_server::HealthServer,
    server::{HealthReporter, HealthService},
};

use super::{
    Result,
    greeter::{
        HelloReply, HelloRequest,
        greeter_server::{Greeter, GreeterServer},
    },
};

/// The service whose health clients ask for.
pub(crate) const GREETER: &str = "demo.v1.Greeter";

/// How long calls in flight, and clients that ignore a GOAWAY, may take.
const DRAIN: Duration = Duration::from_secs(10);

/// What a backend can be told while it serves. Clones tell the same backend.
#[derive(Clone, Debug)]
pub(crate) struct Control {
    health: HealthReporter,
    stop: watch::Sender<bool>,
}

impl Control {
    /// Of a backend on which the whole server (`""`) and the greeter are SERVING.
    pub(crate) async fn new() -> Self {
        let control = Self {
            health: HealthReporter::new(),
            stop: watch::Sender::new(false),
        };
        control.set(None, ServingStatus::Serving).await;
        control
    }

    /// Sets the health of `service`; without one, of the whole server and of the
    /// greeter.
    pub(crate) async fn set(&self, service: Option<&str>, status: ServingStatus) {
        let services = match service {
            Some(service) => vec![service],
            None => vec!["", GREETER],
        };
        for service in services {
            self.health.set_service_status(service, status).await;
        }
    }

    /// GOAWAY to every client; what is in flight may end.
    pub(crate) fn shut_down(&self) {
        self.stop.send_replace(true);
    }

    pub(crate) async fn shutting_down(&self) {
        // The sender is `self`, so there is always one.
        let _ = self.stop.subscribe().wait_for(|stop| *stop).await;
    }
}

/// Listens on `address`; port 0 takes a free one, which `local_addr` tells.
pub(crate) async fn listen(address: SocketAddr) -> Result<TcpListener> {
    TcpListener::bind(address)
        .await
        .map_err(|error| format!("cannot listen on {address}: {error}").into())
}

/// Serves until `control` is told to shut down and the last call has ended.
pub(crate) async fn serve(
    listener: TcpListener,
    greeter: GreeterService,
    control: &Control,
) -> Result<()> {
    let health = HealthService::from_health_reporter(control.health.clone());
    let server = Server::builder()
        .add_service(HealthServer::new(health))
        .add_service(GreeterServer::new(greeter))
        .serve_with_incoming_shutdown(
            TcpIncoming::from(listener).with_nodelay(Some(true)),
            control.shutting_down(),
        );
    let out_of_patience = async {
        control.shutting_down().await;
        tokio::time::sleep(DRAIN).await;
    };
    tokio::select! {
        ended = server => Ok(ended?),
        () = out_of_patience => {
            Err(format!("calls were still open {DRAIN:?} after the shutdown began").into())
        }
    }
}

/// Serves in a task of its own, on a free port: its URI, and what it can be told.
pub(crate) async fn start(greeter: GreeterService) -> Result<(String, Control)> {
    let listener = listen(SocketAddr::from((Ipv4Addr::LOCALHOST, 0))).await?;
    let uri = format!("http://{}", listener.local_addr()?);
    let control = Control::new().await;
    let told = control.clone();
    tokio::spawn(async move { serve(listener, greeter, &told).await });
    Ok((uri, control))
}

/// Greets by name, and says which backend it is.
#[derive(Clone, Debug)]
pub(crate) struct GreeterService {
    backend: String,
    takes: Duration,
}

impl GreeterService {
    /// Answers at once.
    pub(crate) fn new(backend: String) -> Self {
        Self {
            backend,
            takes: Duration::ZERO,
        }
    }

    /// Works this long on every greeting, as a real service would.
    pub(crate) fn takes(self, takes: Duration) -> Self {
        Self { takes, ..self }
    }

    async fn greet(&self, names: &str) -> HelloReply {
        if !self.takes.is_zero() {
            tokio::time::sleep(self.takes).await;
        }
        HelloReply {
            message: format!("Hello {names}!"),
            backend: self.backend.clone(),
        }
    }
}

type Replies = Pin<Box<dyn Stream<Item = std::result::Result<HelloReply, Status>> + Send>>;

#[tonic::async_trait]
impl Greeter for GreeterService {
    type SayHelloManyStream = Replies;
    type ChatStream = Replies;

    async fn say_hello(
        &self,
        request: Request<HelloRequest>,
    ) -> std::result::Result<Response<HelloReply>, Status> {
        Ok(Response::new(self.greet(&request.get_ref().name).await))
    }

    async fn say_hello_many(
        &self,
        request: Request<HelloRequest>,
    ) -> std::result::Result<Response<Replies>, Status> {
        let HelloRequest { name, count } = request.into_inner();
        let greeter = self.clone();
        let replies = stream::iter(0..count).then(move |_| {
            let (greeter, name) = (greeter.clone(), name.clone());
            async move { Ok(greeter.greet(&name).await) }
        });
        Ok(Response::new(Box::pin(replies)))
    }

    async fn greet_all(
        &self,
        request: Request<Streaming<HelloRequest>>,
    ) -> std::result::Result<Response<HelloReply>, Status> {
        let mut requests = request.into_inner();
        let mut names = Vec::new();
        while let Some(request) = requests.message().await? {
            names.push(request.name);
        }
        Ok(Response::new(self.greet(&names.join(", ")).await))
    }

    async fn chat(
        &self,
        request: Request<Streaming<HelloRequest>>,
    ) -> std::result::Result<Response<Replies>, Status> {
        let greeter = self.clone();
        let replies = request.into_inner().then(move |request| {
            let greeter = greeter.clone();
            async move { Ok(greeter.greet(&request?.name).await) }
        });
        Ok(Response::new(Box::pin(replies)))
    }
}
