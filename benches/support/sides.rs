//! Two ways to call the healthy ones of several backends in turn: the library's,
//! and what one writes without it.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use tokio::{sync::watch, task::JoinSet, time::timeout};
use tonic_health::pb::{
    HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient,
};
use tonic_health_channel::{
    Channel, ConnectivityState, channel::AnsweredBy, discover, status::StatusWatch,
};

use super::{
    Result,
    greeter::{HelloRequest, greeter_client::GreeterClient},
    server::{CONFIG, GREETER},
};

/// How long it may take until all backends are known to be healthy.
const PATIENCE: Duration = Duration::from_secs(10);

/// One way to call the healthy backends in turn.
pub(crate) trait Side: Clone + Send + 'static {
    /// Makes one call: the backend that answered.
    fn call(&mut self) -> impl Future<Output = Result<usize>> + Send;

    /// Waits until it knows the backend to be healthy, or not to be.
    async fn until(&mut self, backend: usize, healthy: bool);
}

#[derive(Clone)]
pub(crate) struct Ours {
    client: GreeterClient<Channel>,
    uris: Arc<[String]>,
    status: StatusWatch,
}

impl Ours {
    pub(crate) async fn connect(uris: &[String]) -> Result<Self> {
        let backends = discover::list(uris.iter().cloned())?;
        let channel = Channel::balance(backends)
            .service_config(CONFIG.parse()?)
            .tell_backend(true)
            .build();
        let mut ours = Self {
            uris: uris.into(),
            status: channel.watch_status(),
            client: GreeterClient::new(channel),
        };
        // Only those are in the status that the source has named so far.
        ours.status
            .wait_for(|status| status.backends().len() == uris.len())
            .await;
        for backend in 0..uris.len() {
            timeout(PATIENCE, ours.until(backend, true)).await?;
        }
        Ok(ours)
    }
}

impl Side for Ours {
    async fn call(&mut self) -> Result<usize> {
        let reply = self.client.say_hello(HelloRequest::default()).await?;
        let by: &AnsweredBy = reply.extensions().get().ok_or("nobody answered")?;
        let backend = self.uris.iter().position(|uri| uri.ends_with(by.address()));
        Ok(backend.ok_or("a stranger answered")?)
    }

    async fn until(&mut self, backend: usize, healthy: bool) {
        let ready = |state| state == ConnectivityState::Ready;
        let known = |status: &tonic_health_channel::status::ChannelStatus| {
            ready(status.backends()[backend].state()) == healthy
        };
        self.status.wait_for(known).await;
    }
}

#[derive(Clone)]
pub(crate) struct HandMade {
    backends: Vec<Watched>,
    turn: Arc<AtomicUsize>,
    /// They end with the last clone; each would keep its connection, and be told of flips.
    _watching: Arc<JoinSet<()>>,
}

#[derive(Clone)]
struct Watched {
    client: GreeterClient<tonic::transport::Channel>,
    healthy: watch::Receiver<bool>,
}

impl HandMade {
    pub(crate) async fn connect(uris: &[String]) -> Result<Self> {
        let mut backends = Vec::new();
        let mut watching = JoinSet::new();
        for uri in uris {
            let endpoint = tonic::transport::Endpoint::from_shared(uri.clone())?;
            let channel = endpoint.connect().await?;
            let (health_in, mut healthy) = watch::channel(false);
            let request = HealthCheckRequest {
                service: GREETER.to_owned(),
            };
            let watch = HealthClient::new(channel.clone()).watch(request).await?;
            let mut answers = watch.into_inner();
            watching.spawn(async move {
                while let Ok(Some(answer)) = answers.message().await {
                    health_in.send_replace(answer.status() == ServingStatus::Serving);
                }
            });
            timeout(PATIENCE, healthy.wait_for(|healthy| *healthy)).await??;
            let client = GreeterClient::new(channel);
            backends.push(Watched { client, healthy });
        }
        let turn = Arc::default();
        Ok(Self {
            backends,
            turn,
            _watching: Arc::new(watching),
        })
    }
}

impl Side for HandMade {
    async fn call(&mut self) -> Result<usize> {
        // One is flipped at a time, so there is always a healthy one.
        let picked = loop {
            let turn = self.turn.fetch_add(1, Relaxed) % self.backends.len();
            if *self.backends[turn].healthy.borrow() {
                break turn;
            }
        };
        let client = &mut self.backends[picked].client;
        client.say_hello(HelloRequest::default()).await?;
        Ok(picked)
    }

    async fn until(&mut self, backend: usize, healthy: bool) {
        let watched = &mut self.backends[backend].healthy;
        let ended = watched.wait_for(|now| *now == healthy).await;
        assert!(ended.is_ok(), "a Watch ended during the measurement");
    }
}
