//! A gRPC server in the process of the test.

use std::{convert::Infallible, mem, sync::Arc, time::Duration};

use grpc_health_service::ServingStatus;
use http::{Request, Response};
use tokio::{
    sync::{Mutex, MutexGuard, watch},
    task::JoinHandle,
    time::sleep,
};
use tonic::body::Body;
use tonic_health_channel::Endpoint;
use tower_service::Service;

use crate::{
    builder::{BackendBuilder, Parts},
    connections::{Connections, End},
    counter::Counter,
    front::{Front, HealthKind},
    life::{Life, Order},
    port::Port,
    serve::Limits,
};

/// A gRPC server in the process of the test, with the services of the test.
///
/// ```text
///            stop             (the last call ends)
///    up ──────────▶ stopping ──────────────────────▶ down
///    ▲ └──────────────────────── kill ─────────────▶ │
///    └─────────────────────── restart ───────────────┘
/// ```
///
/// While it is down, its address refuses connections and stays its own. Counters, statuses and
/// the services with their state survive a restart. Dropping a backend is a kill, and gives its
/// address up.
///
/// Health calls count in [`watchers`](Self::watchers), all others in [`calls`](Self::calls).
///
/// ```
/// use tonic_health_channel::Channel;
/// use tonic_health_channel_testing::{Backend, until_ready_backends};
/// # use testing::{
/// #     GreeterService as Shop,
/// #     greeter::{HelloRequest, greeter_client::GreeterClient, greeter_server::GreeterServer},
/// # };
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let a = Backend::start(GreeterServer::new(Shop::new("a")));
/// let b = Backend::start(GreeterServer::new(Shop::new("b")));
/// let channel = Channel::list([a.uri(), b.uri()])?.health_check("").build();
/// until_ready_backends(&channel, 2).await;
///
/// a.kill().await;
/// until_ready_backends(&channel, 1).await;
/// GreeterClient::new(channel).say_hello(HelloRequest::default()).await?;
/// assert_eq!((a.calls().get(), b.calls().get()), (0, 1));
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Backend {
    endpoint: Endpoint,
    front: Arc<Front>,
    connections: Connections,
    limits: Limits,
    orders: watch::Sender<Order>,
    lives: watch::Sender<Lives>,
    state: Mutex<State>,
}

#[derive(Debug)]
enum State {
    Down(Port),
    /// Up or stopping. The task gives the port back.
    Up(JoinHandle<Port>),
    /// Within [`Backend::begin`].
    Beginning,
}

#[derive(Clone, Copy, Debug, Default)]
struct Lives {
    begun: usize,
    ended: usize,
}

/// Its life.
impl Backend {
    /// A backend on a free port of the loopback interface, with a health service on which `""`
    /// is SERVING. [`builder`](Self::builder) has the options.
    ///
    /// `service` is a generated server such as `GreeterServer::new(…)`, tonic's `Routes` for
    /// several of them, or either of them in tower's layers.
    ///
    /// # Panics
    ///
    /// Outside a tokio runtime, or if the loopback interface has no free port.
    #[must_use = "a backend stops when it is dropped"]
    pub fn start<S>(service: S) -> Self
    where
        S: Service<Request<Body>, Response = Response<Body>, Error = Infallible>
            + Clone
            + Send
            + Sync
            + 'static,
        S::Future: Send,
    {
        Self::builder(service).start()
    }

    /// A backend with other options.
    pub fn builder<S>(service: S) -> BackendBuilder
    where
        S: Service<Request<Body>, Response = Response<Body>, Error = Infallible>
            + Clone
            + Send
            + Sync
            + 'static,
        S::Future: Send,
    {
        BackendBuilder::new(service)
    }

    /// Ends the backend as a crash would: closes the port and resets all connections. Returns
    /// when both are done. Calls in flight fail, and their services are dropped.
    ///
    /// # Cancel safety
    ///
    /// A kill that has begun goes on. [`restart`](Self::restart) and another kill wait for its
    /// end.
    pub async fn kill(&self) {
        drop(self.end().await);
    }

    /// Starts a server on the same address, after a [`kill`](Self::kill) of the one before.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped, the backend may be down.
    pub async fn restart(&self) {
        let mut state = self.end().await;
        self.begin(&mut state);
    }

    /// Stops the backend as a server does that drains:
    ///
    /// 1. Watchers get NOT_SERVING, and their streams end when they have taken it, or after
    ///    5 s. The next start has the statuses of before.
    /// 2. The port is closed, and each connection gets GOAWAY.
    /// 3. Calls in flight end in their own time.
    ///
    /// Step 1 is left out if the health service is not that of the kit. The stop begins with the
    /// call, before the future is polled. The future is ready when the last connection has
    /// ended, and at once if the backend is down. A [`kill`](Self::kill) cuts the stop off.
    ///
    /// # Cancel safety
    ///
    /// The stop goes on if the future is dropped.
    pub fn stop(&self) -> impl Future<Output = ()> + Send + use<> {
        self.orders.send_if_modified(|order| {
            let is_up = *order == Order::Serve;
            *order = Order::Stop.max(*order);
            is_up
        });
        let mut lives = self.lives.subscribe();
        let present = lives.borrow().begun;
        async move {
            // An error means that the backend has been dropped.
            let _ = lives.wait_for(|lives| lives.ended >= present).await;
        }
    }

    /// Resets all connections, as a network does that fails, and goes on accepting new ones.
    pub fn reset_connections(&self) {
        self.connections.end_all(End::Reset);
    }

    /// Resets one connection, by its number among all that were accepted, from 0. If it has
    /// ended, nothing happens.
    pub fn reset_connection(&self, number: usize) {
        self.connections.end(number, End::Reset);
    }

    /// From now on calls wait before their service sees them, until
    /// [`release`](Self::release). Health calls do not.
    ///
    /// A call that waits is in [`open_calls`](Self::open_calls).
    pub fn hold(&self) {
        self.front.hold();
    }

    /// Lets the calls go on that [`hold`](Self::hold) has stopped, in the order in which they
    /// came. Later calls do not wait.
    pub fn release(&self) {
        self.front.release();
    }

    /// From now on a call waits this long before its service sees it. Health calls do not.
    /// `Duration::ZERO` ends that.
    pub fn set_delay(&self, delay: Duration) {
        self.front.set_delay(delay);
    }

    async fn end(&self) -> MutexGuard<'_, State> {
        let mut state = self.state.lock().await;
        if let State::Up(life) = &mut *state {
            self.orders.send_replace(Order::Kill);
            let port = life.await.expect("the task of a backend does not panic");
            *state = State::Down(port);
        }
        state
    }

    fn begin(&self, state: &mut State) {
        let State::Down(port) = mem::replace(state, State::Beginning) else {
            unreachable!("its last life has ended");
        };
        if let HealthKind::Kit(health) = &self.front.health {
            health.restart();
        }
        self.orders.send_replace(Order::Serve);
        self.lives.send_modify(|lives| lives.begun += 1);
        let life = Life {
            front: Arc::clone(&self.front),
            connections: self.connections.clone(),
            limits: self.limits,
            orders: self.orders.subscribe(),
        };
        let (listener, lives) = (port.listen(), self.lives.clone());
        *state = State::Up(tokio::spawn(async move {
            let port = life.run(listener).await;
            lives.send_modify(|lives| lives.ended += 1);
            port
        }));
    }
}

/// Its start.
impl BackendBuilder {
    /// A backend that takes connections.
    ///
    /// # Panics
    ///
    /// - Outside a tokio runtime.
    /// - If the loopback interface has no free port, or the socket cannot listen.
    /// - If the network has a backend of this name, or the name is not a host.
    #[must_use = "a backend stops when it is dropped"]
    pub fn start(self) -> Backend {
        let mut backend = self.reserve();
        let mut state = mem::replace(backend.state.get_mut(), State::Beginning);
        backend.begin(&mut state);
        *backend.state.get_mut() = state;
        backend
    }

    /// A backend that is down: its address refuses connections until [`Backend::restart`].
    ///
    /// # Panics
    ///
    /// As [`start`](Self::start).
    #[must_use = "a backend stops when it is dropped"]
    pub fn reserve(self) -> Backend {
        let Parts {
            endpoint,
            port,
            front,
            limits,
        } = self.into_parts();
        Backend {
            endpoint,
            front: Arc::new(front),
            connections: Connections::new(),
            limits,
            orders: watch::Sender::new(Order::Serve),
            lives: watch::Sender::default(),
            state: Mutex::new(State::Down(port)),
        }
    }
}

/// Where it is.
impl Backend {
    /// `http://127.0.0.1:` and the port, or `http://` and the name in its network. The latter is
    /// reached by a connector of the network.
    #[must_use]
    pub fn uri(&self) -> String {
        let uri = self.endpoint.uri().to_string();
        uri.trim_end_matches('/').to_owned()
    }

    /// An endpoint that leads to the backend, also in memory. Options can be added.
    ///
    /// ```
    /// use tonic_health_channel::{Channel, discover};
    /// # use tonic_health_channel_testing::Backend;
    ///
    /// # fn example(a: &Backend, b: &Backend) -> Result<(), tonic_health_channel::Error> {
    /// let backends = discover::list([a, b].map(Backend::endpoint))?;
    /// let channel = Channel::balance(backends).build();
    /// # Ok(())
    /// # }
    /// ```
    pub fn endpoint(&self) -> Endpoint {
        self.endpoint.clone()
    }
}

/// Its health. The statuses are those of [`grpc-health-service`](grpc_health_service), which
/// tells watchers each change.
impl Backend {
    /// Sets the health of a service. `""` is the server as a whole. `None` takes the status
    /// away: watchers get SERVICE_UNKNOWN, and `Check` fails with NOT_FOUND.
    ///
    /// A status that is set while the backend is down or stopping counts from the next start.
    ///
    /// ```
    /// # use tonic_health_channel_testing::Backend;
    /// use tonic_health_channel_testing::ServingStatus::{NotServing, Serving};
    ///
    /// # fn example(backend: Backend) {
    /// backend.set_health("shop.v1.Orders", NotServing);
    /// backend.set_health("shop.v1.Orders", Serving);
    /// backend.set_health("shop.v1.Orders", None);
    /// # }
    /// ```
    ///
    /// # Panics
    ///
    /// If the backend was built [`without_health`](BackendBuilder::without_health) or with
    /// [`silent_health`](BackendBuilder::silent_health).
    pub fn set_health(&self, service: &str, status: impl Into<Option<ServingStatus>>) {
        self.front.health.kit().set(service, status.into());
    }

    /// SERVING becomes NOT_SERVING, and any other health of the service becomes SERVING. Returns
    /// the new status.
    ///
    /// # Panics
    ///
    /// As [`set_health`](Self::set_health).
    pub fn flip_health(&self, service: &str) -> ServingStatus {
        let health = self.front.health.kit();
        let flipped = match health.status(service) {
            Some(ServingStatus::Serving) => ServingStatus::NotServing,
            Some(ServingStatus::NotServing | ServingStatus::Unknown) | None => {
                ServingStatus::Serving
            }
        };
        health.set(service, Some(flipped));
        flipped
    }

    /// Plays a script of the health of a service: each step is a pause and the status after it.
    /// Returns after the last step. Spawn or join it to play it beside calls.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use tonic_health_channel_testing::Backend;
    /// use tonic_health_channel_testing::ServingStatus::{NotServing, Serving};
    ///
    /// # async fn example(backend: Backend) {
    /// let second = Duration::from_secs(1);
    /// let script = [(second, NotServing), (second * 3, Serving)]; // at 1 s and at 4 s
    /// backend.play_health("shop.v1.Orders", script).await;
    /// # }
    /// ```
    ///
    /// # Panics
    ///
    /// As [`set_health`](Self::set_health).
    ///
    /// # Cancel safety
    ///
    /// Dropping the future ends the script. The last status stays.
    pub async fn play_health<I, T>(&self, service: &str, script: I)
    where
        I: IntoIterator<Item = (Duration, T)>,
        T: Into<Option<ServingStatus>>,
    {
        for (pause, status) in script {
            sleep(pause).await;
            self.set_health(service, status);
        }
    }
}

/// The calls and connections that have reached it, to read or await.
impl Backend {
    /// The calls that have come, without those about health. A call counts when it comes, before
    /// [`hold`](Self::hold) or [`set_delay`](Self::set_delay) lets it wait.
    #[must_use]
    pub fn calls(&self) -> &Counter {
        &self.front.calls
    }

    /// The calls whose responses have not been sent to the end, without those about health.
    #[must_use]
    pub fn open_calls(&self) -> &Counter {
        &self.front.open_calls
    }

    /// The open `Watch` streams: the clients that follow the backend's health.
    #[must_use]
    pub fn watchers(&self) -> &Counter {
        &self.front.watchers
    }

    /// The connections that were accepted, also before a restart.
    #[must_use]
    pub fn connections(&self) -> &Counter {
        &self.connections.accepted
    }

    /// The connections that neither side has closed.
    #[must_use]
    pub fn open_connections(&self) -> &Counter {
        &self.connections.open
    }
}

impl Drop for Backend {
    fn drop(&mut self) {
        self.connections.end_all(End::Reset);
        if let State::Up(life) = self.state.get_mut() {
            life.abort();
        }
    }
}
