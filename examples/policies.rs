//! The same load under each load-balancing policy, over 5 servers that are not alike.
//!
//! ```text
//! $ cargo run --example policies
//! 1200 calls of 16 callers; slow takes 20 ms and the others 2 ms, flaky fails 3 of 10 calls, and
//! draining shuts down after 400 calls
//!
//!                                       fast-1  fast-2   slow   flaky draining     p50     p99  failed
//! pick_first                             100 %     0 %    0 %     0 %      0 %  3.5 ms  4.9 ms     0 %
//! round_robin                             23 %    23 %   23 %    23 %      7 %  3.8 ms   22 ms   6.7 %
//! …
//! ```
//!
//! Exits with 1 if a policy does not do what it is for.

mod common;

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use common::{
    Result,
    backend::{Control, GREETER, listen},
    greeter::{
        HelloReply, HelloRequest,
        greeter_client::GreeterClient,
        greeter_server::{Greeter, GreeterServer},
    },
    report::short,
    story::{check, within},
};
use futures_util::stream::Empty;
use http_body_util::BodyExt;
use prost::Message;
use tokio::{task::JoinSet, time::Instant};
use tonic::{
    Code, Request, Response, Status, Streaming,
    body::Body,
    metadata::{MetadataMap, MetadataValue},
    transport::{Server, server::TcpIncoming},
};
use tonic_health_channel::{Channel, Endpoint, ServiceConfig, discover};
use tower::util::MapResponseLayer;

type Answer<T> = std::result::Result<Response<T>, Status>;
type Nothing = Empty<std::result::Result<HelloReply, Status>>;

const CALLS: usize = 1_200;
const CALLERS: usize = 16;
/// After so many calls the server with the name `draining` shuts down.
const UNTIL_DRAIN: usize = CALLS / 3;
/// Calls at the end of a run that are counted apart: by then outliers are ejected.
const LAST: usize = CALLS / 4;

const NAMES: [&str; 5] = ["fast-1", "fast-2", "slow", "flaky", "draining"];

/// Each policy, with its part of the service config.
const POLICIES: [(&str, &str); 7] = [
    ("pick_first", r#"{"pick_first": {}}"#),
    ("round_robin", r#"{"round_robin": {}}"#),
    (
        "least_request_experimental",
        r#"{"least_request_experimental": {"choiceCount": 2}}"#,
    ),
    (
        "weighted_round_robin",
        r#"{"weighted_round_robin": {"blackoutPeriod": "0s", "weightUpdatePeriod": "0.1s"}}"#,
    ),
    (
        "ring_hash_experimental",
        r#"{"ring_hash_experimental": {"requestHashHeader": "x-user"}}"#,
    ),
    (
        "random_subsetting_experimental",
        r#"{"random_subsetting_experimental":
            {"subsetSize": 3, "childPolicy": [{"round_robin": {}}]}}"#,
    ),
    (
        "outlier_detection_experimental",
        r#"{"outlier_detection_experimental": {
            "interval": "0.1s", "baseEjectionTime": "30s", "maxEjectionPercent": 40,
            "failurePercentageEjection": {"threshold": 15, "minimumHosts": 3, "requestVolume": 10},
            "childPolicy": [{"round_robin": {}}]}}"#,
    ),
];

/// The part that is used here of `xds.data.orca.v3.OrcaLoadReport`.
#[derive(Message)]
struct LoadReport {
    #[prost(double, tag = "6")]
    rps_fractional: f64,
    #[prost(double, tag = "7")]
    eps: f64,
    #[prost(double, tag = "9")]
    application_utilization: f64,
}

/// A server of a kind of its own.
#[derive(Clone)]
struct Kind {
    name: &'static str,
    takes: Duration,
    /// Of 10 calls, so many fail.
    fails: usize,
    calls: Arc<AtomicUsize>,
}

impl Kind {
    fn named(name: &'static str) -> Self {
        Self {
            name,
            takes: Duration::from_millis(if name == "slow" { 20 } else { 2 }),
            fails: if name == "flaky" { 3 } else { 0 },
            calls: Arc::default(),
        }
    }

    /// The trailer in which it reports its load. It says how many calls a second it could serve
    /// at full utilization, and how many of them fail.
    fn report(&self) -> Result<MetadataMap> {
        let rps = 1.0 / self.takes.as_secs_f64();
        let report = LoadReport {
            rps_fractional: rps,
            eps: rps * self.fails as f64 / 10.0,
            application_utilization: 1.0,
        };
        let mut trailers = MetadataMap::new();
        let value = MetadataValue::from_bytes(&report.encode_to_vec());
        trailers.insert_bin("endpoint-load-metrics-bin", value);
        Ok(trailers)
    }

    /// Serves on a free port until `control` is told to shut down.
    async fn start(self, control: &Control) -> Result<Endpoint> {
        let listener = listen(([127, 0, 0, 1], 0).into()).await?;
        let endpoint = Endpoint::new(format!("http://{}", listener.local_addr()?))?;
        let endpoint = endpoint.label(self.name);
        let report = self.report()?.into_headers();
        // A call that fails has no trailers but its headers.
        let reports = move |mut response: http::Response<Body>| {
            let report = report.clone();
            if response.headers().contains_key("grpc-status") {
                response.headers_mut().extend(report);
                return response;
            }
            response.map(|body| Body::new(body.with_trailers(async move { Some(Ok(report)) })))
        };
        let drain = control.drain();
        let server = Server::builder()
            .layer(MapResponseLayer::new(reports))
            .add_service(control.health_service())
            .add_service(GreeterServer::new(self))
            .serve_with_incoming_shutdown(TcpIncoming::from(listener), drain);
        tokio::spawn(server);
        Ok(endpoint)
    }
}

#[tonic::async_trait]
impl Greeter for Kind {
    type SayHelloManyStream = Nothing;
    type ChatStream = Nothing;

    async fn say_hello(&self, request: Request<HelloRequest>) -> Answer<HelloReply> {
        tokio::time::sleep(self.takes).await;
        let turn = self.calls.fetch_add(1, Relaxed);
        if turn * 7 % 10 < self.fails {
            return Err(Status::unavailable(self.name));
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

/// One call that has ended.
struct Ended {
    began: usize,
    user: usize,
    backend: String,
    failed: bool,
    took: Duration,
}

/// How a policy did.
struct Outcome {
    ended: Vec<Ended>,
}

impl Outcome {
    fn share(&self, name: &str) -> f64 {
        let by = self.ended.iter().filter(|ended| ended.backend == name);
        by.count() as f64 / self.ended.len() as f64
    }

    fn quantile(&self, quantile: f64) -> Duration {
        let mut times: Vec<_> = self.ended.iter().map(|ended| ended.took).collect();
        times.sort();
        times[((times.len() - 1) as f64 * quantile) as usize]
    }

    /// The share of calls that failed, of those that began last.
    fn failed_of_last(&self, last: usize) -> f64 {
        let counted = self.ended.iter();
        let counted = counted.filter(|ended| ended.began >= CALLS - last);
        counted.filter(|ended| ended.failed).count() as f64 / last as f64
    }

    fn print(&self, name: &str) {
        let percent = |share: f64, width| match share {
            0.0 => format!("{:>width$}", "0 %"),
            _ => format!("{:>width$}", format!("{:.1} %", share * 100.0)),
        };
        let shares = NAMES.map(|name| percent(self.share(name), 9));
        println!(
            "{name:<33}{} {:>8} {:>8} {}",
            shares.join(""),
            short(self.quantile(0.5)),
            short(self.quantile(0.99)),
            percent(self.failed_of_last(CALLS), 8),
        );
    }
}

/// The load under a policy, on servers of its own.
async fn run(policy: &str) -> Result<Outcome> {
    let mut endpoints = Vec::new();
    let mut controls = Vec::new();
    for name in NAMES {
        let control = Control::new();
        endpoints.push(Kind::named(name).start(&control).await?);
        controls.push(control);
    }
    let config: ServiceConfig = format!(
        r#"{{"loadBalancingConfig": [{policy}],
            "healthCheckConfig": {{"serviceName": "{GREETER}"}}}}"#
    )
    .parse()?;
    let channel = Channel::balance(discover::list(endpoints)?)
        .service_config(config)
        .build();
    channel
        .wait_until_ready_within(Duration::from_secs(5))
        .await?;
    let begun = Arc::new(AtomicUsize::new(0));
    let mut callers = JoinSet::new();
    for _ in 0..CALLERS {
        let (channel, begun, draining) = (channel.clone(), begun.clone(), controls[4].clone());
        callers.spawn(call_in_turn(channel, begun, draining));
    }
    let ended = within("the calls to end", callers.join_all()).await?;
    for control in controls {
        control.shut_down();
    }
    let ended = ended.into_iter().flatten().collect();
    Ok(Outcome { ended })
}

/// Calls until all callers together have made all calls.
async fn call_in_turn(channel: Channel, begun: Arc<AtomicUsize>, draining: Control) -> Vec<Ended> {
    let mut client = GreeterClient::new(channel);
    let mut all = Vec::new();
    loop {
        let began = begun.fetch_add(1, Relaxed);
        if began >= CALLS {
            return all;
        }
        if began == UNTIL_DRAIN {
            draining.shut_down();
        }
        let user = began % 40;
        let mut request = Request::new(HelloRequest::default());
        request.set_timeout(Duration::from_secs(5));
        if let Ok(name) = format!("user-{user}").parse() {
            request.metadata_mut().insert("x-user", name);
        }
        let start = Instant::now();
        let reply = client.say_hello(request).await;
        let took = start.elapsed();
        let (backend, failed) = match reply {
            Ok(reply) => (reply.into_inner().backend, false),
            // The one that fails says its name, and nothing else.
            Err(status) if status.code() == Code::Unavailable => {
                (status.message().to_owned(), true)
            }
            Err(status) => (status.to_string(), true),
        };
        all.push(Ended {
            began,
            user,
            backend,
            failed,
            took,
        });
    }
}

/// Each policy does what it is for.
fn check_all(outcomes: &BTreeMap<&str, Outcome>) -> Result<()> {
    let of = |name: &str| &outcomes[name];
    let share = |policy, backend| of(policy).share(backend);
    for (policy, outcome) in outcomes {
        let others = outcome.ended.iter();
        let other = others.filter(|ended| ended.failed && ended.backend != "flaky");
        let lost = other.map(|ended| ended.backend.as_str()).next();
        check(lost.is_none(), || {
            format!("{policy}: a call was lost that no server failed: {lost:?}")
        })?;
    }
    let first = NAMES.map(|name| share("pick_first", name));
    check(first.contains(&1.0), || {
        format!("pick_first uses one backend: {first:?}")
    })?;
    let slow = share("round_robin", "slow");
    check(slow > 0.2, || format!("round_robin: slow has {slow}"))?;
    for (policy, of_that) in [
        ("least_request_experimental", 0.8),
        ("weighted_round_robin", 0.6),
    ] {
        let less = share(policy, "slow");
        check(less < slow * of_that, || {
            format!("{policy}: slow has {less}")
        })?;
    }
    let mut homes = BTreeMap::<_, BTreeMap<_, usize>>::new();
    for ended in &of("ring_hash_experimental").ended {
        let user = homes.entry(ended.user).or_default();
        *user.entry(&ended.backend).or_default() += 1;
    }
    let moved = homes.values().filter(|homes| homes.len() > 1);
    let strayed = moved.filter(|homes| !homes.contains_key(&"draining".to_owned()));
    check(strayed.count() == 0, || {
        "ring_hash: a user moved whose backend stayed".to_owned()
    })?;
    let subset = NAMES.map(|name| share("random_subsetting_experimental", name));
    let used = subset.iter().filter(|share| **share > 0.0).count();
    check(used <= 3, || format!("a subset of 3 has {used} backends"))?;
    let failed = of("outlier_detection_experimental").failed_of_last(LAST);
    check(failed < 0.01, || {
        format!("outlier detection: {failed} of the last calls fail")
    })
}

#[tokio::main]
async fn main() -> Result<()> {
    common::log_to_stderr();
    println!(
        "{CALLS} calls of {CALLERS} callers; slow takes 20 ms and the others 2 ms, flaky fails 3 \
         of 10 calls, and\ndraining shuts down after {UNTIL_DRAIN} calls\n"
    );
    let names: String = NAMES.iter().map(|name| format!("{name:>9}")).collect();
    println!(
        "{:<33}{names} {:>8} {:>8} {:>8}",
        "", "p50", "p99", "failed"
    );
    let mut outcomes = BTreeMap::new();
    for (name, policy) in POLICIES {
        let outcome = run(policy).await?;
        outcome.print(name);
        outcomes.insert(name, outcome);
    }
    check_all(&outcomes)
}
