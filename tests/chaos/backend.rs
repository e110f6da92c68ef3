//! A backend: this very executable, started again with other arguments.
//!
//! ```text
//! parent ── stdin: "serving" | "not_serving" | "sick" | "stop" ──► child
//! parent ◄─ stdout: "127.0.0.1:40123"  ────────────────── child
//! ```
//!
//! It writes the number of every call that comes to a file, before it answers. No
//! backend outlives its parent: it ends when its stdin does, and on Linux also while it
//! is paused.

use std::{
    fs::OpenOptions,
    io::Write,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Duration,
};

use testing::{
    fleet::{Numbered, Result, SERVICE},
    greeter::greeter_server::GreeterServer,
};
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    net::TcpListener,
    sync::watch,
};
use tonic::{
    Request, Status,
    transport::{Server, server::TcpIncoming},
};
use tonic_health::{
    ServingStatus,
    pb::health_server::HealthServer,
    server::{HealthReporter, HealthService},
};

/// The first argument that makes this program a backend. The second is the file for the numbers
/// of its calls, the third is where it listens. By the fourth, in milliseconds, it takes time.
pub(crate) const ROLE: &str = "--as-backend";

/// The text of each call that a sick backend fails.
pub(crate) const SICK: &str = "the backend is sick";

/// The child's life.
pub(crate) async fn be(ledger: &Path, address: &str, unit: &str) -> Result<()> {
    #[cfg(target_os = "linux")]
    rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL))?;
    let ledger = OpenOptions::new().create(true).append(true).open(ledger)?;
    // One write each, so that a kill cannot leave half a number.
    let note = move |number: u64| (&ledger).write_all(&number.to_le_bytes());
    let unit = Duration::from_millis(unit.parse()?);
    let greeter = Numbered { note, unit };
    let listener = TcpListener::bind(address).await?;
    let address = listener.local_addr()?;
    let reporter = HealthReporter::new();
    reporter
        .set_service_status(SERVICE, ServingStatus::Serving)
        .await;
    let health = HealthService::from_health_reporter(reporter.clone());
    let is_sick = Arc::new(AtomicBool::new(false));
    let greeter = {
        let is_sick = Arc::clone(&is_sick);
        GreeterServer::with_interceptor(greeter, move |call: Request<()>| {
            match is_sick.load(Relaxed) && fastrand::bool() {
                true => Err(Status::unavailable(SICK)),
                false => Ok(call),
            }
        })
    };
    let stop = watch::Sender::new(false);
    let mut stopping = stop.subscribe();
    let server = Server::builder()
        .add_service(HealthServer::new(health))
        .add_service(greeter)
        .serve_with_incoming_shutdown(
            TcpIncoming::from(listener).with_nodelay(Some(true)),
            async move { drop(stopping.wait_for(|stop| *stop).await) },
        );
    println!("{address}");
    tokio::select! {
        served = server => Ok(served?),
        obeyed = obey(&reporter, &is_sick, &stop) => obeyed,
    }
}

/// Until the parent is gone.
async fn obey(
    health: &HealthReporter,
    is_sick: &AtomicBool,
    stop: &watch::Sender<bool>,
) -> Result<()> {
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
            "sick" => is_sick.store(true, Relaxed),
            "stop" => drop(stop.send_replace(true)),
            other => return Err(format!("the parent said `{other}`").into()),
        }
    }
    Ok(())
}
