//! What `docs/migrating-from-tonic.md` gives in place of the generated `connect`. A test
//! compares the code below with the guide.

use tonic::codegen::StdError;
use tonic_health_channel::{Channel, Endpoint, Error};

use crate::pb::{greeter_client::GreeterClient, health_client::HealthClient};

/// A channel to `destination`, a URI or an `Endpoint`, once the server has answered.
pub(crate) async fn connect<D>(destination: D) -> Result<Channel, Error>
where
    D: TryInto<Endpoint>,
    D::Error: Into<StdError>,
{
    Endpoint::new(destination)?.connect().await
}

/// Gives clients the `connect` that tonic generates for its own channel.
macro_rules! impl_connect {
    ($($client:ident),+) => { $(
        impl $client<Channel> {
            pub(crate) async fn connect<D>(destination: D) -> Result<Self, Error>
            where
                D: TryInto<Endpoint>,
                D::Error: Into<StdError>,
            {
                connect(destination).await.map(Self::new)
            }
        }
    )+ };
}

impl_connect!(GreeterClient, HealthClient);
