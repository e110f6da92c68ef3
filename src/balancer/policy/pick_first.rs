//! The rules of `pick_first`: which backends to connect to, until one is READY
//! (gRFC A61, A62).
//!
//! ```text
//!          begin                                   first READY
//!   (IDLE) ─────► Pass { 1 attempted } ── … ───────────────────► Selected
//!                   │          ▲  another one: 250 ms later,        │
//!                   │          │  or when the last one has failed   │ leaves READY
//!                   └──────────┘                                    ▼
//!                                                                 (IDLE)
//! ```
//!
//! Attempts overlap: one that hangs costs 250 ms, not its deadline ("Happy
//! Eyeballs"). One that was begun goes on through its backoffs until another has
//! won. Those of an earlier level come first. When all have failed the channel is in TRANSIENT_FAILURE, and stays there
//! until one is READY, whatever is attempted meanwhile.

use std::time::{Duration, Instant};

use super::control::{BackendView, ControlHalf, Decision, Properties, Run};
use crate::{
    connectivity::ConnectivityState::{self, Connecting, Ready, TransientFailure},
    routing::BackendId,
};

/// gRFC A61, "Connection Attempt Delay".
pub(super) const ATTEMPT_DELAY: Duration = Duration::from_millis(250);

#[derive(Debug)]
pub(in crate::balancer) struct PickFirst {
    /// Draws the order of attempts, if it is not that of the source.
    shuffle: Option<fastrand::Rng>,
    progress: Progress,
    /// Every backend has failed, and none has been READY since.
    failing: bool,
}

#[derive(Debug)]
enum Progress {
    /// These are attempted, in this order.
    Pass {
        attempted: Vec<BackendId>,
        /// When the next one is attempted at the latest.
        next_at: Instant,
    },
    Selected(BackendId),
}

impl PickFirst {
    /// Begins with what runs already. With a seed for a random order, if that is
    /// wanted.
    pub(in crate::balancer) fn take_over(
        now: Instant,
        shuffle: Option<u64>,
        running: Vec<BackendId>,
    ) -> Self {
        Self {
            shuffle: shuffle.map(fastrand::Rng::with_seed),
            progress: Progress::begin(now, running),
            failing: false,
        }
    }

    /// From the next attempt on.
    pub(in crate::balancer) fn shuffle(&mut self, shuffle: Option<u64>) {
        self.shuffle = shuffle.map(fastrand::Rng::with_seed);
    }

    fn run(&mut self, now: Instant, backends: &[BackendView]) -> Run {
        let seen = |id| backends.iter().find(|seen| seen.id == id);
        if let Progress::Selected(id) = self.progress {
            match seen(id) {
                Some(seen) if seen.state == Ready => return Run::Only(vec![id]),
                // The selected backend is not READY any more.
                Some(_) => return Run::GoIdle,
                // The source took it back: it has others in mind.
                None => self.progress = Progress::begin(now, Vec::new()),
            }
        }
        let Progress::Pass { attempted, next_at } = &mut self.progress else {
            unreachable!("each selected backend has been looked at");
        };
        attempted.retain(|id| seen(*id).is_some());
        let mut tried = attempted.iter().filter_map(|id| seen(*id));
        if let Some(winner) = tried.find(|seen| seen.state == Ready) {
            self.progress = Progress::Selected(winner.id);
            self.failing = false;
            return Run::Only(vec![winner.id]);
        }
        let last = attempted.last().and_then(|id| seen(*id));
        if last.is_none_or(|last| last.state == TransientFailure) || *next_at <= now {
            let waiting = backends.iter().filter(|seen| !attempted.contains(&seen.id));
            let mut waiting: Vec<_> = waiting.collect();
            let nearest = waiting.iter().map(|seen| seen.level).min();
            waiting.retain(|seen| Some(seen.level) == nearest);
            let next = next(last, waiting, self.shuffle.as_mut());
            attempted.extend(next);
            *next_at = now + ATTEMPT_DELAY;
        }
        let all_failed = backends.iter().all(|seen| seen.state == TransientFailure);
        self.failing |= all_failed && !backends.is_empty();
        Run::Only(attempted.clone())
    }
}

impl ControlHalf for PickFirst {
    /// An unhealthy backend would only be left for a reconnect, perhaps to the same (gRFC A17).
    /// A lost backend is not dialled before the next call (gRFC A62).
    const PROPERTIES: Properties = Properties {
        checks_health: false,
        reconnects: false,
    };

    /// A new pass.
    fn begin(&mut self, now: Instant) {
        self.progress = Progress::begin(now, Vec::new());
        self.failing = false;
    }

    fn decide(
        &mut self,
        now: Instant,
        backends: impl ExactSizeIterator<Item = BackendView>,
    ) -> Decision {
        let was_failing = self.failing;
        let run = self.run(now, &backends.collect::<Vec<_>>());
        Decision {
            run,
            changed: self.failing != was_failing,
            chooses_anew: false,
        }
    }

    fn deadline(&self, backends: usize) -> Option<Instant> {
        match &self.progress {
            Progress::Pass { attempted, next_at } if attempted.len() < backends => Some(*next_at),
            Progress::Pass { .. } | Progress::Selected(_) => None,
        }
    }

    fn aggregate(
        &self,
        states: impl ExactSizeIterator<Item = ConnectivityState>,
    ) -> ConnectivityState {
        let has_none = states.len() == 0;
        match ConnectivityState::aggregate(states) {
            Ready => Ready,
            _ if self.failing || has_none => TransientFailure,
            // The next one is attempted, or will be in a moment.
            _ => Connecting,
        }
    }
}

/// The one to attempt after `last`: of the other IP family, if there is such, so that
/// a family that is cut off costs one delay and not one for each of its addresses.
fn next(
    last: Option<&BackendView>,
    waiting: Vec<&BackendView>,
    shuffle: Option<&mut fastrand::Rng>,
) -> Option<BackendId> {
    let other = |seen: &&&BackendView| last.is_none_or(|last| last.is_ipv6 != seen.is_ipv6);
    let others: Vec<_> = waiting.iter().filter(other).copied().collect();
    let choice = if others.is_empty() { waiting } else { others };
    let next = match shuffle {
        Some(rng) => rng.choice(&choice),
        None => choice.first(),
    };
    next.map(|seen| seen.id)
}

impl Progress {
    fn begin(now: Instant, attempted: Vec<BackendId>) -> Self {
        Self::Pass {
            attempted,
            next_at: now + ATTEMPT_DELAY,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{
        collections::BTreeSet,
        time::{Duration, Instant},
    };

    use proptest::prelude::*;

    use super::{ATTEMPT_DELAY, BackendView, ControlHalf, PickFirst, Run};
    use crate::{
        connectivity::ConnectivityState::{self, *},
        routing::BackendId,
    };

    /// What runs, and how it is.
    struct World {
        now: Instant,
        rules: PickFirst,
        seen: Vec<BackendView>,
    }

    impl World {
        /// Backends 1, 2, …, those with an even number on IPv6.
        fn new(backends: u64, shuffle: Option<u64>) -> Self {
            let now = Instant::now();
            Self {
                now,
                rules: PickFirst::take_over(now, shuffle, Vec::new()),
                seen: (1..=backends).map(idle).collect(),
            }
        }

        fn set(&mut self, id: u64, state: ConnectivityState) {
            let seen = self.seen.iter_mut().find(|seen| seen.id.0 == id);
            seen.expect("a backend of the set").state = state;
        }

        fn look(&mut self) -> Run {
            let decision = self.rules.decide(self.now, self.seen.iter().copied()).run;
            if let Run::Only(run) = &decision {
                for seen in &mut self.seen {
                    match (run.contains(&seen.id), seen.state) {
                        (true, Idle) => seen.state = Connecting,
                        (true, _) => {}
                        (false, _) => seen.state = Idle,
                    }
                }
            }
            decision
        }

        #[track_caller]
        fn runs(&mut self, expected: &[u64]) {
            let expected = expected.iter().copied().map(BackendId).collect();
            assert_eq!(self.look(), Run::Only(expected));
        }

        fn pass(&mut self, time: Duration) {
            self.now += time;
        }
    }

    fn idle(id: u64) -> BackendView {
        BackendView {
            id: BackendId(id),
            state: Idle,
            level: Default::default(),
            is_ipv6: id.is_multiple_of(2),
        }
    }

    #[test]
    fn the_first_that_connects_is_the_only_one() {
        let mut world = World::new(3, None);
        world.runs(&[1]);
        world.runs(&[1]);
        world.set(1, Ready);
        world.runs(&[1]);
        world.pass(ATTEMPT_DELAY * 10);
        world.runs(&[1]);
        assert_eq!(world.rules.deadline(3), None);
    }

    #[test]
    fn one_that_hangs_costs_the_attempt_delay() {
        let mut world = World::new(3, None);
        world.runs(&[1]);
        world.pass(ATTEMPT_DELAY - Duration::from_millis(1));
        world.runs(&[1]);
        assert_eq!(
            world.rules.deadline(3),
            Some(world.now + Duration::from_millis(1))
        );
        world.pass(Duration::from_millis(1));
        world.runs(&[1, 2]);
        world.set(2, Ready);
        world.runs(&[2]);
    }

    #[test]
    fn one_that_fails_costs_nothing() {
        let mut world = World::new(3, None);
        world.runs(&[1]);
        world.set(1, TransientFailure);
        world.runs(&[1, 2]);
        world.set(2, TransientFailure);
        world.runs(&[1, 2, 3]);
    }

    #[test]
    fn an_older_attempt_that_fails_does_not_hurry_the_next() {
        let mut world = World::new(3, None);
        world.runs(&[1]);
        world.pass(ATTEMPT_DELAY);
        world.runs(&[1, 2]);
        world.set(1, TransientFailure);
        world.runs(&[1, 2]);
    }

    // T05
    #[test]
    fn it_fails_when_all_have_failed_and_until_one_is_ready() {
        let mut world = World::new(2, None);
        world.runs(&[1]);
        world.set(1, TransientFailure);
        world.runs(&[1, 2]);
        assert!(!world.rules.failing, "there is one to go");
        world.set(2, TransientFailure);
        world.runs(&[1, 2]);
        assert!(world.rules.failing);
        world.set(1, Connecting);
        world.runs(&[1, 2]);
        assert!(world.rules.failing, "sticky");
        world.seen.push(idle(3));
        world.pass(ATTEMPT_DELAY);
        world.runs(&[1, 2, 3]);
        assert!(world.rules.failing, "a new one is no success yet");
        world.set(3, Ready);
        world.runs(&[3]);
        assert!(!world.rules.failing);
    }

    // T04
    #[test]
    fn it_rests_when_the_selected_one_is_lost() {
        let mut world = World::new(2, None);
        world.runs(&[1]);
        world.set(1, Ready);
        world.runs(&[1]);
        world.set(1, Connecting);
        assert_eq!(world.look(), Run::GoIdle);
        world.rules.begin(world.now);
        world.seen = vec![idle(1), idle(2)];
        world.runs(&[1]);
    }

    #[test]
    fn it_begins_anew_when_the_selected_one_is_taken_back() {
        let mut world = World::new(3, None);
        world.runs(&[1]);
        world.set(1, Ready);
        world.runs(&[1]);
        world.seen.remove(0);
        world.runs(&[2]);
    }

    #[test]
    fn families_take_turns() {
        let mut world = World::new(0, None);
        world.seen = [1, 3, 5, 2, 4].map(idle).to_vec();
        for expected in [
            &[1][..],
            &[1, 2],
            &[1, 2, 3],
            &[1, 2, 3, 4],
            &[1, 2, 3, 4, 5],
        ] {
            world.runs(expected);
            world.pass(ATTEMPT_DELAY);
        }
    }

    #[test]
    fn shuffled_every_one_comes_first_now_and_then() {
        let first = |seed| {
            let mut world = World::new(4, Some(seed));
            match world.look() {
                Run::Only(run) => run[0].0,
                Run::All | Run::GoIdle => panic!("nothing was selected"),
            }
        };
        let firsts: BTreeSet<_> = (0..100).map(first).collect();
        assert_eq!(firsts, BTreeSet::from([1, 2, 3, 4]));
    }

    #[test]
    fn it_takes_over_a_connection_that_is_ready() {
        let mut world = World::new(3, None);
        world.set(2, Ready);
        world.set(3, Ready);
        let running = world.seen.iter().map(|seen| seen.id).collect();
        world.rules = PickFirst::take_over(world.now, None, running);
        world.runs(&[2]);
    }

    #[test]
    fn nobody_is_nothing_to_run_and_no_failure() {
        let mut world = World::new(0, None);
        world.runs(&[]);
        assert!(!world.rules.failing, "that is for the balancer to say");
        assert_eq!(world.rules.deadline(0), None);
    }

    proptest! {
        /// Whatever happens: at most one runs once one is selected; what was begun goes
        /// on; nothing is attempted twice in a pass; all are attempted in the end.
        #[test]
        fn attempts_only_grow_until_one_is_selected(
            steps in proptest::collection::vec((1_u64..6, 0_u8..4, 0_u64..300), 1..60),
            shuffle in proptest::option::of(0_u64..9),
        ) {
            let mut world = World::new(5, shuffle);
            let mut before: Vec<BackendId> = Vec::new();
            let mut selected = None;
            for (id, what, time) in steps {
                world.pass(Duration::from_millis(time));
                let runs = before.contains(&BackendId(id));
                if runs && selected.is_none() {
                    world.set(id, [Connecting, TransientFailure, TransientFailure, Ready][usize::from(what)]);
                }
                let Run::Only(run) = world.look() else {
                    return Err(TestCaseError::fail("nothing selected was lost"));
                };
                let ready = world.seen.iter().find(|seen| seen.state == Ready);
                match ready {
                    Some(ready) => {
                        prop_assert_eq!(&run, &vec![ready.id]);
                        selected = Some(ready.id);
                    }
                    None => {
                        prop_assert!(run.starts_with(&before));
                        prop_assert!(run.len() <= before.len() + 1);
                        let unique: BTreeSet<_> = run.iter().collect();
                        prop_assert_eq!(unique.len(), run.len());
                    }
                }
                before = run;
            }
            while selected.is_none() && before.len() < 5 {
                world.pass(ATTEMPT_DELAY);
                let Run::Only(run) = world.look() else { unreachable!() };
                prop_assert_eq!(run.len(), before.len() + 1);
                before = run;
            }
        }
    }
}
