//! How a backend is made. Everything has a default, so a test says only what
//! matters to it.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use grpc_health_service::HealthService;
use tonic_health::server::HealthReporter;
use tonic_health_channel_testing as kit;

use super::{
    Backend, Health,
    observe::{own_status, tonic_status},
};
use crate::{
    GREETER, NOT_SERVING, SERVING,
    front::{Front, Traffic},
    greeter_service::GreeterService,
    health_service::ScriptedHealth,
    peers::{Peer, PeerScript},
    port::ReservedPort,
};

/// The service that answers the health calls of a backend.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum HealthKind {
    /// The crate `grpc-health-service`, which follows the protocol.
    #[default]
    Own,
    /// The crate `tonic-health`, with its ways: an unknown service is an error, an unchanged
    /// status is repeated, a cleared service ends its Watches with OK.
    TonicHealth,
    /// Follows the protocol to the letter, or a script.
    Scripted,
    /// As `Scripted`, but Watch is UNIMPLEMENTED.
    CheckOnly,
    /// No health service: every health call is UNIMPLEMENTED.
    None,
}

#[derive(Clone, Debug)]
pub struct Builder {
    name: Option<String>,
    health: HealthKind,
    statuses: BTreeMap<String, i32>,
    max_concurrent_streams: Option<u32>,
    max_connection_age: Option<Duration>,
}

impl Default for Builder {
    fn default() -> Self {
        Self {
            name: None,
            health: HealthKind::default(),
            statuses: BTreeMap::from([("".into(), SERVING), (GREETER.into(), SERVING)]),
            max_concurrent_streams: None,
            max_connection_age: None,
        }
    }
}

impl Builder {
    /// What the greeter's replies carry as `backend`. The address by default.
    pub fn name(mut self, name: &str) -> Self {
        self.name = Some(name.to_owned());
        self
    }

    /// `Own` by default.
    pub fn health(mut self, kind: HealthKind) -> Self {
        self.health = kind;
        self
    }

    /// Short for `.health(HealthKind::Scripted)`.
    pub fn scripted(self) -> Self {
        self.health(HealthKind::Scripted)
    }

    /// The status of a service before the first connection. `""` and the greeter
    /// are SERVING by default.
    pub fn status(mut self, service: &str, status: i32) -> Self {
        self.statuses.insert(service.to_owned(), status);
        self
    }

    pub fn serving(self, service: &str) -> Self {
        self.status(service, SERVING)
    }

    pub fn not_serving(self, service: &str) -> Self {
        self.status(service, NOT_SERVING)
    }

    /// Begins with no service known. `tonic-health` always knows `""`.
    pub fn no_services(mut self) -> Self {
        self.statuses.clear();
        self
    }

    /// What the server's SETTINGS say. No limit by default.
    pub fn max_concurrent_streams(mut self, n: u32) -> Self {
        self.max_concurrent_streams = Some(n);
        self
    }

    /// When the server says GOAWAY on each connection. Never by default.
    pub fn max_connection_age(mut self, age: Duration) -> Self {
        self.max_connection_age = Some(age);
        self
    }

    pub async fn start(self) -> Backend {
        let backend = self.reserve().await;
        backend.restart().await;
        backend
    }

    /// One backend for each name.
    pub async fn start_each<const N: usize>(self, names: [&str; N]) -> [Backend; N] {
        let backends = names.map(|name| self.clone().name(name).start());
        futures_util::future::join_all(backends)
            .await
            .try_into()
            .expect("there is one backend for each name")
    }

    /// Two backends on the same port, of 127.0.0.1 and of 127.0.0.2.
    pub async fn start_side_by_side(self, names: [&str; 2]) -> [Backend; 2] {
        let [one, other] = ReservedPort::pair();
        let [first, second] = names.map(|name| self.clone().name(name));
        let backends = [first.reserve_on(one).await, second.reserve_on(other).await];
        for backend in &backends {
            backend.restart().await;
        }
        backends
    }

    /// A peer at 127.0.0.1, and a backend at the same port of 127.0.0.2.
    pub async fn start_beside(self, script: PeerScript) -> (Peer, Backend) {
        let [one, other] = ReservedPort::pair();
        let backend = self.reserve_on(other).await;
        backend.restart().await;
        (Peer::start_on(one, script), backend)
    }

    /// A backend that is down: its address refuses connections until `restart`.
    pub async fn reserve(self) -> Backend {
        self.reserve_on(ReservedPort::any()).await
    }

    async fn reserve_on(self, port: ReservedPort) -> Backend {
        let addr = port.addr();
        let name = self.name.unwrap_or_else(|| addr.to_string());
        let greeter = GreeterService::new(&name);
        let health = health(self.health, self.statuses).await;
        let traffic = Arc::new(Traffic::new());
        let front = Front::new(Arc::clone(&traffic), health.routes(greeter.clone()));
        let mut builder = kit::Backend::builder(front)
            .listen_on(port.into_socket())
            .without_health();
        if let Some(max) = self.max_concurrent_streams {
            builder = builder.max_concurrent_streams(max);
        }
        if let Some(age) = self.max_connection_age {
            builder = builder.max_connection_age(age);
        }
        Backend {
            kit: builder.reserve(),
            addr,
            greeter,
            health,
            traffic,
        }
    }
}

async fn health(kind: HealthKind, statuses: BTreeMap<String, i32>) -> Health {
    match kind {
        HealthKind::Own => {
            let (handle, service) = HealthService::new();
            handle.clear("");
            for (service, status) in statuses {
                handle.set(service, own_status(status));
            }
            Health::Own(handle, service)
        }
        HealthKind::TonicHealth => {
            let reporter = HealthReporter::new();
            for (service, status) in statuses {
                reporter
                    .set_service_status(service, tonic_status(status))
                    .await;
            }
            Health::Tonic(reporter)
        }
        HealthKind::Scripted => Health::Scripted(Arc::new(ScriptedHealth::new(statuses, true))),
        HealthKind::CheckOnly => Health::Scripted(Arc::new(ScriptedHealth::new(statuses, false))),
        HealthKind::None => Health::None,
    }
}
