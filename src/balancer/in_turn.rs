//! Waits for the first of several things, and asks each of them in its turn.
//!
//! `select!` draws the order in which it asks, so a simulated seed would not be the same run each
//! time. In a fixed order, a branch that is always ready would starve those after it.

use std::{
    future::{Future, poll_fn},
    pin::Pin,
    task::Poll,
};

use tokio::task::coop::cooperative;

/// One of the things to wait for.
pub(super) type Branch<'a, T> = Pin<&'a mut (dyn Future<Output = T> + Send + 'a)>;

/// Remembers which branch is asked first.
#[derive(Debug, Default)]
pub(super) struct InTurn {
    next: usize,
}

impl InTurn {
    /// The output of the first branch that is ready. The one after the branch that was served
    /// last is asked first. So a branch that is ready waits for each other branch at most once.
    ///
    /// # Cancel safety
    ///
    /// That of the branches.
    pub(super) async fn first<T, const N: usize>(&mut self, mut branches: [Branch<'_, T>; N]) -> T {
        let asked = poll_fn(|cx| {
            for at in (0..N).map(|at| (self.next + at) % N) {
                if let Poll::Ready(output) = branches[at].as_mut().poll(cx) {
                    self.next = at + 1;
                    return Poll::Ready(output);
                }
            }
            Poll::Pending
        });
        // As `select!` does, it leaves time for other tasks.
        cooperative(asked).await
    }
}

#[cfg(test)]
mod tests {
    use std::{
        future::{pending, ready},
        pin::pin,
    };

    use futures_util::FutureExt;

    use super::InTurn;

    /// Which of 3 branches is served, when those that are `true` are ready.
    fn served(in_turn: &mut InTurn, are_ready: [bool; 3]) -> Option<usize> {
        let branch = |at: usize| async move {
            match are_ready[at] {
                true => ready(at).await,
                false => pending().await,
            }
        };
        let (a, b, c) = (pin!(branch(0)), pin!(branch(1)), pin!(branch(2)));
        in_turn.first([a, b, c]).now_or_never()
    }

    #[test]
    fn branches_that_are_always_ready_have_equal_turns() {
        let mut in_turn = InTurn::default();
        let turns = [(); 7].map(|()| served(&mut in_turn, [true; 3]));
        assert_eq!(turns, [0, 1, 2, 0, 1, 2, 0].map(Some));
    }

    #[test]
    fn a_branch_that_is_always_ready_starves_no_other() {
        let mut in_turn = InTurn::default();
        assert_eq!(served(&mut in_turn, [true, false, false]), Some(0));
        assert_eq!(served(&mut in_turn, [true, false, false]), Some(0));
        assert_eq!(served(&mut in_turn, [true, false, true]), Some(2));
        assert_eq!(served(&mut in_turn, [true, false, true]), Some(0));
    }

    #[test]
    fn a_wait_in_vain_changes_no_turn() {
        let mut in_turn = InTurn::default();
        assert_eq!(served(&mut in_turn, [true; 3]), Some(0));
        assert_eq!(served(&mut in_turn, [false; 3]), None);
        assert_eq!(served(&mut in_turn, [true; 3]), Some(1));
    }
}
