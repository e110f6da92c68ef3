//! A backend: this very executable, started again with other arguments.
//!
//! ```text
//! parent ── stdin: "serving" | "not_serving" | "stop" ──► child
//! parent ◄─ stdout: "127.0.0.1:40123"  ────────────────── child
//! ```
//!
//! It writes the number of every call that comes to a file, before it answers. No
//! backend outlives its parent: it ends when its stdin does, and on Linux also while it
//! is paused.

use std::{
    fs::{File, OpenOptions},
    io::Write,
    net::{Ipv4Addr, SocketAddr},
    path::Path,
    pin::Pin,
    sync::Arc,
    time::Duration,
};

use futures_util::Stream;
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    net::TcpListener,
    sync::watch,
    time::sleep,
};
use tonic::{
    Request, Response, Status, Streaming,
    transport::{Server, server::TcpIncoming},
};
use tonic_health::{
    ServingStatus,
    pb::health_server::HealthServer,
    server::{HealthReporter, HealthService},
};

use crate::{
    Result,
    greeter::{
        HelloReply, HelloRequest,
        greeter_server::{Greeter, GreeterServer},
    },
};

/// The first argument that makes this program a backend; the second is the file for
/// the numbers of its calls.
pub(crate) const ROLE: &str = "--as-backend";

/// The service whose health it tells.
pub(crate) const SERVICE: &str = "demo.v1.Greeter";

/// The child's life.
pub(crate) async fn be(ledger: &Path) -> Result<()> {
    #[cfg(target_os = "linux")]
    rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL))?;
    let ledger = OpenOptions::new().create(true).append(true).open(ledger)?;
    let greeter = Numbered(Arc::new(ledger));
    let listener = TcpListener::bind(SocketAddr::from((Ipv4Addr::LOCALHOST, 0))).await?;
    let address = listener.local_addr()?;
    let reporter = HealthReporter::new();
    reporter
        .set_service_status(SERVICE, ServingStatus::Serving)
        .await;
    let health = HealthService::from_health_reporter(reporter.clone());
    let stop = watch::Sender::new(false);
    let mut stopping = stop.subscribe();
    let server = Server::builder()
        .add_service(HealthServer::new(health))
        .add_service(GreeterServer::new(greeter))
        .serve_with_incoming_shutdown(
            TcpIncoming::from(listener).with_nodelay(Some(true)),
            async move { drop(stopping.wait_for(|stop| *stop).await) },
        );
    println!("{address}");
    tokio::select! {
        served = server => Ok(served?),
        obeyed = obey(&reporter, &stop) => obeyed,
    }
}

/// Until the parent is gone.
async fn obey(health: &HealthReporter, stop: &watch::Sender<bool>) -> Result<()> {
    let mut orders = BufReader::new(tokio::io::stdin()).lines();
    while let Some(order) = orders.next_line().await? {
        match order.as_str() {
            "serving" => {
                let status = ServingStatus::Serving;
                health.set_service_status(SERVICE, status).await;
            }
            "not_serving" => {
                let status = ServingStatus::NotServing;
                health.set_service_status(SERVICE, status).await;
            }
            "stop" => drop(stop.send_replace(true)),
            other => return Err(format!("the parent said `{other}`").into()),
        }
    }
    Ok(())
}

/// Answers a number with itself, and takes up to 15 ms for it.
struct Numbered(Arc<File>);

type Replies = Pin<Box<dyn Stream<Item = std::result::Result<HelloReply, Status>> + Send>>;

#[tonic::async_trait]
impl Greeter for Numbered {
    type SayHelloManyStream = Replies;
    type ChatStream = Replies;

    async fn say_hello(
        &self,
        request: Request<HelloRequest>,
    ) -> std::result::Result<Response<HelloReply>, Status> {
        let name = request.into_inner().name;
        let number: u64 = name
            .parse()
            .map_err(|_| Status::invalid_argument("not a number"))?;
        // One write, so that a kill cannot leave half a number.
        (&*self.0)
            .write_all(&number.to_le_bytes())
            .map_err(|error| Status::data_loss(error.to_string()))?;
        sleep(Duration::from_millis(number % 16)).await;
        Ok(Response::new(HelloReply {
            message: name,
            backend: String::new(),
        }))
    }

    async fn say_hello_many(
        &self,
        _: Request<HelloRequest>,
    ) -> std::result::Result<Response<Replies>, Status> {
        Err(Status::unimplemented("nobody calls it"))
    }

    async fn greet_all(
        &self,
        _: Request<Streaming<HelloRequest>>,
    ) -> std::result::Result<Response<HelloReply>, Status> {
        Err(Status::unimplemented("nobody calls it"))
    }

    async fn chat(
        &self,
        _: Request<Streaming<HelloRequest>>,
    ) -> std::result::Result<Response<Replies>, Status> {
        Err(Status::unimplemented("nobody calls it"))
    }
}
