//! The five connectivity states of gRPC, and how many become one.

use std::fmt;

/// The state of a channel, or of one backend, in gRPC's words.
///
/// The meaning is that of gRPC's connectivity semantics; with health checking
/// on, a backend is [`Ready`](Self::Ready) only while its connection is up *and*
/// its `Watch` stream last said `SERVING` (gRFC A17).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ConnectivityState {
    /// Not connected and not trying: the next call starts it.
    Idle,
    /// Connecting, or connected and waiting for the first word about health.
    /// Calls wait.
    Connecting,
    /// Calls are sent.
    Ready,
    /// Failed, and trying again by itself. Calls fail at once.
    TransientFailure,
    /// Closed for good.
    Shutdown,
}

impl ConnectivityState {
    /// The state of a `round_robin` over backends in these states: READY if any
    /// is, else CONNECTING if any is, else IDLE if any is, else
    /// TRANSIENT_FAILURE, which is also the state of no backends at all.
    /// A backend in SHUTDOWN does not count.
    pub(crate) fn aggregate(states: impl IntoIterator<Item = Self>) -> Self {
        let mut best = Self::TransientFailure;
        for state in states {
            match state {
                // Usually the first.
                Self::Ready => return Self::Ready,
                Self::Shutdown => {}
                state if state.rank() < best.rank() => best = state,
                _ => {}
            }
        }
        best
    }

    /// As metrics call it.
    pub(crate) fn label(self) -> &'static str {
        match self {
            Self::Idle => "idle",
            Self::Connecting => "connecting",
            Self::Ready => "ready",
            Self::TransientFailure => "transient_failure",
            Self::Shutdown => "shutdown",
        }
    }

    fn rank(self) -> u8 {
        match self {
            Self::Ready => 0,
            Self::Connecting => 1,
            Self::Idle => 2,
            Self::TransientFailure => 3,
            Self::Shutdown => 4,
        }
    }
}

/// gRPC's spelling: `READY`, `TRANSIENT_FAILURE`, …
impl fmt::Display for ConnectivityState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Idle => "IDLE",
            Self::Connecting => "CONNECTING",
            Self::Ready => "READY",
            Self::TransientFailure => "TRANSIENT_FAILURE",
            Self::Shutdown => "SHUTDOWN",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::ConnectivityState::{self, *};

    #[track_caller]
    fn check(states: &[ConnectivityState], aggregated: ConnectivityState) {
        assert_eq!(
            ConnectivityState::aggregate(states.iter().copied()),
            aggregated,
            "of {states:?}"
        );
    }

    #[test]
    fn any_ready_is_ready() {
        check(&[TransientFailure, Connecting, Idle, Ready], Ready);
    }

    #[test]
    fn else_any_connecting_is_connecting() {
        check(&[TransientFailure, Idle, Connecting], Connecting);
    }

    #[test]
    fn else_any_idle_is_idle() {
        check(&[TransientFailure, Idle], Idle);
    }

    #[test]
    fn else_it_is_transient_failure() {
        check(&[TransientFailure], TransientFailure);
        check(&[], TransientFailure);
    }

    /// The model looks for each state in the order of the rule.
    #[test]
    fn a_random_walk_agrees_with_the_model() {
        const ALL: [ConnectivityState; 5] = [Idle, Connecting, Ready, TransientFailure, Shutdown];
        let mut rng = fastrand::Rng::with_seed(7);
        for _ in 0..10_000 {
            let states: Vec<_> = (0..rng.usize(..6)).map(|_| ALL[rng.usize(..5)]).collect();
            let first = [Ready, Connecting, Idle]
                .into_iter()
                .find(|s| states.contains(s));
            check(&states, first.unwrap_or(TransientFailure));
        }
    }

    #[test]
    fn shutdown_does_not_count() {
        check(&[Shutdown, Idle], Idle);
        check(&[Shutdown], TransientFailure);
    }
}
