//! Chooses a connection for one call.
//!
//! ```text
//!   publication 7: Ready { A B C }      publication 8: Ready { A C D }
//!                     │                                   │
//!                     └───────────► Cursor ◄──────────────┘
//!                         4, 5, 6, …   modulo the number of backends
//! ```
//!
//! A picker never changes: every change of the channel publishes a new one, and
//! all pickers of a channel share one [`Cursor`]. gRPC's policies differ here:
//! some start every picker at a random backend, which under frequent updates is
//! a random choice and no rotation. One cursor for the channel's life rotates
//! strictly, whatever happens around it.

use std::{
    hint,
    iter::Chain,
    slice::Iter,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

/// How often to spin when threads pick at the same moment: a fraction of a microsecond.
const PAUSE: usize = 16;

/// What the channel can do for a call, by its connectivity state.
#[derive(Debug)]
pub(crate) enum Picker<C> {
    /// The READY backends, each with what it has for calls, in the order of the
    /// source.
    Ready {
        backends: Box<[C]>,
        cursor: Arc<Cursor>,
    },
    Connecting,
    Idle,
    /// TRANSIENT_FAILURE. Why, says the status published with this picker.
    Failing,
    Shutdown,
}

/// What one call is to do.
#[derive(Debug)]
pub(crate) enum Pick<'a, C> {
    /// Try these, in this order.
    Send(Candidates<'a, C>),
    /// Wait for a picker that could say something else.
    Wait,
    /// Wake the channel, then wait.
    Connect,
    /// Fail at once, unless the call is wait-for-ready.
    Fail,
    /// Fail, wait-for-ready or not.
    Closed,
}

/// The backend whose turn it is, then every other one once, in rotation order:
/// a call that finds no free stream on the first moves on to the next.
#[derive(Clone, Debug)]
pub(crate) struct Candidates<'a, C> {
    order: Chain<Iter<'a, C>, Iter<'a, C>>,
    round: usize,
}

/// Whose turn it is. One per channel, shared by all its pickers.
///
/// Alone in its cache lines, of which processors fetch two at a time: every pick writes
/// it, and what lies beside it would be fetched anew by every other thread.
#[derive(Debug)]
#[repr(align(128))]
pub(crate) struct Cursor(AtomicUsize);

impl<C> Picker<C> {
    /// The answer for one call. Moves the cursor by one, however many of the
    /// candidates the call goes on to try.
    pub(crate) fn pick(&self) -> Pick<'_, C> {
        self.answer(Cursor::advance)
    }

    /// What the next call would be answered. Takes no turn.
    pub(crate) fn peek(&self) -> Pick<'_, C> {
        self.answer(Cursor::turn)
    }

    fn answer(&self, turn: impl FnOnce(&Cursor) -> usize) -> Pick<'_, C> {
        match self {
            Self::Ready { backends, cursor } => {
                Pick::Send(Candidates::from(backends, turn(cursor)))
            }
            Self::Connecting => Pick::Wait,
            Self::Idle => Pick::Connect,
            Self::Failing => Pick::Fail,
            Self::Shutdown => Pick::Closed,
        }
    }
}

impl<C> Picker<C> {
    /// All that calls are sent to.
    pub(crate) fn backends(&self) -> &[C] {
        match self {
            Self::Ready { backends, .. } => backends,
            Self::Connecting | Self::Idle | Self::Failing | Self::Shutdown => &[],
        }
    }

    /// Whether `newer`, published next after `self`, could let a call go on that
    /// `self` made wait: then all waiting calls are to be woken.
    ///
    /// What waits in READY are calls that found every stream taken; what waits
    /// in TRANSIENT_FAILURE are wait-for-ready calls.
    pub(crate) fn could_answer_differently(&self, newer: &Self) -> bool {
        match (self, newer) {
            (Self::Shutdown, _) => false,
            (_, Self::Shutdown) => true,
            // Whoever publishes hands their free streams to the calls in the
            // queue, in the order of arrival; waking all would be a race.
            (Self::Ready { .. }, Self::Ready { .. }) => false,
            // Such a call waits for streams of backends that are gone.
            (Self::Ready { .. }, _) => true,
            (_, Self::Ready { .. }) => true,
            // It has not woken the channel yet, or must wake it again.
            (Self::Connecting | Self::Failing, Self::Idle) => true,
            (Self::Idle, Self::Idle) => false,
            (Self::Connecting | Self::Idle, Self::Failing) => true,
            (Self::Failing, Self::Failing) => false,
            // "Wait" is what it does already.
            (Self::Connecting | Self::Idle | Self::Failing, Self::Connecting) => false,
        }
    }
}

impl<'a, C> Candidates<'a, C> {
    fn from(backends: &'a [C], turn: usize) -> Self {
        // Of nobody, it is nobody's turn: the call waits as if all were busy.
        let (first, round) = match backends.len() {
            0 => (0, 0),
            n => (turn % n, turn / n),
        };
        let (later, sooner) = backends.split_at(first);
        Self {
            order: sooner.iter().chain(later),
            round,
        }
    }

    /// How often each backend has had its turn. From one turn of a backend to its
    /// next it is one more, so a backend of several connections takes them in turn
    /// by it, and needs no counter of its own.
    pub(crate) fn round(&self) -> usize {
        self.round
    }
}

impl<'a, C> Iterator for Candidates<'a, C> {
    type Item = &'a C;

    fn next(&mut self) -> Option<&'a C> {
        self.order.next()
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        self.order.size_hint()
    }
}

impl Cursor {
    /// Begins at `seed`, which is to be random: many clients that start
    /// together must not all begin with the same backend.
    pub(crate) fn new(seed: usize) -> Self {
        Self(AtomicUsize::new(seed))
    }

    /// The turn that the next call takes.
    fn turn(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }

    /// Relaxed, because nothing else is read by it. After `usize::MAX` comes 0:
    /// the rotation may skip there, once.
    ///
    /// Who finds that another thread came in between leaves it the cache line for some
    /// turns. Threads that count without a pause would pull it to and fro for each turn,
    /// which takes longer than counting.
    fn advance(&self) -> usize {
        let mut turn = self.turn();
        while let Err(_taken) = self.0.compare_exchange_weak(
            turn,
            turn.wrapping_add(1),
            Ordering::Relaxed,
            Ordering::Relaxed,
        ) {
            (0..PAUSE).for_each(|_| hint::spin_loop());
            turn = self.turn();
        }
        turn
    }
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeMap, thread};

    use super::*;

    type Name = &'static str;

    fn cursor(seed: usize) -> Arc<Cursor> {
        Arc::new(Cursor::new(seed))
    }

    fn ready(backends: &[Name], cursor: &Arc<Cursor>) -> Picker<Name> {
        Picker::Ready {
            backends: backends.into(),
            cursor: Arc::clone(cursor),
        }
    }

    fn candidates(picker: &Picker<Name>) -> Vec<Name> {
        match picker.pick() {
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
            match ready(&["A", "B", "C"], &cursor).pick() {
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

    #[test]
    fn candidates_of_nobody_are_none() {
        assert!(candidates(&ready(&[], &cursor(5))).is_empty());
    }

    #[test]
    fn other_states_answer_by_rule() {
        assert!(matches!(Picker::<Name>::Connecting.pick(), Pick::Wait));
        assert!(matches!(Picker::<Name>::Idle.pick(), Pick::Connect));
        assert!(matches!(Picker::<Name>::Failing.pick(), Pick::Fail));
        assert!(matches!(Picker::<Name>::Shutdown.pick(), Pick::Closed));
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
