//! A set that is emptied and filled again, as a deployment does it with one backend.

use std::time::{Duration, Instant};

use testing::{
    Backend, by_hand, greeter::greeter_client::GreeterClient, hello, outcome, refusal, request,
    start, until, within,
};
use tokio::{sync::mpsc, task};
use tonic::transport;
use tonic_health_channel::{
    self as ours,
    ConnectivityState::{Connecting, Ready, TransientFailure},
    channel::Change,
};
use tower::{BoxError, ServiceExt, util::BoxCloneService};

use super::side::{AnyChannel, Side};

const ROUNDS: usize = 300;

/// Takes a backend back and names it again.
type Replace = Box<dyn AsyncReplace + Send + Sync>;

#[tonic::async_trait]
trait AsyncReplace {
    async fn insert(&self, uri: String);
    async fn remove(&self);
}

#[tonic::async_trait]
impl AsyncReplace for mpsc::Sender<Change<u8, ours::Endpoint>> {
    async fn insert(&self, uri: String) {
        let endpoint = ours::Endpoint::from_shared(uri).expect("a URI");
        let sent = self.send(Change::Insert(0, endpoint)).await;
        assert!(sent.is_ok(), "the channel listens");
    }

    async fn remove(&self) {
        assert!(self.send(Change::Remove(0)).await.is_ok());
    }
}

type TonicChange = transport::channel::Change<u8, transport::Endpoint>;

#[tonic::async_trait]
impl AsyncReplace for mpsc::Sender<TonicChange> {
    async fn insert(&self, uri: String) {
        let endpoint = transport::Endpoint::from_shared(uri).expect("a URI");
        assert!(self.send(TonicChange::Insert(0, endpoint)).await.is_ok());
    }

    async fn remove(&self) {
        assert!(self.send(TonicChange::Remove(0)).await.is_ok());
    }
}

fn by_channel(side: Side) -> (AnyChannel, Replace) {
    match side {
        Side::Tonic => {
            let (channel, changes) = transport::Channel::balance_channel::<u8>(4);
            let channel = BoxCloneService::new(channel.map_err(BoxError::from));
            (channel, Box::new(changes))
        }
        Side::Ours => {
            let (channel, changes) = ours::Channel::balance_channel::<u8>(4);
            let channel = BoxCloneService::new(channel.map_err(BoxError::from));
            (channel, Box::new(changes))
        }
    }
}

// D246
#[tokio::test]
async fn no_call_fails_between_the_removal_and_the_insertion() {
    let backend = Backend::start().await;
    for side in Side::BOTH {
        let (channel, changes) = by_channel(side);
        changes.insert(backend.uri()).await;
        let mut client = GreeterClient::new(channel);
        let mut failed = Vec::new();
        for round in 0..ROUNDS {
            changes.remove().await;
            // The channel sees the empty set, or has seen both at once.
            for _ in 0..round % 4 {
                task::yield_now().await;
            }
            changes.insert(backend.uri()).await;
            let call = client.say_hello(request("you"));
            if let Err(status) = within("an answer", call).await {
                failed.push(status);
            }
        }
        let (n, first) = (failed.len(), failed.first());
        assert!(n == 0, "{side}: {n} of {ROUNDS} failed: {first:?}");
    }
}

// D246
#[tokio::test]
async fn a_call_waits_for_a_moment_for_the_next_backend() {
    let [a, b] = Backend::builder().start_each(["A", "B"]).await;
    let (backends, builder) = by_hand(None);
    let channel = builder.build();
    backends.insert("A", a.uri()).await;
    hello(&channel).await.expect("A is there");

    backends.remove("A").await;
    until(&channel, Connecting).await;
    let waiting = start(&channel, "you");
    backends.insert("B", b.uri()).await;
    let reply = outcome(waiting).await.expect("B came in time");
    assert_eq!(reply.backend, "B");
}

// D246
#[tokio::test]
async fn a_set_that_stays_empty_fails_calls_after_the_grace() {
    let backend = Backend::start().await;
    let (backends, builder) = by_hand(None);
    let channel = builder.build();
    backends.insert("A", backend.uri()).await;
    until(&channel, Ready).await;

    let start = Instant::now();
    backends.remove("A").await;
    until(&channel, Connecting).await;
    let text = refusal(&channel).await;
    assert_eq!(
        text,
        "no healthy backend: no backends: the source produced zero addresses"
    );
    assert!(start.elapsed() >= Duration::from_millis(100));
    assert_eq!(channel.state(), TransientFailure);
    assert_eq!(refusal(&channel).await, text, "the next one fails at once");
}
