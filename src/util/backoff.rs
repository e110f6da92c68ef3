//! How long to wait before the next attempt: gRPC's connection backoff.
//!
//! ```text
//! 1 s ─► 1.6 s ─► 2.56 s ─► 4.1 s ─► … ─► 110 s ─► 120 s ─► 120 s …   each ± 20 %
//!  ▲                                                            │
//!  └─────────────────────────── reset() ────────────────────────┘
//! ```
//!
//! No clock is read here: a [`Backoff`] counts failures and hands out delays,
//! and [`next_start`] places them on a time line that its caller owns.

use std::time::{Duration, Instant};

use super::instant::after;
use crate::error::{Error, ErrorKind};

/// Two attempts of one kind on one backend start at least this far apart,
/// whatever an option or a backend says. A server that accepts, answers and
/// hangs up at once would otherwise be asked again every round trip.
pub(crate) const MIN_INTERVAL: Duration = Duration::from_millis(100);

/// How the delay between failed attempts grows.
///
/// The default is that of gRPC's connection backoff, which its health check
/// uses too: 1 s at first, 1.6 times as long after each failure, up to 120 s,
/// and each of them varied by ± 20 % so that the clients of a restarted server
/// do not come back all at once. Success starts it over.
///
/// ```
/// use std::time::Duration;
/// use tonic_health_channel::channel::BackoffConfig;
///
/// # fn example() -> Result<(), tonic_health_channel::Error> {
/// let quick = BackoffConfig::default()
///     .initial(Duration::from_millis(250))?
///     .max(Duration::from_secs(10));
/// assert_ne!(quick, BackoffConfig::default());
/// assert!(BackoffConfig::default().multiplier(0.5).is_err()); // it would shrink
/// # Ok(())
/// # }
/// ```
#[must_use = "a backoff does nothing until a builder has it"]
#[derive(Clone, Debug, PartialEq)]
pub struct BackoffConfig {
    initial: Duration,
    multiplier: f64,
    jitter: f64,
    max: Duration,
}

/// The delays of one thing that is tried again and again.
#[derive(Clone, Debug)]
pub(crate) struct Backoff {
    config: BackoffConfig,
    /// The next delay, before jitter.
    next: Duration,
    failures: u32,
    rng: fastrand::Rng,
}

impl BackoffConfig {
    /// 100 ms at first, and gRPC's from there: for channels that take the place of tonic's,
    /// which connect again at once.
    pub(crate) fn soon() -> Self {
        Self {
            initial: MIN_INTERVAL,
            ..Self::default()
        }
    }

    /// The delay after the first failure, before jitter: 1 s by default, as in gRPC. Attempts begin
    /// at least 100 ms apart, whatever it is.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidOption`] if it is zero: no multiple of it is a delay.
    pub fn initial(self, initial: Duration) -> Result<Self, Error> {
        match initial.is_zero() {
            true => Err(invalid("initial must be above 0 s".into())),
            false => Ok(Self { initial, ..self }),
        }
    }

    /// How many times as long each delay is as the one before: 1.6 by default, as in gRPC. 1 is
    /// the same delay each time.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidOption`] unless it is finite and at least 1.
    pub fn multiplier(self, multiplier: f64) -> Result<Self, Error> {
        match multiplier.is_finite() && multiplier >= 1.0 {
            true => Ok(Self { multiplier, ..self }),
            false => {
                let rule = format!("multiplier must be finite and at least 1, not {multiplier}");
                Err(invalid(rule))
            }
        }
    }

    /// The part of itself by which each delay varies in either direction, so that the clients of
    /// a server that was restarted do not come back at once: 0.2 by default, as in gRPC.
    ///
    /// An attempt that took longer than its delay is followed by a pause of up to this part of its
    /// time. So the clients of a server that does not answer do not stay in step.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidOption`] unless it is at least 0 and below 1.
    pub fn jitter(self, jitter: f64) -> Result<Self, Error> {
        match (0.0..1.0).contains(&jitter) {
            true => Ok(Self { jitter, ..self }),
            false => {
                let rule = format!("jitter must be at least 0 and below 1, not {jitter}");
                Err(invalid(rule))
            }
        }
    }

    /// The longest delay before jitter, the first included: 120 s by default, as in gRPC. The
    /// longest wait is `max * (1 + jitter)`.
    pub fn max(self, max: Duration) -> Self {
        Self { max, ..self }
    }

    fn first(&self) -> Duration {
        self.initial.min(self.max)
    }

    /// The same with no delay longer than `max`, before jitter.
    pub(crate) fn at_most(self, max: Duration) -> Self {
        Self {
            initial: self.initial.min(max),
            max: self.max.min(max),
            ..self
        }
    }
}

fn invalid(rule: String) -> Error {
    Error::new(ErrorKind::InvalidOption, format!("backoff: {rule}"))
}

impl Default for BackoffConfig {
    fn default() -> Self {
        Self {
            initial: Duration::from_secs(1),
            multiplier: 1.6,
            jitter: 0.2,
            max: Duration::from_secs(120),
        }
    }
}

impl Backoff {
    pub(crate) fn new(config: BackoffConfig, seed: u64) -> Self {
        Self {
            next: config.first(),
            failures: 0,
            rng: fastrand::Rng::with_seed(seed),
            config,
        }
    }

    /// Counts a failure and says how long after the start of the attempt that
    /// failed the next one may start.
    pub(crate) fn next_delay(&mut self) -> Duration {
        self.failures = self.failures.saturating_add(1);
        let delay = self.next;
        self.next = self.grown(delay);
        self.jittered(delay)
    }

    /// Counts the failure of the attempt that `started` then, and says when the next one may start:
    /// once the delay has passed since that start.
    ///
    /// An attempt may have taken longer than its delay, such as one without an answer that ends by
    /// a timeout. Then the jitter is a part of that time, up to the longest delay. Otherwise the
    /// clients of a backend that was cut off would go on in step, by the timeout that all have.
    pub(crate) fn next_start(&mut self, now: Instant, started: Instant) -> Instant {
        let delay = self.next_delay();
        let at = next_start(now, started, delay);
        if at > now {
            return at;
        }
        let took = now.saturating_duration_since(started).min(self.config.max);
        let part = self.config.jitter * self.rng.f64();
        after(now, took.mul_f64(part))
    }

    /// After a success: the next failure is the first again.
    pub(crate) fn reset(&mut self) {
        self.failures = 0;
        self.next = self.config.first();
    }

    /// How many failures there were since the last success.
    pub(crate) fn failures(&self) -> u32 {
        self.failures
    }

    fn grown(&self, delay: Duration) -> Duration {
        let grown = delay.as_secs_f64() * self.config.multiplier;
        Duration::try_from_secs_f64(grown)
            .map_or(self.config.max, |grown| grown.min(self.config.max))
    }

    fn jittered(&mut self, delay: Duration) -> Duration {
        let factor = 1.0 + self.config.jitter * (2.0 * self.rng.f64() - 1.0);
        Duration::try_from_secs_f64(delay.as_secs_f64() * factor).unwrap_or(Duration::MAX)
    }
}

/// When to start again after the attempt that `started` then: once `delay` has
/// passed since its start, so that time spent failing counts as waiting, but
/// not before `now`, and never sooner than [`MIN_INTERVAL`] after that start.
pub(crate) fn next_start(now: Instant, started: Instant, delay: Duration) -> Instant {
    after(started, delay.max(MIN_INTERVAL)).max(now)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SEED: u64 = 7;

    #[track_caller]
    fn backoff(multiplier: f64, jitter: f64, max: Duration) -> Backoff {
        let config = BackoffConfig::default().multiplier(multiplier);
        let config = config.and_then(|config| config.jitter(jitter));
        Backoff::new(config.expect("a valid backoff").max(max), SEED)
    }

    #[track_caller]
    fn check_rejected(config: Result<BackoffConfig, Error>, rule: &str) {
        let error = config.expect_err("must be rejected");
        assert_eq!(error.kind(), ErrorKind::InvalidOption);
        assert_eq!(format!("{:?}", error.code()), "InvalidArgument");
        assert_eq!(error.message(), rule);
    }

    #[test]
    fn grows_from_one_second_to_two_minutes() {
        let mut backoff = backoff(1.6, 0.0, Duration::from_secs(120));
        let delays: [f64; 13] = std::array::from_fn(|_| backoff.next_delay().as_secs_f64());
        let expected = [
            1.0, 1.6, 2.56, 4.096, 6.55, 10.49, 16.78, 26.84, 42.95, 68.72, 109.95, 120.0, 120.0,
        ];
        for (delay, expected) in delays.into_iter().zip(expected) {
            assert!((delay - expected).abs() < 0.01, "{delay} is not {expected}");
        }
    }

    #[test]
    fn the_default_is_that_of_grpc() {
        let explicit = || {
            let config = BackoffConfig::default().initial(Duration::from_secs(1))?;
            let config = config.multiplier(1.6)?.jitter(0.2)?;
            Ok::<_, Error>(config.max(Duration::from_secs(120)))
        };
        assert_eq!(explicit().expect("valid"), BackoffConfig::default());
    }

    #[test]
    fn no_delay_is_longer_than_the_longest_not_even_the_first() {
        let mut backoff = backoff(1.6, 0.0, Duration::from_millis(300));
        assert_eq!(backoff.next_delay(), Duration::from_millis(300));
        assert_eq!(backoff.next_delay(), Duration::from_millis(300));
        backoff.reset();
        assert_eq!(backoff.next_delay(), Duration::from_millis(300));
    }

    #[test]
    fn jitter_varies_every_delay_by_a_fifth() {
        let (mut lowest, mut highest) = (f64::MAX, f64::MIN);
        for seed in 0..2_000 {
            let mut backoff = Backoff::new(BackoffConfig::default(), seed);
            let first = backoff.next_delay().as_secs_f64();
            lowest = lowest.min(first);
            highest = highest.max(first);
            let last = (0..20).map(|_| backoff.next_delay()).last().expect("20");
            assert!(
                (96.0..=144.0).contains(&last.as_secs_f64()),
                "{last:?}, seed {seed}"
            );
        }
        assert!((0.8..0.81).contains(&lowest), "{lowest}");
        assert!((1.19..=1.2).contains(&highest), "{highest}");
    }

    #[test]
    fn reset_starts_over() {
        let mut backoff = backoff(1.6, 0.0, Duration::from_secs(120));
        assert_eq!(backoff.failures(), 0);
        for failures in 1..=5 {
            let _ = backoff.next_delay();
            assert_eq!(backoff.failures(), failures);
        }
        backoff.reset();
        assert_eq!(backoff.failures(), 0);
        assert_eq!(backoff.next_delay(), Duration::from_secs(1));
        assert_eq!(backoff.next_delay(), Duration::from_millis(1_600));
    }

    /// The model knows the power of the multiplier, and no jitter.
    #[test]
    fn a_random_walk_agrees_with_the_model() {
        for seed in 0..50 {
            let mut rng = fastrand::Rng::with_seed(seed);
            let mut backoff = Backoff::new(BackoffConfig::default(), rng.u64(..));
            let mut failures = 0;
            for step in 0..1_000 {
                if rng.u8(..8) == 0 {
                    backoff.reset();
                    failures = 0;
                } else {
                    let nominal = 1.6_f64.powi(failures).min(120.0);
                    let delay = backoff.next_delay().as_secs_f64();
                    let near = nominal * 0.799..=nominal * 1.201;
                    assert!(near.contains(&delay), "{delay}, seed {seed}, step {step}");
                    failures += 1;
                }
                assert_eq!(i64::from(backoff.failures()), i64::from(failures));
            }
        }
    }

    #[test]
    fn never_overflows() {
        for (multiplier, max) in [(1.6, Duration::from_secs(120)), (1e300, Duration::MAX)] {
            let mut backoff = backoff(multiplier, 0.99, max);
            let now = Instant::now();
            for _ in 0..10_000 {
                let delay = backoff.next_delay();
                assert!(delay <= max.saturating_mul(2));
                assert!(next_start(now, now, delay) > now);
            }
            assert_eq!(backoff.failures(), 10_000);
        }
    }

    #[test]
    fn the_same_seed_repeats_the_same_delays() {
        let delays = |seed| -> [Duration; 20] {
            let mut backoff = Backoff::new(BackoffConfig::default(), seed);
            std::array::from_fn(|_| backoff.next_delay())
        };
        assert_eq!(delays(SEED), delays(SEED));
        assert_ne!(delays(SEED), delays(SEED + 1));
    }

    #[test]
    fn time_spent_failing_counts_as_waiting() {
        let started = Instant::now();
        let after = |millis| started + Duration::from_millis(millis);
        let second = Duration::from_secs(1);
        assert_eq!(next_start(after(300), started, second), after(1_000));
        assert_eq!(next_start(after(3_000), started, second), after(3_000));
        assert_eq!(next_start(after(1), started, Duration::ZERO), after(100));
    }

    // D368
    #[test]
    fn after_an_attempt_that_took_longer_than_its_delay_the_jitter_is_a_part_of_its_time() {
        let started = Instant::now();
        let now = started + Duration::from_secs(20);
        let mut last = 0;
        for seed in 0..1_000 {
            let mut backoff = Backoff::new(BackoffConfig::default(), seed);
            let wait = backoff.next_start(now, started) - now;
            assert!(wait <= Duration::from_secs(4), "{wait:?} of 20 s");
            last += u32::from(wait > Duration::from_millis(3_600));
            assert_eq!(backoff.failures(), 1);
        }
        // 5 standard deviations of a tenth of 1,000 are 47.
        assert!(last.abs_diff(100) < 47, "{last} in the last tenth");

        let mut backoff = backoff(1.6, 0.0, Duration::from_secs(120));
        assert_eq!(backoff.next_start(now, started), now, "without jitter");
        let at = backoff.next_start(now, now);
        assert_eq!(
            at,
            now + Duration::from_millis(1_600),
            "the delay is longer"
        );

        let hours = started + Duration::from_secs(36_000);
        let mut backoff = Backoff::new(BackoffConfig::default(), SEED);
        let wait = backoff.next_start(hours, started) - hours;
        assert!(wait <= Duration::from_secs(24), "{wait:?} after 10 hours");
    }

    #[test]
    fn rejection_names_the_rule() {
        let default = BackoffConfig::default;
        let rule = "backoff: initial must be above 0 s";
        check_rejected(default().initial(Duration::ZERO), rule);
        for (multiplier, shown) in [(0.5, "0.5"), (f64::INFINITY, "inf"), (f64::NAN, "NaN")] {
            let rule = format!("backoff: multiplier must be finite and at least 1, not {shown}");
            check_rejected(default().multiplier(multiplier), &rule);
        }
        for (jitter, shown) in [(1.0, "1"), (-0.1, "-0.1"), (f64::NAN, "NaN")] {
            let rule = format!("backoff: jitter must be at least 0 and below 1, not {shown}");
            check_rejected(default().jitter(jitter), &rule);
        }
    }
}
