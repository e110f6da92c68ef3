//! Backends that are paused under load, and a channel that looks for silence beside one that does
//! not.
//!
//! ```text
//!   SIGSTOP, SIGCONT ──► 1 of 20 backends at a time
//!   calls at a rate, each with a deadline ──► a channel with `silence`
//!                                         └─► the same without
//! ```
//!
//! Both have the same backends and the same pauses, so they differ in the option alone. With it a
//! paused backend is avoided soon, and most of the calls that would meet it are answered.

use std::{
    fs,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering::SeqCst},
    },
    time::Duration,
};

use testing::{
    fleet::{Host as _, Result, SERVICE},
    greeter::{HelloRequest, greeter_client::GreeterClient},
};
use tokio::{
    task::JoinSet,
    time::{Instant, MissedTickBehavior, interval, sleep_until, timeout},
};
use tonic::{Code, Request};
use tonic_health_channel::{Channel, ConnectivityState::Ready, discover, status::ChannelStatus};

use crate::{Options, node::Node};

/// A call takes up to 15 of them.
const UNIT: Duration = Duration::from_millis(1);

/// How long the channels may take to connect.
const PATIENCE: Duration = Duration::from_secs(20);

/// The option, for one of the channels.
const LIMIT: Duration = Duration::from_millis(200);

const DEADLINE: Duration = Duration::from_secs(1);

/// A backend is paused for so long, and then all are well for as long.
const PAUSE: Duration = Duration::from_secs(3);

/// Of a machine that is busy with something else, beside twice the limit.
const SLACK: Duration = Duration::from_secs(1);

/// A point of the plot has the calls of so long.
const STEP: Duration = Duration::from_millis(250);

/// One call that is over.
#[derive(Clone, Copy, Debug)]
struct Call {
    /// Its begin, since the load began.
    at: Duration,
    took: Duration,
    code: Code,
}

/// One pause.
#[derive(Clone, Copy, Debug)]
struct Pause {
    backend: usize,
    begins: Duration,
}

/// A backend is silent from then on, or no longer.
#[derive(Clone, Copy, Debug)]
struct Change {
    at: Duration,
    backend: usize,
    silent: bool,
}

/// The calls of one channel.
struct Load {
    calls: Vec<Call>,
    complaints: Vec<String>,
}

/// The outcome of both channels.
struct Outcome {
    lasts: Duration,
    pauses: Vec<Pause>,
    changes: Vec<Change>,
    on: Load,
    off: Load,
}

pub(crate) async fn run(options: &Options) -> Result<()> {
    let Options {
        seed,
        backends,
        lasts,
        rate,
        ..
    } = *options;
    println!("seed {seed}, {backends} backends, {rate} calls a second on each of 2 channels");
    let folder = tempfile::tempdir()?;
    let mut nodes = Vec::new();
    for number in 0..backends {
        nodes.push(Node::start(number, folder.path(), UNIT).await?);
    }
    let on = channel(&nodes, Some(LIMIT)).await?;
    let off = channel(&nodes, None).await?;

    let (began, stop) = (Instant::now(), Arc::new(AtomicBool::new(false)));
    let loads = [&on, &off].map(|channel| {
        let stop = Arc::clone(&stop);
        tokio::spawn(load(channel.clone(), began, rate, stop))
    });
    let follower = tokio::spawn(follow(on.clone(), began));
    let mut rng = fastrand::Rng::with_seed(seed);
    let mut pauses = Vec::new();
    for _ in 0..lasts.as_millis() / (2 * PAUSE).as_millis() {
        sleep_until(Instant::now() + PAUSE / 2).await;
        let backend = rng.usize(..backends);
        nodes[backend].pause(true)?;
        let begins = began.elapsed();
        pauses.push(Pause { backend, begins });
        sleep_until(Instant::now() + PAUSE).await;
        nodes[backend].pause(false)?;
        sleep_until(Instant::now() + PAUSE / 2).await;
    }
    stop.store(true, SeqCst);
    let [on_load, off_load] = loads;
    let outcome = Outcome {
        lasts: began.elapsed(),
        pauses,
        on: on_load.await?,
        off: off_load.await?,
        changes: {
            on.close().await;
            follower.await?
        },
    };
    off.close().await;
    let mut complaints = judge(&outcome);
    if let Some(path) = &options.csv {
        fs::write(path, outcome.table())?;
        fs::write(path.with_extension("summary.csv"), outcome.summary())?;
    }
    for node in &mut nodes {
        node.kill().await?;
    }
    complaints.truncate(20);
    match complaints.is_empty() {
        true => Ok(()),
        false => Err(format!(
            "seed {seed}:\n{}\nagain: cargo test --test chaos -- --silence --seed {seed} \
             --backends {backends} --seconds {} --rate {rate}",
            complaints.join("\n"),
            lasts.as_secs(),
        )
        .into()),
    }
}

/// A channel to all of them, once it is connected.
async fn channel(nodes: &[Node], silence: Option<Duration>) -> Result<Channel> {
    let endpoints = nodes.iter().map(Node::endpoint).collect::<Result<Vec<_>>>();
    let config = format!(
        r#"{{"healthCheckConfig": {{"serviceName": "{SERVICE}"}},
            "loadBalancingConfig": [{{"round_robin": {{}}}}]}}"#
    );
    let channel = Channel::balance(discover::list(endpoints?)?)
        .service_config(config.parse()?)
        .silence(silence)
        .build();
    let ready = async { drop(channel.watch_status().wait_for(all_ready).await) };
    let late = |_| format!("the channel did not connect within {PATIENCE:?}");
    timeout(PATIENCE, ready).await.map_err(late)?;
    Ok(channel)
}

fn all_ready(status: &ChannelStatus) -> bool {
    let mut backends = status.backends().iter();
    status.state() == Ready && backends.all(|backend| backend.state() == Ready)
}

/// Calls at this rate, whatever becomes of them.
async fn load(channel: Channel, began: Instant, rate: u32, stop: Arc<AtomicBool>) -> Load {
    let next = AtomicU64::new(0);
    let mut ticks = interval(Duration::from_secs(1) / rate);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
    let mut running = JoinSet::new();
    while !stop.load(SeqCst) {
        ticks.tick().await;
        let name = next.fetch_add(1, SeqCst).to_string();
        running.spawn(call(channel.clone(), name, began));
    }
    drop(channel);
    let (mut calls, mut complaints) = (Vec::new(), Vec::new());
    for (call, wrong) in running.join_all().await {
        calls.push(call);
        complaints.extend(wrong);
    }
    Load { calls, complaints }
}

async fn call(channel: Channel, name: String, began: Instant) -> (Call, Option<String>) {
    let mut request = Request::new(HelloRequest { name, count: 0 });
    request.set_timeout(DEADLINE);
    let start = Instant::now();
    let answer = GreeterClient::new(channel).say_hello(request).await;
    let code = answer.as_ref().err().map_or(Code::Ok, tonic::Status::code);
    let call = Call {
        at: start - began,
        took: start.elapsed(),
        code,
    };
    // A server that goes on after its pause finds the deadline over, and may say so first.
    let is_late = matches!(code, Code::DeadlineExceeded | Code::Cancelled);
    let wrong = answer.err().filter(|_| !is_late);
    (
        call,
        wrong.map(|status| format!("a call failed otherwise: {status}")),
    )
}

async fn follow(channel: Channel, began: Instant) -> Vec<Change> {
    let mut watch = channel.watch_status();
    drop(channel);
    let (mut changes, mut known) = (Vec::new(), Vec::new());
    while let Some(status) = watch.changed().await {
        known.resize(status.backends().len().max(known.len()), false);
        for (backend, status) in status.backends().iter().enumerate() {
            let silent = status.silence().is_some();
            if std::mem::replace(&mut known[backend], silent) != silent {
                let at = began.elapsed();
                changes.push(Change {
                    at,
                    backend,
                    silent,
                });
            }
        }
    }
    changes
}

impl Load {
    fn late(&self) -> usize {
        self.calls.iter().filter(|call| call.is_late()).count()
    }

    /// In milliseconds, of so many of 1,000 calls.
    fn quantile(&self, of_1000: usize) -> f64 {
        let mut took: Vec<_> = self.calls.iter().map(|call| call.took).collect();
        took.sort_unstable();
        let at = (took.len() * of_1000).div_ceil(1_000).max(1) - 1;
        took.get(at).copied().unwrap_or_default().as_secs_f64() * 1e3
    }
}

impl Call {
    fn is_late(&self) -> bool {
        self.code != Code::Ok
    }
}

impl Outcome {
    /// How long each pause lasted until the backend was avoided; none if it was not.
    fn until_avoided(&self) -> Vec<Option<Duration>> {
        let until = |pause: &Pause| {
            let within = pause.begins..pause.begins + PAUSE;
            let mut changes = self.changes.iter();
            let begin = changes.find(|change| {
                change.silent && change.backend == pause.backend && within.contains(&change.at)
            });
            begin.map(|change| change.at - pause.begins)
        };
        self.pauses.iter().map(until).collect()
    }

    /// Backends that were silent though none of their pauses was under way.
    fn mistakes(&self) -> usize {
        let is_right = |change: &&Change| {
            self.pauses.iter().any(|pause| {
                let within = pause.begins..pause.begins + PAUSE + SLACK;
                pause.backend == change.backend && within.contains(&change.at)
            })
        };
        let begins = self.changes.iter().filter(|change| change.silent);
        begins.filter(|change| !is_right(change)).count()
    }

    fn table(&self) -> String {
        let steps = self.lasts.as_millis() / STEP.as_millis();
        let mut text = "seconds,calls_off,late_off,calls_on,late_on,paused,silent\n".to_owned();
        for step in 0..steps as u32 {
            let (from, to) = (STEP * step, STEP * (step + 1));
            let count = |load: &Load| {
                let within = load
                    .calls
                    .iter()
                    .filter(|call| (from..to).contains(&call.at));
                let late = within.clone().filter(|call| call.is_late()).count();
                (within.count(), late)
            };
            let ((calls_off, late_off), (calls_on, late_on)) = (count(&self.off), count(&self.on));
            let is_paused = |pause: &&Pause| (pause.begins..pause.begins + PAUSE).contains(&to);
            let paused = self.pauses.iter().filter(is_paused).count();
            let changes = self.changes.iter().filter(|change| change.at < to);
            let silent: i32 = changes
                .map(|change| if change.silent { 1 } else { -1 })
                .sum();
            let seconds = to.as_secs_f64();
            text += &format!(
                "{seconds:.2},{calls_off},{late_off},{calls_on},{late_on},{paused},{silent}\n"
            );
        }
        text
    }

    fn summary(&self) -> String {
        let mut until: Vec<_> = self.until_avoided().into_iter().flatten().collect();
        until.sort_unstable();
        let millis = |at: Option<&Duration>| {
            at.map_or(String::new(), |at| format!("{:.0}", at.as_secs_f64() * 1e3))
        };
        let avoided = [millis(until.get(until.len() / 2)), millis(until.last())].join(",");
        let mut text = "silence_ms,calls,late,p50_ms,p99_ms,p999_ms,pauses,mistakes,\
                        avoided_median_ms,avoided_max_ms\n"
            .to_owned();
        for (limit, load, mistakes, avoided) in [
            (0, &self.off, 0, ","),
            (LIMIT.as_millis(), &self.on, self.mistakes(), &*avoided),
        ] {
            let [p50, p99, p999] = [500, 990, 999].map(|of_1000| load.quantile(of_1000));
            text += &format!(
                "{limit},{},{},{p50:.1},{p99:.1},{p999:.1},{},{mistakes},{avoided}\n",
                load.calls.len(),
                load.late(),
                self.pauses.len(),
            );
        }
        text
    }
}

/// Prints what was measured.
fn judge(outcome: &Outcome) -> Vec<String> {
    println!("{}", outcome.summary());
    let mut complaints = Vec::new();
    for load in [&outcome.on, &outcome.off] {
        complaints.extend(load.complaints.iter().cloned());
    }
    for (pause, avoided) in outcome.pauses.iter().zip(outcome.until_avoided()) {
        if avoided.is_none_or(|avoided| avoided > 2 * LIMIT + SLACK) {
            complaints.push(format!("{pause:?} was avoided after {avoided:?}"));
        }
    }
    let (on, off) = (outcome.on.late(), outcome.off.late());
    if off == 0 {
        complaints.push("no call met a pause: nothing has been shown".to_owned());
    }
    if on * 3 > off * 2 {
        complaints.push(format!(
            "{on} calls were late with the option, and {off} without"
        ));
    }
    complaints
}
