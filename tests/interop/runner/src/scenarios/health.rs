//! Health as each language's own service tells it.

use std::collections::BTreeMap;

use tokio::time::Instant;
use tonic::{Code, Request};
use tonic_health_channel::{ConnectivityState, Endpoint, health::HealthStatus};

use crate::{
    greeter::HelloRequest,
    health::{HealthListRequest, health_client::HealthClient},
    log,
    report::{Trouble, Verdict},
    stage::{
        self, GREETER, Stage, Target, all_are, all_ready, client, described, health_is, is_ready,
        until,
    },
};

fn hello(name: &str) -> Request<HelloRequest> {
    Request::new(HelloRequest {
        name: name.to_owned(),
        count: 1,
    })
}

/// Registered when the backend already runs. Not the greeter, which dubbo-go registers
/// by itself.
const LATE: &str = "demo.v1.Late";

/// SERVING, NOT_SERVING and a name that is not registered, from the start.
pub(super) async fn initial(target: Target) -> Verdict {
    let serving = target.start_serving(1, &[]).await?;
    let channel = serving.ready().await?;
    for _ in 0..serving.servers.len() * 3 {
        client(&channel)
            .say_hello(hello("you"))
            .await
            .map_err(stage::text)?;
    }
    for server in &serving.servers {
        let seen = server.seen().await?;
        if (seen.calls, seen.connections) != (3, 1) {
            return Err(format!("expected 3 calls on 1 connection; seen: {seen:?}").into());
        }
    }

    let not_serving = target
        .start(1, &["--health", &format!("=SERVING,{GREETER}=NOT_SERVING")])
        .await?;
    refuses(&not_serving, GREETER, HealthStatus::NotServing).await?;

    let unknown = target.start(1, &["--health", "=SERVING"]).await?;
    refuses(&unknown, LATE, HealthStatus::ServiceUnknown).await?;
    let versions = serving.servers.iter().map(|server| server.version.clone());
    Ok(serving.note(versions.collect::<Vec<_>>().join(", ")))
}

/// Nobody is called before the service is SERVING, on the same connection.
async fn refuses(stage: &Stage, service: &str, health: HealthStatus) -> Result<(), Trouble> {
    let channel = stage.channel_for(service, |endpoint| endpoint)?;
    all_are(&channel, ConnectivityState::TransientFailure, health).await?;
    match client(&channel).say_hello(hello("you")).await {
        Err(status) if status.code() == Code::Unavailable => {
            if !status.message().contains(&health.to_string()) {
                return Err(format!("expected {health} in the text; seen: {status:?}").into());
            }
        }
        other => return Err(format!("expected UNAVAILABLE; seen: {other:?}").into()),
    }
    for server in &stage.servers {
        server.set_serving(service, true).await?;
    }
    all_ready(&channel).await?;
    for _ in &stage.servers {
        client(&channel)
            .say_hello(hello("you"))
            .await
            .map_err(stage::text)?;
    }
    for server in &stage.servers {
        let seen = server.seen().await?;
        if (seen.calls, seen.connections) != (1, 1) {
            return Err(format!("expected 1 call on 1 connection; seen: {seen:?}").into());
        }
    }
    Ok(())
}

/// Each backend goes out and comes back, ten times.
pub(super) async fn flips(target: Target) -> Verdict {
    const ROUNDS: u32 = 10;
    let stage = target.start_serving(1, &[]).await?;
    let channel = stage.ready().await?;
    let began = Instant::now();
    for _ in 0..ROUNDS {
        for server in &stage.servers {
            server.set_serving(GREETER, false).await?;
            health_is(&channel, server, HealthStatus::NotServing).await?;
            if stage.servers.len() > 1 {
                calls_avoid(&stage, &channel, &server.name).await?;
            } else {
                all_are(
                    &channel,
                    ConnectivityState::TransientFailure,
                    HealthStatus::NotServing,
                )
                .await?;
            }
            server.set_serving(GREETER, true).await?;
            health_is(&channel, server, HealthStatus::Serving).await?;
            all_ready(&channel).await?;
            client(&channel)
                .say_hello(hello("you"))
                .await
                .map_err(stage::text)?;
        }
    }
    let took = began.elapsed() / (2 * ROUNDS * stage.servers.len() as u32);
    for server in &stage.servers {
        let seen = server.seen().await?;
        if seen.connections > 1 {
            return Err(format!("expected 1 connection; seen: {seen:?}").into());
        }
    }
    Ok(stage.note(format!("a flip and a call in {took:.1?}")))
}

async fn calls_avoid(
    stage: &Stage,
    channel: &tonic_health_channel::Channel,
    out: &str,
) -> Result<(), String> {
    for _ in 0..stage.servers.len() * 2 {
        let reply = client(channel).say_hello(hello("you")).await;
        let backend = reply.map_err(stage::text)?.into_inner().backend;
        if backend == out {
            return Err(format!(
                "expected no call to {out}, which is NOT_SERVING; seen: one"
            ));
        }
    }
    Ok(())
}

/// The server as a whole, and one service: each by its name.
pub(super) async fn names(target: Target) -> Verdict {
    let stage = target
        .start(1, &["--health", &format!("=SERVING,{GREETER}=NOT_SERVING")])
        .await?;
    let whole = stage.channel_for("", |endpoint| endpoint)?;
    let greeter = stage.channel()?;
    all_ready(&whole).await?;
    let out = ConnectivityState::TransientFailure;
    all_are(&greeter, out, HealthStatus::NotServing).await?;
    for server in &stage.servers {
        server.set_serving("", false).await?;
        server.set_serving(GREETER, true).await?;
    }
    all_are(&whole, out, HealthStatus::NotServing).await?;
    all_ready(&greeter).await?;
    Ok(stage.note("each name has its own health".to_owned()))
}

/// Without a health service a server counts as healthy, and an ERROR says so (gRFC A17).
pub(super) async fn absent(target: Target) -> Verdict {
    let stage = target.start(1, &["--no-health"]).await?;
    let channel = stage.channel()?;
    all_are(
        &channel,
        ConnectivityState::Ready,
        HealthStatus::Unimplemented,
    )
    .await?;
    for server in &stage.servers {
        client(&channel)
            .say_hello(hello("you"))
            .await
            .map_err(stage::text)?;
        let lines = log::lines_with(&["ERROR", "no health service", &server.address()]);
        if lines.len() != 1 {
            return Err(format!("expected 1 ERROR; seen: {lines:?}").into());
        }
    }
    Ok(stage.note("healthy, and an ERROR says so".to_owned()))
}

/// `List` tells everything at once (gRFC A90).
pub(super) async fn list(target: Target) -> Verdict {
    let stage = target
        .start(1, &["--health", &format!("=SERVING,{GREETER}=NOT_SERVING")])
        .await?;
    let (mut with, mut without) = (Vec::new(), Vec::new());
    for server in &stage.servers {
        let endpoint = Endpoint::from_shared(format!("http://{}", server.address()));
        let channel = endpoint.map_err(stage::text)?.connect_lazy();
        until(&channel, "a connection", |status| {
            status.backends().iter().all(is_ready)
        })
        .await?;
        let listed = HealthClient::new(channel.clone())
            .list(HealthListRequest {})
            .await;
        match (listed, server.language.lists) {
            (Ok(response), true) => {
                let statuses = response.into_inner().statuses;
                let told: BTreeMap<_, _> = statuses
                    .iter()
                    .map(|(k, v)| (k.as_str(), v.status))
                    .collect();
                if told != BTreeMap::from([("", 1), (GREETER, 2)]) {
                    return Err(format!("expected both services; seen: {told:?}").into());
                }
                with.push(server.language.name);
            }
            (Err(status), false) if status.code() == Code::Unimplemented => {
                without.push(server.language.name);
            }
            (other, expected) => {
                return Err(format!(
                    "expected that {} has List: {expected}; seen: {other:?}, {}",
                    server.name,
                    described(&channel)
                )
                .into());
            }
        }
    }
    match (with.is_empty(), without.is_empty()) {
        (true, _) => Err(Trouble::Cannot("its health service has no List".to_owned())),
        (false, true) => Ok("both services, with their status".to_owned()),
        (false, false) => Ok(format!("UNIMPLEMENTED by {}", without.join(", "))),
    }
}
