//! What a channel leaves behind: no task, no socket.

use std::{
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
};

use testing::{
    Backend, GREETER, Peer, PeerScript, balanced, by_hand, endpoint, greeter, health_checked,
    hello, until_backends, within,
};
use tokio::{runtime::Handle, sync::mpsc, task::yield_now};
use tokio_stream::wrappers::ReceiverStream;
use tonic_health_channel::ConnectivityState::Ready;

/// Tasks that run on the current runtime.
fn tasks() -> usize {
    Handle::current().metrics().num_alive_tasks()
}

/// Tokio has no event for the end of a task that nobody joins.
async fn until_tasks(n: usize) {
    within(&format!("all tasks but {n} to end"), async {
        while tasks() > n {
            yield_now().await;
        }
    })
    .await;
}

#[tokio::test]
async fn the_last_handle_leaves_no_task_and_no_socket() {
    let started = Backend::builder().scripted();
    let [a, b, c] = started.start_each(["A", "B", "C"]).await;
    let before = tasks();
    let channel = health_checked(&[&a, &b, &c]);
    let clone = channel.clone();
    until_backends(&channel, &[Ready; 3]).await;
    for _ in 0..6 {
        hello(&channel).await.expect("an answer");
    }

    drop(channel);
    hello(&clone).await.expect("a clone is a handle too");
    drop(clone);
    for backend in [&a, &b, &c] {
        backend.until_open_watches(0).await;
        backend.until_open_connections(0).await;
    }
    until_tasks(before).await;
}

#[tokio::test]
async fn a_channel_that_never_connected_leaves_nothing_either() {
    let nobody = Backend::builder().reserve().await;
    let silent = Peer::start(PeerScript::Silent).await;
    let before = tasks();
    let (backends, builder) = by_hand(None);
    let channel = builder.build();
    backends.insert("nobody", nobody.uri()).await;
    backends.insert("silent", silent.uri()).await;
    silent.until_connections(1).await;
    drop(channel);
    silent.until_open_connections(0).await;
    until_tasks(before).await;
}

/// Runs tasks on tokio and counts those that have not ended.
#[derive(Clone, Default)]
struct Counting {
    started: Arc<AtomicUsize>,
    alive: Arc<AtomicUsize>,
}

struct Alive(Arc<AtomicUsize>);

impl Drop for Alive {
    fn drop(&mut self) {
        self.0.fetch_sub(1, SeqCst);
    }
}

impl hyper::rt::Executor<Pin<Box<dyn Future<Output = ()> + Send>>> for Counting {
    fn execute(&self, task: Pin<Box<dyn Future<Output = ()> + Send>>) {
        self.started.fetch_add(1, SeqCst);
        self.alive.fetch_add(1, SeqCst);
        let alive = Alive(self.alive.clone());
        tokio::spawn(async move {
            task.await;
            drop(alive);
        });
    }
}

#[tokio::test]
async fn every_task_runs_on_the_endpoints_executor_and_ends() {
    let backend = Backend::start().await;
    let executor = Counting::default();
    let before = tasks();
    let channel = endpoint(backend.uri()).executor(executor.clone());
    let channel = within("a connection", channel.connect()).await;
    let channel = channel.expect("the backend is up");
    hello(&channel).await.expect("an answer");
    assert_eq!(
        executor.alive.load(SeqCst),
        3,
        "a balancer, a subchannel and the driver of its connection"
    );
    // The chat's request body is pumped by one more.
    let (names, requests) = mpsc::channel(1);
    let requests = ReceiverStream::new(requests);
    let chat = greeter(&channel).chat(requests).await.expect("a stream");
    assert_eq!(executor.started.load(SeqCst), 4);

    drop((channel, chat, names));
    backend.until_open_connections(0).await;
    within("every task to end", async {
        while executor.alive.load(SeqCst) > 0 || tasks() > before {
            yield_now().await;
        }
    })
    .await;
}

#[tokio::test]
async fn an_idle_channel_that_is_dropped_was_never_there() {
    let backend = Backend::start().await;
    let before = tasks();
    let channel = balanced(&[&backend], Some(GREETER)).build();
    drop(channel);
    let lazy = endpoint(backend.uri()).connect_lazy();
    drop(lazy);
    within("both channels' tasks to end", async {
        while tasks() > before || backend.open_connections() > 0 {
            yield_now().await;
        }
    })
    .await;
}
