//! The channels that are compared, all to the same servers.

use std::{num::NonZeroUsize, time::Duration};

use tonic::transport;
use tonic_health_channel::{Channel, ChannelBuilder, ConnectivityState, Endpoint, Error, discover};

use super::{
    GREETER, Result,
    bare::Bare,
    greeter::greeter_client::GreeterClient,
    load::{Deadlines, Load, Sample, closed_loop},
    process::Servers,
};

/// Far off, so that no call misses it: what it costs is what is measured.
const DEADLINE: Duration = Duration::from_secs(10);

/// What is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Subject {
    /// This crate's channel over every backend, each with a `Watch`.
    Ours,
    /// The same, and a deadline on each call.
    OursDeadline,
    /// And another one on each, as a server gives its own calls what is left of its time.
    OursDeadlines,
    /// tonic's balancing channel over every backend.
    BalanceList,
    /// The same, and a deadline on each call.
    BalanceListDeadline,
    /// tonic's channel to one backend.
    Tonic,
    /// The `h2` crate with nothing on top; see [`super::bare`].
    H2,
    /// The same, and a deadline on each call, that nobody keeps: what it costs to say it.
    H2Deadline,
}

impl Subject {
    pub(crate) const ALL: [Self; 8] = [
        Self::Ours,
        Self::OursDeadline,
        Self::OursDeadlines,
        Self::BalanceList,
        Self::BalanceListDeadline,
        Self::Tonic,
        Self::H2,
        Self::H2Deadline,
    ];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Ours => "ours",
            Self::OursDeadline => "ours_deadline",
            Self::OursDeadlines => "ours_deadlines",
            Self::BalanceList => "balance_list",
            Self::BalanceListDeadline => "balance_list_deadline",
            Self::Tonic => "tonic",
            Self::H2 => "h2",
            Self::H2Deadline => "h2_deadline",
        }
    }

    pub(crate) fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|subject| subject.name() == name)
    }
}

/// Every channel, connected.
pub(crate) struct Channels {
    ours: Channel,
    balance_list: transport::Channel,
    tonic: transport::Channel,
    h2: Bare,
}

impl Channels {
    /// Inside the runtime that is to drive them. Ours with so many connections for each
    /// backend.
    pub(crate) async fn connect(servers: &Servers, connections: usize) -> Result<Self> {
        let uris = servers.uris();
        let ours = connect_ours(&uris, connections).await?;
        let endpoint = |uri: &String| transport::Endpoint::from_shared(uri.clone());
        let endpoints = uris.iter().map(endpoint);
        let endpoints: Vec<_> = endpoints.collect::<std::result::Result<_, _>>()?;
        Ok(Self {
            ours,
            tonic: endpoints[0].connect().await?,
            balance_list: transport::Channel::balance_list(endpoints.into_iter()),
            h2: Bare::connect(&servers.addresses).await?,
        })
    }

    /// Calls on one of them for one slice of time.
    pub(crate) async fn measure(&self, subject: Subject, load: Load) -> Result<Sample> {
        let deadlines = match subject {
            Subject::Ours | Subject::BalanceList | Subject::Tonic | Subject::H2 => Deadlines::None,
            Subject::OursDeadline | Subject::BalanceListDeadline | Subject::H2Deadline => {
                Deadlines::Same(DEADLINE)
            }
            Subject::OursDeadlines => Deadlines::Different(DEADLINE),
        };
        let load = Load { deadlines, ..load };
        match subject {
            Subject::Ours | Subject::OursDeadline | Subject::OursDeadlines => {
                closed_loop(GreeterClient::new(self.ours.clone()), load).await
            }
            Subject::BalanceList | Subject::BalanceListDeadline => {
                closed_loop(GreeterClient::new(self.balance_list.clone()), load).await
            }
            Subject::Tonic => closed_loop(GreeterClient::new(self.tonic.clone()), load).await,
            Subject::H2 | Subject::H2Deadline => {
                closed_loop(GreeterClient::new(self.h2.clone()), load).await
            }
        }
    }
}

/// This crate's channel over these backends, each READY with so many connections.
pub(crate) async fn connect_ours(uris: &[String], connections: usize) -> Result<Channel> {
    connect_ours_with(uris, connections, |endpoint| endpoint).await
}

/// The same with options of the endpoints.
pub(crate) async fn connect_ours_with(
    uris: &[String],
    connections: usize,
    options: impl Fn(Endpoint) -> Endpoint,
) -> Result<Channel> {
    connect_ours_by("", uris, connections, options).await
}

/// The same with this besides health checks in the service config.
pub(crate) async fn connect_ours_by(
    more: &str,
    uris: &[String],
    connections: usize,
    options: impl Fn(Endpoint) -> Endpoint,
) -> Result<Channel> {
    connect_ours_as(more, uris, connections, options, Ok).await
}

/// The same as `build` has the builder.
pub(crate) async fn connect_ours_as(
    more: &str,
    uris: &[String],
    connections: usize,
    options: impl Fn(Endpoint) -> Endpoint,
    build: impl FnOnce(ChannelBuilder) -> std::result::Result<ChannelBuilder, Error>,
) -> Result<Channel> {
    let config = format!(r#"{{"healthCheckConfig": {{"serviceName": "{GREETER}"}}{more}}}"#);
    let endpoints = uris.iter().cloned().map(Endpoint::from_shared);
    let endpoints = endpoints.collect::<std::result::Result<Vec<_>, _>>()?;
    let ours = Channel::balance(discover::list(endpoints.into_iter().map(options))?)
        .service_config(config.parse()?)
        .connections_per_backend(NonZeroUsize::try_from(connections)?);
    let ours = build(ours)?.build();
    let all_ready = |status: &tonic_health_channel::status::ChannelStatus| {
        let ready = |state| state == ConnectivityState::Ready;
        status.backends().len() == uris.len()
            && status
                .backends()
                .iter()
                .all(|backend| ready(backend.state()) && backend.connections() == connections)
    };
    ours.watch_status().wait_for(all_ready).await;
    Ok(ours)
}
