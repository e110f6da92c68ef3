//! When a name is looked up again, and what an answer changes.
//!
//! ```text
//!              on_start              on_answer
//!      Due ───────────────► Looking ───────────► Answered
//!       ▲                      │                    │
//!       │  backoff             │ on_failure         │ asked: `min_interval` after the
//!       └──────────────────────┘                    │ start of this lookup, or a little
//!                                                   │ later; or the timer
//!                              ▲      on_start      │
//!                              └────────────────────┘
//! ```
//!
//! No name server is asked too often: all requests of one `min_interval` are one
//! lookup, and no request shortens the backoff. A failure takes nothing away.

use std::{
    collections::HashSet,
    hash::Hash,
    time::{Duration, Instant},
};

use super::found::MAX_ADDRESSES;
use crate::util::{
    backoff::{Backoff, BackoffConfig, next_start},
    instant::after,
};

/// A lookup comes up to this part of its interval later than it could. So the clients of a
/// restarted fleet do not stay in step. A request soon after a lookup waits for the end of its
/// interval, and all clients that have looked up together do so.
const JITTER: f64 = 0.2;

/// Any other request waits up to this long, and no longer than that part of an interval. All
/// clients of a backend that fails ask at the same moment.
const MAX_DELAY: Duration = Duration::from_secs(1);

/// The pauses between lookups.
#[derive(Clone, Debug)]
pub(crate) struct Pace {
    /// From the start of a lookup that was answered to the next: at least this.
    pub(crate) min_interval: Duration,
    /// To the next lookup that nobody asks for, unless the answer is valid for less;
    /// `None` if there is to be none.
    pub(crate) refresh_interval: Option<Duration>,
    /// After failures.
    pub(crate) backoff: BackoffConfig,
}

/// A name that is looked up again and again. `A` is what it is an answer to.
#[derive(Debug)]
pub(crate) struct Machine<A> {
    pace: Pace,
    backoff: Backoff,
    rng: fastrand::Rng,
    state: State,
    /// The first request since the last start.
    asked: Option<Request>,
    /// The last answer.
    known: Vec<A>,
}

/// A request: when it came, and how much of its longest delay it waits.
#[derive(Clone, Copy, Debug)]
struct Request {
    at: Instant,
    delay: f64,
}

#[derive(Clone, Copy, Debug)]
enum State {
    Due {
        at: Instant,
    },
    Looking {
        started: Instant,
    },
    Answered {
        /// When a request is heeded.
        earliest: Instant,
        /// When nobody has to ask.
        timer: Option<Instant>,
    },
}

/// What an answer changes, in the order of the answer. Told insertions first, so that
/// a set is never empty on its way to another.
#[must_use]
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Changes<A> {
    pub(crate) insert: Vec<A>,
    pub(crate) remove: Vec<A>,
}

impl<A: Clone + Eq + Hash> Machine<A> {
    /// A name that is to be looked up now.
    pub(crate) fn new(now: Instant, pace: Pace, seed: u64) -> Self {
        Self {
            backoff: Backoff::new(pace.backoff.clone(), seed),
            rng: fastrand::Rng::with_seed(seed),
            pace,
            state: State::Due { at: now },
            asked: None,
            known: Vec::new(),
        }
    }

    /// The last answer may be out of date.
    pub(crate) fn on_request(&mut self, now: Instant) {
        if self.asked.is_none() {
            let delay = self.rng.f64();
            self.asked = Some(Request { at: now, delay });
        }
    }

    /// A lookup starts.
    pub(crate) fn on_start(&mut self, now: Instant) {
        self.asked = None;
        self.state = State::Looking { started: now };
    }

    /// The lookup ended with these, of which there is at least one. `valid` says for
    /// how long they are, if anybody knows. Those that were known before and that `stays` are
    /// kept, found or not: the lookup could not learn of them.
    ///
    /// After a failure all of them are told anew, so that who heard of the failure
    /// hears of its end.
    pub(crate) fn on_answer(
        &mut self,
        now: Instant,
        found: Vec<A>,
        valid: Option<Duration>,
        stays: impl Fn(&A) -> bool,
    ) -> Changes<A> {
        let earliest = next_start(now, self.started(now), self.pace.min_interval);
        let timer = self.wait(valid).and_then(|wait| now.checked_add(wait));
        self.state = State::Answered {
            earliest,
            timer: timer.map(|at| at.max(earliest)),
        };
        let all_anew = self.backoff.failures() > 0;
        self.backoff.reset();
        self.replace(found, all_anew, stays)
    }

    /// What the last lookup found, and what was kept beside that.
    pub(crate) fn known(&self) -> &[A] {
        &self.known
    }

    /// The lookup ended without any. What was known before stays.
    pub(crate) fn on_failure(&mut self, now: Instant) {
        let delay = self.backoff.next_delay();
        let at = next_start(now, now, delay);
        self.state = State::Due { at };
    }

    /// When the next lookup is to start. `None` during one, and if nobody wants one.
    pub(crate) fn due(&self) -> Option<Instant> {
        match self.state {
            State::Due { at } => Some(at),
            State::Looking { .. } => None,
            State::Answered { earliest, timer } => {
                let asked = self.asked.map(|request| self.heeded(earliest, request));
                [asked, timer].into_iter().flatten().min()
            }
        }
    }

    /// When a request is heeded that may be so from `earliest` on.
    fn heeded(&self, earliest: Instant, request: Request) -> Instant {
        let longest = self.pace.min_interval.mul_f64(JITTER);
        let longest = match request.at < earliest {
            true => longest,
            false => longest.min(MAX_DELAY),
        };
        after(request.at.max(earliest), longest.mul_f64(request.delay))
    }

    fn started(&self, now: Instant) -> Instant {
        match self.state {
            State::Looking { started } => started,
            State::Due { .. } | State::Answered { .. } => now,
        }
    }

    fn wait(&mut self, valid: Option<Duration>) -> Option<Duration> {
        let interval = self.pace.refresh_interval?;
        let wait = valid.map_or(interval, |valid| valid.min(interval));
        let wait = wait.max(self.pace.min_interval);
        let later = 1.0 + JITTER * self.rng.f64();
        Duration::try_from_secs_f64(wait.as_secs_f64() * later).ok()
    }

    /// A name may have thousands of addresses, so none is searched for in a list.
    fn replace(&mut self, found: Vec<A>, all_anew: bool, stays: impl Fn(&A) -> bool) -> Changes<A> {
        let mut named = HashSet::with_capacity(found.len());
        let mut unique = found;
        unique.retain(|address| named.insert(address.clone()));
        let room = MAX_ADDRESSES.saturating_sub(unique.len());
        let kept = self.known.iter().filter(|known| stays(known));
        let kept = kept.filter(|known| !named.contains(known)).take(room);
        let kept: Vec<A> = kept.cloned().collect();
        named.extend(kept.iter().cloned());
        unique.extend(kept);
        let known: HashSet<&A> = self.known.iter().collect();
        let is_new = |address: &&A| all_anew || !known.contains(address);
        let insert = unique.iter().filter(is_new).cloned().collect();
        self.known.retain(|address| !named.contains(address));
        let remove = std::mem::replace(&mut self.known, unique);
        Changes { insert, remove }
    }
}

#[cfg(test)]
mod tests {
    use std::{
        cell::Cell,
        hash::{Hash, Hasher},
        time::{Duration, Instant},
    };

    use super::{Machine, Pace};
    use crate::util::backoff::BackoffConfig;

    const MIN: u64 = 30;
    const REFRESH: u64 = 60;

    fn pace(refresh: Option<u64>) -> Pace {
        let [initial, max] = [1, 30].map(Duration::from_secs);
        Pace {
            min_interval: Duration::from_secs(MIN),
            refresh_interval: refresh.map(Duration::from_secs),
            backoff: BackoffConfig::default()
                .initial(initial)
                .and_then(|backoff| backoff.multiplier(2.0))
                .and_then(|backoff| backoff.jitter(0.0))
                .expect("valid")
                .max(max),
        }
    }

    /// Plays a script of lines `seconds input | what changes; when to look next`.
    /// Inputs: `start`, `found a b`, `found a b for seconds`, `failed`, `asked`, and
    /// `part a b`, which could not learn of names that begin with `u`. A time that chance has a part in is `min..max`.
    #[track_caller]
    fn check(refresh: Option<u64>, script: &str) {
        let epoch = Instant::now();
        let mut machine = Machine::new(epoch, pace(refresh), 1);
        assert_eq!(machine.due(), Some(epoch), "looked up at once");
        for line in script.trim().lines() {
            let (given, expected) = line.split_once('|').expect("given | expected");
            let (seconds, input) = given.trim().split_once(' ').expect("time, input");
            let seconds = Duration::from_secs_f64(seconds.parse().expect("seconds"));
            let told = feed(&mut machine, epoch + seconds, input.trim());
            let (changes, due) = expected.trim().split_once(';').expect("changes; due");
            assert_eq!(told, changes.trim(), "{given}");
            let now = machine.due().map(|at| (at - epoch).as_secs_f64());
            match (due.trim(), now) {
                ("never", None) => {}
                (due, Some(at)) => {
                    let (min, max) = due.split_once("..").unwrap_or((due, due));
                    let [min, max] = [min, max].map(|s| s.parse::<f64>().expect("seconds"));
                    assert!((min..=max).contains(&at), "{given}: due at {at}");
                }
                (_, None) => panic!("{given}: never due"),
            }
        }
    }

    fn feed(machine: &mut Machine<String>, now: Instant, input: &str) -> String {
        let changes = match input.split_once(' ') {
            None if input == "start" => {
                machine.on_start(now);
                return String::new();
            }
            None if input == "failed" => {
                machine.on_failure(now);
                return String::new();
            }
            None if input == "asked" => {
                machine.on_request(now);
                return String::new();
            }
            Some(("found", found)) => {
                let (names, valid) = match found.split_once(" for ") {
                    Some((names, seconds)) => (names, Some(seconds.parse().expect("seconds"))),
                    None => (found, None),
                };
                let names = names.split(' ').map(str::to_owned).collect();
                machine.on_answer(now, names, valid.map(Duration::from_secs), |_| false)
            }
            Some(("part", found)) => {
                let names = found.split(' ').map(str::to_owned).collect();
                let is_unknown = |name: &String| name.starts_with('u');
                machine.on_answer(now, names, None, is_unknown)
            }
            _ => panic!("what is {input}?"),
        };
        let insert = changes.insert.iter().map(|name| format!("+{name}"));
        let remove = changes.remove.iter().map(|name| format!("-{name}"));
        insert.chain(remove).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn an_answer_is_told_by_what_it_changes() {
        check(
            Some(REFRESH),
            "0   start         | ; never
             1   found a b     | +a +b; 61..73
             61  start         | ; never
             61  found b a     | ; 121..133
             121 start         | ; never
             121 found c b c   | +c -a; 181..193
             181 start         | ; never
             182 found d       | +d -c -b; 242..254",
        );
    }

    // D296
    #[test]
    fn what_a_lookup_could_not_learn_of_stays() {
        check(
            None,
            "0   start          | ; never
             1   found u1 u2 a  | +u1 +u2 +a; never
             40  start          | ; never
             40  part b         | +b -a; never
             80  start          | ; never
             80  part b         | ; never
             120 start          | ; never
             120 failed         | ; 121
             121 start          | ; never
             121 part c u1      | +c +u1 +u2 -b; never
             160 start          | ; never
             160 found c u2     | -u1; never",
        );
    }

    // D398
    #[test]
    fn a_request_is_heeded_once_per_interval_and_a_little_later() {
        check(
            None,
            "0  start   | ; never
             2  found a | +a; never
             3  asked   | ; 30.01..36
             4  asked   | ; 30.01..36
             36 start   | ; never
             37 found a | ; never
             99 asked   | ; 99.01..100
             99.5 asked | ; 99.01..100",
        );
    }

    // D398
    #[test]
    fn a_request_does_not_put_a_lookup_off() {
        check(
            Some(REFRESH),
            "0    start   | ; never
             0    found a | +a; 60..72
             59.9 asked   | ; 59.91..60.9
             73   start   | ; never",
        );
    }

    // D398
    #[test]
    fn the_requests_of_many_clients_are_heeded_one_after_the_other() {
        for (asked, from, to) in [(10, 30, 36), (50, 50, 51)] {
            let epoch = Instant::now();
            let [asked, from, to] = [asked, from, to].map(|s| epoch + Duration::from_secs(s));
            let mut early = 0;
            for seed in 0..1_000 {
                let mut machine = Machine::new(epoch, pace(None), seed);
                machine.on_start(epoch);
                let _ = machine.on_answer(epoch, vec!["a"], None, |_| false);
                machine.on_request(asked);
                let due = machine.due().expect("it was asked for");
                assert!((from..=to).contains(&due));
                early += u32::from(due < from + (to - from) / 10);
            }
            // 5 standard deviations of a tenth of 1,000 are 47.
            assert!(early.abs_diff(100) < 47, "{early} in the first tenth");
        }
    }

    #[test]
    fn a_request_during_a_lookup_is_for_the_next() {
        check(
            None,
            "0  start   | ; never
             1  asked   | ; never
             2  found a | +a; 30..36",
        );
    }

    #[test]
    fn an_answer_that_is_valid_for_less_is_asked_for_earlier() {
        check(
            Some(REFRESH),
            "0   start           | ; never
             0   found a for 40  | +a; 40..48
             50  start           | ; never
             50  found a for 5   | ; 80..86
             90  start           | ; never
             90  found a for 900 | ; 150..162",
        );
    }

    #[test]
    fn failures_are_retried_with_backoff_and_take_nothing_away() {
        check(
            Some(REFRESH),
            "0   start     | ; never
             0   failed    | ; 1
             1   start     | ; never
             1   found a b | +a +b; 61..73
             61  start     | ; never
             61  failed    | ; 62
             62  start     | ; never
             62  asked     | ; never
             62  failed    | ; 64
             63  asked     | ; 64
             64  start     | ; never
             67  failed    | ; 71
             71  start     | ; never
             71  found b   | +b -a; 131..143
             131 start     | ; never
             131 failed    | ; 132",
        );
    }

    thread_local! {
        static COMPARISONS: Cell<u64> = const { Cell::new(0) };
    }

    /// A name that counts how often it is compared.
    #[derive(Clone, Debug, Eq)]
    struct Counted(u32);

    impl Hash for Counted {
        fn hash<H: Hasher>(&self, state: &mut H) {
            self.0.hash(state);
        }
    }

    impl PartialEq for Counted {
        fn eq(&self, other: &Self) -> bool {
            COMPARISONS.set(COMPARISONS.get() + 1);
            self.0 == other.0
        }
    }

    // D399
    #[test]
    fn an_answer_of_10_000_names_costs_a_few_comparisons_for_each() {
        let now = Instant::now();
        let mut machine = Machine::new(now, pace(None), 1);
        for shift in [0, 0, 100] {
            let names = (shift..shift + 10_000).rev().map(Counted).collect();
            machine.on_start(now);
            let changes = machine.on_answer(now, names, None, |_| false);
            let left = changes.remove.len() as u32;
            assert_eq!(left, shift);
        }
        let comparisons = COMPARISONS.get();
        assert!(comparisons < 300_000, "{comparisons} comparisons");
    }

    /// The model knows who was told, and when lookups started.
    #[test]
    fn a_random_walk_never_hurries_and_always_agrees_with_the_last_answer() {
        for seed in 0..200 {
            let mut rng = fastrand::Rng::with_seed(seed);
            let mut now = Instant::now();
            let refresh = rng.bool().then_some(REFRESH);
            let mut machine = Machine::new(now, pace(refresh), seed);
            let mut told: Vec<u8> = Vec::new();
            let mut last: Option<(Instant, bool)> = None;
            for step in 0..200 {
                let at = format!("seed {seed}, step {step}");
                if rng.u8(..3) == 0 {
                    machine.on_request(now);
                }
                let Some(due) = machine.due() else {
                    assert!(refresh.is_none(), "forgotten: {at}");
                    machine.on_request(now);
                    assert!(machine.due().is_some(), "a request is heeded: {at}");
                    continue;
                };
                now = now.max(due);
                if let Some((started, answered)) = last {
                    let pause = if answered { MIN } else { 1 };
                    assert!(now - started >= Duration::from_secs(pause), "hurries: {at}");
                }
                machine.on_start(now);
                assert_eq!(machine.due(), None, "one lookup at a time: {at}");
                let started = now;
                now += Duration::from_millis(rng.u64(..5_000));
                let found: Vec<u8> = (0..rng.usize(..5)).map(|_| rng.u8(..6)).collect();
                last = Some((started, !found.is_empty()));
                if found.is_empty() {
                    machine.on_failure(now);
                    continue;
                }
                let ttl = rng.bool().then(|| Duration::from_secs(rng.u64(..100)));
                let changes = machine.on_answer(now, found.clone(), ttl, |_| false);
                for insert in changes.insert {
                    assert!(found.contains(&insert), "nobody said so: {at}");
                    told.retain(|name| *name != insert);
                    told.push(insert);
                }
                for remove in changes.remove {
                    let known = told.iter().position(|name| *name == remove);
                    told.remove(known.expect("only those that were told are taken back"));
                }
                let mut expected = found;
                expected.sort_unstable();
                expected.dedup();
                told.sort_unstable();
                assert_eq!(told, expected, "{at}");
            }
        }
    }
}
