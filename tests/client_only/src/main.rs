//! What calls come to in a crate that is a client and nothing else.
//!
//! ```text
//! $ cargo run --manifest-path tests/client_only/Cargo.toml
//! ok    nobody listens                         Unavailable: no healthy backend: …
//! …
//! ```
//!
//! Codes and texts of everything that can go wrong between a call and its
//! answer. Exits with 1 if one is not what it should be.

mod connect;
mod pb;
mod peer;

use std::{future::Future, process::ExitCode, time::Duration};

use h2::Reason;
use pb::{greeter_client::GreeterClient, health_client::HealthClient};
use peer::{Script, Then};
use tokio::{
    net::{TcpListener, TcpSocket},
    time::timeout,
};
use tonic::{Code, Request, Response, Status, codegen::http::uri::PathAndQuery};
use tonic_health_channel::{Channel, Endpoint, HealthOptions, channel::BackoffConfig, discover};
use tonic_prost::ProstCodec;

/// How long any call may take before it counts as stuck.
const PATIENCE: Duration = Duration::from_secs(10);
/// A deadline that is meant to pass.
const SOON: Duration = Duration::from_millis(100);

#[derive(Clone, PartialEq, prost::Message)]
struct HelloRequest {
    #[prost(string, tag = "1")]
    name: String,
}

#[derive(Clone, PartialEq, prost::Message)]
struct HelloReply {
    #[prost(string, tag = "1")]
    message: String,
}

#[tokio::main]
async fn main() -> ExitCode {
    let mut report = Report::default();
    report.add("tonic has no server here", tonic_is_a_client());
    answered(&mut report).await;
    connected(&mut report).await;
    unconnected(&mut report).await;
    reset(&mut report).await;
    too_late(&mut report).await;
    cut_off(&mut report).await;
    unhealthy(&mut report).await;
    match report.wrong {
        0 => ExitCode::SUCCESS,
        wrong => {
            println!("{wrong} of {} are not as they should be", report.all);
            ExitCode::FAILURE
        }
    }
}

/// With its `server` feature, tonic would read codes out of HTTP/2 errors, and
/// hide whether we do.
fn tonic_is_a_client() -> Result<String, String> {
    let refused = h2::Error::from(Reason::REFUSED_STREAM);
    let mapped: Result<(), _> = Err(Status::from_error(Box::new(refused)));
    expect(mapped, Code::Unknown, &[])
}

async fn answered(report: &mut Report) {
    let address = peer::start(Script {
        headers: true,
        then: Then::Answer,
    })
    .await;
    let outcome = call(&lazy(address), None).await;
    let outcome = match outcome {
        Ok(reply) => Ok(format!("{reply:?}")),
        Err(status) => Err(status.to_string()),
    };
    report.add("an answer", outcome);
}

/// What the migration guide gives in place of the generated `connect`.
async fn connected(report: &mut Report) {
    let address = peer::start(Script {
        headers: true,
        then: Then::Answer,
    })
    .await;
    let uri = format!("http://{address}");
    let outcome = within(async {
        let mut greeter = GreeterClient::new(connect::connect(uri.clone()).await?);
        greeter.say_hello(pb::HelloRequest::default()).await
    });
    report.add("connect(uri)", seen(outcome.await));

    let outcome = within(async {
        let mut greeter = GreeterClient::connect(uri.clone()).await?;
        greeter.say_hello(pb::HelloRequest::default()).await
    });
    report.add("GreeterClient::connect(uri)", seen(outcome.await));

    let outcome = within(async {
        let mut health = HealthClient::connect(endpoint(address)).await?;
        health.check(pb::HealthCheckRequest::default()).await
    });
    report.add("HealthClient::connect(endpoint)", seen(outcome.await));
}

fn seen<T: std::fmt::Debug>(outcome: Result<Response<T>, Status>) -> Result<String, String> {
    match outcome {
        Ok(response) => Ok(format!("{:?}", response.into_inner())),
        Err(status) => Err(status.to_string()),
    }
}

async fn unconnected(report: &mut Report) {
    let (_bound, dead) = dead_address();
    let texts = ["no healthy backend", &dead, "connect: connection refused"];
    let outcome = call(&endpoint(&dead).connect_lazy(), None).await;
    report.add("nobody listens", expect(outcome, Code::Unavailable, &texts));

    let outcome = within(endpoint(&dead).connect()).await;
    let outcome = outcome.map(drop).map_err(Status::from);
    let texts = [&*dead, "connect: connection refused"];
    let outcome = expect(outcome, Code::Unavailable, &texts);
    report.add("nobody listens to connect()", outcome);

    let silent = TcpListener::bind(("127.0.0.1", 0)).await.expect("a port");
    let address = silent.local_addr().expect("an address").to_string();
    let outcome = call(&lazy(&address), Some(SOON)).await;
    let texts = ["waiting for a backend", &address, "CONNECTING"];
    let outcome = expect(outcome, Code::DeadlineExceeded, &texts);
    report.add("the deadline, while connecting", outcome);

    let impatient = endpoint(&address).connect_timeout(SOON).connect_lazy();
    let texts = ["no healthy backend", &address, "SETTINGS"];
    let outcome = expect(call(&impatient, None).await, Code::Unavailable, &texts);
    report.add("the connect timeout", outcome);

    let (changes, source) = discover::push::<(), Endpoint>(1);
    drop(changes);
    let nowhere = Channel::balance(source).build();
    let outcome = call(&nowhere, None).await;
    let outcome = expect(outcome, Code::Unavailable, &["no backends"]);
    report.add("no backends", outcome);
}

async fn reset(report: &mut Report) {
    for (reason, code) in [
        (Reason::REFUSED_STREAM, Code::Unavailable),
        (Reason::CANCEL, Code::Cancelled),
        (Reason::ENHANCE_YOUR_CALM, Code::ResourceExhausted),
        (Reason::INADEQUATE_SECURITY, Code::PermissionDenied),
        (Reason::INTERNAL_ERROR, Code::Internal),
        (Reason::PROTOCOL_ERROR, Code::Internal),
    ] {
        for (headers, when) in [(false, "before headers"), (true, "after headers")] {
            let then = Then::Reset(reason);
            let address = peer::start(Script { headers, then }).await;
            let outcome = call(&lazy(address), None).await;
            let outcome = expect(outcome, code, &["stream to", &address.to_string()]);
            report.add(&format!("{reason:?} {when}"), outcome);
        }
    }
}

async fn too_late(report: &mut Report) {
    let then = Then::Silence;
    for (headers, when, text) in [
        (false, "before headers", "waiting for the response of"),
        (true, "after headers", "while the response of"),
    ] {
        let address = peer::start(Script { headers, then }).await;
        let outcome = call(&lazy(address), Some(SOON)).await;
        let texts = [text, &address.to_string()];
        let outcome = expect(outcome, Code::DeadlineExceeded, &texts);
        report.add(&format!("the deadline {when}"), outcome);
    }
    let headers = false;
    let address = peer::start(Script { headers, then }).await;
    let hurried = endpoint(address).timeout(SOON).connect_lazy();
    let outcome = call(&hurried, None).await;
    let texts = ["waiting for the response of", &address.to_string()];
    let outcome = expect(outcome, Code::DeadlineExceeded, &texts);
    report.add("the timeout of the endpoint", outcome);
}

async fn cut_off(report: &mut Report) {
    let then = Then::Close;
    for (headers, when) in [(false, "before headers"), (true, "after headers")] {
        let address = peer::start(Script { headers, then }).await;
        let outcome = call(&lazy(address), None).await;
        let texts = ["stream to", &address.to_string()];
        let outcome = expect(outcome, Code::Unavailable, &texts);
        report.add(&format!("closed {when}"), outcome);
    }
}

/// The health check is a client too.
async fn unhealthy(report: &mut Report) {
    let then = Then::Reset(Reason::ENHANCE_YOUR_CALM);
    let address = peer::start(Script {
        headers: true,
        then,
    })
    .await;
    let backoff = BackoffConfig::default()
        .initial(PATIENCE)
        .and_then(|backoff| backoff.jitter(0.0))
        .expect("a valid backoff")
        .max(PATIENCE);
    let config = r#"{"healthCheckConfig": {"serviceName": ""}}"#;
    let backends = discover::list([endpoint(address)]).expect("one backend");
    let channel = Channel::balance(backends)
        .service_config(config.parse().expect("a valid config"))
        .health_options(HealthOptions::default().backoff(backoff))
        .build();
    let address = address.to_string();
    let texts = [
        "no healthy backend",
        &address,
        "health check",
        "ResourceExhausted",
    ];
    let outcome = expect(call(&channel, None).await, Code::Unavailable, &texts);
    report.add("Watch is reset", outcome);
}

fn endpoint(address: impl ToString) -> Endpoint {
    let uri = format!("http://{}", address.to_string());
    Endpoint::new(uri).expect("a URI")
}

fn lazy(address: impl ToString) -> Channel {
    endpoint(address).connect_lazy()
}

/// An address that refuses connections while the socket lives: it is bound, and
/// does not listen.
fn dead_address() -> (TcpSocket, String) {
    let socket = TcpSocket::new_v4().expect("a socket");
    let anywhere = ([127, 0, 0, 1], 0).into();
    socket.bind(anywhere).expect("a free port");
    let address = socket.local_addr().expect("an address").to_string();
    (socket, address)
}

/// What generated code does.
async fn call(channel: &Channel, deadline: Option<Duration>) -> Result<HelloReply, Status> {
    let mut client = tonic::client::Grpc::new(channel.clone());
    let mut request = Request::new(HelloRequest {
        name: "you".to_owned(),
    });
    deadline.inspect(|deadline| request.set_timeout(*deadline));
    within(async {
        client.ready().await.map_err(Status::from)?;
        let path = PathAndQuery::from_static("/demo.v1.Greeter/SayHello");
        let codec = ProstCodec::<HelloRequest, HelloReply>::default();
        let response = client.unary(request, path, codec).await?;
        Ok(response.into_inner())
    })
    .await
}

async fn within<F: Future>(future: F) -> F::Output {
    let outcome = timeout(PATIENCE, future).await;
    outcome.unwrap_or_else(|_| panic!("nothing happened within {PATIENCE:?}"))
}

/// The error that was expected, or a sentence about what came instead.
fn expect<T: std::fmt::Debug>(
    outcome: Result<T, Status>,
    code: Code,
    texts: &[&str],
) -> Result<String, String> {
    let status = match outcome {
        Ok(reply) => return Err(format!("answered {reply:?}; expected {code:?}")),
        Err(status) => status,
    };
    let seen = format!("{:?}: {}", status.code(), status.message());
    if status.code() != code {
        return Err(format!("{seen}; expected {code:?}"));
    }
    match texts.iter().find(|text| !status.message().contains(*text)) {
        None => Ok(seen),
        Some(missing) => Err(format!("{seen}; expected the text to say `{missing}`")),
    }
}

#[derive(Default)]
struct Report {
    all: usize,
    wrong: usize,
}

impl Report {
    fn add(&mut self, what: &str, outcome: Result<String, String>) {
        self.all += 1;
        let (verdict, seen) = match outcome {
            Ok(seen) => ("ok", seen),
            Err(seen) => {
                self.wrong += 1;
                ("WRONG", seen)
            }
        };
        println!("{verdict:<6}{what:<36} {seen}");
    }
}
