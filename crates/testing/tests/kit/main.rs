//! The kit as its users see it, with tonic's channel and this workspace's as clients.

mod health;
mod life;
mod memory;

use testing::{
    GreeterService,
    greeter::{
        HelloReply, HelloRequest, greeter_client::GreeterClient, greeter_server::GreeterServer,
    },
};
use tonic::Status;
use tonic_health_channel::Channel;
use tonic_health_channel_testing::{Backend, BackendBuilder, within};

/// A backend with a greeter of this name.
fn greeter(name: &str) -> BackendBuilder {
    Backend::builder(GreeterServer::new(GreeterService::new(name)))
}

/// The name of the backend that answers.
async fn hello(channel: &Channel) -> Result<String, Status> {
    let call = GreeterClient::new(channel.clone());
    let HelloReply { backend, .. } = answer(call).await?;
    Ok(backend)
}

async fn answer(mut client: GreeterClient<Channel>) -> Result<HelloReply, Status> {
    let call = client.say_hello(HelloRequest::default());
    within("an answer", call)
        .await
        .map(tonic::Response::into_inner)
}
