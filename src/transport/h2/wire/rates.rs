//! How many frames a peer may send that nothing of ours has asked for.

use std::time::{Duration, Instant};

/// A frame that costs us work and the peer nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Rated {
    /// Each walks all streams.
    Settings,
    Ping,
    EmptyData,
    Other,
}

impl Rated {
    /// How many in a [`PERIOD`].
    const fn bound(self) -> u32 {
        match self {
            Self::Settings => 100,
            Self::Ping | Self::EmptyData => 10_000,
            Self::Other => 100_000,
        }
    }

    const fn name(self) -> &'static str {
        match self {
            Self::Settings => "SETTINGS frames",
            Self::Ping => "PING frames",
            Self::EmptyData => "empty DATA frames",
            Self::Other => "frames that change nothing",
        }
    }

    /// Whether a peer sends some of them for what we send: grpc-go measures by a PING for DATA,
    /// and others open a window for each request.
    const fn answers_ours(self) -> bool {
        matches!(self, Self::Ping | Self::Other)
    }
}

const PERIOD: Duration = Duration::from_secs(10);

/// Counts such frames of one peer.
#[derive(Default)]
pub(super) struct Rates {
    /// The period's begin.
    since: Option<Instant>,
    counts: [u32; 4],
    /// Frames of requests that we have written in it.
    written: u32,
}

impl Rates {
    /// We have written a frame of a request.
    pub(super) fn on_request_frame(&mut self) {
        self.written = self.written.saturating_add(1);
    }

    /// One more has come. The clock is asked for the first, and where there are too many.
    ///
    /// # Errors
    ///
    /// What there is too much of.
    pub(super) fn count(
        &mut self,
        rated: Rated,
        now: impl FnOnce() -> Instant,
    ) -> Result<(), String> {
        let answers = match rated.answers_ours() {
            true => self.written.saturating_mul(2),
            false => 0,
        };
        let most = rated.bound().saturating_add(answers);
        let count = &mut self.counts[rated as usize];
        *count += 1;
        if *count <= most && self.since.is_some() {
            return Ok(());
        }
        let now = now();
        let is_in_period = |since| now.saturating_duration_since(since) < PERIOD;
        if self.since.is_some_and(is_in_period) {
            let (bound, name) = (rated.bound(), rated.name());
            return Err(format!("more than {bound} {name} in {PERIOD:?}"));
        }
        *self = Self::default();
        self.since = Some(now);
        self.counts[rated as usize] = 1;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::{PERIOD, Rated, Rates};
    use crate::util::clock::now;

    const ALL: [Rated; 4] = [Rated::Settings, Rated::Ping, Rated::EmptyData, Rated::Other];

    fn count(rates: &mut Rates, rated: Rated, times: u32, at: Instant) -> Result<(), String> {
        (0..times).try_for_each(|_| rates.count(rated, || at))
    }

    #[test]
    fn each_kind_has_its_bound_in_a_period() {
        let start = now();
        for rated in ALL {
            let mut rates = Rates::default();
            let end = start + PERIOD - Duration::from_millis(1);
            assert_eq!(count(&mut rates, rated, rated.bound(), start), Ok(()));
            let too_much = count(&mut rates, rated, 1, end).expect_err("one too many");
            assert!(too_much.contains(rated.name()), "{too_much}");
        }
    }

    #[test]
    fn the_next_period_begins_anew() {
        let (start, mut rates) = (now(), Rates::default());
        for period in 0..5 {
            let at = start + PERIOD * period;
            for rated in ALL {
                assert_eq!(count(&mut rates, rated, rated.bound(), at), Ok(()));
            }
        }
    }

    #[test]
    fn what_we_send_earns_a_peer_its_answers() {
        let start = now();
        for (rated, earned) in [
            (Rated::Settings, 0),
            (Rated::Ping, 2_000),
            (Rated::EmptyData, 0),
            (Rated::Other, 2_000),
        ] {
            let mut rates = Rates::default();
            assert_eq!(count(&mut rates, rated, 1, start), Ok(()));
            (0..1_000).for_each(|_| rates.on_request_frame());
            let most = rated.bound() + earned;
            assert_eq!(count(&mut rates, rated, most - 1, start), Ok(()));
            assert!(count(&mut rates, rated, 1, start).is_err(), "{rated:?}");
        }
    }
}
