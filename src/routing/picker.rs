//! Chooses a connection for one call.
//!
//! ```text
//!   publication 7: Ready { A B C }      publication 8: Ready { A C D }
//!                     │                                   │
//!                     └──► Choice: which one first ◄──────┘
//! ```
//!
//! A picker never changes: every change of the channel publishes a new one. It asks its
//! [`Choice`], the pick half of the policy in force, for the backend that a call begins with, and
//! for another one only if that is full.
//!
//! # Another way to choose
//!
//! A policy that does not rotate is another variant of [`Choice`], in a file of its own. Nothing
//! here changes, and rotation pays a comparison for it. What the policy knows of the backends is
//! in its variant, which the balancer makes anew for each publication.
//!
//! A policy may let a call wait, though a backend is READY. It then also says which publication
//! is to wake the call.

use super::{
    choice::Choice,
    pick_half::{First, PickHalf, PickInfo, in_turn},
};

/// What the channel can do for a call, by its connectivity state.
#[derive(Debug)]
pub(crate) enum Picker<C, P = Choice> {
    /// The READY backends, each with what it has for calls, in the order of the
    /// source.
    Ready {
        backends: Box<[C]>,
        choice: P,
    },
    /// The same, and some backends are silent: each is sent probes, at the rate at which it would
    /// have calls.
    ReadyAndSilent {
        backends: Box<[C]>,
        choice: P,
        silent: Box<[C]>,
    },
    Connecting,
    Idle,
    /// TRANSIENT_FAILURE. Why, says the status published with this picker.
    Failing,
    /// The same, and some backends are silent: each is sent probes.
    FailingAndSilent {
        silent: Box<[C]>,
    },
    Shutdown,
}

/// What one call is to do.
#[derive(Debug)]
pub(crate) enum Pick<'a, C, P = Choice> {
    /// Try these, in this order.
    Send(Candidates<'a, C, P>),
    /// Try these silent backends. Then do as [`Picker::pick_past_probes`] says.
    Probe(Probes<'a, C>),
    /// Wait for a picker that could say something else.
    Wait,
    /// Wake the channel, then wait.
    Connect,
    /// Fail at once, unless the call is wait-for-ready.
    Fail,
    /// Fail, wait-for-ready or not.
    Closed,
}

/// The backend that is chosen, then every other one once, in the order of the policy:
/// a call that finds no free stream on the first moves on to the next.
#[derive(Debug)]
pub(crate) struct Candidates<'a, C, P = Choice> {
    backends: &'a [C],
    choice: &'a P,
    first: First,
    /// How far the call has come: 0 before the first one.
    steps: usize,
}

/// Silent backends that a call may be the probe of, each once.
#[derive(Debug)]
pub(crate) struct Probes<'a, C> {
    silent: &'a [C],
    first: usize,
    steps: usize,
    /// How many to try.
    count: usize,
    /// No backend is READY.
    all: bool,
}

impl<C, P> Picker<C, P> {
    /// Of a channel that is READY.
    pub(crate) fn ready(backends: Vec<C>, choice: P, silent: Vec<C>) -> Self {
        let backends = backends.into();
        match silent.is_empty() {
            true => Self::Ready { backends, choice },
            false => Self::ReadyAndSilent {
                backends,
                choice,
                silent: silent.into(),
            },
        }
    }

    /// Of a channel in TRANSIENT_FAILURE.
    pub(crate) fn failing(silent: Vec<C>) -> Self {
        match silent.is_empty() {
            true => Self::Failing,
            false => Self::FailingAndSilent {
                silent: silent.into(),
            },
        }
    }
}

impl<C, P: PickHalf> Picker<C, P> {
    /// The answer for one call. Takes one turn, however many of the candidates the call goes
    /// on to try.
    pub(crate) fn pick(&self, info: &mut impl PickInfo) -> Pick<'_, C, P> {
        match self {
            Self::Ready { backends, choice } => {
                Self::send(backends, choice, choice.first(backends.len(), info))
            }
            Self::ReadyAndSilent { .. } | Self::FailingAndSilent { .. } => self.pick_probing(info),
            Self::Connecting => Pick::Wait,
            Self::Idle => Pick::Connect,
            Self::Failing => Pick::Fail,
            Self::Shutdown => Pick::Closed,
        }
    }

    /// The same for a call that is not to be a probe, or has found no backend that admits it as
    /// one.
    pub(crate) fn pick_past_probes(&self, info: &mut impl PickInfo) -> Pick<'_, C, P> {
        self.answer(|choice, count| choice.first(count, info))
    }

    #[cold]
    fn pick_probing(&self, info: &mut impl PickInfo) -> Pick<'_, C, P> {
        match self.probes(info) {
            Some(probes) => Pick::Probe(probes),
            None => self.pick_past_probes(info),
        }
    }

    /// The silent backend that would have this call, if it were READY. Where none is, any of them.
    fn probes(&self, info: &mut impl PickInfo) -> Option<Probes<'_, C>> {
        let (silent, first, count, all) = match self {
            Self::ReadyAndSilent {
                backends,
                choice,
                silent,
            } => {
                let first = choice.probe(silent.len(), backends.len(), info)?;
                (silent, first, 1, false)
            }
            Self::FailingAndSilent { silent } => {
                let first = in_turn(silent.len(), 0, info)?;
                (silent, first, silent.len(), true)
            }
            Self::Ready { .. } | Self::Connecting | Self::Idle | Self::Failing | Self::Shutdown => {
                return None;
            }
        };
        Some(Probes {
            silent,
            first,
            steps: 0,
            count,
            all,
        })
    }

    /// What the next call would be answered. Takes no turn.
    pub(crate) fn peek(&self) -> Pick<'_, C, P> {
        self.answer(|choice, count| Some(choice.peek(count)))
    }

    /// The answer for this call, without taking its turn.
    pub(crate) fn peek_for(&self, info: &mut impl PickInfo) -> Pick<'_, C, P> {
        self.answer(|choice, count| choice.peek_for(count, info))
    }

    /// Inlined, or the first policy that does not rotate would cost all others a call of it.
    #[inline(always)]
    fn answer(&self, first: impl FnOnce(&P, usize) -> Option<First>) -> Pick<'_, C, P> {
        match self {
            Self::Ready { backends, choice }
            | Self::ReadyAndSilent {
                backends, choice, ..
            } => Self::send(backends, choice, first(choice, backends.len())),
            Self::Connecting => Pick::Wait,
            Self::Idle => Pick::Connect,
            Self::Failing | Self::FailingAndSilent { .. } => Pick::Fail,
            Self::Shutdown => Pick::Closed,
        }
    }

    #[inline(always)]
    fn send<'a>(backends: &'a [C], choice: &'a P, first: Option<First>) -> Pick<'a, C, P> {
        match first {
            Some(first) => Pick::Send(Candidates {
                first,
                backends,
                choice,
                steps: 0,
            }),
            None => Pick::Wait,
        }
    }

    /// Whether `newer`, published next after `self`, could let a call go on that
    /// `self` made wait: then all waiting calls are to be woken.
    ///
    /// Calls wait in READY if they found every stream taken, or if their policy has them wait for
    /// one backend. In TRANSIENT_FAILURE wait-for-ready calls do.
    pub(crate) fn could_answer_differently(&self, newer: &Self) -> bool {
        match (self, newer) {
            (Self::Shutdown, _) => false,
            (_, Self::Shutdown) => true,
            // Whoever publishes hands their free streams to the calls in the
            // queue, in the order of arrival; waking all would be a race.
            (
                Self::Ready { choice, .. } | Self::ReadyAndSilent { choice, .. },
                Self::Ready { choice: newer, .. } | Self::ReadyAndSilent { choice: newer, .. },
            ) => choice.could_answer_differently(newer),
            // Such a call waits for streams of backends that are gone.
            (Self::Ready { .. } | Self::ReadyAndSilent { .. }, _) => true,
            (_, Self::Ready { .. } | Self::ReadyAndSilent { .. }) => true,
            // It has not woken the channel yet, or must wake it again.
            (Self::Connecting | Self::Failing | Self::FailingAndSilent { .. }, Self::Idle) => true,
            (Self::Idle, Self::Idle) => false,
            (Self::Connecting | Self::Idle, Self::Failing | Self::FailingAndSilent { .. }) => true,
            // A call that waits does not become a probe: a PING finds the end of a silence, too.
            (
                Self::Failing | Self::FailingAndSilent { .. },
                Self::Failing | Self::FailingAndSilent { .. },
            ) => false,
            // "Wait" is what it does already.
            (
                Self::Connecting | Self::Idle | Self::Failing | Self::FailingAndSilent { .. },
                Self::Connecting,
            ) => false,
        }
    }
}

impl<C, P> Picker<C, P> {
    /// All that calls are sent to, probes aside.
    pub(crate) fn backends(&self) -> &[C] {
        match self {
            Self::Ready { backends, .. } | Self::ReadyAndSilent { backends, .. } => backends,
            Self::Connecting
            | Self::Idle
            | Self::Failing
            | Self::FailingAndSilent { .. }
            | Self::Shutdown => &[],
        }
    }
}

impl<C> Probes<'_, C> {
    /// Whether no backend is READY.
    pub(crate) fn are_all(&self) -> bool {
        self.all
    }
}

impl<'a, C> Iterator for Probes<'a, C> {
    type Item = &'a C;

    fn next(&mut self) -> Option<&'a C> {
        if self.steps == self.count {
            return None;
        }
        let at = (self.first + self.steps) % self.silent.len();
        self.steps += 1;
        self.silent.get(at)
    }
}

impl<C, P> Candidates<'_, C, P> {
    /// By which a backend of several connections takes them in turn: see [`First::round`].
    pub(crate) fn round(&self) -> usize {
        self.first.round
    }
}

impl<'a, C, P: PickHalf> Iterator for Candidates<'a, C, P> {
    type Item = &'a C;

    fn next(&mut self) -> Option<&'a C> {
        let at = match self.steps {
            0 => {
                self.steps = 1;
                self.first.backend
            }
            _ => {
                let count = self.backends.len();
                self.choice.next(self.first, &mut self.steps, count)?
            }
        };
        self.backends.get(at)
    }
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeMap, sync::Arc, thread};

    use http::{HeaderMap, HeaderValue};

    use super::super::rotation::{Cursor, Rotation};
    use super::*;

    type Name = &'static str;

    fn call() -> (&'static str, HeaderMap) {
        ("/s/m", HeaderMap::new())
    }

    fn cursor(seed: usize) -> Arc<Cursor> {
        Arc::new(Cursor::new(seed))
    }

    fn ready(backends: &[Name], cursor: &Arc<Cursor>) -> Picker<Name> {
        Picker::Ready {
            backends: backends.into(),
            choice: Choice::Rotation(Rotation::new(Arc::clone(cursor))),
        }
    }

    fn candidates(picker: &Picker<Name>) -> Vec<Name> {
        match picker.pick(&mut call()) {
            Pick::Send(candidates) => candidates.copied().collect(),
            other => panic!("expected somebody to send to, got {other:?}"),
        }
    }

    fn picked(picker: &Picker<Name>) -> Name {
        candidates(picker)[0]
    }

    // R33, R14
    #[test]
    fn rotation_is_strict() {
        let picker = ready(&["A", "B", "C"], &cursor(1));
        let picks: Vec<_> = (0..7).map(|_| picked(&picker)).collect();
        assert_eq!(picks, ["B", "C", "A", "B", "C", "A", "B"]);
    }

    // R33
    #[test]
    fn rotation_is_strict_among_threads() {
        let picker = ready(&["A", "B", "C"], &cursor(0));
        let mut counts = BTreeMap::new();
        thread::scope(|scope| {
            let threads: Vec<_> = (0..4)
                .map(|_| scope.spawn(|| (0..3_000).map(|_| picked(&picker)).collect::<Vec<_>>()))
                .collect();
            for name in threads.into_iter().flat_map(|t| t.join().unwrap()) {
                *counts.entry(name).or_insert(0) += 1;
            }
        });
        assert_eq!(
            counts,
            BTreeMap::from([("A", 4_000), ("B", 4_000), ("C", 4_000)])
        );
    }

    #[test]
    fn rotation_continues_in_the_next_picker() {
        let cursor = cursor(0);
        assert_eq!(picked(&ready(&["A", "B", "C"], &cursor)), "A");
        assert_eq!(picked(&ready(&["A", "B", "C"], &cursor)), "B");
        assert_eq!(picked(&ready(&["A", "B", "C", "D"], &cursor)), "C");
        assert_eq!(picked(&ready(&["A", "B", "C", "D"], &cursor)), "D");
    }

    #[test]
    fn rotation_goes_on_after_the_last_number() {
        let picker = ready(&["A", "B", "C"], &cursor(usize::MAX));
        let picks = [(); 4].map(|()| picked(&picker));
        assert_eq!(picks[1..], ["A", "B", "C"]);
    }

    #[test]
    fn candidates_are_every_backend_once_beginning_with_the_picked() {
        let picker = ready(&["A", "B", "C"], &cursor(1));
        assert_eq!(candidates(&picker), ["B", "C", "A"]);
        assert_eq!(
            candidates(&picker),
            ["C", "A", "B"],
            "looking at all of them moves the cursor by one"
        );
        assert_eq!(candidates(&picker), ["A", "B", "C"]);
    }

    /// Pickers come and go at random; the model is the number of picks so far.
    #[test]
    fn a_random_walk_agrees_with_the_model() {
        const NAMES: [Name; 6] = ["A", "B", "C", "D", "E", "F"];
        for seed in 0..50 {
            let mut rng = fastrand::Rng::with_seed(seed);
            let start = rng.usize(..1_000);
            let cursor = cursor(start);
            let mut backends = NAMES.to_vec();
            for step in 0..1_000 {
                if rng.u8(..10) == 0 {
                    backends = NAMES.into_iter().filter(|_| rng.bool()).collect();
                }
                let got = candidates(&ready(&backends, &cursor));
                let mut expected = backends.clone();
                expected.rotate_left((start + step).checked_rem(backends.len()).unwrap_or(0));
                assert_eq!(got, expected, "seed {seed}, step {step}");
            }
        }
    }

    // D165
    #[test]
    fn a_backend_counts_its_turns_by_the_round() {
        let cursor = cursor(7);
        let mut rounds = BTreeMap::<_, Vec<_>>::new();
        for _ in 0..9 {
            match ready(&["A", "B", "C"], &cursor).pick(&mut call()) {
                Pick::Send(mut candidates) => {
                    let round = candidates.round();
                    let name = *candidates.next().expect("there are three");
                    rounds.entry(name).or_default().push(round);
                }
                other => panic!("expected somebody to send to, got {other:?}"),
            }
        }
        for (name, rounds) in rounds {
            let [a, b, c] = rounds[..] else {
                panic!("three turns of {name}, not {rounds:?}");
            };
            assert_eq!([b, c], [a + 1, a + 2], "{name}");
        }
    }

    // R33
    #[test]
    fn a_peek_takes_no_turn() {
        let picker = ready(&["A", "B", "C"], &cursor(1));
        for _ in 0..2 {
            match picker.peek() {
                Pick::Send(candidates) => {
                    assert_eq!(candidates.copied().collect::<Vec<_>>(), ["B", "C", "A"]);
                }
                other => panic!("expected somebody to send to, got {other:?}"),
            }
        }
        assert_eq!(picked(&picker), "B");
    }

    /// A policy that chooses by what it asks of the call, and goes on backwards.
    #[derive(Debug)]
    struct ByCall;

    impl PickHalf for ByCall {
        fn first(&self, count: usize, info: &mut impl PickInfo) -> Option<First> {
            let shard = info.headers().get("x-shard");
            let shard = shard.map(|value| usize::from(value.as_bytes()[0] - b'0'));
            let shard = shard.unwrap_or_else(|| info.path().len());
            Some(First::of_turn(shard, count))
        }

        fn peek(&self, count: usize) -> First {
            First::of_turn(0, count)
        }

        fn after(&self, first: usize, nth: usize, count: usize) -> usize {
            (first + count - nth) % count
        }
    }

    #[test]
    fn a_policy_may_choose_by_path_and_headers() {
        let picker = Picker::Ready {
            backends: ["A", "B", "C"].into(),
            choice: ByCall,
        };
        let candidates = |mut call: (&str, HeaderMap)| match picker.pick(&mut call) {
            Pick::Send(candidates) => candidates.copied().collect::<Vec<_>>(),
            other => panic!("expected somebody to send to, got {other:?}"),
        };
        let mut sharded = call();
        sharded.1.insert("x-shard", HeaderValue::from_static("2"));
        assert_eq!(candidates(sharded), ["C", "B", "A"]);
        assert_eq!(candidates(("/s/m", HeaderMap::new())), ["B", "A", "C"]);
        assert_eq!(candidates(("/s/me", HeaderMap::new())), ["C", "B", "A"]);
    }

    #[test]
    fn candidates_of_nobody_are_none() {
        assert!(candidates(&ready(&[], &cursor(5))).is_empty());
    }

    #[test]
    fn other_states_answer_by_rule() {
        assert!(matches!(
            Picker::<Name>::Connecting.pick(&mut call()),
            Pick::Wait
        ));
        assert!(matches!(
            Picker::<Name>::Idle.pick(&mut call()),
            Pick::Connect
        ));
        assert!(matches!(
            Picker::<Name>::Failing.pick(&mut call()),
            Pick::Fail
        ));
        assert!(matches!(
            Picker::<Name>::Shutdown.pick(&mut call()),
            Pick::Closed
        ));
    }

    #[track_caller]
    fn wakes(old: &Picker<Name>, new: &Picker<Name>, expected: bool) {
        let woken = old.could_answer_differently(new);
        assert_eq!(woken, expected, "from {old:?} to {new:?}");
    }

    // R15, P02, P03
    #[test]
    fn the_first_ready_backend_wakes_whoever_waits() {
        let up = ready(&["A"], &cursor(0));
        for waiting in [Picker::Connecting, Picker::Idle, Picker::Failing] {
            wakes(&waiting, &up, true);
        }
    }

    #[test]
    fn those_that_found_all_busy_are_served_and_not_woken() {
        let cursor = cursor(0);
        let old = ready(&["A", "B"], &cursor);
        wakes(&old, &ready(&["A", "B", "C"], &cursor), false);
        wakes(&old, &ready(&["C"], &cursor), false);
    }

    #[test]
    fn leaving_ready_wakes_those_that_found_all_busy() {
        let up = ready(&["A"], &cursor(0));
        wakes(&up, &Picker::Connecting, true);
        wakes(&up, &Picker::Failing, true);
        wakes(&up, &Picker::Idle, true);
    }

    #[test]
    fn a_state_in_which_the_call_would_go_on_waiting_wakes_nobody() {
        wakes(&Picker::Connecting, &Picker::Connecting, false);
        wakes(&Picker::Failing, &Picker::Failing, false);
        wakes(&Picker::Idle, &Picker::Idle, false);
        wakes(&Picker::Idle, &Picker::Connecting, false);
        wakes(&Picker::Failing, &Picker::Connecting, false);
    }

    #[test]
    fn a_failure_wakes_those_that_do_not_wait_for_ready() {
        wakes(&Picker::Connecting, &Picker::Failing, true);
        wakes(&Picker::Idle, &Picker::Failing, true);
    }

    #[test]
    fn falling_idle_wakes_because_somebody_must_connect() {
        wakes(&Picker::Connecting, &Picker::Idle, true);
        wakes(&Picker::Failing, &Picker::Idle, true);
    }

    #[test]
    fn shutdown_wakes_everybody_once() {
        let up = ready(&["A"], &cursor(0));
        for old in [up, Picker::Connecting, Picker::Idle, Picker::Failing] {
            wakes(&old, &Picker::Shutdown, true);
        }
        wakes(&Picker::Shutdown, &Picker::Shutdown, false);
    }
}
