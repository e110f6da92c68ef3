//! Whether and when a call is attempted again (gRFC A6): decisions alone, of values alone.
//!
//! ```text
//!   attempt ──failed──► not listed, or the server says stop ──► that is the result
//!                       throttled, or no attempt is left    ──► that is the result
//!                       else ──► wait: what the server says, or the backoff ──► next attempt
//! ```
//!
//! A call with a hedging policy does not wait for failures: [`Hedges`] says when the next attempt
//! starts beside those that are under way.

use std::time::{Duration, Instant};

use fastrand::Rng;

use crate::{
    routing::RetryThrottle,
    service_config::{HedgingPolicy, RetryPolicy},
    util::instant::after,
};

/// When a server wants the next attempt. It says so by `grpc-retry-pushback-ms`, in headers that
/// are all there is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Pushback {
    /// Nothing.
    Unsaid,
    /// Wait as long.
    Wait(Duration),
    /// Make none.
    Stop,
}

impl Pushback {
    /// A signed number of 32 bits without leading zeros. All else, and 2 of them, is a stop.
    pub(super) fn of<'a>(values: impl IntoIterator<Item = &'a [u8]>) -> Self {
        let mut values = values.into_iter();
        let value = match (values.next(), values.next()) {
            (None, _) => return Self::Unsaid,
            (Some(value), None) => value,
            (Some(_), Some(_)) => return Self::Stop,
        };
        let is_plain = value.len() == 1 || value.first() != Some(&b'0');
        if !is_plain || !value.iter().all(u8::is_ascii_digit) {
            return Self::Stop;
        }
        let number = std::str::from_utf8(value)
            .ok()
            .and_then(|text| text.parse::<i32>().ok());
        match number.and_then(|millis| u64::try_from(millis).ok()) {
            Some(millis) => Self::Wait(Duration::from_millis(millis)),
            None => Self::Stop,
        }
    }
}

/// An attempt that failed, as far as the next one depends on it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Failure {
    /// The policy lists its status code.
    pub(super) is_listed: bool,
    pub(super) pushback: Pushback,
}

/// Why no attempt follows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stop {
    /// The policy does not list the status code.
    Unlisted,
    /// The server says so.
    Pushback,
    /// Too many attempts of the channel have failed.
    Throttled,
    /// The policy, or the channel, allows no more.
    Exhausted,
    /// The request is no longer kept.
    NotKept,
}

/// The attempts of a call with a retry policy.
#[derive(Debug)]
pub(super) struct Retries {
    /// How many may be made.
    max_attempts: u32,
    made: u32,
    initial: Duration,
    max: Duration,
    multiplier: f64,
    /// The next pause, before jitter.
    next: Duration,
    rng: Rng,
}

impl Retries {
    /// Before the first attempt. `cap` is the channel's limit on attempts.
    pub(super) fn new(policy: &RetryPolicy, cap: u32, seed: u64) -> Self {
        Self {
            max_attempts: policy.max_attempts().min(cap),
            made: 1,
            initial: policy.initial_backoff(),
            max: policy.max_backoff(),
            multiplier: policy.backoff_multiplier(),
            next: policy.initial_backoff(),
            rng: Rng::with_seed(seed),
        }
    }

    /// An attempt has failed that nothing has committed. How long to wait before the next.
    pub(super) fn on_failure(
        &mut self,
        failure: Failure,
        throttle: Option<&RetryThrottle>,
    ) -> Result<Duration, Stop> {
        may_follow(failure, throttle)?;
        if self.made >= self.max_attempts {
            return Err(Stop::Exhausted);
        }
        self.made += 1;
        Ok(match failure.pushback {
            Pushback::Wait(pause) => {
                self.next = self.initial;
                pause
            }
            Pushback::Unsaid | Pushback::Stop => self.backoff(),
        })
    }

    /// `min(initial · multiplier ^ (n - 1), max)`, and up to a fifth more or less.
    fn backoff(&mut self) -> Duration {
        let pause = self.next.min(self.max);
        let grown = self.next.as_secs_f64() * self.multiplier;
        self.next = Duration::try_from_secs_f64(grown).unwrap_or(Duration::MAX);
        pause.mul_f64(0.8 + 0.4 * self.rng.f64())
    }
}

/// The verdict of the code, the server and the throttle. Takes a token where that is due.
fn may_follow(failure: Failure, throttle: Option<&RetryThrottle>) -> Result<(), Stop> {
    let take = || throttle.is_none_or(RetryThrottle::on_failure);
    match failure {
        Failure {
            pushback: Pushback::Stop,
            ..
        } => {
            take();
            Err(Stop::Pushback)
        }
        Failure {
            is_listed: false, ..
        } => Err(Stop::Unlisted),
        Failure {
            is_listed: true, ..
        } => match take() {
            true => Ok(()),
            false => Err(Stop::Throttled),
        },
    }
}

/// The attempts of a call with a hedging policy.
#[derive(Debug)]
pub(super) struct Hedges {
    max_attempts: u32,
    delay: Duration,
    made: u32,
    /// Why no more are made, as far as that is known.
    stopped: Option<Stop>,
    /// When the next one is due.
    next: Option<Instant>,
}

impl Hedges {
    /// Before the first attempt, which is due now. `cap` is the channel's limit on attempts.
    pub(super) fn new(policy: &HedgingPolicy, cap: u32, now: Instant) -> Self {
        Self {
            max_attempts: policy.max_attempts().min(cap),
            delay: policy.hedging_delay(),
            made: 0,
            stopped: None,
            next: Some(now),
        }
    }

    /// When the next attempt is due, if there is to be one.
    pub(super) fn due(&self) -> Option<Instant> {
        self.next
    }

    /// The next attempt is due. Whether it is made: the first one always, another one unless it
    /// is throttled.
    pub(super) fn is_allowed(&mut self, throttle: Option<&RetryThrottle>) -> bool {
        let is_allowed = self.made == 0 || throttle.is_none_or(RetryThrottle::allows);
        if !is_allowed {
            self.stop(Stop::Throttled);
        }
        is_allowed
    }

    /// An attempt was started.
    pub(super) fn on_started(&mut self, now: Instant) {
        self.made += 1;
        self.next = Some(after(now, self.delay));
        if self.made >= self.max_attempts {
            self.stop(Stop::Exhausted);
        }
    }

    /// The attempt that was due found no free stream. The schedule starts over.
    pub(super) fn on_skipped(&mut self, now: Instant) {
        self.next = Some(after(now, self.delay.max(LEAST_PAUSE)));
    }

    /// An attempt has failed. An error if that is the result of the call.
    pub(super) fn on_failure(
        &mut self,
        failure: Failure,
        throttle: Option<&RetryThrottle>,
        now: Instant,
    ) -> Result<(), Stop> {
        match may_follow(failure, throttle) {
            Err(Stop::Unlisted) => return Err(Stop::Unlisted),
            // Those that are under way go on.
            Err(stop) if failure.is_listed => self.stop(stop),
            Err(stop) => return Err(stop),
            Ok(()) if self.stopped.is_some() => {}
            Ok(()) => {
                let pause = match failure.pushback {
                    Pushback::Wait(pause) => pause,
                    Pushback::Unsaid | Pushback::Stop => Duration::ZERO,
                };
                self.next = Some(after(now, pause));
            }
        }
        Ok(())
    }

    /// The request is no longer kept for others.
    pub(super) fn on_not_kept(&mut self) {
        match self.made {
            0 => self.max_attempts = 1,
            _ => self.stop(Stop::NotKept),
        }
    }

    /// Why no more attempts are made, if so.
    pub(super) fn stopped(&self) -> Option<Stop> {
        self.stopped
    }

    fn stop(&mut self, why: Stop) {
        self.stopped.get_or_insert(why);
        self.next = None;
    }
}

/// A call without a hedging delay looks for a free stream again after so long.
const LEAST_PAUSE: Duration = Duration::from_millis(10);

#[cfg(test)]
mod tests;
