//! Load clients over the channels of this process's own libraries.

use tokio::runtime::Builder;
use tonic::transport::{self, Endpoint};
use tonic_health_channel::{Channel, ConnectivityState, discover, status::ChannelStatus};

use crate::{
    client::{Arguments, serve, serve_each},
    common::{Result, bare::Bare, greeter::greeter_client::GreeterClient},
};

/// The first argument that turns the driver into a load client; a name follows, and
/// what every load client is told.
pub(crate) const ROLE: &str = "--as-client";

const TONIC: &str = concat!("tonic ", env!("TONIC_VERSION"));
const H2: &str = concat!("h2 ", env!("H2_VERSION"));

/// Whether the arguments of this process say to be one; if so, it has been one, and
/// is done.
pub(crate) fn take_role() -> Result<bool> {
    let mut words = std::env::args().skip(1);
    if words.next().as_deref() != Some(ROLE) {
        return Ok(false);
    }
    let name = words.next().ok_or("which client?")?;
    let arguments = Arguments::read(words)?;
    let runtime = arguments.runtime()?;
    match name.as_str() {
        "ours" => {
            let channel = runtime.block_on(ours(&arguments))?;
            serve(env!("VERSION"), &runtime, GreeterClient::new(channel))?;
        }
        "ours_each" => {
            let one = || -> Result<_> {
                let runtime = Builder::new_current_thread().enable_all().build()?;
                let channel = runtime.block_on(ours(&arguments))?;
                Ok((runtime, GreeterClient::new(channel)))
            };
            let clients = (0..arguments.threads).map(|_| one());
            serve_each(env!("VERSION"), clients.collect::<Result<_>>()?)?;
        }
        "balance_list" => {
            let channel = runtime.block_on(async { balance_list(&arguments) })?;
            serve(TONIC, &runtime, GreeterClient::new(channel))?;
        }
        "tonic" => {
            let first = endpoints(&arguments)?.swap_remove(0);
            let channel = runtime.block_on(first.connect())?;
            serve(TONIC, &runtime, GreeterClient::new(channel))?;
        }
        "h2" => {
            let channel = runtime.block_on(Bare::connect(&arguments.addresses))?;
            serve(H2, &runtime, GreeterClient::new(channel))?;
        }
        other => return Err(format!("there is no client `{other}`").into()),
    }
    Ok(true)
}

/// READY at every backend.
async fn ours(arguments: &Arguments) -> Result<Channel> {
    let channel = Channel::balance(discover::list(uris(arguments))?)
        .service_config(arguments.service_config.parse()?)
        .build();
    let all_ready = |status: &ChannelStatus| {
        let backends = status.backends();
        let mut states = backends.iter().map(|backend| backend.state());
        backends.len() == arguments.addresses.len()
            && states.all(|state| state == ConnectivityState::Ready)
    };
    channel.watch_status().wait_for(all_ready).await;
    Ok(channel)
}

fn balance_list(arguments: &Arguments) -> Result<transport::Channel> {
    let endpoints = endpoints(arguments)?.into_iter();
    Ok(transport::Channel::balance_list(endpoints))
}

fn endpoints(arguments: &Arguments) -> Result<Vec<Endpoint>> {
    let endpoints = uris(arguments).into_iter().map(Endpoint::from_shared);
    Ok(endpoints.collect::<std::result::Result<_, _>>()?)
}

fn uris(arguments: &Arguments) -> Vec<String> {
    let uri = |address| format!("http://{address}");
    arguments.addresses.iter().map(uri).collect()
}
