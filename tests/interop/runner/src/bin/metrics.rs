//! The metrics of a channel beside those of grpc-go's own plugin, for the same calls.
//!
//! ```text
//! $ tests/interop/run --metrics
//! 14 metrics are compared with those of grpc-go 1.85.0 in 4 scenes
//! as expected: grpc.subchannel.open_connections, unit: `{connection}` here, `{attempt}` there
//! …
//! ```
//!
//! `tests/interop/go-metrics` has the servers and the calls of grpc-go, and in its README the
//! differences that are expected. Exits with 1 at another difference, and if one of these is gone.

use std::{
    collections::{BTreeMap, BTreeSet},
    env,
    error::Error,
    fs,
    io::{BufRead, BufReader, Lines},
    process::{Child, ChildStdout, Command, ExitCode, Stdio},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use serde::{Deserialize, Serialize};
use tokio::time::Instant;
use tonic::Request;
use tonic_health_channel::{
    Channel, discover,
    metrics::{
        self, Counter, Histogram, Instrument, InstrumentKind, Label, Meter, Metrics, UpDown,
    },
};

/// The greeter of `proto/`.
#[allow(unreachable_pub, reason = "generated")]
mod greeter {
    tonic::include_proto!("demo.v1");
}

use greeter::{HelloRequest, greeter_client::GreeterClient};

type Result<T> = std::result::Result<T, Box<dyn Error>>;

const USAGE: &str = "usage: metrics GO_PROGRAM README";

const PATIENCE: Duration = Duration::from_secs(10);

/// Each channel calls its target what it likes: grpc-go cannot be told the same.
const TARGET: &str = "grpc.target";

/// Calls are counted in the scene that has the same ones here and there.
const COUNTED: &str = "calls";

/// The scenes, for both sides.
#[derive(Serialize)]
struct Plan {
    metrics: Vec<&'static str>,
    optional_labels: BTreeSet<&'static str>,
    scenes: Vec<Scene>,
}

#[derive(Serialize)]
struct Scene {
    name: &'static str,
    config: &'static str,
    backends: &'static [&'static str],
    calls: &'static [&'static str],
    until: &'static [&'static str],
    /// Whether calls go on until then.
    calls_on: bool,
}

const SCENES: [Scene; 5] = [
    Scene {
        name: COUNTED,
        config: r#"{"methodConfig": [{"name": [{"service": "demo.v1.Greeter"}], "retryPolicy": {
            "maxAttempts": 3, "initialBackoff": "0.01s", "maxBackoff": "0.01s",
            "backoffMultiplier": 1, "retryableStatusCodes": ["UNAVAILABLE"]}}]}"#,
        backends: &["good"],
        calls: &["you", "you", "fail:5", "again:1", "hold"],
        until: &[],
        calls_on: false,
    },
    Scene {
        name: "connections",
        config: r#"{"loadBalancingConfig": [{"round_robin": {}}]}"#,
        backends: &["good", "refuses"],
        calls: &["close"],
        until: &[
            "grpc.subchannel.connection_attempts_succeeded",
            "grpc.subchannel.connection_attempts_failed",
            "grpc.subchannel.disconnections",
            "grpc.subchannel.open_connections",
        ],
        calls_on: false,
    },
    Scene {
        name: "weights",
        config: r#"{"loadBalancingConfig": [{"weighted_round_robin": {
            "weightUpdatePeriod": "0.1s"}}]}"#,
        backends: &["good", "bad"],
        calls: &["you"],
        until: &[
            "grpc.lb.wrr.rr_fallback",
            "grpc.lb.wrr.endpoint_weight_not_yet_usable",
            "grpc.lb.wrr.endpoint_weights",
        ],
        calls_on: true,
    },
    Scene {
        name: "ejected",
        config: r#"{"loadBalancingConfig": [{"outlier_detection_experimental": {
            "interval": "0.2s",
            "failurePercentageEjection": {"threshold": 30, "minimumHosts": 2, "requestVolume": 1,
                "enforcementPercentage": 100},
            "childPolicy": [{"round_robin": {}}]}}]}"#,
        backends: &["good", "bad"],
        calls: &["you"],
        until: &["grpc.lb.outlier_detection.ejections_enforced"],
        calls_on: true,
    },
    Scene {
        name: "not_ejected",
        config: r#"{"loadBalancingConfig": [{"outlier_detection_experimental": {
            "interval": "0.2s",
            "failurePercentageEjection": {"threshold": 30, "minimumHosts": 2, "requestVolume": 1,
                "enforcementPercentage": 0},
            "childPolicy": [{"round_robin": {}}]}}]}"#,
        backends: &["good", "bad"],
        calls: &["you"],
        until: &["grpc.lb.outlier_detection.ejections_unenforced"],
        calls_on: true,
    },
];

/// The first line of the program in Go.
#[derive(Deserialize)]
struct Ports {
    good: u16,
    bad: u16,
    refuses: u16,
    version: String,
}

/// The second one.
#[derive(Deserialize)]
struct Told {
    descriptors: BTreeMap<String, Descriptor>,
    scenes: BTreeMap<String, BTreeMap<String, Recorded>>,
}

#[derive(Deserialize)]
struct Descriptor {
    unit: String,
    kind: String,
    labels: Option<BTreeSet<String>>,
    optional_labels: Option<BTreeSet<String>>,
    default: bool,
}

/// An instrument, as it was recorded in a scene.
#[derive(Clone, Deserialize)]
struct Recorded {
    unit: String,
    kind: String,
    bounds: Option<Vec<f64>>,
    series: Vec<Series>,
}

#[derive(Clone, Deserialize)]
struct Series {
    labels: BTreeMap<String, String>,
    count: i64,
}

/// A difference: what of a metric, here and there.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Difference {
    metric: String,
    what: String,
    here: String,
    there: String,
}

/// The program in Go. It ends when this is dropped, as that closes its stdin.
struct Peer {
    child: Child,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Peer {
    fn start(program: &str, plan: &Plan) -> Result<Self> {
        let mut child = Command::new(program)
            .arg(serde_json::to_string(plan)?)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let out = child.stdout.take().ok_or("it has no stdout")?;
        let lines = BufReader::new(out).lines();
        Ok(Self { child, lines })
    }

    fn line<T: for<'a> Deserialize<'a>>(&mut self) -> Result<T> {
        let line = self.lines.next().ok_or("grpc-go has ended early")??;
        Ok(serde_json::from_str(&line)?)
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        drop(self.child.stdin.take());
        // It reads stdin once its calls are made.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn kind(of: InstrumentKind) -> &'static str {
    match of {
        InstrumentKind::Counter | InstrumentKind::Observed => "counter",
        InstrumentKind::UpDown => "up-down",
        InstrumentKind::Histogram => "histogram",
        _ => "new",
    }
}

/// The series of a metric, by their labels.
type SeriesOf = BTreeMap<Vec<Label>, i64>;

/// All that is recorded.
#[derive(Clone, Default)]
struct Records(Arc<Mutex<BTreeMap<&'static str, SeriesOf>>>);

/// 1 series.
struct Handle {
    records: Records,
    name: &'static str,
    labels: Vec<Label>,
}

impl Handle {
    fn add_to(&self, n: i64) {
        let mut records = self
            .records
            .0
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let series = records.entry(self.name).or_default();
        *series.entry(self.labels.clone()).or_default() += n;
    }
}

impl Counter for Handle {
    fn add(&self, n: u64) {
        self.add_to(i64::try_from(n).unwrap_or(i64::MAX));
    }
}

impl UpDown for Handle {
    fn add(&self, n: i64) {
        self.add_to(n);
    }
}

impl Histogram for Handle {
    fn record(&self, _: f64) {
        self.add_to(1);
    }
}

impl Records {
    fn handle(&self, of: &'static Instrument, labels: &[Label]) -> Arc<Handle> {
        Arc::new(Handle {
            records: self.clone(),
            name: of.name(),
            labels: labels.to_vec(),
        })
    }

    fn recorded(&self) -> BTreeMap<String, Recorded> {
        let records = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let all = Instrument::all().iter().filter_map(|of| {
            let series = records
                .get(of.name())?
                .iter()
                .map(|(labels, count)| Series {
                    labels: labels
                        .iter()
                        .map(|one| (one.key().to_owned(), one.value().to_owned()))
                        .collect(),
                    count: *count,
                });
            let recorded = Recorded {
                unit: of.unit().to_owned(),
                kind: kind(of.kind()).to_owned(),
                bounds: Some(of.buckets().to_vec()),
                series: series.collect(),
            };
            Some((of.name().to_owned(), recorded))
        });
        all.filter(|(name, _)| name.starts_with("grpc.")).collect()
    }
}

impl Meter for Records {
    fn counter(&self, of: &'static Instrument, labels: &[Label]) -> Arc<dyn Counter> {
        self.handle(of, labels)
    }
    fn up_down(&self, of: &'static Instrument, labels: &[Label]) -> Arc<dyn UpDown> {
        self.handle(of, labels)
    }
    fn histogram(&self, of: &'static Instrument, labels: &[Label]) -> Arc<dyn Histogram> {
        self.handle(of, labels)
    }
    fn observe(
        &self,
        _: &'static Instrument,
        _: &[Label],
        _: Arc<dyn metrics::Observed>,
    ) -> Box<dyn std::any::Any + Send + Sync> {
        Box::new(())
    }
}

/// The instruments that gRFCs define.
fn of_grpc() -> impl Iterator<Item = &'static Instrument> {
    let all = Instrument::all().iter().copied();
    all.filter(|one| one.name().starts_with("grpc."))
}

/// The calls of a scene by this crate's channel.
async fn play(scene: &Scene, ports: &Ports, plan: &Plan) -> Result<BTreeMap<String, Recorded>> {
    let records = Records::default();
    let metrics = Metrics::new(records.clone())
        .enable(plan.metrics.iter().copied())
        .optional_labels(plan.optional_labels.iter().copied());
    let backends = scene.backends.iter().map(|name| match *name {
        "good" => ports.good,
        "bad" => ports.bad,
        _ => ports.refuses,
    });
    let backends = backends.map(|port| format!("http://127.0.0.1:{port}"));
    let channel = Channel::balance(discover::list(backends)?)
        .service_config(scene.config.parse()?)
        .name(scene.name)
        .metrics(metrics)?
        .build();
    for name in scene.calls {
        call(&channel, name).await;
    }
    let end = Instant::now() + PATIENCE;
    loop {
        let recorded = records.recorded();
        let mut missing = scene.until.iter();
        let Some(missing) = missing.find(|name| !recorded.contains_key(**name)) else {
            return Ok(recorded);
        };
        if Instant::now() > end {
            return Err(format!("{}: {missing} is not recorded", scene.name).into());
        }
        if scene.calls_on {
            call(&channel, "you").await;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

async fn call(channel: &Channel, name: &str) {
    let mut request = Request::new(HelloRequest {
        name: name.to_owned(),
        count: 0,
    });
    request.set_timeout(match name {
        "hold" => Duration::from_millis(100),
        _ => PATIENCE,
    });
    // Its status is a label of its metrics.
    let _ = GreeterClient::new(channel.clone()).say_hello(request).await;
}

/// `a, b`
fn list<T: AsRef<str>>(words: impl IntoIterator<Item = T>) -> String {
    let words: Vec<_> = words.into_iter().collect();
    let words: Vec<_> = words.iter().map(AsRef::as_ref).collect();
    match words.is_empty() {
        true => "none".to_owned(),
        false => words.join(", "),
    }
}

/// Compares what was registered: for all metrics, recorded or not.
fn compare_registered(told: &Told) -> Vec<Difference> {
    let per_call = &told.scenes[COUNTED];
    let mut found = Vec::new();
    for of in of_grpc() {
        let mut differs = |what: &str, here: &str, there: &str| {
            if here != there {
                found.push(Difference {
                    metric: of.name().to_owned(),
                    what: what.to_owned(),
                    here: here.to_owned(),
                    there: there.to_owned(),
                });
            }
        };
        let Some(there) = told.descriptors.get(of.name()) else {
            let is_there = per_call.contains_key(of.name());
            differs("metric", "there", if is_there { "there" } else { "absent" });
            continue;
        };
        differs("unit", of.unit(), &there.unit);
        differs("kind", kind(of.kind()), &there.kind);
        let is_default = |is: bool| if is { "on" } else { "off" };
        let default = is_default(there.default);
        differs("default", is_default(of.is_default()), default);
        let labels: BTreeSet<_> = of.labels().iter().collect();
        let theirs = there.labels.iter().flatten();
        differs("labels", &list(labels), &list(theirs));
        let labels: BTreeSet<_> = of.optional_labels().iter().collect();
        let theirs = there.optional_labels.iter().flatten();
        differs("optional labels", &list(labels), &list(theirs));
    }
    found
}

/// Compares what was recorded in a scene.
fn compare_recorded(
    scene: &str,
    here: &BTreeMap<String, Recorded>,
    there: &BTreeMap<String, Recorded>,
) -> Vec<Difference> {
    let mut found = BTreeSet::new();
    // Only the scene `calls` has the same ones on both sides.
    let is_compared = |name: &&String| scene == COUNTED || !name.starts_with("grpc.client.");
    let names: BTreeSet<_> = here
        .keys()
        .chain(there.keys())
        .filter(is_compared)
        .collect();
    for name in names {
        let mut differs = |what: &str, here: String, there: String| {
            if here != there {
                found.insert(Difference {
                    metric: name.clone(),
                    what: what.to_owned(),
                    here,
                    there,
                });
            }
        };
        let (Some(here), Some(there)) = (here.get(name), there.get(name)) else {
            let text = |of: bool| if of { "yes" } else { "no" }.to_owned();
            let (here, there) = (here.contains_key(name), there.contains_key(name));
            differs(&format!("recorded in {scene}"), text(here), text(there));
            continue;
        };
        differs("unit", here.unit.clone(), there.unit.clone());
        differs("kind", here.kind.clone(), there.kind.clone());
        let bounds = |of: &Recorded| {
            let bounds = of.bounds.iter().flatten();
            list(bounds.map(f64::to_string))
        };
        differs("bounds", bounds(here), bounds(there));
        let is_counted = scene == COUNTED && name.starts_with("grpc.client.");
        let (here, there) = (series(here, is_counted), series(there, is_counted));
        let keys = |all: &BTreeMap<String, BTreeMap<String, i64>>| list(all.keys());
        differs("recorded labels", keys(&here), keys(&there));
        for (key, values) in &here {
            let Some(theirs) = there.get(key) else {
                continue;
            };
            let text = |values: &BTreeMap<String, i64>| {
                let values = values.iter().map(|(value, count)| match is_counted {
                    true => format!("{value:?}: {count}"),
                    false => format!("{value:?}"),
                });
                list(values)
            };
            differs(&format!("values of {key}"), text(values), text(theirs));
        }
    }
    found.into_iter().collect()
}

/// The values of each label, with their counts.
fn series(of: &Recorded, is_counted: bool) -> BTreeMap<String, BTreeMap<String, i64>> {
    let mut all: BTreeMap<String, BTreeMap<String, i64>> = BTreeMap::new();
    for one in &of.series {
        for (key, value) in &one.labels {
            let value = match &**key {
                TARGET => "any",
                _ => value,
            };
            let count = if is_counted { one.count } else { 0 };
            *all.entry(key.clone())
                .or_default()
                .entry(value.to_owned())
                .or_default() += count;
        }
    }
    all
}

/// The rows of the table in the README, each with its reason.
fn expected(readme: &str) -> Result<BTreeMap<Difference, String>> {
    let mut rows = BTreeMap::new();
    for line in readme.lines().filter(|line| line.starts_with("| `grpc.")) {
        let cells: Vec<_> = line.trim_matches('|').split('|').map(str::trim).collect();
        let [metric, what, here, there, why] = cells[..] else {
            return Err(format!("not 5 cells: {line}").into());
        };
        let plain = |cell: &str| cell.trim_matches('`').to_owned();
        let row = Difference {
            metric: plain(metric),
            what: plain(what),
            here: plain(here),
            there: plain(there),
        };
        if why.is_empty() || rows.insert(row, why.to_owned()).is_some() {
            return Err(format!("twice, or without a reason: {line}").into());
        }
    }
    Ok(rows)
}

async fn run(program: &str, readme: &str) -> Result<bool> {
    let mut expected = expected(&fs::read_to_string(readme)?)?;
    let optional = of_grpc().flat_map(|one| one.optional_labels().iter().copied());
    let plan = Plan {
        metrics: of_grpc().map(Instrument::name).collect(),
        optional_labels: optional
            .filter(|label| label.starts_with("grpc."))
            .collect(),
        scenes: SCENES.into(),
    };
    let mut peer = Peer::start(program, &plan)?;
    let ports: Ports = peer.line()?;
    let told: Told = peer.line()?;
    let mut found: BTreeSet<_> = compare_registered(&told).into_iter().collect();
    let mut compared = BTreeSet::new();
    for scene in &plan.scenes {
        let here = play(scene, &ports, &plan).await?;
        let there = &told.scenes[scene.name];
        found.extend(compare_recorded(scene.name, &here, there));
        compared.extend(here.into_keys().filter(|name| there.contains_key(name)));
    }
    println!(
        "{} metrics are compared with those of grpc-go {} in {} scenes",
        compared.len(),
        ports.version,
        plan.scenes.len()
    );
    let mut is_good = compared.len() >= 12;
    for one in found {
        let Difference {
            metric,
            what,
            here,
            there,
        } = &one;
        let text = format!("{metric}, {what}: `{here}` here, `{there}` in grpc-go");
        match expected.remove(&one) {
            Some(why) => println!("as expected: {text}: {why}"),
            None => {
                println!("UNEXPECTED: {text}");
                is_good = false;
            }
        }
    }
    for (gone, _) in expected {
        println!("GONE: the table has a difference that is not there: {gone:?}");
        is_good = false;
    }
    Ok(is_good)
}

#[tokio::main]
async fn main() -> ExitCode {
    let words: Vec<_> = env::args().skip(1).collect();
    let [program, readme] = &words[..] else {
        eprintln!("{USAGE}");
        return ExitCode::from(2);
    };
    match run(program, readme).await {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}
