//! A gRPC server on its own port that a test can do anything to.
//!
//! ```text
//!        stop_gracefully             kill
//!    up ────────────────▶ draining ──────────▶ down
//!    ▲ └──────────────── kill ────────────────▶ │
//!    └──────────────── restart ─────────────────┘
//! ```
//!
//! While down, the port refuses connections but stays reserved, so that `restart`
//! always gets it back. Counters, statuses and scripts survive a restart. Dropping
//! a backend cuts its connections and stops everything.

mod builder;
mod observe;

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::Duration,
};

use tokio::{
    net::TcpListener,
    sync::{mpsc, watch},
    task::JoinHandle,
};
use tokio_stream::{StreamExt, wrappers::UnboundedReceiverStream};
#[cfg(feature = "gzip")]
use tonic::codec::CompressionEncoding;
use tonic::{
    service::Routes,
    transport::{Error, Server},
};
use tonic_health::server::{HealthReporter, HealthService as TonicHealthService};

pub use builder::{Builder, HealthKind};

use super::{
    front::{FrontLayer, Traffic},
    greeter::greeter_server::GreeterServer,
    greeter_service::GreeterService,
    health::health_server::HealthServer,
    health_service::HealthService,
    port::ReservedPort,
    wire::{Door, Wire},
};

#[derive(Debug)]
pub struct Backend {
    addr: SocketAddr,
    greeter: GreeterService,
    health: Health,
    max_concurrent_streams: Option<u32>,
    max_connection_age: Option<Duration>,
    traffic: Arc<Traffic>,
    door: Door,
    life: Mutex<Life>,
}

/// Who answers health calls.
#[derive(Debug)]
enum Health {
    Tonic(HealthReporter),
    Ours(Arc<HealthService>),
    None,
}

#[derive(Debug)]
enum Life {
    Down(ReservedPort),
    /// Up or draining.
    Up(Running),
    /// Between two of the others, while a method awaits.
    Changing,
}

#[derive(Debug)]
struct Running {
    /// `true` closes the listener and drains the server.
    stop: watch::Sender<bool>,
    /// Gives the port back once the listener is closed.
    acceptor: JoinHandle<ReservedPort>,
    server: JoinHandle<()>,
    /// Becomes `true` when every connection has ended after a graceful stop.
    finished: watch::Receiver<bool>,
}

impl Backend {
    /// A backend that is up, with tonic's health service on which `""` and the
    /// greeter are SERVING.
    pub async fn start() -> Self {
        Self::builder().start().await
    }

    pub fn builder() -> Builder {
        Builder::default()
    }

    /// Starts a server on the same port, after whatever went before was killed.
    pub async fn restart(&self) {
        self.kill().await;
        let port = match self.change_life(Life::Changing) {
            Life::Down(port) => port,
            Life::Up(_) | Life::Changing => panic!("two tasks change the life of one backend"),
        };
        self.change_life(Life::Up(self.run(port.listen())));
    }

    /// Closes the listener and resets all connections, as a crash would. Returns
    /// when both are done; afterwards connections are refused.
    pub async fn kill(&self) {
        let running = match self.change_life(Life::Changing) {
            Life::Down(port) => {
                self.change_life(Life::Down(port));
                return;
            }
            Life::Up(running) => running,
            Life::Changing => panic!("two tasks change the life of one backend"),
        };
        running.stop.send_replace(true);
        // First nobody else gets in, then everybody is thrown out.
        let port = running
            .acceptor
            .await
            .expect("the acceptor ends by itself once it is told to stop");
        self.door.cut();
        running.server.abort();
        self.door.open.until_exactly(0).await;
        self.change_life(Life::Down(port));
    }

    /// Resets all connections and goes on accepting new ones.
    pub fn cut_connections(&self) {
        self.door.cut();
    }

    /// Resets one connection, by its number among all that were accepted, from 0. The
    /// next one only after that is gone.
    pub fn cut_connection(&self, number: usize) {
        self.door.cut_one(number);
    }

    /// Stops accepting, sends GOAWAY and lets open calls end. The drain begins
    /// now; the future resolves when the last connection has ended.
    pub fn stop_gracefully(&self) -> impl Future<Output = ()> + Send + use<> {
        let finished = match &*self.life.lock().expect("no holder of the life panics") {
            Life::Up(running) => {
                running.stop.send_replace(true);
                Some(running.finished.clone())
            }
            Life::Down(_) | Life::Changing => None,
        };
        async move {
            if let Some(mut finished) = finished {
                finished
                    .wait_for(|finished| *finished)
                    .await
                    .expect("a backend that stops gracefully is not killed meanwhile");
            }
        }
    }

    fn change_life(&self, life: Life) -> Life {
        let mut present = self.life.lock().expect("no holder of the life panics");
        std::mem::replace(&mut *present, life)
    }

    fn run(&self, listener: TcpListener) -> Running {
        let stop = watch::Sender::new(false);
        let (finish, finished) = watch::channel(false);
        let (wires, incoming) = mpsc::unbounded_channel();
        let acceptor = accept(self.door.clone(), listener, wires, stop.subscribe());
        let mut server = Server::builder().max_concurrent_streams(self.max_concurrent_streams);
        if let Some(age) = self.max_connection_age {
            server = server.max_connection_age(age);
        }
        let server = serve(
            server,
            self.routes(),
            FrontLayer(Arc::clone(&self.traffic)),
            incoming,
            stop.subscribe(),
        );
        Running {
            stop,
            acceptor: tokio::spawn(acceptor),
            server: tokio::spawn(async move {
                server.await.expect("the server of a backend can be served");
                finish.send_replace(true);
            }),
            finished,
        }
    }

    fn routes(&self) -> Routes {
        let routes = Routes::new(GreeterServer::new(self.greeter.clone()));
        match &self.health {
            Health::Tonic(reporter) => {
                let service = TonicHealthService::from_health_reporter(reporter.clone());
                routes.add_service(tonic_health::pb::health_server::HealthServer::new(service))
            }
            Health::Ours(service) => {
                let service = HealthServer::from_arc(Arc::clone(service));
                #[cfg(feature = "gzip")]
                let service = service.accept_compressed(CompressionEncoding::Gzip);
                routes.add_service(service)
            }
            Health::None => routes,
        }
    }
}

impl Drop for Backend {
    fn drop(&mut self) {
        if let Life::Up(running) = self.change_life(Life::Changing) {
            running.acceptor.abort();
            running.server.abort();
        }
        self.door.cut();
    }
}

async fn accept(
    door: Door,
    listener: TcpListener,
    wires: mpsc::UnboundedSender<Wire>,
    mut stop: watch::Receiver<bool>,
) -> ReservedPort {
    let addr = listener
        .local_addr()
        .expect("a listening socket has an address");
    tokio::select! {
        () = door.accept(&listener, wires) => {}
        _ = stop.wait_for(|stop| *stop) => {}
    }
    drop(listener);
    ReservedPort::again(addr).await
}

async fn serve(
    server: Server,
    routes: Routes,
    front: FrontLayer,
    incoming: mpsc::UnboundedReceiver<Wire>,
    mut stop: watch::Receiver<bool>,
) -> Result<(), Error> {
    server
        .layer(front)
        .add_routes(routes)
        .serve_with_incoming_shutdown(
            UnboundedReceiverStream::new(incoming).map(Ok::<_, std::io::Error>),
            async move {
                // The sender lives as long as the server does.
                let _ = stop.wait_for(|stop| *stop).await;
            },
        )
        .await
}
