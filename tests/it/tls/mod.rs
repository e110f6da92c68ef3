//! TLS, and what is only sent over it.

mod credentials;
mod failures;
mod names;
mod reload;
mod serving;
mod trusted_itself;

use testing::{checking, quick_backoff, quick_health, until, within};
use tonic_health_channel::{
    Channel, ChannelBuilder, ConnectivityState::TransientFailure, Endpoint, discover,
    status::CauseKind,
};

/// A channel over `endpoints` in the making, with quick backoffs.
fn over(endpoints: impl IntoIterator<Item = Endpoint>, service: Option<&str>) -> ChannelBuilder {
    let list = discover::list(endpoints).expect("there are endpoints");
    let builder = Channel::balance(list)
        .connect_backoff(quick_backoff())
        .health_options(quick_health());
    match service {
        Some(service) => builder.service_config(checking(service)),
        None => builder,
    }
}

/// Why `endpoint` cannot be connected to: what a channel shows of its backend, and
/// what a single channel says as well.
async fn failure(endpoint: Endpoint) -> String {
    let channel = over([endpoint.clone()], None).build();
    until(&channel, TransientFailure).await;
    let text = cause(&channel);
    let single = within("the first attempt", endpoint.connect()).await;
    let error = single.expect_err("the same fails again");
    assert!(error.message().ends_with(&text), "{error}, not {text}");
    text
}

/// Why the only backend of a channel could not be connected to.
fn cause(channel: &Channel) -> String {
    let backends = channel.backends();
    let (cause, _) = backends[0].last_error().expect("it has failed");
    assert_eq!(cause.kind(), CauseKind::Connect);
    cause.text().to_owned()
}
