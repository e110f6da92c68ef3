//! The price of choosing a backend, in nanoseconds per pick.
//!
//! `cargo bench --bench pick -- [--quick] [--csv FILE]`
//!
//! | column | what one pick does |
//! |---|---|
//! | `call_path` | what a call does before it asks the first backend for a stream: load the routing in force, pick, see that nobody waits in the queue, take the first candidate, drop the load guard |
//! | `pick` | pick and take the first candidate, from one picker held all the time |
//! | `rwlock_vec` | baseline: read-lock a `Vec`, take the element at a shared counter |
//! | `counter` | baseline: count, and divide by the number of backends; no list behind it |
//!
//! The picker is the library's own source files. What surrounds it, an `ArcSwap`
//! and the length of the queue, is built here as the library's board has it,
//! which cannot be reached from outside. Not included: the candidate's admission
//! (a compare-and-swap on the connection's stream count and a clone of its
//! handle), and the misses of a cold cache. The candidate is looked into as far as
//! it takes to see that its backend has one connection.
//!
//! With two threads both hammer one channel without doing anything in between,
//! which is the worst case of sharing: real calls take microseconds, so their
//! picks collide seldom. The figure is then of each thread, not of both together.
//! `counter` shows how much of it is one cache line that two cores pull at.
//!
//! A second table has the pick of each policy over 10,000 backends, by one thread, and how much
//! longer it takes than that of `round_robin`. The bench fails where one is above its bar.
//!
//! Every round times all columns, forwards in one and backwards in the next; a
//! round of two threads counts by the slower one; the figure is the median of the
//! rounds. Threads are not pinned. Where other programs have a core, two threads
//! take turns on what is left and collide with nobody, which looks fast: a round
//! in which they ran side by side for less than four fifths does not count,
//! and where fewer than a quarter do, there is a dash instead of a figure.

use std::{
    hint::{self, black_box},
    process::ExitCode,
    sync::{
        Arc, LazyLock, RwLock,
        atomic::{
            AtomicUsize,
            Ordering::{Relaxed, SeqCst},
        },
    },
    thread,
};

use arc_swap::ArcSwap;

use choice::Choice;
use http::{HeaderMap, HeaderName, HeaderValue};
use least_request::LeastRequest;
use pick_half::PickInfo;
use picker::{Pick, Picker};
use ring::Ring;
use ring_hash::{RingHash, RingMember};
use rotation::{Cursor, Rotation};
use stride::Stride;
use support::{
    Result,
    arguments::{Arguments, exit_code},
    clock,
    table::{Table, quantile},
};
use transport::BackendCalls;

#[allow(
    dead_code,
    unused_imports,
    reason = "a bench uses a part, and is compiled with `cfg(test)`"
)]
#[path = "../src/routing/by_level.rs"]
mod by_level;
#[path = "../src/routing/choice.rs"]
mod choice;
#[allow(
    dead_code,
    unused_imports,
    reason = "a bench uses a part, and is compiled with `cfg(test)`"
)]
#[path = "../src/routing/least_request.rs"]
mod least_request;
#[allow(
    dead_code,
    reason = "a bench uses a part, and is compiled with `cfg(test)`"
)]
#[path = "../src/routing/pick_half.rs"]
mod pick_half;
#[allow(
    dead_code,
    unused_imports,
    reason = "a bench uses a part, and is compiled with `cfg(test)`"
)]
#[path = "../src/routing/picker.rs"]
mod picker;
#[allow(
    dead_code,
    unreachable_pub,
    unused_imports,
    reason = "a bench uses a part, and is compiled with `cfg(test)`"
)]
#[path = "../src/routing/ring.rs"]
mod ring;
#[allow(
    dead_code,
    unused_imports,
    reason = "a bench uses a part, and is compiled with `cfg(test)`"
)]
#[path = "../src/routing/ring_hash.rs"]
mod ring_hash;
#[path = "../src/routing/rotation.rs"]
mod rotation;
#[allow(
    dead_code,
    unused_imports,
    reason = "a bench uses a part, and is compiled with `cfg(test)`"
)]
#[path = "../src/routing/stride.rs"]
mod stride;
mod support;

/// The number of a backend's calls, where the library has it: in a record of its own.
mod transport {
    use std::sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    };

    #[derive(Clone, Debug, Default)]
    pub(crate) struct BackendCalls(Arc<Record>);

    #[derive(Debug, Default)]
    struct Record {
        in_flight: AtomicUsize,
        _rest: [usize; 10],
    }

    #[allow(dead_code, reason = "the unit tests of policies use it")]
    impl BackendCalls {
        pub(crate) fn enter(&self) {
            self.0.in_flight.fetch_add(1, Relaxed);
        }

        pub(crate) fn leave(&self, calls: usize) {
            self.0.in_flight.fetch_sub(calls, Relaxed);
        }

        pub(crate) fn in_flight(&self) -> usize {
            self.0.in_flight.load(Relaxed)
        }
    }
}

const USAGE: &str = "\
usage: cargo bench --bench pick -- [options]
  --quick       few short rounds
  --csv FILE    writes the table to FILE as well
";

const BACKENDS: [usize; 5] = [1, 10, 100, 1_000, 10_000];
const THREADS: [usize; 2] = [1, 2];

fn main() -> ExitCode {
    exit_code(run(), USAGE)
}

fn run() -> Result<()> {
    let arguments = Arguments::parse(&[])?;
    let (rounds, picks) = match arguments.quick {
        true => (5, 20_000),
        false => (41, 200_000),
    };
    println!("ns per pick, median of {rounds} rounds of {picks} picks by each thread");
    let mut header = vec!["backends", "threads"];
    header.extend(Way::ALL.map(Way::name));
    let mut table = Table::new(&header);
    for backends in BACKENDS {
        for threads in THREADS {
            let medians = measure(&Board::new(backends), threads, rounds, picks);
            let mut row = vec![backends.to_string(), threads.to_string()];
            row.extend(medians.map(|ns| match ns {
                Some(ns) => format!("{ns:.1}"),
                None => "-".to_owned(),
            }));
            table.row(row);
        }
    }
    table.print();
    table.write_csv(arguments.csv.as_deref())?;
    compare_policies(picks)
}

/// A policy, and how many times as long as `round_robin` its pick may take.
type Policy = (&'static str, fn(usize) -> Choice, f64);

const POLICIES: [Policy; 4] = [
    ("round_robin", rotation, 1.0),
    ("least_request_experimental", least_request, 4.0),
    ("weighted_round_robin", stride, 4.0),
    ("ring_hash_experimental", ring_hash, 8.0),
];

/// So many rounds, each of which times all policies.
const POLICY_ROUNDS: usize = 5;

fn rotation(_backends: usize) -> Choice {
    Choice::Rotation(Rotation::new(cursor()))
}

fn least_request(backends: usize) -> Choice {
    let calls = (0..backends).map(|_| BackendCalls::default());
    Choice::LeastRequest(LeastRequest::new(2, calls))
}

/// With weights of 1 to 10.
fn stride(backends: usize) -> Choice {
    let weights: Vec<_> = (0..backends).map(|n| (n % 10 + 1) as f64).collect();
    let stride = Stride::new(&weights, cursor());
    Choice::Stride(stride.expect("weights that make a difference"))
}

/// By a header, on a ring of 4,096 entries.
fn ring_hash(backends: usize) -> Choice {
    let addresses = (0..backends).map(|n| format!("10.0.{}.{}:50051", n / 256, n % 256));
    let addresses: Vec<_> = addresses.collect();
    let members = addresses.iter().map(|address| (&**address, 1));
    let ring = Arc::new(Ring::new(members, 1024, 4096));
    let ready = (0..backends as u32).map(RingMember::Ready);
    Choice::RingHash(RingHash::new(ring, ready.collect(), Some(KEY)))
}

fn cursor() -> Arc<Cursor> {
    Arc::new(Cursor::new(fastrand::usize(..)))
}

/// # Errors
///
/// A policy is above its bar.
fn compare_policies(picks: usize) -> Result<()> {
    let backends = BACKENDS[BACKENDS.len() - 1];
    println!("\nmedian of {POLICY_ROUNDS} rounds of {picks} picks, {backends} backends, 1 thread");
    let mut all = POLICIES.map(|(_, choice, _)| {
        let picker = picker(backends, choice(backends));
        (picker, Vec::new())
    });
    for _ in 0..POLICY_ROUNDS {
        for (picker, times) in &mut all {
            let began = clock::now();
            (0..picks).for_each(|_| pick(picker));
            times.push((clock::now() - began) as f64 / picks as f64);
        }
    }
    let medians = all.map(|(_, mut times)| quantile(&mut times, 0.5));
    let mut table = Table::new(&["policy", "ns", "times", "bar"]);
    let mut above = Vec::new();
    for ((name, _, bar), ns) in POLICIES.into_iter().zip(medians) {
        let times = ns / medians[0];
        table.row(vec![
            name.to_owned(),
            format!("{ns:.1}"),
            format!("{times:.2}"),
            format!("{bar:.0}"),
        ]);
        if times > bar {
            above.push(name);
        }
    }
    table.print();
    match above.is_empty() {
        true => Ok(()),
        false => Err(format!("above the bar: {}", above.join(", ")).into()),
    }
}

/// The median nanoseconds per pick of each way, where enough rounds count.
fn measure(board: &Board, threads: usize, rounds: usize, picks: usize) -> [Option<f64>; 4] {
    let mut times = [const { Vec::new() }; 4];
    for round in 0..rounds {
        let mut order = [0, 1, 2, 3];
        if round % 2 == 1 {
            order.reverse();
        }
        for way in order {
            times[way].extend(time(board, Way::ALL[way], threads, picks));
        }
    }
    times.map(|mut times| (times.len() > rounds / 4).then(|| quantile(&mut times, 0.5)))
}

/// Nanoseconds per pick of the slowest of `threads` threads that start together.
/// `None` if they ran side by side for less than four fifths of the time.
fn time(board: &Board, way: Way, threads: usize, picks: usize) -> Option<f64> {
    let arrived = AtomicUsize::new(0);
    let hammer = || {
        // Spinning, so that all are on a core when the last one arrives.
        arrived.fetch_add(1, SeqCst);
        while arrived.load(SeqCst) < threads {
            hint::spin_loop();
        }
        let began = clock::now();
        board.hammer(way, picks);
        (began, clock::now())
    };
    let mut ran = thread::scope(|scope| {
        let others: Vec<_> = (1..threads).map(|_| scope.spawn(hammer)).collect();
        let own = hammer();
        let others = others.into_iter().map(|thread| {
            let ran = thread.join();
            ran.expect("picking does not panic")
        });
        others.chain([own]).collect::<Vec<_>>()
    });
    ran.sort();
    let first_end = ran.iter().map(|(_, ended)| *ended).min()?;
    let last_end = ran.iter().map(|(_, ended)| *ended).max()?;
    let (first_begin, last_begin) = (ran.first()?.0, ran.last()?.0);
    let slowest = ran.iter().map(|(began, ended)| ended - began).max()?;
    let together = first_end.saturating_sub(last_begin);
    let side_by_side = together * 5 > (last_end - first_begin) * 4;
    side_by_side.then_some(slowest as f64 / picks as f64)
}

#[derive(Clone, Copy)]
enum Way {
    CallPath,
    Pick,
    RwLockVec,
    Counter,
}

impl Way {
    const ALL: [Self; 4] = [Self::CallPath, Self::Pick, Self::RwLockVec, Self::Counter];

    fn name(self) -> &'static str {
        match self {
            Self::CallPath => "call_path",
            Self::Pick => "pick",
            Self::RwLockVec => "rwlock_vec",
            Self::Counter => "counter",
        }
    }
}

/// Handles as the library has them, of a backend with one connection.
#[derive(Clone)]
struct Connections {
    first: Arc<usize>,
    all: Option<Arc<Vec<Arc<usize>>>>,
}

impl Connections {
    /// The one to ask first for a stream.
    fn of_round(&self, round: usize) -> &Arc<usize> {
        match &self.all {
            None => &self.first,
            Some(all) => &all[round % all.len()],
        }
    }
}

/// The call that is picked for.
struct Call;

const KEY: HeaderName = HeaderName::from_static("x-user");

/// The headers of calls, each with another key.
static CALLS: LazyLock<Vec<HeaderMap>> = LazyLock::new(|| {
    let of_user = |user| {
        let mut headers = HeaderMap::new();
        headers.insert("te", HeaderValue::from_static("trailers"));
        headers.insert("content-type", HeaderValue::from_static("application/grpc"));
        let user = format!("user-{user}").parse();
        headers.insert(KEY, user.expect("a header value"));
        headers
    };
    (0..256).map(of_user).collect()
});

impl PickInfo for Call {
    fn path(&self) -> &str {
        unreachable!("rotation does not ask")
    }

    fn headers(&mut self) -> &HeaderMap {
        &CALLS[fastrand::usize(..CALLS.len())]
    }

    fn random(&mut self) -> u64 {
        fastrand::u64(..)
    }
}

/// What the library publishes for calls.
struct Routing {
    picker: Picker<Connections>,
    _status: Arc<()>,
}

/// What all threads share: the library's way, and the baselines'.
struct Board {
    routing: ArcSwap<Routing>,
    /// Calls in the queue. Behind a pointer of its own, as in the library.
    waiting: Arc<AtomicUsize>,
    locked: RwLock<Vec<Connections>>,
    counter: AtomicUsize,
    backends: usize,
}

impl Board {
    fn new(backends: usize) -> Self {
        let picker = picker(backends, rotation(backends));
        let connections = picker.backends().to_vec();
        Self {
            routing: ArcSwap::from_pointee(Routing {
                picker,
                _status: Arc::new(()),
            }),
            waiting: Arc::default(),
            locked: RwLock::new(connections),
            counter: AtomicUsize::new(0),
            backends,
        }
    }

    fn hammer(&self, way: Way, picks: usize) {
        match way {
            Way::CallPath => (0..picks).for_each(|_| self.call_path()),
            Way::Pick => {
                let routing = self.routing.load_full();
                (0..picks).for_each(|_| pick(&routing.picker));
            }
            Way::RwLockVec => (0..picks).for_each(|_| self.rwlock_vec()),
            Way::Counter => (0..picks).for_each(|_| {
                black_box(self.turn() % black_box(self.backends));
            }),
        }
    }

    /// As a call does it before the first candidate is asked.
    fn call_path(&self) {
        let routing = self.routing.load();
        match routing.picker.pick(&mut Call) {
            Pick::Send(mut candidates) if self.waiting.load(SeqCst) == 0 => {
                let round = candidates.round();
                black_box(candidates.next().map(|backend| backend.of_round(round)));
            }
            _ => unreachable!("the picker is READY and nobody waits"),
        }
    }

    fn rwlock_vec(&self) {
        let connections = self.locked.read().expect("no thread panics");
        black_box(&connections[self.turn() % connections.len()]);
    }

    fn turn(&self) -> usize {
        self.counter.fetch_add(1, Relaxed)
    }
}

fn picker(backends: usize, choice: Choice) -> Picker<Connections> {
    let connections = |n| Connections {
        first: Arc::new(n),
        all: None,
    };
    Picker::Ready {
        backends: (0..backends).map(connections).collect(),
        choice,
    }
}

fn pick(picker: &Picker<Connections>) {
    match black_box(picker).pick(&mut Call) {
        Pick::Send(mut candidates) => {
            let round = candidates.round();
            black_box(candidates.next().map(|backend| backend.of_round(round)));
        }
        _ => unreachable!("the picker is READY"),
    }
}
