//! Backends that are slow, and backends that are paused.

use std::time::Duration;

use tokio::{task::JoinSet, time::Instant};
use tonic::Status;
use tonic_health_channel::{Channel, discover, status::ChannelStatus};

use crate::{
    greeter::HelloRequest,
    log,
    report::Verdict,
    server::{PATIENCE, Server},
    stage::{Stage, Target, all_ready, client, described, text, until},
};

/// A connection with a call in flight is sent a PING after so long without a byte.
const SILENCE: Duration = Duration::from_millis(200);

fn request(name: &str) -> tonic::Request<HelloRequest> {
    let mut request = tonic::Request::new(HelloRequest {
        name: name.to_owned(),
        count: 1,
    });
    request.set_timeout(PATIENCE);
    request
}

/// Slow handlers are sent 2 PINGs for each answer, which servers forgive. A backend that is paused
/// is avoided until it goes on, and keeps its connection.
pub(super) async fn silence(target: Target) -> Verdict {
    let stage = target.start_serving(2, &[]).await?;
    let uris = stage.servers.iter().map(|server| server.address());
    let uris = uris.map(|address| format!("http://{address}"));
    let builder = Channel::balance(discover::list(uris).map_err(text)?);
    let channel = builder.silence(SILENCE).build();
    all_ready(&channel).await?;
    slow_ones_are_left_in_peace(&stage, &channel).await?;
    let began = Instant::now();
    let paused = &stage.servers[0];
    paused.signal("STOP").await?;
    let avoided = is_avoided(&stage, &channel, paused).await;
    // It goes on in any case, as it could not end otherwise.
    paused.signal("CONT").await?;
    let (silent, mut waiting) = avoided?;
    let after = silent.duration_since(began);
    let is_back =
        |status: &ChannelStatus| status.backends().iter().all(|one| one.silence().is_none());
    until(&channel, "no silence", is_back).await?;
    all_ready(&channel).await?;
    while !waiting.is_empty() {
        answer(&mut waiting).await?;
    }
    for server in &stage.servers {
        let connections = server.seen().await?.connections;
        let lines = log::lines_with(&["too_many_pings", &server.address()]);
        if connections != 1 || !lines.is_empty() {
            let name = &server.name;
            return Err(
                format!("{name}: expected 1 connection; seen: {connections}, {lines:?}").into(),
            );
        }
    }
    Ok(stage.note(format!("a paused backend was avoided after {after:.0?}")))
}

/// Calls that take longer than 4 PINGs would, one after the other, on every backend.
async fn slow_ones_are_left_in_peace(stage: &Stage, channel: &Channel) -> Result<(), String> {
    let mut watch = channel.watch_status();
    let calls = async {
        for _ in 0..4 * stage.servers.len() {
            let answer = client(channel).say_hello(request("slow:1000")).await;
            answer.map_err(text)?;
        }
        Ok(())
    };
    let silent =
        watch.wait_for(|status| status.backends().iter().any(|one| one.silence().is_some()));
    tokio::select! {
        outcome = calls => outcome,
        _ = silent => Err(format!("a slow backend is silent: {}", described(channel))),
    }
}

/// Calls that are under way when the backend pauses, and 9 of 10 that follow, have the answers of
/// others. Returns when it was silent, and the calls that still wait for it.
async fn is_avoided(
    stage: &Stage,
    channel: &Channel,
    paused: &Server,
) -> Result<(Instant, Calls), String> {
    let address = paused.address();
    let mut calls = Calls::new();
    stage
        .servers
        .iter()
        .for_each(|_| start(&mut calls, channel));
    until(channel, "a silent backend", |status| {
        let mut backends = status.backends().iter();
        backends.any(|one| one.address() == address && one.silence().is_some())
    })
    .await?;
    let silent = Instant::now();
    (0..10).for_each(|_| start(&mut calls, channel));
    // The paused backend keeps 1 that was under way, and 1 probe.
    while calls.len() > 2 {
        let name = answer(&mut calls).await?;
        if name == paused.name {
            return Err(format!("{name} answered while it was paused"));
        }
    }
    Ok((silent, calls))
}

/// Each tells which backend has answered.
type Calls = JoinSet<Result<String, Status>>;

fn start(calls: &mut Calls, channel: &Channel) {
    let mut client = client(channel);
    calls.spawn(async move {
        let answer = client.say_hello(request("you")).await?;
        Ok(answer.into_inner().backend)
    });
}

async fn answer(calls: &mut Calls) -> Result<String, String> {
    let ended = calls.join_next().await.ok_or("there is no call")?;
    ended.map_err(text)?.map_err(text)
}
