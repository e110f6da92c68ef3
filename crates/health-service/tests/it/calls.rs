//! Calls of a client that checks health, while a server drains.

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed},
};

use futures_util::FutureExt;
use grpc_health_service::{DrainOptions, HealthHandle, HealthService};
use testing::{
    balanced_at,
    health::{HealthCheckRequest, health_client::HealthClient},
    within,
};
use tokio::{sync::oneshot, task::JoinSet};

use super::server::{Served, serve_until};

const CALLERS: usize = 8;

struct Backend {
    uri: String,
    health: HealthHandle,
    stop: oneshot::Sender<()>,
    served: Served,
}

async fn backend() -> Backend {
    let (health, service) = HealthService::new();
    let (stop, stopped) = oneshot::channel();
    let drain = health.drain_on(stopped.map(|_| ()), DrainOptions::default());
    let (address, served) = serve_until(service, drain).await;
    let uri = format!("http://{address}");
    Backend {
        uri,
        health,
        stop,
        served,
    }
}

async fn until(what: &str, condition: impl Fn() -> bool) {
    let met = async {
        while !condition() {
            tokio::task::yield_now().await;
        }
    };
    within(what, met).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_call_fails_while_a_server_drains() {
    let (drained, stays) = (backend().await, backend().await);
    let uris = [&drained, &stays].map(|backend| backend.uri.clone());
    let channel = balanced_at(uris, Some("")).build();
    let watched = || drained.health.watchers() + stays.health.watchers() == 2;
    until("a Watch at each server", watched).await;

    let (answered, ended) = (
        Arc::new(AtomicUsize::new(0)),
        Arc::new(AtomicBool::new(false)),
    );
    let mut callers = JoinSet::new();
    for _ in 0..CALLERS {
        let mut client = HealthClient::new(channel.clone());
        let (answered, ended) = (Arc::clone(&answered), Arc::clone(&ended));
        callers.spawn(async move {
            while !ended.load(Relaxed) {
                client.check(HealthCheckRequest::default()).await?;
                answered.fetch_add(1, Relaxed);
            }
            Ok::<_, tonic::Status>(())
        });
    }
    until("the first calls", || answered.load(Relaxed) > 100).await;
    drained.stop.send(()).expect("the drain waits");
    let served = within("the server to stop", drained.served).await;
    served.expect("no panic").expect("no error");
    let at_stop = answered.load(Relaxed);
    let later = || answered.load(Relaxed) > at_stop + 100;
    until("calls at the other server", later).await;
    ended.store(true, Relaxed);
    while let Some(caller) = within("the callers to end", callers.join_next()).await {
        caller.expect("no panic").expect("no call fails");
    }
}
