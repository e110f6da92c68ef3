//! Connections that a server ends, and no call that suffers.

use std::time::Duration;

use tokio::time::sleep;

use crate::{load::Load, report::Verdict, stage::Target};

/// With a `Watch` open and callers calling, each server but the last stops for good: at
/// once, or after it said NOT_SERVING. It comes to its end, and no call fails.
pub(super) async fn graceful_stop(target: Target) -> Verdict {
    let mut slowest = Duration::ZERO;
    let (mut note, mut calls) = (String::new(), 0);
    for order in ["stop", "retire"] {
        let stage = target.start_serving(2, &[]).await?;
        let channel = stage.ready().await?;
        let quick = Load::start(&channel, 8, "you");
        let slow = Load::start(&channel, 8, "slow:50");
        let (_stays, go) = stage.servers.split_last().ok_or("expected backends")?;
        for server in go {
            server.sees("calls", |seen| seen.calls > 100).await?;
            server.order(order).await?;
            slowest = slowest.max(server.ends().await?);
        }
        let loads = [quick.stop().await?, slow.stop().await?];
        calls += loads.iter().flat_map(|load| load.values()).sum::<u64>();
        note = stage.note(String::new());
    }
    Ok(format!(
        "a stop takes {slowest:.1?}; {calls} calls, none failed{note}"
    ))
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
    let loads = [quick.stop().await?, slow.stop().await?];
    let calls: u64 = loads.iter().flat_map(|load| load.values()).sum();
    let mut connections = Vec::new();
    for server in &stage.servers {
        let seen = server.seen().await?;
        if seen.connections < 5 {
            return Err(format!("expected many connections; seen: {seen:?}").into());
        }
        connections.push(format!("{} {}", server.name, seen.connections));
    }
    Ok(stage.note(format!(
        "{calls} calls, none failed; connections: {}",
        connections.join(", ")
    )))
}
