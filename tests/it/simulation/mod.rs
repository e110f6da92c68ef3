//! A fleet in memory, in time that is made: what [`fleet`](testing::fleet) says
//! must hold, by the hundred seeds. Nothing here is real but the channel and the backends of the
//! test kit: lines are pipes that break, fall silent or open one way only, and hours of backoff
//! take no time.
//!
//! The endpoints' own door for connectors leads into the pipes. A simulator of whole
//! hosts, such as turmoil, has a runtime for each and ticks through time; here it jumps
//! to whatever is next, and the lines' code is that of `tests/chaos`.
//!
//! Fifty seeds run with all other tests. More, or one that has failed, alone:
//!
//! ```sh
//! SIMULATION_SEEDS=1000 cargo test --test it simulation -- --nocapture
//! SIMULATION_SEED=17 cargo test --test it simulation -- --nocapture
//! ```

mod host;
mod silence;

use std::{
    env,
    ops::Range,
    sync::{
        Mutex,
        atomic::{AtomicU64, AtomicUsize, Ordering::SeqCst},
    },
    thread,
    time::{Duration, Instant},
};

use testing::{
    Logs,
    fleet::{Fault, Fleet, Load, Result, Round, Trouble},
};
use tokio::runtime::{self, Handle};

use self::host::Simulated;

const CALLERS: u32 = 64;
/// Calls a second.
const RATE: u32 = 40;

/// How long the rounds of a seed go on, in time that is made.
const LASTS: Duration = Duration::from_secs(15);

/// What runs came to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Outcome {
    calls: usize,
    failed: u64,
    protected: u64,
    /// Which calls failed.
    failures: Vec<usize>,
}

// D216
#[test]
fn whatever_happens_to_a_fleet_in_memory_every_call_is_right() {
    let began = Instant::now();
    let seeds = seeds();
    let next = AtomicU64::new(seeds.start);
    let (calls, failures) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    let workers = thread::available_parallelism().map_or(1, usize::from);
    thread::scope(|scope| {
        for _ in 0..workers {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, SeqCst);
                    if !seeds.contains(&seed) {
                        return;
                    }
                    match in_made_time(seed, rounds_of(seed)) {
                        Ok(outcome) => drop(calls.fetch_add(outcome.calls, SeqCst)),
                        Err(error) => {
                            eprintln!(
                                "seed {seed}:\n{error}\nalone: SIMULATION_SEED={seed} cargo test \
                                 --test it simulation -- --nocapture"
                            );
                            let mut failures = failures.lock().expect("nobody panics with them");
                            failures.push(seed);
                        }
                    }
                }
            });
        }
    });
    println!("seeds {seeds:?} in {:?}: {calls:?} calls", began.elapsed());
    let failures = failures.into_inner().expect("nobody panics with them");
    assert!(failures.is_empty(), "seeds that failed: {failures:?}");
}

// D217
#[test]
fn forty_nine_of_fifty_backends_flap_a_hundred_times_a_second_and_no_call_fails() {
    let flaps = (0..49).map(|backend| Trouble {
        backend,
        fault: Fault::Flap,
        begins: Duration::from_millis(backend as u64),
        lasts: Duration::from_secs(3),
    });
    let round = Round::Storm(flaps.collect());
    let outcome = in_made_time(1, one_round(50, round)).expect("nothing is wrong");
    assert_eq!(outcome.failed, 0, "{outcome:?}");
    assert!(outcome.calls > 100, "{outcome:?}");
}

// D218
#[test]
fn a_rolling_restart_of_twenty_backends_in_memory_loses_no_call() {
    let outcome = in_made_time(1, one_round(20, Round::Roll)).expect("nothing is wrong");
    assert_eq!(outcome.failed, 0, "{outcome:?}");
    assert_eq!(outcome.protected as usize, outcome.calls, "{outcome:?}");
}

// D219
#[test]
fn a_partition_that_leaves_one_backend_costs_no_call_once_it_is_known() {
    let partition = (0..9).map(|backend| Trouble {
        backend,
        fault: Fault::Lose {
            up: backend % 3 != 1,
            down: backend % 3 != 2,
        },
        begins: Duration::ZERO,
        lasts: Duration::from_secs(30),
    });
    let round = Round::Storm(partition.collect());
    let outcome = in_made_time(1, one_round(10, round)).expect("nothing is wrong");
    assert!(outcome.failed > 0, "some were under way: {outcome:?}");
    assert!(outcome.protected > 500, "{outcome:?}");
}

/// Also with 2 connections to each backend, as odd seeds have them.
#[test]
fn a_seed_is_the_same_run_each_time() {
    for seed in [3, 4, 7, 17] {
        let [(first, log), (again, log_again)] = [seed; 2].map(logged);
        let mut lines = log.iter().zip(&log_again);
        assert_eq!(lines.find(|(a, b)| a != b), None, "seed {seed}");
        assert_eq!(log.len(), log_again.len(), "seed {seed}");
        assert_eq!(first, again, "seed {seed}");
    }
}

/// The run of a seed, and what the channel logged.
fn logged(seed: u64) -> (Outcome, Vec<String>) {
    let logs = Logs::capture_from("tonic_health_channel");
    let outcome = in_made_time(seed, rounds_of(seed)).expect("nothing is wrong");
    let lines = logs.all().into_iter().map(|line| line.text);
    (outcome, lines.collect())
}

fn seeds() -> Range<u64> {
    let number = |name| {
        let text = env::var(name).ok()?;
        let number = text.parse::<u64>();
        Some(number.unwrap_or_else(|_| panic!("{name}={text} is not a number")))
    };
    match number("SIMULATION_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..number("SIMULATION_SEEDS").unwrap_or(50),
    }
}

/// On a runtime of its own, whose time jumps to whatever is next.
fn in_made_time<T>(seed: u64, what: impl Future<Output = Result<T>>) -> Result<T> {
    // The channel's jitter is drawn from this.
    fastrand::seed(seed);
    let runtime = runtime::Builder::new_current_thread()
        .enable_all()
        .start_paused(true)
        .build()?;
    runtime.block_on(what)
}

/// The run of one seed: what was wrong, or what it came to.
async fn rounds_of(seed: u64) -> Result<Outcome> {
    let backends = 3 + usize::try_from(seed % 8)?;
    let connections = usize::try_from(1 + seed % 2)?;
    let mut fleet = fleet(backends, connections).await?;
    let load = fleet.load(CALLERS, RATE);
    let outcome = fleet.perform_all(seed, LASTS).await;
    end(fleet, &load, outcome).await
}

async fn one_round(backends: usize, round: Round) -> Result<Outcome> {
    let mut fleet = fleet(backends, 1).await?;
    let load = fleet.load(CALLERS, RATE);
    let outcome = fleet.perform(&round).await;
    end(fleet, &load, outcome).await
}

async fn fleet(backends: usize, connections: usize) -> Result<Fleet<Simulated>> {
    let mut hosts = Vec::new();
    for number in 0..backends {
        hosts.push(Simulated::start(number));
    }
    Fleet::start(&Handle::current(), hosts, connections).await
}

async fn end(fleet: Fleet<Simulated>, load: &Load, outcome: Result<()>) -> Result<Outcome> {
    let (_hosts, complaints) = fleet.end(load, outcome).await?;
    if !complaints.is_empty() {
        return Err(complaints.join("\n").into());
    }
    Ok(load.notes(|notes| Outcome {
        calls: notes.ends.len(),
        failed: notes.reasons.values().sum(),
        protected: notes.protected,
        failures: notes.failures(),
    }))
}
