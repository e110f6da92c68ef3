//! A tonic server that lives and ends as a process does: a thread with a runtime, which ends
//! together with its tasks and sockets.

use std::{
    io,
    net::{Ipv4Addr, SocketAddr, TcpListener as StdListener},
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use grpc_health_service::{DrainOptions, HealthService, ServingStatus};
use testing::{
    GREETER, Tapped,
    fleet::{Numbered, Result},
    greeter::greeter_server::GreeterServer,
    health::{HealthCheckRequest, HealthCheckResponse, health_client::HealthClient},
    within,
};
use tokio::{
    net::TcpListener,
    runtime, select,
    sync::{oneshot, watch},
    time::timeout,
};
use tokio_stream::{StreamExt as _, wrappers::TcpListenerStream};
use tonic::{
    Streaming,
    transport::{Endpoint, Server as TonicServer},
};

use crate::{arrivals::Arrivals, ledger::Ledger};

/// A call takes up to 15 times as long, so that some are open whenever a server stops.
const UNIT: Duration = Duration::from_millis(1);

/// The longest wait of [`Stop::Graceful`], which is far more than its calls take.
pub(crate) const GRACE: Duration = Duration::from_millis(100);

/// How a server ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stop {
    /// As the README of `grpc-health-service` says.
    Drain,
    /// By tonic's graceful stop alone.
    Graceful,
    /// At once, as by SIGKILL.
    Kill,
}

pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    stop: Stop,
    ledger: Arc<Ledger>,
    /// `None` after the last one.
    life: Option<Life>,
}

struct Life {
    stop: oneshot::Sender<()>,
    ended: oneshot::Receiver<Result<()>>,
    /// Whether a call has come.
    called: watch::Receiver<bool>,
}

impl Server {
    pub(crate) fn start(stop: Stop, ledger: Arc<Ledger>) -> Self {
        let listener = StdListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
        let address = listener.local_addr().expect("a socket that listens");
        Self {
            address,
            stop,
            life: Some(Life::begin(listener, stop, Arc::clone(&ledger))),
            ledger,
        }
    }

    /// A new life on the same port, and how long the old one took to end.
    pub(crate) async fn restart(&mut self) -> Duration {
        let took = self.stop().await;
        let listener = StdListener::bind(self.address).expect("the port of the former life");
        self.life = Some(Life::begin(listener, self.stop, Arc::clone(&self.ledger)));
        took
    }

    /// How long it took to end.
    pub(crate) async fn stop(&mut self) -> Duration {
        let began = Instant::now();
        let life = self.life.take().expect("a server that runs");
        life.stop.send(()).expect("a server that runs");
        let ended = within("a server to end", life.ended).await;
        ended
            .expect("its thread does not panic")
            .expect("a server without an error");
        began.elapsed()
    }

    /// Until it has calls, and a watcher that is not a client of the calls.
    pub(crate) async fn until_in_use(&mut self) {
        let life = self.life.as_mut().expect("a server that runs");
        let called = life.called.wait_for(|called| *called);
        let called = within("a call to a server", called).await;
        called.expect("a server that runs");
        let mut messages = within("a Watch", watch_health(self.address))
            .await
            .expect("a server that has calls");
        // The client on tonic's own channel reads until the stream ends.
        tokio::spawn(async move { while let Ok(Some(_)) = messages.message().await {} });
    }
}

/// A `Watch` whose first message was read.
async fn watch_health(address: SocketAddr) -> Result<Streaming<HealthCheckResponse>> {
    let endpoint = Endpoint::from_shared(format!("http://{address}"))?;
    let mut client = HealthClient::new(endpoint.connect().await?);
    let service = GREETER.to_owned();
    let watch = client.watch(HealthCheckRequest { service }).await?;
    let mut messages = watch.into_inner();
    messages.message().await?;
    Ok(messages)
}

impl Life {
    fn begin(listener: StdListener, stop: Stop, ledger: Arc<Ledger>) -> Self {
        let (stopping, stopped) = oneshot::channel();
        let (ending, ended) = oneshot::channel();
        let (calling, called) = watch::channel(false);
        thread::spawn(move || {
            let outcome = run(listener, stop, ledger, calling, stopped);
            // The test may have failed.
            let _ = ending.send(outcome);
        });
        Self {
            stop: stopping,
            ended,
            called,
        }
    }
}

/// The `main` of a server. Its runtime ends before it returns.
fn run(
    listener: StdListener,
    stop: Stop,
    ledger: Arc<Ledger>,
    calling: watch::Sender<bool>,
    stopped: oneshot::Receiver<()>,
) -> Result<()> {
    let runtime = runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(live(listener, stop, ledger, calling, stopped))
}

async fn live(
    listener: StdListener,
    stop: Stop,
    ledger: Arc<Ledger>,
    calling: watch::Sender<bool>,
    stopped: oneshot::Receiver<()>,
) -> Result<()> {
    let processed = Arc::clone(&ledger);
    let note = move |number| {
        processed.note_processed(number);
        calling.send_replace(true);
        Ok(())
    };
    let greeter = GreeterServer::new(Numbered { note, unit: UNIT });
    let (health, service) = HealthService::new();
    health.set(GREETER, ServingStatus::Serving);
    let router = TonicServer::builder()
        .add_service(service)
        .add_service(greeter);
    listener.set_nonblocking(true)?;
    let incoming = TcpListenerStream::new(TcpListener::from_std(listener)?).map(move |io| {
        let io = io?;
        io.set_nodelay(true)?;
        let tap = Arrivals::new(Arc::clone(&ledger));
        io::Result::Ok(Tapped { io, tap })
    });
    // A test that has failed drops the sender, which ends the server, too.
    let stopped = async { drop(stopped.await) };
    match stop {
        Stop::Drain => {
            let drain = health.drain_on(stopped, DrainOptions::default());
            let cut_off = drain.cut_off();
            select! {
                served = router.serve_with_incoming_shutdown(incoming, drain) => Ok(served?),
                () = cut_off => Err("open calls were cut off".into()),
            }
        }
        Stop::Graceful => {
            let (begin, begun) = oneshot::channel();
            let stopped = async {
                stopped.await;
                let _ = begin.send(());
            };
            let served = router.serve_with_incoming_shutdown(incoming, stopped);
            let grace = async {
                drop(begun.await);
                timeout(GRACE, std::future::pending::<()>()).await
            };
            select! {
                served = served => Ok(served?),
                _ = grace => Ok(()),
            }
        }
        Stop::Kill => select! {
            served = router.serve_with_incoming(incoming) => Ok(served?),
            () = stopped => Ok(()),
        },
    }
}
