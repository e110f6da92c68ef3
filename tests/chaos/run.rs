//! A run from start to end, and what it comes to.

use std::{
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use testing::fleet::{Fleet, Host as _, Load, Result};
use tokio::{
    runtime::{self, Handle},
    time::interval,
};
use tonic_health_channel::{Channel, ConnectivityState::Ready};

use crate::{
    Options,
    netns::Filters,
    node::Node,
    report::{Samples, mib, resident_kib},
};

/// Enough for the load to go on while some wait at backends that are silent.
const CALLERS: u32 = 256;

/// A backend takes up to 15 of them for a call.
const UNIT: Duration = Duration::from_millis(1);

/// How much more memory a run may have in the end than when its load began, twice what
/// it takes: callers with their calls, and what an allocator keeps of them, are up to
/// 3 MiB.
const GROWTH_KIB: u64 = 6 << 10;

/// And for so many calls one KiB more, as their ends and numbers are kept.
const CALLS_A_KIB: usize = 128;

/// The whole run.
pub(crate) async fn run(options: &Options) -> Result<()> {
    let Options {
        seed,
        backends,
        lasts,
        rate,
        ..
    } = *options;
    println!("seed {seed}, {backends} backends, {rate} calls a second for {lasts:?}");
    let folder = tempfile::tempdir()?;
    let filters = match options.netns {
        true => Some(Filters::set_up(backends).await?),
        false => None,
    };
    let mut nodes = Vec::new();
    for number in 0..backends {
        nodes.push(match &filters {
            Some(filters) => {
                Node::start_filtered(filters.clone(), number, folder.path(), UNIT).await?
            }
            None => Node::start(number, folder.path(), UNIT).await?,
        });
    }
    // For the channel and its callers alone, so that tasks can be counted.
    let runtime = runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()?;
    let connections = usize::try_from(1 + seed % 2)?;
    let mut fleet = Fleet::start(runtime.handle(), nodes, connections).await?;
    let before = resident_kib();
    let load = fleet.load(CALLERS, rate);
    let samples = Arc::<Mutex<Samples>>::default();
    let sampling = tokio::spawn(sample(
        samples.clone(),
        load.clone(),
        fleet.channel.clone(),
        runtime.handle().clone(),
        lasts,
    ));
    let outcome = fleet.perform_all(seed, lasts).await;
    sampling.abort();
    // It has a handle of the channel.
    let _ = sampling.await;
    let recovery = fleet.slowest_recovery;
    let (mut nodes, mut complaints) = fleet.end(&load, outcome).await?;
    let grown = resident_kib().saturating_sub(before);
    let calls = load.notes(|notes| notes.ends.len());
    let allowed = GROWTH_KIB + u64::try_from(calls / CALLS_A_KIB)?;
    if grown > allowed {
        let (grown, allowed) = (mib(grown), mib(allowed));
        complaints.push(format!(
            "memory grew by {grown:.1} MiB, of {allowed:.1} allowed"
        ));
    }
    for node in &mut nodes {
        node.kill().await?;
    }
    runtime.shutdown_background();
    if let Some(filters) = &filters {
        let met = filters.met().await?;
        println!("packets: {met}");
        if met.is_nothing() {
            complaints.push("no packet met a filter: nothing has been shown".into());
        }
    }

    let samples = samples.lock().expect("nobody panics with the samples");
    samples.print();
    if let Some(path) = &options.csv {
        samples.write_csv(path)?;
    }
    load.notes(|notes| {
        println!(
            "{} calls, {} of them protected; all READY again after {recovery:?} at most; \
             {:.1} MiB more than when the load began",
            notes.ends.len(),
            notes.protected,
            mib(grown)
        );
        for (reason, times) in &notes.reasons {
            println!("{times:>7} × {reason}");
        }
    });
    match complaints.is_empty() {
        true => Ok(()),
        false => Err(format!(
            "seed {seed}:\n{}\nagain: cargo test --test chaos -- --seed {seed} --backends \
             {backends} --seconds {} --rate {rate}{}",
            complaints.join("\n"),
            lasts.as_secs(),
            if options.netns { " --netns" } else { "" },
        )
        .into()),
    }
}

async fn sample(
    samples: Arc<Mutex<Samples>>,
    load: Arc<Load>,
    channel: Channel,
    on: Handle,
    lasts: Duration,
) {
    let began = Instant::now();
    let mut ticks = interval(Duration::from_secs(1).max(lasts / 240));
    ticks.tick().await;
    loop {
        ticks.tick().await;
        let backends = channel.backends();
        let ready = backends.iter().filter(|b| b.state() == Ready).count();
        let tasks = on.metrics().num_alive_tasks();
        let mut samples = samples.lock().expect("nobody panics with the samples");
        load.notes(|notes| samples.take(began.elapsed(), notes, tasks, ready));
    }
}
