//! A greeter whose health can be flipped over HTTP.
//!
//! ```text
//! $ cargo run --example server -- 127.0.0.1:50051 127.0.0.1:8081 A
//! name=A greeter=127.0.0.1:50051 admin=127.0.0.1:8081
//!
//! $ curl -X POST 127.0.0.1:8081/not_serving
//! "" and demo.v1.Greeter: NOT_SERVING
//! ```
//!
//! Run two of them beside `--example client`, and flip away. Ctrl-C or SIGTERM drains one: its
//! clients hear NOT_SERVING and choose the other, and no call fails.

mod common;

use std::process::ExitCode;

use axum::{
    Router,
    http::{Method, StatusCode, Uri},
};
use common::{
    Result,
    arguments::{Misuse, exit_code, parse},
    backend::{self, Control, GREETER, GreeterService},
};
use grpc_health_service::{
    ServingStatus::{NotServing, Serving},
    stop_signal,
};
use tokio::sync::oneshot;

const USAGE: &str = "usage: server ADDR ADMIN_ADDR [NAME]

  ADDR        address of the gRPC server, such as 127.0.0.1:50051; port 0 picks a free one
  ADMIN_ADDR  address of the HTTP server with the paths below
  NAME        value of `backend` in replies; ADDR by default

";
const PATHS: &str = "POST /serving      ?service=NAME, by default both \"\" and demo.v1.Greeter
POST /not_serving  the same
POST /shutdown     drains and exits, as at Ctrl-C and SIGTERM
GET  /healthz      200 while the process runs
GET  /readyz       ?service=NAME, by default the server as a whole: 200 if SERVING, else 503
";

#[tokio::main]
async fn main() -> ExitCode {
    common::log_to_stderr();
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    exit_code(run(&arguments).await, &[USAGE, PATHS].concat())
}

async fn run(arguments: &[String]) -> Result<()> {
    let (address, admin, name) = match arguments {
        [address, admin] => (address, admin, None),
        [address, admin, name] => (address, admin, Some(name)),
        _ => return Err(Misuse(String::new()).into()),
    };
    let grpc = backend::listen(parse("ADDR", address)?).await?;
    let http = backend::listen(parse("ADMIN_ADDR", admin)?).await?;
    let (address, admin) = (grpc.local_addr()?, http.local_addr()?);
    let name = name.cloned().unwrap_or_else(|| address.to_string());
    println!("name={name} greeter={address} admin={admin}");

    let control = Control::new();
    let (told, stopped) = (control.clone(), control.clone());
    let signal = stop_signal()?;
    tokio::spawn(async move {
        signal.await;
        stopped.shut_down();
    });
    let admin = Router::new()
        .route_service("/healthz", control.health().http_probes())
        .route_service("/readyz", control.health().http_probes())
        .fallback(move |method, uri| obey(told, method, uri));
    // Probes are answered until the drain is over.
    let (end, ended) = oneshot::channel::<()>();
    let http = axum::serve(http, admin).with_graceful_shutdown(async { drop(ended.await) });
    let grpc = async {
        let served = backend::serve(grpc, GreeterService::new(name), &control).await;
        drop(end);
        served
    };
    tokio::try_join!(grpc, async { Ok(http.await?) })?;
    Ok(())
}

async fn obey(control: Control, method: Method, uri: Uri) -> (StatusCode, String) {
    let service = uri.query().map(|query| query.strip_prefix("service="));
    let status = match (uri.path(), service) {
        ("/serving" | "/not_serving" | "/shutdown", _) if method != Method::POST => {
            return (StatusCode::METHOD_NOT_ALLOWED, PATHS.to_owned());
        }
        ("/shutdown", _) => {
            control.shut_down();
            return (StatusCode::OK, "shutting down\n".to_owned());
        }
        ("/serving" | "/not_serving", Some(None)) => {
            return (StatusCode::BAD_REQUEST, PATHS.to_owned());
        }
        ("/serving", _) => Serving,
        ("/not_serving", _) => NotServing,
        _ => return (StatusCode::NOT_FOUND, PATHS.to_owned()),
    };
    let service = service.flatten();
    control.set(service, status);
    let which = service.map_or(format!("\"\" and {GREETER}"), str::to_owned);
    (StatusCode::OK, format!("{which}: {status}\n"))
}
