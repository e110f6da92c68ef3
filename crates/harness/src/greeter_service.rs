//! The greeter that every backend serves, and the names that make it behave.
//!
//! - `hold`: the call stays open until the test calls `release`
//! - `slow:N`: answers after N milliseconds
//! - `fail:N`: fails with gRPC code N
//! - `again:N`: fails with UNAVAILABLE until N attempts have gone before, by
//!   `grpc-previous-rpc-attempts`; unary calls alone
//! - anything else is greeted at once, unless the test has the backend fail such calls
//!
//! A unary call does so before its reply, `SayHelloMany` after its last reply,
//! `GreetAll` and `Chat` for each name as it comes.

use std::{
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicI32, Ordering::Relaxed},
    },
    time::Duration,
};

use futures_util::{Stream, StreamExt, future::ready, stream};
use tokio::sync::watch;
use tonic::{Code, Request, Response, Status, Streaming, metadata::MetadataMap};

use super::{
    Counter,
    greeter::{HelloReply, HelloRequest, greeter_server::Greeter},
};

/// The name under which every backend registers its greeter.
pub const GREETER: &str = "demo.v1.Greeter";

#[derive(Clone, Debug)]
pub struct GreeterService {
    /// The backend's name, which every reply carries.
    name: Arc<str>,
    /// Calls that wait for a release.
    pub(crate) held: Counter,
    releases: watch::Sender<()>,
    /// The code of calls that ask for nothing special.
    code: Arc<AtomicI32>,
}

impl GreeterService {
    pub fn new(name: &str) -> Self {
        Self {
            name: name.into(),
            held: Counter::new("greeter calls on hold"),
            releases: watch::Sender::new(()),
            code: Arc::default(),
        }
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// Lets the calls go on that are held now. Later ones wait for the next time.
    pub(crate) fn release(&self) {
        self.releases.send_replace(());
    }

    /// Calls that ask for nothing special end with this code from now on.
    pub(crate) fn end_calls_with(&self, code: Code) {
        self.code.store(code.into(), Relaxed);
    }

    async fn behave(&self, name: &str) -> Result<(), Status> {
        if name == "hold" {
            // Before the call shows up as held, so that no release is missed.
            let mut releases = self.releases.subscribe();
            let _held = self.held.enter();
            let _ = releases.changed().await;
        } else if let Some(millis) = number(name, "slow:") {
            tokio::time::sleep(Duration::from_millis(millis)).await;
        } else if let Some(code) = number::<i32>(name, "fail:") {
            return Err(Status::new(Code::from(code), "the test asked for this"));
        } else {
            match Code::from(self.code.load(Relaxed)) {
                Code::Ok => {}
                code => return Err(Status::new(code, "the backend fails all calls")),
            }
        }
        Ok(())
    }

    async fn greet(&self, name: &str) -> Result<HelloReply, Status> {
        self.behave(name).await?;
        Ok(self.reply(name))
    }

    fn reply(&self, name: &str) -> HelloReply {
        HelloReply {
            message: format!("Hello {name}!"),
            backend: self.name.to_string(),
        }
    }
}

fn number<T: std::str::FromStr>(name: &str, prefix: &str) -> Option<T> {
    name.strip_prefix(prefix)?.parse().ok()
}

/// The metadata whose names begin with `x-`, which a unary call gets back.
fn echo(metadata: &MetadataMap) -> MetadataMap {
    let headers = metadata.clone().into_headers();
    let own = headers
        .iter()
        .filter(|(name, _)| name.as_str().starts_with("x-"));
    let mut echo = http::HeaderMap::new();
    for (name, value) in own {
        echo.append(name, value.clone());
    }
    MetadataMap::from_headers(echo)
}

fn previous_attempts(metadata: &MetadataMap) -> u32 {
    let number = metadata.get("grpc-previous-rpc-attempts");
    let number = number.and_then(|number| number.to_str().ok()?.parse().ok());
    number.unwrap_or_default()
}

type Replies = Pin<Box<dyn Stream<Item = Result<HelloReply, Status>> + Send>>;

#[tonic::async_trait]
impl Greeter for GreeterService {
    type SayHelloManyStream = Replies;
    type ChatStream = Replies;

    async fn say_hello(
        &self,
        request: Request<HelloRequest>,
    ) -> Result<Response<HelloReply>, Status> {
        let echo = echo(request.metadata());
        let attempts = previous_attempts(request.metadata());
        let name = request.into_inner().name;
        let fails = number(&name, "again:").is_some_and(|least: u32| attempts < least);
        let name = if fails { "fail:14" } else { &name };
        match self.greet(name).await {
            Ok(reply) => {
                let mut response = Response::new(reply);
                *response.metadata_mut() = echo;
                Ok(response)
            }
            Err(mut status) => {
                *status.metadata_mut() = echo;
                Err(status)
            }
        }
    }

    async fn say_hello_many(
        &self,
        request: Request<HelloRequest>,
    ) -> Result<Response<Self::SayHelloManyStream>, Status> {
        let HelloRequest { name, count } = request.into_inner();
        let replies: Vec<_> = (0..count).map(|_| Ok(self.reply(&name))).collect();
        let greeter = self.clone();
        let ending = stream::once(async move { greeter.behave(&name).await })
            .filter_map(|ending| ready(ending.err().map(Err)));
        Ok(Response::new(Box::pin(stream::iter(replies).chain(ending))))
    }

    async fn greet_all(
        &self,
        request: Request<Streaming<HelloRequest>>,
    ) -> Result<Response<HelloReply>, Status> {
        let mut requests = request.into_inner();
        let mut names = Vec::new();
        while let Some(HelloRequest { name, .. }) = requests.message().await? {
            self.behave(&name).await?;
            names.push(name);
        }
        Ok(Response::new(self.reply(&names.join(", "))))
    }

    async fn chat(
        &self,
        request: Request<Streaming<HelloRequest>>,
    ) -> Result<Response<Self::ChatStream>, Status> {
        let greeter = self.clone();
        let replies = request.into_inner().then(move |request| {
            let greeter = greeter.clone();
            async move { greeter.greet(&request?.name).await }
        });
        Ok(Response::new(Box::pin(replies)))
    }
}
