//! The instructions of a unary call in the client, counted by callgrind. It is this crate's
//! channel beside tonic's, with a retry policy, with outlier detection, and with metrics.
//!
//! ```sh
//! cargo bench --bench instructions -- --check
//! ```
//!
//! `--metrics own,otel,bound,spans,unsampled` counts calls with these sinks of metrics and traces
//! instead.
//!
//! The client runs under valgrind, on one thread, 16 calls in flight; the lean
//! servers do not. Each side runs twice, and the difference of the two runs is of
//! 2,000 calls, without start, connections and `Watch`. Instructions do not depend on
//! how busy the machine is, but for the batches in which replies come. With
//! `--profile dev` there are eight times as many, and the ratio is nearly the same.

#[path = "../common/mod.rs"]
mod common;
mod sinks;

use std::{
    env, fs,
    process::{Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

use common::{
    Error, Result,
    channels::{connect_ours, connect_ours_as, connect_ours_by},
    frames::PAYLOAD,
    greeter::{HelloRequest, greeter_client::GreeterClient},
    process::{Kind, Servers, take_role},
};
use sinks::Sink;
use tokio::{runtime::Builder, task::JoinSet};
use tonic::{
    body::Body,
    client::GrpcService,
    codegen::StdError,
    transport::{self, Endpoint},
};
use tonic_health_channel::{
    ChannelBuilder,
    metrics::{Metrics, Prometheus},
};

/// Ours to `balance_list`, with `--check`. It is 0.68, and 0.72 without optimisation.
const AT_MOST: f64 = 0.85;
/// A call with a retry policy that does not fail, to one without, with `--check`. It is 1.028,
/// because the attempt is in a box of its own, and the throttle reads how the response ends.
const AT_MOST_WITH_POLICY: f64 = 1.035;
/// A call of a channel with outlier detection, to one without, with `--check`: 2 counters more.
/// It is 1.007.
const AT_MOST_WITH_DETECTION: f64 = 1.015;
/// A call of a channel that records metrics, to one without, with `--check`. It is 1.075: 2 clocks,
/// a look-up, 5 numbers, and a future of more than 1 KiB.
const AT_MOST_WITH_METRICS: f64 = 1.09;
/// Replies come in other batches each time, which is up to 0.4 % of a call.
const ROUNDS: usize = 3;
const BACKENDS: usize = 4;
const CALLERS: u64 = 16;
/// Calls of the two runs.
const CALLS: [u64; 2] = [500, 2_500];

const OURS: &str = "ours";
const OURS_RETRY: &str = "ours, retry policy";
const OURS_DETECTION: &str = "ours, outlier detection";
const OURS_METRICS: &str = "ours, metrics";
const BALANCE_LIST: &str = "balance_list";
/// As in the example of gRFC A6.
const RETRY_POLICY: &str = r#", "methodConfig": [{"name": [{}], "retryPolicy": {
    "maxAttempts": 4, "initialBackoff": "0.1s", "maxBackoff": "1s", "backoffMultiplier": 2,
    "retryableStatusCodes": ["UNAVAILABLE"]}}],
    "retryThrottling": {"maxTokens": 10, "tokenRatio": 0.1}"#;
/// It counts, and finds no outlier.
const DETECTION: &str = r#", "loadBalancingConfig": [{"outlier_detection_experimental": {
    "successRateEjection": {}, "failurePercentageEjection": {},
    "childPolicy": [{"round_robin": {}}]}}]"#;
/// The first argument of a client under valgrind.
const ROLE: &str = "--as-client";

const USAGE: &str = "options: --check --csv FILE --metrics own,otel,bound,spans,unsampled";

fn main() -> Result<()> {
    take_role()?;
    let words: Vec<_> = env::args().skip(1).collect();
    if let [role, side, calls, uris @ ..] = &words[..]
        && role == ROLE
    {
        return be_client(side, calls.parse()?, uris);
    }
    let (mut check, mut csv, mut sinks) = (false, None, Vec::new());
    let mut from_cargo_bench = false;
    let mut words = words.into_iter();
    while let Some(word) = words.next() {
        match word.as_str() {
            // Cargo says it to every bench; who just runs all targets wants no valgrind.
            "--bench" => from_cargo_bench = true,
            "--check" => check = true,
            "--csv" => csv = Some(words.next().ok_or(USAGE)?),
            "--metrics" => {
                let names = words.next().ok_or(USAGE)?;
                let named = names.split(',').map(Sink::named);
                sinks = named.collect::<Option<_>>().ok_or(USAGE)?;
            }
            _ => return Err(USAGE.into()),
        }
    }
    if !from_cargo_bench {
        return Ok(());
    }
    let servers = Servers::start(Kind::Lean, BACKENDS, None)?;
    if !sinks.is_empty() {
        return with_sinks(&sinks, &servers, csv);
    }
    // 1 round is enough to see that all is well. Numbers for the table are of more.
    let mut counts = Counts::of(if csv.is_some() { ROUNDS } else { 1 }, &servers)?;
    counts.print();
    if check && csv.is_none() && counts.complaint().is_some() {
        println!("once more, by the median of {ROUNDS} rounds");
        counts = Counts::of(ROUNDS, &servers)?;
        counts.print();
    }
    if let Some(path) = csv {
        fs::write(path, counts.table())?;
    }
    match counts.complaint() {
        Some(complaint) if check => Err(complaint.into()),
        _ => Ok(()),
    }
}

/// The instructions of a call on each side.
struct Counts {
    ours: f64,
    theirs: f64,
    retry: f64,
    detection: f64,
    metrics: f64,
}

impl Counts {
    fn of(rounds: usize, servers: &Servers) -> Result<Self> {
        let sides = [OURS, BALANCE_LIST, OURS_RETRY, OURS_DETECTION, OURS_METRICS];
        let [ours, theirs, retry, detection, metrics] = medians(rounds, sides, servers)?[..] else {
            return Err("a median for each side".into());
        };
        Ok(Self {
            ours,
            theirs,
            retry,
            detection,
            metrics,
        })
    }

    /// Those of our sides that do more than the plain one, and how much more they may cost.
    fn others(&self) -> [(&'static str, f64, f64); 3] {
        [
            (OURS_RETRY, self.retry, AT_MOST_WITH_POLICY),
            (OURS_DETECTION, self.detection, AT_MOST_WITH_DETECTION),
            (OURS_METRICS, self.metrics, AT_MOST_WITH_METRICS),
        ]
    }

    fn print(&self) {
        let Self { ours, theirs, .. } = self;
        let ratio = ours / theirs;
        println!(
            "instructions of a call: {OURS} {ours:.0}, {BALANCE_LIST} {theirs:.0}, {ratio:.2}"
        );
        for (side, count, _) in self.others() {
            let ratio = count / ours;
            println!("instructions of a call: {side} {count:.0}, {ratio:.3} of {OURS}");
        }
    }

    fn table(&self) -> String {
        let mut table = format!("channel,instructions\n{OURS},{:.0}\n", self.ours);
        for (side, count, _) in self.others() {
            table += &format!("\"{side}\",{count:.0}\n");
        }
        table + &format!("{BALANCE_LIST},{:.0}\n", self.theirs)
    }

    /// The side that costs more than it may.
    fn complaint(&self) -> Option<String> {
        let ratio = self.ours / self.theirs;
        if ratio > AT_MOST {
            return Some(format!("{ratio:.2} of `balance_list`; at most {AT_MOST}"));
        }
        let others = self.others().into_iter();
        let mut ratios = others.map(|(side, count, most)| (side, count / self.ours, most));
        let (side, ratio, most) = ratios.find(|(_, ratio, most)| ratio > most)?;
        Some(format!("{side}: {ratio:.3} of {OURS}; at most {most}"))
    }
}

/// Calls with each sink, beside a channel without any.
fn with_sinks(sinks: &[Sink], servers: &Servers, csv: Option<String>) -> Result<()> {
    let names = [&[Sink::Nothing], sinks].concat();
    let names: Vec<_> = names.into_iter().map(Sink::name).collect();
    let counts = medians(ROUNDS, names.iter().copied(), servers)?;
    let mut table = "sink,instructions,ratio\n".to_owned();
    for (name, count) in names.iter().zip(&counts) {
        let ratio = count / counts[0];
        println!("instructions of a call: {name} {count:.0}, {ratio:.3}");
        table += &format!("{name},{count:.0},{ratio:.3}\n");
    }
    if let Some(path) = csv {
        fs::write(path, table)?;
    }
    Ok(())
}

/// Of each side the median of some rounds, in which the sides take turns.
fn medians<'a>(
    rounds: usize,
    sides: impl IntoIterator<Item = &'a str>,
    servers: &Servers,
) -> Result<Vec<f64>> {
    let mut sides: Vec<_> = sides.into_iter().map(|side| (side, Vec::new())).collect();
    for _ in 0..rounds {
        for (side, counts) in &mut sides {
            counts.push(per_call(side, servers)?);
        }
    }
    let median = |(_, mut counts): (_, Vec<f64>)| {
        counts.sort_by(f64::total_cmp);
        counts[rounds / 2]
    };
    Ok(sides.into_iter().map(median).collect())
}

fn per_call(side: &str, servers: &Servers) -> Result<f64> {
    let [few, many] = CALLS.map(|calls| instructions(side, calls, servers));
    Ok((many? as f64 - few? as f64) / (CALLS[1] - CALLS[0]) as f64)
}

/// Of a whole run of a client with so many calls.
fn instructions(side: &str, calls: u64, servers: &Servers) -> Result<u64> {
    let client = Command::new("valgrind")
        .args(["--tool=callgrind", "--callgrind-out-file=/dev/null"])
        .arg(env::current_exe()?)
        .args([ROLE, side, &calls.to_string()])
        .args(servers.uris())
        .stdin(Stdio::null())
        .output()
        .map_err(|error| format!("valgrind: {error}"))?;
    let said = String::from_utf8_lossy(&client.stderr);
    let total = said.lines().find_map(|line| {
        let (_, number) = line.split_once("Collected : ")?;
        number.trim().parse().ok()
    });
    match total {
        Some(total) if client.status.success() => Ok(total),
        _ => Err(format!("a client under valgrind failed:\n{said}").into()),
    }
}

fn be_client(side: &str, calls: u64, uris: &[String]) -> Result<()> {
    let runtime = Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        match side {
            OURS => make(connect_ours(uris, 1).await?, calls).await,
            OURS_RETRY => {
                let channel = connect_ours_by(RETRY_POLICY, uris, 1, |endpoint| endpoint).await?;
                make(channel, calls).await
            }
            OURS_DETECTION => {
                let channel = connect_ours_by(DETECTION, uris, 1, |endpoint| endpoint).await?;
                make(channel, calls).await
            }
            OURS_METRICS => {
                let metrics = Metrics::new(Prometheus::new());
                let build = |builder: ChannelBuilder| builder.metrics(metrics);
                let channel = connect_ours_as("", uris, 1, |endpoint| endpoint, build).await?;
                make(channel, calls).await
            }
            BALANCE_LIST => make(connect_theirs(uris)?, calls).await,
            sink => {
                let sink = Sink::named(sink).ok_or(USAGE)?;
                let sinking = sink.connect(uris, 1).await?;
                make(sinking.channel.clone(), calls).await
            }
        }
    })
}

fn connect_theirs(uris: &[String]) -> Result<transport::Channel> {
    let endpoints = uris.iter().cloned().map(Endpoint::from_shared);
    let endpoints: Vec<_> = endpoints.collect::<std::result::Result<_, _>>()?;
    Ok(transport::Channel::balance_list(endpoints.into_iter()))
}

async fn make<T>(channel: T, calls: u64) -> Result<()>
where
    T: GrpcService<Body, ResponseBody = Body, Future: Send, Error: Into<StdError>>
        + Clone
        + Send
        + 'static,
{
    let left = Arc::new(AtomicU64::new(calls));
    let mut callers = JoinSet::new();
    for _ in 0..CALLERS {
        let left = left.clone();
        let mut client = GreeterClient::new(channel.clone());
        callers.spawn(async move {
            let message = HelloRequest {
                name: "x".repeat(PAYLOAD),
                count: 0,
            };
            let take = |left: u64| left.checked_sub(1);
            while left.fetch_update(Relaxed, Relaxed, take).is_ok() {
                client.say_hello(message.clone()).await?;
            }
            Ok::<_, Error>(())
        });
    }
    while let Some(ended) = callers.join_next().await {
        ended??;
    }
    Ok(())
}
