//! A backend: the greeter and the health service on one address.

use std::{
    net::{Ipv4Addr, SocketAddr},
    pin::Pin,
    time::Duration,
};

use futures_util::{Stream, StreamExt, stream};
use grpc_health_service::{Drain, DrainOptions, HealthHandle, HealthService, ServingStatus};
use tokio::{net::TcpListener, select, sync::watch};
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

/// The service whose health clients ask for.
pub(crate) const GREETER: &str = "demo.v1.Greeter";

/// What a backend can be told while it serves. Clones tell the same backend.
#[derive(Clone, Debug)]
pub(crate) struct Control {
    health: HealthHandle,
    service: HealthService,
    stop: watch::Sender<bool>,
}

impl Control {
    /// Of a backend on which the whole server (`""`) and the greeter are SERVING.
    pub(crate) fn new() -> Self {
        let (health, service) = HealthService::new();
        health.set(GREETER, ServingStatus::Serving);
        Self {
            health,
            service,
            stop: watch::Sender::new(false),
        }
    }

    pub(crate) fn health(&self) -> &HealthHandle {
        &self.health
    }

    /// Sets the health of `service`; without one, of the whole server and of the
    /// greeter.
    pub(crate) fn set(&self, service: Option<&str>, status: ServingStatus) {
        match service {
            Some(service) => self.health.set(service, status),
            None => self.health.set_each(["", GREETER], status),
        }
    }

    /// The server drains: clients hear NOT_SERVING, then it stops.
    pub(crate) fn shut_down(&self) {
        self.stop.send_replace(true);
    }

    /// The health service, which the server has beside the greeter.
    pub(crate) fn health_service(&self) -> HealthService {
        self.service.clone()
    }

    /// Drains once the server is told to shut down, and then resolves.
    pub(crate) fn drain(&self) -> Drain {
        let stop = self.shutting_down();
        self.health.drain_on(stop, DrainOptions::default())
    }

    fn shutting_down(&self) -> impl Future<Output = ()> + Send + use<> {
        let mut stop = self.stop.subscribe();
        async move {
            // If each `Control` is gone, the backend serves as long as its runtime.
            if stop.wait_for(|stop| *stop).await.is_err() {
                std::future::pending::<()>().await;
            }
        }
    }
}

/// Listens on `address`; port 0 takes a free one, which `local_addr` tells.
pub(crate) async fn listen(address: SocketAddr) -> Result<TcpListener> {
    TcpListener::bind(address)
        .await
        .map_err(|error| format!("cannot listen on {address}: {error}").into())
}

/// Serves until `control` is told to shut down, and then drains.
///
/// # Errors
///
/// The server fails, or calls are still open after the time that they have for their end.
pub(crate) async fn serve(
    listener: TcpListener,
    greeter: GreeterService,
    control: &Control,
) -> Result<()> {
    let stop = control.shutting_down();
    let drain = control.health.drain_on(stop, DrainOptions::default());
    let cut_off = drain.cut_off();
    let server = Server::builder()
        .add_service(control.service.clone())
        .add_service(GreeterServer::new(greeter))
        .serve_with_incoming_shutdown(TcpIncoming::from(listener).with_nodelay(Some(true)), drain);
    select! {
        ended = server => Ok(ended?),
        () = cut_off => Err("open calls were cut off".into()),
    }
}

/// Serves in a task of its own, on a free port: its URI, and what it can be told.
pub(crate) async fn start(greeter: GreeterService) -> Result<(String, Control)> {
    let listener = listen(SocketAddr::from((Ipv4Addr::LOCALHOST, 0))).await?;
    let uri = format!("http://{}", listener.local_addr()?);
    let control = Control::new();
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
