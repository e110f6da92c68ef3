//! Channels over one endpoint.

use http::Uri;
use tower::{BoxError, discover::Change};
use tower_service::Service;

use super::{
    Channel,
    builder::{Backends, ChannelBuilder},
};
use crate::{
    call::Defaults,
    connectivity::ConnectivityState,
    discover::assign_ids,
    error::{Error, ErrorKind},
    routing::ChannelStatus,
    service_config::{LoadBalancingPolicy, ServiceConfig},
    transport::Endpoint,
    util::backoff::BackoffConfig,
};

impl Endpoint {
    /// Connects, and returns the channel once it is READY.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Unavailable`] with the reason if the first attempt fails.
    /// A channel whose connection is lost later connects again with the next call.
    ///
    /// # Panics
    ///
    /// If called outside a tokio runtime, or in one without timers or IO.
    pub async fn connect(&self) -> Result<Channel, Error> {
        let channel = self.single(true);
        let settled = channel
            .watch_status()
            .wait_for(|status| status.state() != ConnectivityState::Connecting)
            .await;
        match settled.state() {
            // IDLE comes after READY.
            ConnectivityState::Ready | ConnectivityState::Idle => Ok(channel),
            _ => {
                let error = Error::new(ErrorKind::Unavailable, first_failure(&settled));
                let error = error.caused_by(settled.origin().cloned());
                Err(error.outside_calls())
            }
        }
    }

    /// A channel that connects with its first call.
    ///
    /// # Panics
    ///
    /// If called outside a tokio runtime, or in one without timers or IO.
    pub fn connect_lazy(&self) -> Channel {
        self.single(false)
    }

    /// The same by a connector of the application's; see
    /// [`connector`](Self::connector).
    ///
    /// # Errors
    ///
    /// As [`connect`](Self::connect).
    ///
    /// # Panics
    ///
    /// If called outside a tokio runtime, or in one without timers.
    pub async fn connect_with_connector<C>(&self, connector: C) -> Result<Channel, Error>
    where
        C: Service<Uri> + Send + 'static,
        C::Error: Into<BoxError>,
        C::Future: Send,
        C::Response: hyper::rt::Read + hyper::rt::Write + Unpin + Send + 'static,
    {
        self.clone().connector(connector).connect().await
    }

    /// The same, and the channel connects with its first call.
    ///
    /// # Panics
    ///
    /// If called outside a tokio runtime, or in one without timers.
    pub fn connect_with_connector_lazy<C>(&self, connector: C) -> Channel
    where
        C: Service<Uri> + Send + 'static,
        C::Error: Into<BoxError>,
        C::Future: Send,
        C::Response: hyper::rt::Read + hyper::rt::Write + Unpin + Send + 'static,
    {
        self.clone().connector(connector).connect_lazy()
    }

    fn single(&self, eager: bool) -> Channel {
        let change = Change::Insert((), self.clone());
        let source = futures_util::stream::iter([Ok::<_, std::convert::Infallible>(change)]);
        let source = assign_ids(source, |(), endpoint: &Endpoint| endpoint.address());
        let backends = Backends::new(source, "endpoint");
        let mut builder = ChannelBuilder::new(backends).named(&self.address());
        builder = builder.connect_backoff(BackoffConfig::soon());
        builder.executor = self.get_executor().clone();
        builder.needs_io = self.uses_sockets();
        builder.eager = eager;
        // One that is lost is dialled by the next call, as with gRPC's default policy.
        let pick_first = LoadBalancingPolicy::PickFirst {
            shuffle_address_list: false,
        };
        builder = builder.service_config(ServiceConfig::of_policy(pick_first));
        builder.defaults = Defaults {
            header_timeout: self.call_timeout(),
            ..Defaults::default()
        };
        builder.build()
    }
}

impl Channel {
    /// A channel that connects with its first call, by `connector`; see
    /// [`Endpoint::connector`].
    ///
    /// # Panics
    ///
    /// If called outside a tokio runtime, or in one without timers.
    pub fn new<C>(connector: C, endpoint: Endpoint) -> Self
    where
        C: Service<Uri> + Send + 'static,
        C::Error: Into<BoxError>,
        C::Future: Send,
        C::Response: hyper::rt::Read + hyper::rt::Write + Unpin + Send + 'static,
    {
        endpoint.connect_with_connector_lazy(connector)
    }

    /// Connects by `connector`, and returns the channel once it is READY; see
    /// [`Endpoint::connector`].
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Unavailable`] with the reason if the first attempt fails.
    ///
    /// # Panics
    ///
    /// If called outside a tokio runtime, or in one without timers.
    pub async fn connect<C>(connector: C, endpoint: Endpoint) -> Result<Self, Error>
    where
        C: Service<Uri> + Send + 'static,
        C::Error: Into<BoxError>,
        C::Future: Send,
        C::Response: hyper::rt::Read + hyper::rt::Write + Unpin + Send + 'static,
    {
        endpoint.connect_with_connector(connector).await
    }
}

fn first_failure(status: &ChannelStatus) -> String {
    let errors = status.backends().iter().filter_map(|backend| {
        let (cause, _) = backend.last_error()?;
        Some(format!("{} {cause}", backend.label()))
    });
    errors.collect::<Vec<_>>().join("; ")
}
