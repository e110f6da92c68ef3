//! Connections that a server ends, and no call that suffers.

use std::{collections::BTreeSet, time::Duration};

use tokio::time::sleep;
use tonic_health_channel::{Channel, health::HealthStatus};

use crate::{
    load::Load,
    report::Verdict,
    server::Server,
    stage::{GREETER, Target, health_is, is_drained},
};

/// How a server is brought to its end.
#[derive(Clone, Copy, PartialEq)]
enum Stop {
    /// At once.
    Bare,
    /// It says NOT_SERVING, and does not wait until that is heard.
    Retired,
    /// It says NOT_SERVING, and stops when the channel knows, and its calls have ended.
    Drained,
}

/// With a `Watch` open and callers calling, each server but the last stops for good. It
/// comes to its end, and no call fails.
pub(super) async fn graceful_stop(target: Target) -> Verdict {
    let (mut slowest, mut calls, mut notes) = (Duration::ZERO, 0, BTreeSet::new());
    for stop in [Stop::Bare, Stop::Retired, Stop::Drained] {
        let stage = target.start_serving(2, &[]).await?;
        let channel = stage.ready().await?;
        let quick = Load::start(&channel, 8, "you");
        let slow = Load::start(&channel, 8, "slow:50");
        let (_stays, go) = stage.servers.split_last().ok_or("expected backends")?;
        for server in go {
            server.sees("calls", |seen| seen.calls > 100).await?;
            let abruptly = server.language.stops_abruptly;
            if let (Stop::Bare | Stop::Retired, Some(why)) = (stop, abruptly) {
                let name = server.language.name;
                notes.insert(format!("; {name} only when drained: {why}"));
                continue;
            }
            slowest = slowest.max(end(server, &channel, stop).await?);
        }
        for load in [quick, slow] {
            let load = load.stop().await.map_err(|failed| stage.named(failed))?;
            calls += load.values().sum::<u64>();
        }
    }
    let notes = String::from_iter(notes);
    Ok(format!(
        "within {slowest:.1?}; {calls} calls, none failed{notes}"
    ))
}

/// How long a server took to its end.
async fn end(server: &Server, channel: &Channel, stop: Stop) -> Result<Duration, String> {
    match stop {
        Stop::Bare => server.order("stop").await?,
        Stop::Retired => server.order("retire").await?,
        Stop::Drained => {
            server.set_serving(GREETER, false).await?;
            health_is(channel, server, HealthStatus::NotServing).await?;
            is_drained(channel, server).await?;
            server.order("stop").await?;
        }
    }
    server.ends().await
}

/// Connections that live for 200 ms, under load for three seconds.
pub(super) async fn max_age(target: Target) -> Verdict {
    let stage = target
        .start_serving(1, &["--max-age-ms", "200", "--grace-ms", "5000"])
        .await?;
    let channel = stage.ready().await?;
    let quick = Load::start(&channel, 8, "you");
    let slow = Load::start(&channel, 8, "slow:50");
    // The load is the scenario, and this is how long it takes.
    sleep(Duration::from_secs(3)).await;
    let mut calls = 0;
    for load in [quick, slow] {
        let load = load.stop().await.map_err(|failed| stage.named(failed))?;
        calls += load.values().sum::<u64>();
    }
    let mut connections = Vec::new();
    for server in &stage.servers {
        let seen = server.seen().await?;
        // grpc-java takes less than a second for a second.
        if seen.connections < 3 {
            return Err(format!("expected many connections; seen: {seen:?}").into());
        }
        connections.push(format!("{} {}", server.name, seen.connections));
    }
    Ok(stage.note(format!(
        "{calls} calls, none failed; connections: {}",
        connections.join(", ")
    )))
}
