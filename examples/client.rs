//! Steady calls over a health-checked channel, and every change of it.
//!
//! ```text
//! $ cargo run --example client -- --count 4 http://127.0.0.1:50051 http://127.0.0.1:50052
//!    0.00s  channel CONNECTING
//!    0.00s  127.0.0.1:50051 CONNECTING, health pending
//!    …
//!    0.00s  127.0.0.1:50051 CONNECTING → READY, health SERVING
//!    0.00s  channel CONNECTING → READY
//!    0.01s  A answered in 4.1 ms
//!    0.51s  B answered in 0.6 ms
//!    1.01s  A answered in 0.6 ms
//!    1.51s  B answered in 0.5 ms
//! 4 calls: A 2, B 2, failed 0
//! ```
//!
//! Exits with 1 if a call failed.

mod common;

use std::process::ExitCode;

use common::{
    Result,
    arguments::{Misuse, exit_code},
    greeter::greeter_client::GreeterClient,
    options::Options,
    report,
    traffic::{Tally, Traffic},
};
use tokio::time::Instant;
use tonic_health_channel::{Channel, discover};

const USAGE: &str = r#"usage: client [OPTION]... URI...

  URI                 a backend, such as http://127.0.0.1:50051
  --config JSON|@FILE gRPC's service config; by default it asks for the health of
                      the greeter: {"healthCheckConfig":{"serviceName":"demo.v1.Greeter"}}
  --every TIME        time from one call to the next; 500ms by default
  --count N           number of calls; no limit by default
"#;

#[tokio::main]
async fn main() -> ExitCode {
    common::log_to_stderr();
    let outcome = match Options::parse(std::env::args().skip(1)) {
        Ok(options) => run(options).await,
        Err(error) => Err(error),
    };
    exit_code(outcome, USAGE)
}

async fn run(options: Options) -> Result<()> {
    let backends = discover::list(options.uris).map_err(|error| Misuse(error.to_string()))?;
    let channel = Channel::balance(backends)
        .service_config(options.config)
        .build();
    let start = Instant::now();
    let say = |line: &str| println!("{:>7.2}s  {line}", start.elapsed().as_secs_f64());
    let mut watch = channel.watch_status();
    let mut known = None;
    let mut traffic = Traffic::start(GreeterClient::new(channel.clone()), options.every);
    let mut tally = Tally::default();
    while tally.total() < options.count {
        let status = watch.status();
        report::changes(known.as_deref(), &status, &|b| b.label().to_owned())
            .iter()
            .for_each(|line| say(line));
        known = Some(status);
        tokio::select! {
            Some(_) = watch.changed() => {}
            ended = traffic.next() => {
                tally.count(&ended);
                say(&ended.to_string());
            }
            _ = tokio::signal::ctrl_c() => break,
        }
    }
    println!("{} calls: {tally}", tally.total());
    match tally.failed {
        0 => Ok(()),
        failed => Err(format!("{failed} calls failed").into()),
    }
}
