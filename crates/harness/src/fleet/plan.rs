//! What happens, drawn from a seed: rounds of trouble, between which all is well.
//! Pure, so that a seed says it all.

use std::{fmt, time::Duration};

use fastrand::Rng;

/// Part of a run. When it is over, every backend has to be READY again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Round {
    /// Trouble for some of the backends, and at least one that has none.
    Storm(Vec<Trouble>),
    /// Every backend is stopped gracefully and started again, one after another.
    Roll,
}

/// What happens to one backend in a storm.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trouble {
    pub backend: usize,
    pub fault: Fault,
    /// After the start of the storm.
    pub begins: Duration,
    pub lasts: Duration,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// SIGKILL, and another process in the end.
    Kill,
    /// SIGSTOP, and SIGCONT in the end.
    Pause,
    /// Its connections are reset, and it takes new ones.
    Cut,
    /// Bytes do not get through, to the backend, from there, or both ways.
    Lose { up: bool, down: bool },
    /// Bytes take longer.
    Delay(Duration),
    /// Its health turns over, again and again.
    Flap,
}

impl Fault {
    /// Whether the backend is not heard, or does not hear, and its connections are up.
    pub fn is_silent(self) -> bool {
        matches!(self, Self::Pause | Self::Lose { .. })
    }

    /// Whether it may cost calls that are at the backend, or on their way.
    pub fn may_fail_calls(self) -> bool {
        match self {
            Self::Kill | Self::Pause | Self::Cut | Self::Lose { .. } => true,
            Self::Delay(_) | Self::Flap => false,
        }
    }
}

/// The round with this number; each fourth, from the second on, is a rolling restart.
pub fn round(seed: u64, number: u64, backends: usize) -> Round {
    let mut rng = Rng::with_seed(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) ^ number);
    match number % 4 {
        1 => Round::Roll,
        _ => Round::Storm(storm(&mut rng, backends)),
    }
}

fn storm(rng: &mut Rng, backends: usize) -> Vec<Trouble> {
    let mut order: Vec<_> = (0..backends).collect();
    rng.shuffle(&mut order);
    // Now and then one alone is left.
    let victims = match rng.u8(..3) {
        0 => backends - 1,
        _ => rng.usize(1..=backends / 2),
    };
    let mut troubles: Vec<_> = order[..victims]
        .iter()
        .map(|&backend| {
            let fault = fault(rng);
            // Now and then a silence lasts until a PING has found it.
            let lasts = match fault.is_silent() && rng.u8(..8) == 0 {
                true => rng.u64(12_000..15_000),
                false => rng.u64(50..4_000),
            };
            Trouble {
                backend,
                fault,
                begins: Duration::from_millis(rng.u64(..1_000)),
                lasts: Duration::from_millis(lasts),
            }
        })
        .collect();
    troubles.sort_by_key(|trouble| trouble.begins);
    troubles
}

fn fault(rng: &mut Rng) -> Fault {
    match rng.u8(..9) {
        0 | 1 => Fault::Kill,
        2 | 3 => Fault::Pause,
        4 => Fault::Cut,
        5 | 6 => {
            let (up, down) = *rng
                .choice(&[(true, true), (true, false), (false, true)])
                .expect("there are three");
            Fault::Lose { up, down }
        }
        7 => Fault::Delay(Duration::from_millis(rng.u64(5..100))),
        _ => Fault::Flap,
    }
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            backend,
            fault,
            begins,
            lasts,
        } = self;
        write!(
            f,
            "backend {backend}: {fault:?} after {begins:?}, for {lasts:?}"
        )
    }
}
