//! Retries and hedges by the service config, over 3 servers that fail by a script.
//!
//! The channel prints the attempts of each call: those that failed, and how many it made.
//!
//! ```text
//! $ cargo run --example retries
//! A is out of order: a retry goes to a server that was not tried yet
//!   OK from B after 1 attempt: 0.6 ms
//!   OK from C after 1 attempt: 0.5 ms
//!   OK from B after 2 attempts: 23 ms
//!     attempt 1 on A: UNAVAILABLE, no leader
//! …
//! ```
//!
//! Exits with 1 if a call ends in another way than the text says.

mod common;

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use common::{
    Result,
    backend::listen,
    greeter::{
        HelloReply, HelloRequest,
        greeter_client::GreeterClient,
        greeter_server::{Greeter, GreeterServer},
    },
    report::short,
    story::check,
};
use futures_util::stream::Empty;
use tokio::time::Instant;
use tonic::{
    Code, Request, Response, Status, Streaming,
    transport::{Server, server::TcpIncoming},
};
use tonic_health_channel::{
    Channel, ConnectivityState::Ready, Endpoint, Error, channel::CallAttempts, discover,
};

type Answer<T> = std::result::Result<Response<T>, Status>;
type Nothing = Empty<std::result::Result<HelloReply, Status>>;

/// At most 3 attempts of a greeting, if its server says UNAVAILABLE.
const RETRIES: &str = r#"{
    "methodConfig": [{
        "name": [{"service": "demo.v1.Greeter", "method": "SayHello"}],
        "timeout": "5s",
        "retryPolicy": {
            "maxAttempts": 3,
            "initialBackoff": "0.02s",
            "maxBackoff": "0.5s",
            "backoffMultiplier": 2,
            "retryableStatusCodes": ["UNAVAILABLE"]
        }
    }]
}"#;

/// The same, until half of 4 tokens are used up. A failure takes 1, an OK gives 0.1 back.
const THROTTLED: &str = r#"{
    "methodConfig": [{
        "name": [{"service": "demo.v1.Greeter", "method": "SayHello"}],
        "retryPolicy": {
            "maxAttempts": 3,
            "initialBackoff": "0.02s",
            "maxBackoff": "0.5s",
            "backoffMultiplier": 2,
            "retryableStatusCodes": ["UNAVAILABLE"]
        }
    }],
    "retryThrottling": {"maxTokens": 4, "tokenRatio": 0.1}
}"#;

/// A greeting that has no answer after 50 ms is sent to another server, too.
const HEDGES: &str = r#"{
    "methodConfig": [{
        "name": [{"service": "demo.v1.Greeter", "method": "SayHello"}],
        "hedgingPolicy": {
            "maxAttempts": 2,
            "hedgingDelay": "0.05s",
            "nonFatalStatusCodes": ["UNAVAILABLE"]
        }
    }]
}"#;

/// A server answers each greeting in this way, until it is told another one.
#[derive(Clone, Default)]
enum Behaviour {
    #[default]
    Answers,
    Fails(Status),
    Takes(Duration),
}

/// A server, and what it does.
#[derive(Clone)]
struct Scripted {
    name: &'static str,
    behaviour: Arc<Mutex<Behaviour>>,
}

impl Scripted {
    /// Serves on a free port: the endpoint, and the handle.
    async fn start(name: &'static str) -> Result<(Endpoint, Self)> {
        let scripted = Self {
            name,
            behaviour: Arc::default(),
        };
        let listener = listen(([127, 0, 0, 1], 0).into()).await?;
        let endpoint = Endpoint::new(format!("http://{}", listener.local_addr()?))?.label(name);
        let server = Server::builder().add_service(GreeterServer::new(scripted.clone()));
        tokio::spawn(server.serve_with_incoming(TcpIncoming::from(listener)));
        Ok((endpoint, scripted))
    }

    fn set(&self, behaviour: Behaviour) {
        *self.lock() = behaviour;
    }

    fn fails(&self, status: Status) {
        self.set(Behaviour::Fails(status));
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Behaviour> {
        let behaviour = self.behaviour.lock();
        behaviour.unwrap_or_else(PoisonError::into_inner)
    }
}

#[tonic::async_trait]
impl Greeter for Scripted {
    type SayHelloManyStream = Nothing;
    type ChatStream = Nothing;

    async fn say_hello(&self, request: Request<HelloRequest>) -> Answer<HelloReply> {
        let behaviour = self.lock().clone();
        match behaviour {
            Behaviour::Answers => {}
            Behaviour::Fails(status) => return Err(status),
            Behaviour::Takes(time) => tokio::time::sleep(time).await,
        }
        Ok(Response::new(HelloReply {
            message: format!("Hello {}!", request.get_ref().name),
            backend: self.name.to_owned(),
        }))
    }
    async fn say_hello_many(&self, _: Request<HelloRequest>) -> Answer<Nothing> {
        Err(Status::unimplemented("one greeting at a time"))
    }
    async fn greet_all(&self, _: Request<Streaming<HelloRequest>>) -> Answer<HelloReply> {
        Err(Status::unimplemented("one greeting at a time"))
    }
    async fn chat(&self, _: Request<Streaming<HelloRequest>>) -> Answer<Nothing> {
        Err(Status::unimplemented("one greeting at a time"))
    }
}

/// How a call ended.
struct Ended {
    /// The server that answered, or the status.
    outcome: std::result::Result<String, Status>,
    attempts: CallAttempts,
    took: Duration,
}

impl Ended {
    fn code(&self) -> Code {
        let status = self.outcome.as_ref().err();
        status.map_or(Code::Ok, Status::code)
    }

    /// `expected` is the code, and the number of attempts.
    fn check(&self, expected: (Code, u32)) -> Result<()> {
        let found = (self.code(), self.attempts.made());
        check(found == expected, || {
            format!("expected {expected:?}, not {found:?}")
        })
    }
}

/// One greeting. Prints how it went.
async fn greet(channel: &Channel) -> Ended {
    let began = Instant::now();
    let mut client = GreeterClient::new(channel.clone());
    let reply = client.say_hello(HelloRequest::default()).await;
    let took = began.elapsed();
    let attempts = match &reply {
        Ok(reply) => reply.extensions().get(),
        Err(status) => Error::of(status).and_then(Error::attempts),
    };
    let attempts: CallAttempts = attempts.cloned().unwrap_or_default();
    let outcome = reply.map(|reply| reply.into_inner().backend);
    match &outcome {
        Ok(backend) => print!("  OK from {backend}"),
        Err(status) => print!("  {:?}", status.code()),
    }
    let time = short(took);
    match attempts.made() {
        0 => println!(" after 1 attempt, as the server said it: {time}"),
        1 => println!(" after 1 attempt: {time}"),
        made => println!(" after {made} attempts: {time}"),
    }
    for failed in attempts.failed() {
        println!("    {failed}");
    }
    Ended {
        outcome,
        attempts,
        took,
    }
}

/// A channel over all servers with this config, once each is READY.
async fn connect(endpoints: &[Endpoint], config: &str) -> Result<Channel> {
    let channel = Channel::balance(discover::list(endpoints.to_vec())?)
        .service_config(config.parse()?)
        .tell_attempts(true)
        .build();
    let mut watch = channel.watch_status();
    let ready = watch.wait_for(|status| {
        let backends = status.backends().iter();
        backends.filter(|one| one.state() == Ready).count() == endpoints.len()
    });
    ready.await;
    Ok(channel)
}

#[tokio::main]
async fn main() -> Result<()> {
    common::log_to_stderr();
    let (at_a, a) = Scripted::start("A").await?;
    let (at_b, b) = Scripted::start("B").await?;
    let (at_c, c) = Scripted::start("C").await?;
    let endpoints = [at_a, at_b, at_c];
    let no_leader = || Status::unavailable("no leader");
    let retries = connect(&endpoints, RETRIES).await?;

    println!("A is out of order: a retry goes to a server that was not tried yet");
    a.fails(no_leader());
    let mut failed = 0;
    for _ in 0..3 {
        let ended = greet(&retries).await;
        ended.check((Code::Ok, 1 + ended.attempts.failed().len() as u32))?;
        for attempt in ended.attempts.failed() {
            check(attempt.backend() == Some("A"), || "that was not A".into())?;
            failed += 1;
        }
    }
    check(failed > 0, || "A had no attempt in 3 calls".into())?;

    println!("A code that the policy does not list is handed on");
    for server in [&a, &b, &c] {
        server.fails(Status::not_found("no such name"));
    }
    let ended = greet(&retries).await;
    ended.check((Code::NotFound, 0))?;

    println!("All are out of order: after 3 attempts the call fails, and names each");
    for server in [&a, &b, &c] {
        server.fails(no_leader());
    }
    let ended = greet(&retries).await;
    ended.check((Code::Unavailable, 3))?;
    let text = ended.outcome.expect_err("it has failed");
    println!("  “{}”", text.message());

    println!("The servers say how long to wait: 0.2 s, in place of about 0.02 s");
    for server in [&a, &b, &c] {
        let mut status = no_leader();
        let pushback = "200".parse()?;
        status
            .metadata_mut()
            .insert("grpc-retry-pushback-ms", pushback);
        server.fails(status);
    }
    let ended = greet(&retries).await;
    ended.check((Code::Unavailable, 3))?;
    let waits = Duration::from_millis(400);
    check(ended.took >= waits, || format!("only {:?}", ended.took))?;

    println!("Too many have failed: retries are throttled, calls still have 1 attempt");
    for server in [&a, &b, &c] {
        server.fails(no_leader());
    }
    let throttled = connect(&endpoints, THROTTLED).await?;
    greet(&throttled).await.check((Code::Unavailable, 2))?;
    greet(&throttled).await.check((Code::Unavailable, 0))?;

    println!("A hangs for 5 s: a hedge has the answer after 50 ms");
    a.set(Behaviour::Takes(Duration::from_secs(5)));
    b.set(Behaviour::Answers);
    c.set(Behaviour::Answers);
    let hedges = connect(&endpoints, HEDGES).await?;
    let mut hedged = 0;
    for _ in 0..3 {
        let ended = greet(&hedges).await;
        check(ended.code() == Code::Ok, || "it has failed".into())?;
        let quick = Duration::from_secs(4);
        check(ended.took < quick, || format!("{:?}", ended.took))?;
        hedged += ended.attempts.made() - 1;
    }
    check(hedged > 0, || "A had no attempt in 3 calls".into())
}
