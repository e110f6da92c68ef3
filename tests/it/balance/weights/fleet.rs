//! Backends in memory that report their load with each call, in time that is made.

use std::{
    collections::BTreeMap,
    convert::Infallible,
    future::{Future, pending},
    pin::Pin,
    sync::{Arc, Mutex},
    task::{Context, Poll},
    time::Duration,
};

use http::{HeaderMap, HeaderValue, Request, Response};
use http_body_util::BodyExt;
use prost::Message;
use testing::{
    GREETER, GreeterService,
    greeter::greeter_server::GreeterServer,
    kit::{self, Network, ServingStatus::Serving},
    orca::OrcaLoadReport,
    say,
};
use tokio::{sync::mpsc, time::timeout};
use tonic::{body::Body, metadata::MetadataValue};
use tonic_health_channel::{
    Channel, ChannelBuilder, Endpoint, ServiceConfig, channel::Change, discover,
};
use tower::Service;

/// The values of `endpoint-load-metrics-bin` with which each response ends.
#[derive(Clone, Default)]
pub(super) struct Load(Arc<Mutex<Vec<HeaderValue>>>);

impl Load {
    /// Requests per second, and the part of the application that they use.
    pub(super) fn is(&self, rate: f64, utilization: f64) {
        self.is_report(OrcaLoadReport {
            rps_fractional: rate,
            application_utilization: utilization,
            ..OrcaLoadReport::default()
        });
    }

    pub(super) fn is_report(&self, report: OrcaLoadReport) {
        let value = MetadataValue::from_bytes(&report.encode_to_vec());
        let value = HeaderValue::from_bytes(value.as_encoded_bytes()).expect("base64");
        self.are(vec![value]);
    }

    pub(super) fn is_text(&self, values: &[&'static str]) {
        self.are(
            values
                .iter()
                .copied()
                .map(HeaderValue::from_static)
                .collect(),
        );
    }

    fn are(&self, values: Vec<HeaderValue>) {
        *self.0.lock().expect("no holder panics") = values;
    }

    fn add_to(&self, last: &mut HeaderMap) {
        for value in &*self.0.lock().expect("no holder panics") {
            last.append("endpoint-load-metrics-bin", value.clone());
        }
    }
}

/// A service whose responses end with its load.
#[derive(Clone)]
struct Reporting<S> {
    inner: S,
    load: Load,
}

impl<S> Service<Request<Body>> for Reporting<S>
where
    S: Service<Request<Body>, Response = Response<Body>, Error = Infallible>,
    S::Future: Send + 'static,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let (answer, load) = (self.inner.call(request), self.load.clone());
        Box::pin(async move {
            let (mut head, body) = answer.await?.into_parts();
            // Headers that are all there is.
            if head.headers.contains_key("grpc-status") {
                load.add_to(&mut head.headers);
            }
            let body = body.map_frame(move |mut frame| {
                if let Some(trailers) = frame.trailers_mut() {
                    load.add_to(trailers);
                }
                frame
            });
            Ok(Response::from_parts(head, Body::new(body)))
        })
    }
}

pub(super) struct Reporter {
    pub(super) name: &'static str,
    pub(super) backend: kit::Backend,
    pub(super) load: Load,
}

/// Backends that report, and how a channel gets to know of them.
pub(super) struct Fleet {
    network: Network,
    changes: mpsc::Sender<Change<&'static str, Endpoint>>,
    pub(super) reporters: Vec<Reporter>,
}

impl Fleet {
    /// With backends of these names, and the builder of a channel over them.
    pub(super) async fn start(names: &[&'static str]) -> (Self, ChannelBuilder) {
        let (changes, source) = discover::push(64);
        let mut fleet = Self {
            network: Network::new(),
            changes,
            reporters: Vec::new(),
        };
        for name in names {
            fleet.add(name).await;
        }
        (fleet, Channel::balance(source))
    }

    /// One more backend, which reports nothing yet.
    pub(super) async fn add(&mut self, name: &'static str) {
        self.add_at(name, &name.to_lowercase()).await;
    }

    /// The same, at a host of this name. It may take the place of a backend.
    pub(super) async fn add_at(&mut self, name: &'static str, host: &str) {
        let load = Load::default();
        let service = Reporting {
            inner: GreeterServer::new(GreeterService::new(name)),
            load: load.clone(),
        };
        let backend = kit::Backend::builder(service)
            .in_network(&self.network, &format!("{host}.test"))
            .health(GREETER, Serving)
            .start();
        self.change(Change::Insert(name, backend.endpoint())).await;
        self.reporters.push(Reporter {
            name,
            backend,
            load,
        });
    }

    /// The source takes it back.
    pub(super) async fn remove(&mut self, name: &'static str) {
        self.change(Change::Remove(name)).await;
        self.reporters.retain(|reporter| reporter.name != name);
    }

    async fn change(&self, change: Change<&'static str, Endpoint>) {
        let sent = self.changes.send(change).await;
        assert!(sent.is_ok(), "the channel listens to its source");
    }

    pub(super) fn load(&self, name: &str) -> &Load {
        &self.reporter(name).load
    }

    pub(super) fn reporter(&self, name: &str) -> &Reporter {
        let mut reporters = self.reporters.iter();
        let found = reporters.find(|reporter| reporter.name == name);
        found.expect("a backend of this name")
    }

    /// How many of so many calls each backend has, in the order of the source.
    pub(super) async fn spread(&self, channel: &Channel, calls: usize) -> Vec<usize> {
        let mut counts: BTreeMap<String, usize> = BTreeMap::new();
        for _ in 0..calls {
            let reply = say(channel, "you").await.expect("an answer");
            *counts.entry(reply.backend).or_default() += 1;
        }
        let names = self.reporters.iter().map(|reporter| reporter.name);
        names.map(|name| counts.remove(name).unwrap_or(0)).collect()
    }
}

/// Lets the time pass, and all that is due in it be done.
pub(super) async fn pass(time: Duration) {
    let nothing = timeout(time, pending::<Infallible>()).await;
    nothing.expect_err("nothing happens but time");
}

/// A config with these fields of `weighted_round_robin`.
pub(super) fn weighted(fields: &str) -> ServiceConfig {
    let json = format!(r#"{{"loadBalancingConfig": [{{"weighted_round_robin": {{{fields}}}}}]}}"#);
    json.parse().expect("a valid service config")
}

/// The same, with weights that count from the first report on.
pub(super) fn at_once(fields: &str) -> ServiceConfig {
    weighted(&format!(r#""blackoutPeriod": "0s"{fields}"#))
}
