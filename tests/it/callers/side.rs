//! The two channels that a caller may have, behind one type.

use std::fmt;

use http::{Request, Response};
use testing::{Backend, greeter::greeter_client::GreeterClient};
use tonic::{body::Body, transport};
use tonic_health_channel as ours;
use tower::{BoxError, ServiceExt, util::BoxCloneService};

/// A channel of either kind.
pub(super) type AnyChannel = BoxCloneService<Request<Body>, Response<Body>, BoxError>;

/// Whose channel a caller has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Side {
    Tonic,
    Ours,
}

impl Side {
    pub(super) const BOTH: [Self; 2] = [Self::Tonic, Self::Ours];

    /// A client of one backend, which connects with its first call.
    pub(super) fn client(self, backend: &Backend) -> GreeterClient<AnyChannel> {
        GreeterClient::new(self.channel(&backend.uri()))
    }

    /// A channel to one endpoint, which connects with its first call.
    pub(super) fn channel(self, uri: &str) -> AnyChannel {
        let uri = uri.to_owned();
        match self {
            Self::Tonic => {
                let endpoint = transport::Endpoint::from_shared(uri).expect("a URI");
                BoxCloneService::new(endpoint.connect_lazy().map_err(BoxError::from))
            }
            Self::Ours => {
                let endpoint = ours::Endpoint::from_shared(uri).expect("a URI");
                BoxCloneService::new(endpoint.connect_lazy().map_err(BoxError::from))
            }
        }
    }

    /// A channel that balances over all of them, without health checks.
    pub(super) fn balanced(self, uris: &[String]) -> AnyChannel {
        match self {
            Self::Tonic => {
                let endpoint = |uri: &String| transport::Endpoint::from_shared(uri.clone());
                let endpoints = uris.iter().map(|uri| endpoint(uri).expect("a URI"));
                let channel = transport::Channel::balance_list(endpoints);
                BoxCloneService::new(channel.map_err(BoxError::from))
            }
            Self::Ours => {
                let endpoint = |uri: &String| ours::Endpoint::from_shared(uri.clone());
                let endpoints = uris.iter().map(|uri| endpoint(uri).expect("a URI"));
                let channel = ours::Channel::balance_list(endpoints);
                BoxCloneService::new(channel.map_err(BoxError::from))
            }
        }
    }
}

impl fmt::Display for Side {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Tonic => "tonic's channel",
            Self::Ours => "our channel",
        })
    }
}
