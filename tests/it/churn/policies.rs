//! Policies of service configs, for attempts and for balancing, and limits of the builder. They
//! are drawn beside the script, which stays as it is.

use fastrand::Rng;

use super::plan::{Step, Word};

/// The most attempts that a policy may allow (gRFC A6).
const CAP: u32 = 5;

/// Options of the builder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Limits {
    pub(super) max_attempts: u32,
    pub(super) buffer_per_call: usize,
    pub(super) buffer: usize,
}

/// Policies of one config.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Policies {
    attempts: Option<Attempts>,
    /// `maxTokens` of the throttle.
    tokens: Option<u32>,
    balancing: Balancing,
    around: Around,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Balancing {
    #[default]
    RoundRobin,
    LeastRequest,
    /// Backends report nothing, so calls take turns.
    WeightedRoundRobin,
    /// Calls have no header to go by, so each goes by chance.
    RingHash,
}

/// A policy around that one. Neither changes which backends have calls here.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Around {
    #[default]
    Nothing,
    /// It looks at each backend often, and none has the calls to be judged.
    OutlierDetection,
    /// As many as there are.
    Subset,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Attempts {
    Retry { max: u32, backoff_ms: u32 },
    Hedging { max: u32, delay_ms: u32 },
}

impl Limits {
    pub(super) fn draw(rng: &mut Rng) -> Self {
        // A request has some 10 bytes.
        Self {
            max_attempts: match rng.u8(..4) {
                0 => rng.u32(1..=3),
                _ => CAP,
            },
            buffer_per_call: *rng
                .choice(&[256 << 10, 256 << 10, 20, 0])
                .expect("it has 4"),
            buffer: *rng.choice(&[16 << 20, 16 << 20, 100, 0]).expect("it has 4"),
        }
    }
}

impl Policies {
    /// Draws policies for the configs of a script. A config that stays in force at the end does
    /// not hedge, and does not draw backends: the last calls go by strict turns.
    pub(super) fn put_in(rng: &mut Rng, volleys: &mut [Vec<Step>]) {
        let hedges = !volleys.iter().flatten().any(|s| *s == Step::PanicConfigs);
        for step in volleys.iter_mut().flatten() {
            if let Step::Say(Word::Config(config)) = step {
                config.policies = Self::draw(rng, hedges);
            }
        }
    }

    fn draw(rng: &mut Rng, hedges: bool) -> Self {
        let max = rng.u32(2..=CAP + 1);
        let attempts = match rng.u8(..6) {
            0 | 1 => Some(Attempts::Retry {
                max,
                backoff_ms: rng.u32(1..=50),
            }),
            2 | 3 if hedges => Some(Attempts::Hedging {
                max,
                delay_ms: rng.u32(..=20),
            }),
            _ => None,
        };
        Self {
            attempts,
            tokens: (rng.u8(..3) == 0).then(|| rng.u32(1..=20)),
            balancing: match rng.u8(..6) {
                0 if hedges => Balancing::LeastRequest,
                1 => Balancing::WeightedRoundRobin,
                2 if hedges => Balancing::RingHash,
                _ => Balancing::RoundRobin,
            },
            around: match rng.u8(..4) {
                0 => Around::OutlierDetection,
                1 => Around::Subset,
                _ => Around::Nothing,
            },
        }
    }

    pub(super) fn hedges(self) -> bool {
        matches!(self.attempts, Some(Attempts::Hedging { .. }))
    }

    /// How many attempts a call may have.
    pub(super) fn max_attempts(self, limits: Limits) -> u32 {
        match self.attempts {
            Some(Attempts::Retry { max, .. } | Attempts::Hedging { max, .. }) => {
                max.min(CAP).min(limits.max_attempts)
            }
            None => 1,
        }
    }

    /// As a part of a method's rules.
    pub(super) fn rule(self) -> Option<String> {
        Some(match self.attempts? {
            Attempts::Retry { max, backoff_ms } => {
                let backoff = f64::from(backoff_ms) / 1_000.0;
                format!(
                    r#""retryPolicy": {{"maxAttempts": {max}, "initialBackoff": "{backoff}s",
                    "maxBackoff": "0.1s", "backoffMultiplier": 1.5,
                    "retryableStatusCodes": ["UNAVAILABLE"]}}"#
                )
            }
            Attempts::Hedging { max, delay_ms } => {
                let delay = f64::from(delay_ms) / 1_000.0;
                format!(
                    r#""hedgingPolicy": {{"maxAttempts": {max}, "hedgingDelay": "{delay}s",
                    "nonFatalStatusCodes": ["UNAVAILABLE"]}}"#
                )
            }
        })
    }

    /// As a part of the config.
    pub(super) fn balancing(self) -> String {
        let policy = match self.balancing {
            Balancing::RoundRobin => r#""round_robin": {}"#,
            Balancing::LeastRequest => r#""least_request_experimental": {}"#,
            Balancing::WeightedRoundRobin => {
                r#""weighted_round_robin": {"weightUpdatePeriod": "0.1s"}"#
            }
            Balancing::RingHash => r#""ring_hash_experimental": {}"#,
        };
        let policy = match self.around {
            Around::Nothing => policy.to_owned(),
            Around::OutlierDetection => format!(
                r#""outlier_detection_experimental": {{"interval": "0.02s",
                "successRateEjection": {{"requestVolume": 1000000}},
                "failurePercentageEjection": {{"requestVolume": 1000000}},
                "childPolicy": [{{{policy}}}]}}"#
            ),
            Around::Subset => format!(
                r#""random_subsetting_experimental": {{"subsetSize": 100,
                "childPolicy": [{{{policy}}}]}}"#
            ),
        };
        format!(r#""loadBalancingConfig": [{{{policy}}}]"#)
    }

    /// As a part of the config.
    pub(super) fn throttling(self) -> Option<String> {
        let tokens = self.tokens?;
        Some(format!(
            r#""retryThrottling": {{"maxTokens": {tokens}, "tokenRatio": 0.5}}"#
        ))
    }
}
