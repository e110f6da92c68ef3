//! tower's own balancer over health-checked backends.
//!
//! `round_robin` gives every backend the same number of calls. Where backends are not
//! equally quick, power of two choices does better: of two backends at random it takes
//! the one with fewer calls in flight. tower has that balancer, this crate has the
//! backends: connected, watched, and only as long as they are healthy.
//!
//! ```text
//! $ cargo run --example tower_p2c
//! A and B take 5 ms for a call, C takes 50 ms; 16 callers make 400 calls.
//!
//! all are healthy           A 182   B 180   C  38
//! A says NOT_SERVING        A   0   B 343   C  57
//! A says SERVING again      A 176   B 185   C  39
//! ```
//!
//! Exits with 1 if a call fails, or goes to an unhealthy backend.

mod common;

use std::{collections::BTreeMap, time::Duration};

use common::{
    Result,
    backend::{self, GREETER, GreeterService},
    greeter::{HelloRequest, greeter_client::GreeterClient},
};
use grpc_health_service::ServingStatus::{NotServing, Serving};
use http::{Request, Response};
use tokio::task::JoinSet;
use tonic::{Status, body::Body};
use tonic_health_channel::{Channel, ConnectivityState::Ready, discover};
use tower::{ServiceExt, balance::p2c::Balance, buffer::Buffer, util::BoxCloneService};

const CALLERS: usize = 16;
const CALLS: usize = 400;

/// What a generated client sends its calls to, for any number of clients. Boxed, for
/// the compiler cannot see that calls on the bare type are `Send`.
type Balanced = BoxCloneService<Request<Body>, Response<Body>, Status>;

fn balanced(channel: &Channel) -> Balanced {
    let balance = Balance::new(channel.ready_backends());
    // A balancer has one caller, a buffer any number. A call that finds no healthy
    // backend waits in it; what is not to wait for ever gets a timeout here.
    let shared = Buffer::new(balance, CALLERS);
    BoxCloneService::new(shared.map_err(Status::from_error))
}

#[tokio::main]
async fn main() -> Result<()> {
    common::log_to_stderr();
    let quick = Duration::from_millis(5);
    let (a, a_control) = start("A", quick).await?;
    let (b, _b_control) = start("B", quick).await?;
    let (c, _c_control) = start("C", quick * 10).await?;

    let config = format!(r#"{{"healthCheckConfig": {{"serviceName": "{GREETER}"}}}}"#);
    let channel = Channel::balance(discover::list([a, b, c])?)
        .service_config(config.parse()?)
        .build();
    let balanced = balanced(&channel);
    println!(
        "A and B take 5 ms for a call, C takes 50 ms; {CALLERS} callers make {CALLS} calls.\n"
    );

    until_healthy(&channel, 3).await;
    show("all are healthy", &spread(&balanced).await?);

    a_control.set(None, NotServing);
    until_healthy(&channel, 2).await;
    let answered = spread(&balanced).await?;
    show("A says NOT_SERVING", &answered);
    if answered.contains_key("A") {
        return Err("an unhealthy backend got a call".into());
    }

    a_control.set(None, Serving);
    until_healthy(&channel, 3).await;
    show("A says SERVING again", &spread(&balanced).await?);
    Ok(())
}

async fn start(name: &str, takes: Duration) -> Result<(String, backend::Control)> {
    backend::start(GreeterService::new(name.to_owned()).takes(takes)).await
}

/// Waits until the channel knows that `n` backends are healthy.
async fn until_healthy(channel: &Channel, n: usize) {
    let mut watch = channel.watch_status();
    let healthy = watch.wait_for(|status| {
        let backends = status.backends().iter();
        backends.filter(|backend| backend.state() == Ready).count() == n
    });
    healthy.await;
}

/// Who answered how many of the calls.
async fn spread(balanced: &Balanced) -> Result<BTreeMap<String, usize>> {
    let mut callers = JoinSet::new();
    for _ in 0..CALLERS {
        let mut client = GreeterClient::new(balanced.clone());
        callers.spawn(async move {
            let mut backends = Vec::new();
            for _ in 0..CALLS / CALLERS {
                let reply = client.say_hello(HelloRequest::default()).await?;
                backends.push(reply.into_inner().backend);
            }
            Ok::<_, Status>(backends)
        });
    }
    let mut answered = BTreeMap::new();
    while let Some(backends) = callers.join_next().await {
        for backend in backends?? {
            *answered.entry(backend).or_default() += 1;
        }
    }
    Ok(answered)
}

fn show(when: &str, answered: &BTreeMap<String, usize>) {
    let count = |name| answered.get(name).copied().unwrap_or_default();
    let [a, b, c] = ["A", "B", "C"].map(count);
    println!("{when:<24}  A {a:>3}   B {b:>3}   C {c:>3}");
}
