//! Anything may happen, in any order: a script drawn from a seed changes the backends,
//! their health and the service config, while callers call without a pause.
//!
//! ```text
//!   plan     seed ─► volleys of steps, and the model of what has to come of them
//!   stage    performs each volley on real servers, then waits for the channel's status
//!            to say what is true: the world is at rest, and known
//!   callers  keep what the channel and the world were before and after each call
//!   habits   calls that are not polled, answers that are not read, runtimes that end,
//!            request bodies that panic
//!   policies retries, hedges, throttles and buffers
//!   ledger   counts calls and attempts by their traces and their metrics
//!   hooks    a connector, credentials and sources that panic; the end of a task of ours
//!   verdict  what must hold of each call and each status
//! ```
//!
//! Twenty seeds run with all other tests. More, with their number and the time they
//! took; or one that has failed, alone:
//!
//! ```sh
//! CHURN_SEEDS=1000 cargo test --test it churn -- --nocapture
//! CHURN_SEED=17 cargo test --test it churn -- --nocapture
//! ```

mod callers;
mod habits;
mod hooks;
mod ledger;
mod plan;
mod policies;
mod stage;
mod verdict;

use std::{
    env,
    ops::Range,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, AtomicUsize, Ordering::SeqCst},
    },
    thread,
    time::Instant,
};

use testing::{hello, within};
use tokio::{
    runtime::{self, Handle, Runtime},
    task::yield_now,
};
use tokio_stream::StreamExt;
use tonic_health_channel::{
    Channel,
    channel::{CallAttempts, Change},
};
use tower::ServiceExt;

use self::{
    callers::{Call, End},
    hooks::Deaths,
    plan::Plan,
    stage::Stage,
};

/// Most of a run is waiting, for backoffs above all.
const RUNS_PER_CORE: usize = 4;

/// How much of its script is told of a run that failed.
const TAIL: usize = 40;

/// What a run has done, to be told if it fails.
#[derive(Clone, Debug, Default)]
struct Journal(Arc<Mutex<Vec<String>>>);

/// What all runs together come to.
#[derive(Debug, Default)]
struct Tally {
    steps: AtomicUsize,
    calls: AtomicUsize,
    answered: AtomicUsize,
    /// Attempts to connect that panicked.
    dials_panicked: AtomicUsize,
    /// Calls whose credentials panicked.
    calls_panicked: AtomicUsize,
    /// Calls that were answered after an attempt had failed.
    saved: AtomicUsize,
    /// Calls with several attempts.
    attempted_again: AtomicUsize,
    /// Attempts that were traced.
    traced: AtomicUsize,
    failures: Mutex<Vec<u64>>,
}

#[test]
fn whatever_happens_to_backends_every_call_is_right() {
    let began = Instant::now();
    let seeds = seeds();
    let (next, tally) = (AtomicU64::new(seeds.start), Tally::default());
    let workers = thread::available_parallelism().map_or(1, usize::from) * RUNS_PER_CORE;
    thread::scope(|scope| {
        for _ in 0..workers {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, SeqCst);
                    if !seeds.contains(&seed) {
                        return;
                    }
                    run_and_tell(seed, &tally);
                }
            });
        }
    });
    println!("seeds {seeds:?} in {:?}: {tally:?}", began.elapsed());
    // One seed may have no such hooks; of many some have.
    if seeds.end - seeds.start >= 20 {
        let counts = [
            &tally.dials_panicked,
            &tally.calls_panicked,
            &tally.saved,
            &tally.attempted_again,
            &tally.traced,
        ];
        let all = counts.map(|count| count.load(SeqCst));
        assert!(
            all.iter().all(|count| *count > 0),
            "panics, attempts and traces {all:?}"
        );
    }
    let failures = tally.failures.into_inner().expect("nobody panics with it");
    assert!(failures.is_empty(), "seeds that failed: {failures:?}");
}

fn seeds() -> Range<u64> {
    let number = |name| {
        let text = env::var(name).ok()?;
        let number = text.parse::<u64>();
        Some(number.unwrap_or_else(|_| panic!("{name}={text} is not a number")))
    };
    match number("CHURN_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..number("CHURN_SEEDS").unwrap_or(20),
    }
}

fn run_and_tell(seed: u64, tally: &Tally) {
    let journal = Journal::default();
    let run = || {
        let (plan, deaths) = (Plan::of(seed), Deaths::watch());
        let _hears = deaths.hear_this_thread();
        let runtime = runtime(plan.threads, &deaths);
        let mut complaints = runtime.block_on(run(seed, &plan, &journal, tally));
        complaints.extend(deaths.all());
        complaints
    };
    let outcome = catch_unwind(AssertUnwindSafe(run));
    let complaints = outcome.unwrap_or_else(|_| vec!["a panic, told above".to_owned()]);
    if !complaints.is_empty() {
        eprintln!(
            "seed {seed}:\n{}\nits last steps:\n{}\nalone: CHURN_SEED={seed} cargo test --test it \
             churn -- --nocapture",
            complaints.join("\n"),
            journal.tail()
        );
        let failures = tally.failures.lock();
        failures.expect("nobody panics with it").push(seed);
    }
}

/// A runtime for each run, so that its tasks can be counted.
fn runtime(threads: bool, deaths: &Deaths) -> Runtime {
    let mut builder = match threads {
        true => runtime::Builder::new_multi_thread(),
        false => runtime::Builder::new_current_thread(),
    };
    let deaths = deaths.clone();
    // Its workers hear until they end.
    builder.on_thread_start(move || std::mem::forget(deaths.hear_this_thread()));
    let runtime = builder.worker_threads(2).enable_all().build();
    runtime.expect("a runtime")
}

/// The run of one seed: what was wrong.
async fn run(seed: u64, plan: &Plan, journal: &Journal, tally: &Tally) -> Vec<String> {
    let mut stage = Stage::set(seed, plan, journal.clone()).await;
    let before = tasks();
    let mut play = stage.open(seed);
    let watch = tokio::spawn(verdict::of_watch(play.channel().watch_status()));
    for volley in &plan.volleys {
        play.perform(volley).await;
    }
    let (channel, calls) = play.end().await;

    // All is well again, and nobody else calls: strict turns.
    stage.hooks().be_well();
    until_none_is_in_flight(&channel).await;
    let rounds = 3;
    let mut expected = stage.backends();
    let streams = until_each_has_a_free_stream(&channel, expected.iter().sum());
    within("each backend to have a free stream", streams).await;
    expected.iter_mut().for_each(|backends| *backends *= rounds);
    let mut turns = vec![0; expected.len()];
    for _ in 0..expected.iter().sum() {
        let reply = hello(&channel).await.expect("every backend is READY");
        let by = stage
            .servers()
            .iter()
            .position(|s| s.name() == reply.backend);
        turns[by.expect("one of them")] += 1;
    }
    assert_eq!(turns, expected, "turns");

    if plan.closes {
        channel.close().await;
        let status = hello(&channel).await.expect_err("it is closed");
        assert_eq!(status.message(), "the channel was closed");
    }
    drop(channel);
    for server in stage.servers() {
        server.until_open_connections(0).await;
    }
    let mut complaints = within("the status watch to end", watch)
        .await
        .expect("it does not panic");
    // No task is left that was not there before: tokio has no event for the end of
    // one that nobody joins.
    within(&format!("all tasks but {before} to end"), async {
        while tasks() > before {
            yield_now().await;
        }
    })
    .await;

    let evidence = stage.evidence();
    complaints.extend(calls.iter().filter_map(|call| evidence.complaint(call)));
    complaints.extend(evidence.miscount(&calls));
    if let Some(ledger) = &stage.ledger {
        complaints.extend(ledger.complaints());
        tally.traced.fetch_add(ledger.attempts(), SeqCst);
    }
    let answered = calls
        .iter()
        .filter(|call| matches!(call.end, End::Answered));
    tally
        .steps
        .fetch_add(plan.volleys.iter().flatten().count(), SeqCst);
    tally.calls.fetch_add(calls.len(), SeqCst);
    let again = |call: &&Call| call.told.attempts.as_ref().is_some_and(|a| a.made() > 1);
    let again = calls.iter().filter(again);
    let saved = again.clone().filter(|call| {
        let failed = call.told.attempts.as_ref().map(CallAttempts::failed);
        matches!(call.end, End::Answered) && failed.is_some_and(|failed| !failed.is_empty())
    });
    tally.saved.fetch_add(saved.count(), SeqCst);
    tally.attempted_again.fetch_add(again.count(), SeqCst);
    tally.answered.fetch_add(answered.count(), SeqCst);
    let hooks = stage.hooks();
    tally.dials_panicked.fetch_add(hooks.dials(), SeqCst);
    tally.calls_panicked.fetch_add(hooks.calls(), SeqCst);
    complaints
}

/// The call that ends is over for its caller first, and then for its backend.
async fn until_none_is_in_flight(channel: &Channel) {
    within("all calls to leave their backends", async {
        let is_busy = |channel: &Channel| {
            let backends = channel.backends();
            backends.iter().any(|backend| backend.calls_in_flight() > 0)
        };
        while is_busy(channel) {
            yield_now().await;
        }
    })
    .await;
}

/// A stream that its caller has cancelled is free when its RST_STREAM is written. Until then its
/// backend may be full, and pass its turn on.
async fn until_each_has_a_free_stream(channel: &Channel, backends: usize) {
    let mut ready = channel.ready_backends();
    for _ in 0..backends {
        let Some(Ok(Change::Insert(_, mut backend))) = ready.next().await else {
            panic!("every backend is READY");
        };
        backend.ready().await.expect("its connection stays");
    }
}

fn tasks() -> usize {
    Handle::current().metrics().num_alive_tasks()
}

impl Journal {
    fn note(&self, line: String) {
        let mut lines = self.0.lock().expect("no holder of the journal panics");
        lines.push(line);
    }

    fn tail(&self) -> String {
        let lines = self.0.lock().expect("no holder of the journal panics");
        lines[lines.len().saturating_sub(TAIL)..].join("\n")
    }
}
