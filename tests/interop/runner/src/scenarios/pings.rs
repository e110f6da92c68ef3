//! Keepalive PINGs, which servers count.

use std::time::Duration;

use tokio::time::{Instant, sleep};

use crate::{
    greeter::HelloRequest,
    log,
    report::Verdict,
    stage::{self, GREETER, Target, all_ready, client, described, is_ready},
};

fn hello() -> HelloRequest {
    HelloRequest {
        name: "you".to_owned(),
        count: 1,
    }
}

/// What the log says of a backend that counts.
const TOO_MANY: &str = "closed the connection for too_many_pings";

/// A PING every ten seconds is too often for servers whose owner did not permit it. The
/// channel hears `too_many_pings`, doubles the interval, and goes on.
pub(super) async fn too_many(target: Target) -> Verdict {
    let stage = target.start_serving(1, &[]).await?;
    let often = Duration::from_secs(10);
    let channel = stage.channel_for(GREETER, |endpoint| {
        endpoint.http2_keep_alive_interval(often)
    })?;
    all_ready(&channel).await?;
    let began = Instant::now();
    let mut after = Vec::new();
    for server in &stage.servers {
        let lines = loop {
            let lines = log::lines_with(&[TOO_MANY, &server.address()]);
            if !lines.is_empty() {
                break lines;
            }
            if began.elapsed() > Duration::from_secs(120) {
                let seen = described(&channel);
                return Err(
                    format!("expected too_many_pings of {}; seen: {seen}", server.name).into(),
                );
            }
            // The log rings no bell.
            sleep(Duration::from_millis(50)).await;
        };
        if lines.len() != 1 || !lines[0].contains("interval=10s") {
            return Err(format!("expected one WARN; seen: {lines:?}").into());
        }
        after.push(format!("{} after {:.0?}", server.name, began.elapsed()));
    }
    all_ready(&channel).await?;
    for _ in &stage.servers {
        client(&channel)
            .say_hello(hello())
            .await
            .map_err(stage::text)?;
    }
    Ok(stage.note(format!("half as many from then on: {}", after.join(", "))))
}

/// With the defaults, a connection with nothing but a `Watch` on it stays for six
/// minutes, which is longer than any of them counts PINGs.
pub(super) async fn idle(target: Target) -> Verdict {
    let stage = target.start_serving(1, &[]).await?;
    let channel = stage.ready().await?;
    for _ in &stage.servers {
        client(&channel)
            .say_hello(hello())
            .await
            .map_err(stage::text)?;
    }
    let mut watch = channel.watch_status();
    let generation = watch.status().generation();
    let changed = tokio::time::timeout(Duration::from_secs(360), watch.changed()).await;
    if changed.is_ok() {
        let seen = described(&channel);
        return Err(format!("expected no change after {generation}; seen: {seen}").into());
    }
    for _ in &stage.servers {
        client(&channel)
            .say_hello(hello())
            .await
            .map_err(stage::text)?;
    }
    for server in &stage.servers {
        let seen = server.seen().await?;
        let lines = log::lines_with(&[&server.address()]);
        if seen.connections != 1 || !lines.is_empty() {
            return Err(format!("expected 1 connection; seen: {seen:?}, {lines:?}").into());
        }
    }
    let all = channel.backends().iter().all(is_ready);
    match all {
        true => Ok(stage.note("one connection, all the time".to_owned())),
        false => Err(format!("expected READY; seen: {}", described(&channel)).into()),
    }
}
