//! A sick backend under load, and outlier detection (gRFC A50).
//!
//! ```text
//!   1 of 20 backends ── Watch: SERVING, calls: half of them UNAVAILABLE ──► the channel
//!   first quarter of the run   no detection: each caller sees its failures
//!   the rest                   an interval of 1 s: it is ejected, tried again, ejected …
//! ```
//!
//! The failures of the first quarter show that the backend is sick. After 2 intervals with
//! detection fewer than 1 % of the calls may fail. No other backend may be ejected.

use std::{
    fs,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering::SeqCst},
    },
    time::Duration,
};

use testing::{
    Configs,
    fleet::{Host as _, Result, SERVICE},
    greeter::{HelloRequest, greeter_client::GreeterClient},
};
use tokio::{
    task::JoinSet,
    time::{Instant, sleep_until, timeout},
};
use tonic_health_channel::{Channel, ConnectivityState::Ready, discover, status::ChannelStatus};

use crate::{Options, backend::SICK, node::Node};

/// Each has 1 call in flight.
const CALLERS: usize = 16;

/// A call takes up to 15 of them.
const UNIT: Duration = Duration::from_millis(1);

/// How long the channel may take to connect.
const PATIENCE: Duration = Duration::from_secs(20);

const INTERVAL: Duration = Duration::from_secs(1);

/// By which the failures are bounded, in percent.
const MAX_FAILED: f64 = 1.0;

/// A point of the plot has the calls of so long.
const STEP: Duration = Duration::from_millis(250);

/// One call that is over.
#[derive(Clone, Copy, Debug)]
struct Call {
    /// Since the load began.
    at: Duration,
    failed: bool,
}

/// The sick backend is ejected, or back.
#[derive(Clone, Copy, Debug)]
struct Change {
    at: Duration,
    ejected: bool,
}

/// The parts of a run.
struct Times {
    began: Instant,
    detection: Duration,
    end: Duration,
}

pub(crate) async fn run(options: &Options) -> Result<()> {
    let Options {
        seed,
        backends,
        lasts,
        ..
    } = *options;
    println!("seed {seed}, {backends} backends, {CALLERS} callers, one sick backend for {lasts:?}");
    let folder = tempfile::tempdir()?;
    let mut nodes = Vec::new();
    for number in 0..backends {
        nodes.push(Node::start(number, folder.path(), UNIT).await?);
    }
    let sick = fastrand::Rng::with_seed(seed).usize(..backends);
    let endpoints = nodes.iter().map(Node::endpoint).collect::<Result<Vec<_>>>();
    let (configs, channel) = Configs::of(Channel::balance(discover::list(endpoints?)?));
    configs.say(&config(false));
    let ready = async { drop(channel.watch_status().wait_for(all_ready).await) };
    let late = |_| format!("the channel did not connect within {PATIENCE:?}");
    timeout(PATIENCE, ready).await.map_err(late)?;
    nodes[sick].fall_sick().await?;

    let times = Times {
        began: Instant::now(),
        detection: lasts / 4,
        end: lasts,
    };
    let stop = Arc::new(AtomicBool::new(false));
    let next = Arc::new(AtomicU64::new(0));
    let mut callers = JoinSet::new();
    for _ in 0..CALLERS {
        let (channel, stop, next) = (channel.clone(), Arc::clone(&stop), Arc::clone(&next));
        callers.spawn(call_on(channel, times.began, stop, next));
    }
    let follower = tokio::spawn(follow(channel.clone(), sick, times.began));
    sleep_until(times.began + times.detection).await;
    configs.say(&config(true));
    sleep_until(times.began + times.end).await;
    stop.store(true, SeqCst);

    let mut calls = Vec::new();
    let mut complaints = Vec::new();
    for (own, wrong) in callers.join_all().await {
        calls.extend(own);
        complaints.extend(wrong);
    }
    channel.close().await;
    let (changes, wrong) = follower.await?;
    complaints.extend(wrong);
    complaints.extend(judge(&times, &calls, &changes));
    if let Some(path) = &options.csv {
        fs::write(path, table(&times, &calls, &changes))?;
    }
    for node in &mut nodes {
        node.kill().await?;
    }
    complaints.truncate(20);
    match complaints.is_empty() {
        true => Ok(()),
        false => Err(format!(
            "seed {seed}:\n{}\nagain: cargo test --test chaos -- --outliers --seed {seed} \
             --backends {backends} --seconds {}",
            complaints.join("\n"),
            lasts.as_secs(),
        )
        .into()),
    }
}

/// With 95 % the others, which do not fail, cannot be ejected for what is measured of them.
fn config(detects: bool) -> String {
    let policy = match detects {
        false => r#"{"round_robin": {}}"#.to_owned(),
        true => format!(
            r#"{{"outlier_detection_experimental": {{
                "interval": "{}s", "baseEjectionTime": "5s",
                "successRateEjection": {{"requestVolume": 20, "onlyBelowPercentage": 95}},
                "childPolicy": [{{"round_robin": {{}}}}]
            }}}}"#,
            INTERVAL.as_secs(),
        ),
    };
    format!(
        r#"{{"healthCheckConfig": {{"serviceName": "{SERVICE}"}},
            "loadBalancingConfig": [{policy}]}}"#
    )
}

fn all_ready(status: &ChannelStatus) -> bool {
    let mut backends = status.backends().iter();
    status.state() == Ready && backends.all(|backend| backend.state() == Ready)
}

/// One call after the other. Each failure has to be that of the sick backend.
async fn call_on(
    channel: Channel,
    began: Instant,
    stop: Arc<AtomicBool>,
    next: Arc<AtomicU64>,
) -> (Vec<Call>, Vec<String>) {
    let mut client = GreeterClient::new(channel);
    let (mut calls, mut complaints) = (Vec::new(), Vec::new());
    while !stop.load(SeqCst) {
        let name = next.fetch_add(1, SeqCst).to_string();
        let answer = client.say_hello(HelloRequest { name, count: 0 }).await;
        let at = began.elapsed();
        let failed = answer.is_err();
        calls.push(Call { at, failed });
        if let Err(status) = answer
            && status.message() != SICK
        {
            complaints.push(format!("a call failed otherwise, at {at:?}: {status}"));
        }
    }
    (calls, complaints)
}

/// The ejections of the sick backend, and complaints about those of others.
async fn follow(channel: Channel, sick: usize, began: Instant) -> (Vec<Change>, Vec<String>) {
    let mut watch = channel.watch_status();
    drop(channel);
    let (mut changes, mut complaints) = (Vec::<Change>::new(), Vec::new());
    while let Some(status) = watch.changed().await {
        for (at, backend) in status.backends().iter().enumerate() {
            let ejected = backend.ejection().is_some();
            let was_ejected = changes.last().is_some_and(|change| change.ejected);
            if at == sick && ejected != was_ejected {
                let at = began.elapsed();
                changes.push(Change { at, ejected });
            } else if at != sick && ejected {
                complaints.push(format!("another one was ejected: {backend}"));
            }
        }
    }
    (changes, complaints)
}

/// Prints what was measured.
fn judge(times: &Times, calls: &[Call], changes: &[Change]) -> Vec<String> {
    let settled = times.detection + 2 * INTERVAL;
    let [off, begin, on] = [
        share(calls, Duration::ZERO, times.detection),
        share(calls, times.detection, settled),
        share(calls, settled, times.end),
    ];
    let ejections = changes.iter().filter(|change| change.ejected).count();
    println!(
        "{} calls; failed: {off:.2} % without detection, {begin:.2} % in the first 2 intervals, \
         {on:.2} % after them; {ejections} ejections",
        calls.len(),
    );
    let mut complaints = Vec::new();
    if off < MAX_FAILED {
        complaints.push(format!(
            "only {off:.2} % failed before: nothing has been shown"
        ));
    }
    if on >= MAX_FAILED {
        complaints.push(format!("{on:.2} % failed after 2 intervals with detection"));
    }
    if ejections == 0 {
        complaints.push("the sick backend was not ejected".to_owned());
    }
    complaints
}

/// How many of the calls in this time failed, in percent.
fn share(calls: &[Call], from: Duration, to: Duration) -> f64 {
    let within = calls.iter().filter(|call| (from..to).contains(&call.at));
    let (failed, all) = within.fold((0, 0), |(failed, all), call| {
        (failed + u32::from(call.failed), all + 1)
    });
    f64::from(failed) * 100.0 / f64::from(all)
}

/// The samples as CSV.
fn table(times: &Times, calls: &[Call], changes: &[Change]) -> String {
    let steps = times.end.as_millis() / STEP.as_millis();
    let mut rows = vec![(0_u32, 0_u32); steps as usize];
    for call in calls {
        let step = call.at.as_millis() / STEP.as_millis();
        if let Some((all, failed)) = rows.get_mut(step as usize) {
            *all += 1;
            *failed += u32::from(call.failed);
        }
    }
    let mut text = "seconds,detection,calls,failed,ejected\n".to_owned();
    for (step, (all, failed)) in (1..).zip(rows) {
        let end = STEP * step;
        let detection = u8::from(end > times.detection);
        let last = changes.iter().rfind(|change| change.at < end);
        let ejected = u8::from(last.is_some_and(|change| change.ejected));
        let seconds = end.as_secs_f64();
        text += &format!("{seconds:.2},{detection},{all},{failed},{ejected}\n");
    }
    text
}
