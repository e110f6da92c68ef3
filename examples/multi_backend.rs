//! The whole story in four seconds: two backends, one client, and everything that
//! happens to them.
//!
//! ```text
//! $ cargo run --example multi_backend
//! ```
//!
//! starts two server processes, A and B (this executable again, in another role),
//! and makes 200 calls a second through one generated client. Then it flips their
//! health, kills one and starts it again, and shows what that does to the calls:
//!
//! ```text
//! 2. A says NOT_SERVING: B takes every call, none fails
//!    0.52s  A READY → TRANSIENT_FAILURE, health check: NOT_SERVING
//!           the channel knew 0.6 ms after A was told
//!    1.03s  A   0                        B 100 ████████████████████   failed 0
//!           A  127.0.0.1:33443  TRANSIENT_FAILURE  NOT_SERVING  for 509 ms
//!           B  127.0.0.1:40565  READY              SERVING      for 1.0 s
//! …
//! All 6 steps held. That took 3.2 s.
//! ```
//!
//! It checks what it shows, and exits with 1 and a sentence if a step does not
//! hold. Colours only on a terminal; `RUST_LOG=tonic_health_channel=debug` adds the
//! library's own log on stderr.

mod common;

use std::{
    net::{Ipv4Addr, SocketAddr},
    process::ExitCode,
    time::Duration,
};

use common::{
    Result,
    backend::GREETER,
    greeter::greeter_client::GreeterClient,
    process::{self, Process},
    report::short,
    story::{Story, check, within},
    traffic::{self, Traffic},
};
use tokio::time::Instant;
use tonic_health_channel::{
    Channel,
    ConnectivityState::{Ready, TransientFailure},
    HealthOptions,
    channel::BackoffConfig,
    discover,
    status::{Backends, CauseKind},
};

/// Between the starts of two calls.
const PACE: Duration = Duration::from_millis(5);
/// What a backend works on each call, so that some are always in flight.
const WORK: Duration = Duration::from_millis(10);

#[tokio::main]
async fn main() -> ExitCode {
    common::log_to_stderr();
    let outcome = match process::role() {
        Ok(Some((name, address))) => process::be_backend(name, address, WORK).await,
        Ok(None) => tokio::select! {
            outcome = demo() => outcome,
            _ = tokio::signal::ctrl_c() => Err("interrupted".into()),
        },
        Err(error) => Err(error),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

async fn demo() -> Result<()> {
    let anywhere = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    let mut a = Process::start("A", anywhere).await?;
    let mut b = Process::start("B", anywhere).await?;
    println!("Two backends: A is {a}, B is {b}.");
    println!("One client: a call every {PACE:?}, each takes {WORK:?}.");
    println!("Backoff: 0.1 to 0.3 s, to keep this short; the default is gRPC's, 1 to 120 s.");

    let [first, longest] = [100, 300].map(Duration::from_millis);
    let backoff = BackoffConfig::default().initial(first)?.max(longest);
    let config = format!(r#"{{"healthCheckConfig": {{"serviceName": "{GREETER}"}}}}"#);
    let channel = Channel::balance(discover::list([a.uri(), b.uri()])?)
        .service_config(config.parse()?)
        .health_options(HealthOptions::default().backoff(backoff.clone()))
        .connect_backoff(backoff)
        .build();
    let client = GreeterClient::new(channel.clone());
    let traffic = Traffic::start(client.clone(), PACE);
    let mut story = Story::new(["A", "B"], channel.watch_status(), traffic);

    story.step("Both are healthy and share the calls evenly");
    story.until_states([Ready; 2]).await?;
    story.shared_evenly().await?;
    story.nothing_failed()?;
    story.backends();

    story.step("A says NOT_SERVING: B takes every call, none fails");
    let told = Instant::now();
    a.tell_health(false).await?;
    let out = story.until_states([TransientFailure, Ready]).await?;
    let after = short(out - told);
    story.note(format!("the channel knew {after} after A was told"));
    story.all_answered_by("B").await?;
    story.nothing_failed()?;
    story.backends();

    story.step("B says NOT_SERVING too: calls fail at once and say why");
    b.tell_health(false).await?;
    story.until_states([TransientFailure; 2]).await?;
    let waiting = tokio::spawn(async move {
        channel.wait_until_ready().await?;
        Ok::<_, common::Error>(traffic::call(client).await)
    });
    story.note("another client says `channel.wait_until_ready().await`, and waits");
    story.all_fail_at_once().await?;
    check(!waiting.is_finished(), || "it did not wait".into())?;
    story.backends();

    story.step("A recovers, then B: served again, and first the client that waited");
    let told = Instant::now();
    a.tell_health(true).await?;
    let back = story.until_states([Ready, TransientFailure]).await?;
    let served = within("the client that waits to be served", waiting).await???;
    let after = short(served.began + served.took - told);
    let waited = format!("the client that waited: {served}, {after} after A was told");
    story.note(waited);
    check(served.by("A"), || "that was not A".into())?;
    story.all_answered_by("A").await?;
    b.tell_health(true).await?;
    story.until_states([Ready; 2]).await?;
    story.shared_evenly().await?;
    story.nothing_failed_that_began_after(back)?;
    story.backends();

    story.step("B is killed (SIGKILL): only what was in flight on it fails");
    let killed = Instant::now();
    b.kill()?;
    let gone = story.until("B to leave READY", |status| status[1].state() != Ready);
    let gone = gone.await?;
    let after = short(gone - killed);
    story.note(format!("the channel knew {after} after the kill"));
    let refused = |status: &Backends| match status[1].last_error() {
        Some((cause, _)) => cause.kind() == CauseKind::Connect,
        None => false,
    };
    story.until("B to refuse connections", refused).await?;
    story.all_answered_by("A").await?;
    story.only_failed_in_flight(&b.address.to_string(), gone)?;
    story.backends();

    story.step("B is started again on its old port: it has its share again");
    let restarted = Instant::now();
    b = Process::start("B", b.address).await?;
    let back = story.until_states([Ready; 2]).await?;
    let after = short(back - restarted);
    story.note(format!("B is {b}, and READY after {after}"));
    story.shared_evenly().await?;
    story.nothing_failed()?;
    story.backends();

    story.end();
    Ok(())
}
