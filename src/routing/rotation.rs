//! The pick half of `round_robin` and `pick_first`: strict rotation.
//!
//! ```text
//!   publication 7: Ready { A B C }      publication 8: Ready { A C D }
//!                     │                                   │
//!                     └───────────► Cursor ◄──────────────┘
//!                         4, 5, 6, …   modulo the number of backends
//! ```
//!
//! All pickers of a channel share one [`Cursor`]. gRPC's policies differ here:
//! some start every picker at a random backend, which under frequent updates is
//! a random choice and no rotation. One cursor for the channel's life rotates
//! strictly, whatever happens around it.

use std::{
    hint,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use super::pick_half::{First, PickHalf, PickInfo, in_rotation};

/// How often to spin when threads pick at the same moment: a fraction of a microsecond.
const PAUSE: usize = 16;

/// The backends in turn. `pick_first` has one at a time.
#[derive(Debug)]
pub(crate) struct Rotation(Arc<Cursor>);

/// The next turn. All pickers of a channel share one.
///
/// Alone in its cache lines, of which processors fetch 2 at a time. Every pick writes it, so
/// every other thread would fetch anew whatever lies beside it.
#[derive(Debug)]
#[repr(align(128))]
pub(crate) struct Cursor(AtomicUsize);

impl Rotation {
    pub(crate) fn new(cursor: Arc<Cursor>) -> Self {
        Self(cursor)
    }
}

impl PickHalf for Rotation {
    fn first(&self, count: usize, _info: &mut impl PickInfo) -> Option<First> {
        Some(First::of_turn(self.0.advance(), count))
    }

    fn peek(&self, count: usize) -> First {
        First::of_turn(self.0.turn(), count)
    }

    fn after(&self, first: usize, nth: usize, count: usize) -> usize {
        in_rotation(first, nth, count)
    }
}

impl Cursor {
    /// Begins at `seed`, which is to be random: many clients that start
    /// together must not all begin with the same backend.
    pub(crate) fn new(seed: usize) -> Self {
        Self(AtomicUsize::new(seed))
    }

    /// The turn that the next call takes.
    pub(super) fn turn(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }

    /// Relaxed, because nothing else is read by it. After `usize::MAX` comes 0:
    /// the rotation may skip there, once.
    ///
    /// On contention it spins briefly, so that the other thread keeps the cache line for some
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

    /// Takes the next turn and those that `find` passes over. It gets that turn, and gives what
    /// it has found and the turn to go on with.
    pub(super) fn advance_past<T>(&self, find: impl Fn(usize) -> (T, usize)) -> T {
        let mut turn = self.turn();
        loop {
            let (found, after) = find(turn);
            let taken =
                self.0
                    .compare_exchange_weak(turn, after, Ordering::Relaxed, Ordering::Relaxed);
            if taken.is_ok() {
                return found;
            }
            (0..PAUSE).for_each(|_| hint::spin_loop());
            turn = self.turn();
        }
    }
}
