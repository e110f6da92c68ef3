//! The options of a backend.

use std::{convert::Infallible, time::Duration};

use grpc_health_service::ServingStatus;
use http::{Request, Response};
use tokio::net::TcpSocket;
use tonic::body::Body;
use tonic_health_channel::Endpoint;
use tower_service::Service;

use crate::{
    front::{Front, HealthKind, Services},
    health::Health,
    network::{Connector, Network},
    port::Port,
    serve::Limits,
};

/// The options of a [`Backend`](crate::Backend). Made by
/// [`Backend::builder`](crate::Backend::builder).
///
/// ```
/// use tonic_health_channel_testing::{Backend, Network, ServingStatus};
/// # use testing::{GreeterService as Shop, greeter::greeter_server::GreeterServer};
///
/// # #[tokio::main(flavor = "current_thread", start_paused = true)]
/// # async fn main() {
/// let network = Network::new();
/// let backend = Backend::builder(GreeterServer::new(Shop::new("a")))
///     .in_network(&network, "a")
///     .health("demo.v1.Greeter", ServingStatus::NotServing)
///     .start();
/// assert_eq!(backend.uri(), "http://a");
/// # }
/// ```
#[derive(Debug)]
#[must_use = "a backend starts with `start`"]
pub struct BackendBuilder {
    services: Services,
    health: HealthKind,
    place: Place,
    limits: Limits,
}

/// Ready to start.
#[derive(Debug)]
pub(crate) struct Parts {
    pub(crate) endpoint: Endpoint,
    pub(crate) port: Port,
    pub(crate) front: Front,
    pub(crate) limits: Limits,
}

#[derive(Debug)]
enum Place {
    Loopback,
    Socket(TcpSocket),
    Network(Network, String),
}

impl BackendBuilder {
    pub(crate) fn new<S>(service: S) -> Self
    where
        S: Service<Request<Body>, Response = Response<Body>, Error = Infallible>
            + Clone
            + Send
            + Sync
            + 'static,
        S::Future: Send,
    {
        Self {
            services: Services::new(service),
            health: HealthKind::Kit(Health::new()),
            place: Place::Loopback,
            limits: Limits::default(),
        }
    }

    /// In memory, by this name. The default is a free port of the loopback interface.
    ///
    /// The name stands as the host in the [`uri`](crate::Backend::uri), so it consists of letters,
    /// digits, dots and hyphens.
    pub fn in_network(mut self, network: &Network, name: &str) -> Self {
        self.place = Place::Network(network.clone(), name.to_owned());
        self
    }

    /// On a socket that is bound and does not listen yet: a certain port, or another address of
    /// the host.
    pub fn listen_on(mut self, socket: TcpSocket) -> Self {
        self.place = Place::Socket(socket);
        self
    }

    /// The health of a service from the start, as [`set_health`](crate::Backend::set_health) sets it later.
    ///
    /// By default `""` is SERVING, and no other service has a status. A channel that checks
    /// `demo.v1.Greeter` needs a status of this name.
    ///
    /// # Panics
    ///
    /// As [`set_health`](crate::Backend::set_health).
    pub fn health(self, service: &str, status: impl Into<Option<ServingStatus>>) -> Self {
        self.health.kit().set(service, status.into());
        self
    }

    /// The backend gets no health service. Health calls go to its services, which may bring one.
    /// If they do not, tonic answers UNIMPLEMENTED.
    pub fn without_health(mut self) -> Self {
        self.health = HealthKind::Service;
        self
    }

    /// The health service never answers: its calls stay open until their client ends them.
    pub fn silent_health(mut self) -> Self {
        self.health = HealthKind::Silent;
        self
    }

    /// The streams that a client may have open on a connection, its `Watch` among them
    /// (SETTINGS_MAX_CONCURRENT_STREAMS). There is no limit by default.
    pub fn max_concurrent_streams(mut self, max: u32) -> Self {
        self.limits.max_concurrent_streams = Some(max);
        self
    }

    /// The age at which a connection gets GOAWAY and is closed after its calls. There is no
    /// limit by default.
    pub fn max_connection_age(mut self, age: Duration) -> Self {
        self.limits.max_connection_age = Some(age);
        self
    }

    pub(crate) fn into_parts(self) -> Parts {
        let (port, connector) = match self.place {
            Place::Loopback => (Port::loopback(), None),
            Place::Socket(socket) => (Port::Tcp(socket), None),
            Place::Network(network, name) => {
                let connector = network.connector();
                (Port::Memory(network.reserve(&name)), Some(connector))
            }
        };
        Parts {
            endpoint: endpoint(&port, connector),
            port,
            front: Front::new(self.services, self.health),
            limits: self.limits,
        }
    }
}

fn endpoint(port: &Port, connector: Option<Connector>) -> Endpoint {
    let uri = port.uri();
    let endpoint = match Endpoint::from_shared(uri.clone()) {
        Ok(endpoint) => endpoint,
        Err(error) => panic!("`{uri}` is not the address of a backend: {error}"),
    };
    match connector {
        Some(connector) => endpoint.connector(connector),
        None => endpoint,
    }
}
