//! A server with `grpc-health-service` and nothing else, for health clients of other languages.
//! It starts and takes orders as the backends of other languages do.

use std::{env, error::Error, io::Read, process, thread};

use grpc_health_service::{DrainOptions, HealthHandle, HealthService, ServingStatus};
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader},
    net::{TcpListener, TcpStream},
    sync::mpsc,
};
use tokio_stream::wrappers::TcpListenerStream;
use tonic::transport::Server;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let (health, service) = HealthService::new();
    set_all(&health, &argument("--health").unwrap_or_default())?;
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let orders = TcpListener::bind("127.0.0.1:0").await?;
    thread::spawn(end_with_the_runner);
    println!(
        r#"{{"grpc": {}, "control": {}, "version": "grpc-health-service"}}"#,
        listener.local_addr()?.port(),
        orders.local_addr()?.port()
    );

    let (retire, mut retired) = mpsc::channel(1);
    let signal = async move {
        retired.recv().await;
    };
    let drain = health.drain_on(signal, DrainOptions::default());
    let cut_off = drain.cut_off();
    let server = Server::builder()
        .add_service(service)
        .serve_with_incoming_shutdown(TcpListenerStream::new(listener), drain);
    tokio::select! {
        served = server => Ok(served?),
        () = cut_off => Err("open calls were cut off".into()),
        obeyed = obey_all(orders, health, retire) => obeyed,
    }
}

/// The word after `name` on the command line.
fn argument(name: &str) -> Option<String> {
    env::args().skip_while(|word| word != name).nth(1)
}

/// Sets what `SERVICE=STATUS,…` says.
fn set_all(health: &HealthHandle, statuses: &str) -> Result<(), String> {
    for each in statuses.split(',').filter(|each| !each.is_empty()) {
        let (service, status) = match each.split_once('=') {
            Some((service, "SERVING")) => (service, ServingStatus::Serving),
            Some((service, "NOT_SERVING")) => (service, ServingStatus::NotServing),
            _ => return Err(format!("--health: `{each}`")),
        };
        health.set(service, status);
    }
    Ok(())
}

fn end_with_the_runner() {
    // An error is as good as the end.
    let _ = std::io::stdin().read_to_end(&mut Vec::new());
    process::exit(1);
}

async fn obey_all(
    orders: TcpListener,
    health: HealthHandle,
    retire: mpsc::Sender<()>,
) -> Result<(), Box<dyn Error>> {
    let (control, _) = orders.accept().await?;
    let mut control = BufReader::new(control);
    let mut line = String::new();
    while control.read_line(&mut line).await? > 0 {
        let answer = obey(line.trim_end(), &health, &retire);
        line.clear();
        tell(&mut control, answer).await?;
    }
    Err("the runner gives no more orders".into())
}

async fn tell(control: &mut BufReader<TcpStream>, answer: &str) -> std::io::Result<()> {
    control.write_all(format!("{answer}\n").as_bytes()).await
}

fn obey(line: &str, health: &HealthHandle, retire: &mpsc::Sender<()>) -> &'static str {
    let (order, service) = line.split_once(' ').unwrap_or((line, ""));
    match order {
        "serving" => health.set(service, ServingStatus::Serving),
        "not_serving" => health.set(service, ServingStatus::NotServing),
        "clear" => health.clear(service),
        // A second order changes nothing.
        "retire" => drop(retire.try_send(())),
        _ => return "no such order",
    }
    "ok"
}
