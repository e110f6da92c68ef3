//! How many retries and hedges a channel may send while calls fail (gRFC A6, "Throttling Retry
//! Attempts and Hedged RPCs").
//!
//! ```text
//!   max ──┐
//!         │   a failed attempt takes 1 token, a call that ends with OK gives back `token_ratio`
//!   half ─┼──────────────────────────────────────────
//!         │   here no attempt follows another one; each call has its first attempt
//!   0   ──┘
//! ```
//!
//! Tokens are counted in thousandths, so that sums are exact.

use std::sync::{
    Arc,
    atomic::{AtomicU32, Ordering::Relaxed},
};

use crate::service_config::RetryThrottling;

/// The price of a failed attempt.
const COST: u32 = 1_000;

/// The tokens of one channel. Relaxed, because nothing else is read by them.
#[derive(Debug)]
pub(crate) struct RetryThrottle {
    config: RetryThrottling,
    tokens: AtomicU32,
}

impl RetryThrottle {
    /// With all tokens.
    pub(crate) fn new(config: RetryThrottling) -> Self {
        Self {
            config,
            tokens: AtomicU32::new(config.max_tokens_thousandths()),
        }
    }

    /// The one in force once `config` is: `last` itself if it has the same numbers, or its share
    /// of the new maximum. A config that is sent again does not fill it.
    pub(crate) fn next(
        last: Option<&Arc<Self>>,
        config: Option<&RetryThrottling>,
    ) -> Option<Arc<Self>> {
        let config = *config?;
        let Some(last) = last else {
            return Some(Arc::new(Self::new(config)));
        };
        if last.config == config {
            return Some(Arc::clone(last));
        }
        let [tokens, before, now] = [
            last.tokens.load(Relaxed),
            last.config.max_tokens_thousandths(),
            config.max_tokens_thousandths(),
        ]
        .map(u64::from);
        let rescaled = u32::try_from(tokens * now / before).expect("at most the maximum");
        Some(Arc::new(Self {
            config,
            tokens: AtomicU32::new(rescaled),
        }))
    }

    /// An attempt has failed. Whether another may follow it.
    pub(crate) fn on_failure(&self) -> bool {
        let take = |tokens: u32| Some(tokens.saturating_sub(COST));
        let before = self.tokens.fetch_update(Relaxed, Relaxed, take);
        let before = before.unwrap_or_else(|same| same);
        self.is_above_half(before.saturating_sub(COST))
    }

    /// Whether there is nothing to give back.
    pub(crate) fn is_full(&self) -> bool {
        self.tokens.load(Relaxed) == self.config.max_tokens_thousandths()
    }

    /// A call has ended with OK. Does not write while nothing has failed.
    pub(crate) fn on_success(&self) {
        let max = self.config.max_tokens_thousandths();
        let give = |tokens: u32| {
            let more = tokens
                .saturating_add(self.config.token_ratio_thousandths())
                .min(max);
            (more != tokens).then_some(more)
        };
        let _ = self.tokens.fetch_update(Relaxed, Relaxed, give);
    }

    /// Whether an attempt may follow another one now.
    pub(crate) fn allows(&self) -> bool {
        self.is_above_half(self.tokens.load(Relaxed))
    }

    fn is_above_half(&self, tokens: u32) -> bool {
        tokens > self.config.max_tokens_thousandths() / 2
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, atomic::Ordering::Relaxed};

    use super::RetryThrottle;
    use crate::service_config::{RetryThrottling, ServiceConfig};

    fn config(max_tokens: u32, token_ratio: &str) -> RetryThrottling {
        let text = format!(
            r#"{{"retryThrottling": {{"maxTokens": {max_tokens}, "tokenRatio": {token_ratio}}}}}"#
        );
        let config: ServiceConfig = text.parse().expect("valid");
        *config.retry_throttling().expect("it has one")
    }

    fn tokens(throttle: &RetryThrottle) -> u32 {
        throttle.tokens.load(Relaxed)
    }

    /// `-` is a failure, `+` a success; beside each the thousandths after it.
    #[track_caller]
    fn goes(throttle: &RetryThrottle, steps: &[(char, u32)]) {
        for (number, (step, expected)) in steps.iter().enumerate() {
            match step {
                '-' => {
                    let allowed = throttle.on_failure();
                    assert_eq!(allowed, throttle.allows(), "step {number}");
                }
                _ => throttle.on_success(),
            }
            assert_eq!(tokens(throttle), *expected, "step {number}");
        }
    }

    // T171
    #[test]
    fn failures_cost_one_and_successes_give_the_ratio() {
        let throttle = RetryThrottle::new(config(4, "0.8"));
        assert!(throttle.allows());
        goes(&throttle, &[('-', 3_000)]);
        assert!(throttle.allows());
        goes(&throttle, &[('-', 2_000)]);
        assert!(!throttle.allows(), "half is not above half");
        goes(
            &throttle,
            &[('-', 1_000), ('-', 0), ('-', 0), ('+', 800), ('+', 1_600)],
        );
        assert!(!throttle.allows());
        goes(&throttle, &[('+', 2_400)]);
        assert!(throttle.allows());
        goes(
            &throttle,
            &[('+', 3_200), ('+', 4_000), ('+', 4_000), ('-', 3_000)],
        );
        assert!(throttle.allows());
        goes(&throttle, &[('-', 2_000)]);
        assert!(!throttle.allows());
    }

    // T177
    #[test]
    fn the_ratio_has_three_decimals() {
        let throttle = RetryThrottle::new(config(10, "0.5466"));
        goes(&throttle, &[('-', 9_000), ('-', 8_000), ('+', 8_546)]);
    }

    // T172
    #[test]
    fn another_maximum_takes_over_the_share_and_the_same_numbers_change_nothing() {
        let first = config(4, "0.1");
        let throttle = RetryThrottle::next(None, Some(&first)).expect("one is configured");
        throttle.on_failure();
        let same = RetryThrottle::next(Some(&throttle), Some(&first)).expect("one is configured");
        assert!(Arc::ptr_eq(&throttle, &same));
        let larger = RetryThrottle::next(Some(&throttle), Some(&config(8, "0.1")));
        assert_eq!(tokens(&larger.expect("one is configured")), 6_000);
        let smaller = RetryThrottle::next(Some(&throttle), Some(&config(2, "0.1")));
        assert_eq!(tokens(&smaller.expect("one is configured")), 1_500);
        assert!(RetryThrottle::next(Some(&throttle), None).is_none());
    }

    #[test]
    fn no_token_is_lost_among_threads() {
        let throttle = RetryThrottle::new(config(1_000, "1"));
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| (0..200).for_each(|_| _ = throttle.on_failure()));
            }
        });
        assert_eq!(tokens(&throttle), 200_000);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| (0..100).for_each(|_| throttle.on_success()));
            }
        });
        assert_eq!(tokens(&throttle), 600_000);
    }
}
