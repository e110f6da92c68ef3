//! Each decision by a table of values, without calls.

use std::time::{Duration, Instant};

use super::{Failure, Hedges, Pushback, Retries, Stop};
use crate::{routing::RetryThrottle, service_config::ServiceConfig};

fn config(policy: &str) -> ServiceConfig {
    let text = format!(r#"{{"methodConfig": [{{"name": [{{}}], {policy}}}]}}"#);
    text.parse().expect("valid")
}

fn retries(max_attempts: u32, backoff: &str, cap: u32) -> Retries {
    let config = config(&format!(
        r#""retryPolicy": {{"maxAttempts": {max_attempts}, {backoff},
            "retryableStatusCodes": ["UNAVAILABLE"]}}"#
    ));
    let method = config.method_config("/s/m").expect("for every method");
    Retries::new(method.retry_policy().expect("a policy"), cap, 7)
}

const BACKOFF: &str = r#""initialBackoff": "100s", "maxBackoff": "700s", "backoffMultiplier": 2"#;

fn throttle(max_tokens: u32) -> RetryThrottle {
    let text =
        format!(r#"{{"retryThrottling": {{"maxTokens": {max_tokens}, "tokenRatio": 0.1}}}}"#);
    let config: ServiceConfig = text.parse().expect("valid");
    RetryThrottle::new(*config.retry_throttling().expect("it has one"))
}

const LISTED: Failure = Failure {
    is_listed: true,
    pushback: Pushback::Unsaid,
};

const UNLISTED: Failure = Failure {
    is_listed: false,
    ..LISTED
};

fn pushed_back(failure: Failure, millis: u64) -> Failure {
    Failure {
        pushback: Pushback::Wait(Duration::from_millis(millis)),
        ..failure
    }
}

fn stopped(failure: Failure) -> Failure {
    Failure {
        pushback: Pushback::Stop,
        ..failure
    }
}

// T152, T153
#[test]
fn pushback_is_a_plain_number_or_a_stop() {
    let of = |values: &[&str]| Pushback::of(values.iter().map(|value| value.as_bytes()));
    let wait = |millis| Pushback::Wait(Duration::from_millis(millis));
    for (values, expected) in [
        (&[][..], Pushback::Unsaid),
        (&["0"], wait(0)),
        (&["1000"], wait(1_000)),
        (&["2147483647"], wait(2_147_483_647)),
        (&["2147483648"], Pushback::Stop),
        (&["-1"], Pushback::Stop),
        (&["xxx"], Pushback::Stop),
        (&[""], Pushback::Stop),
        (&["1.5"], Pushback::Stop),
        (&["+5"], Pushback::Stop),
        (&["007"], Pushback::Stop),
        (&["00"], Pushback::Stop),
        (&[" 5"], Pushback::Stop),
        (&["\u{663}"], Pushback::Stop),
        (&["5", "5"], Pushback::Stop),
    ] {
        assert_eq!(of(values), expected, "{values:?}");
    }
}

/// The pause is the delay, and a fifth more or less.
#[track_caller]
fn about(pause: Result<Duration, Stop>, seconds: f64) {
    let pause = pause.expect("another attempt").as_secs_f64();
    let share = pause / seconds;
    assert!(
        (0.8..1.2).contains(&share),
        "{pause} s is not about {seconds} s"
    );
}

// T150
#[test]
fn pauses_grow_up_to_the_longest() {
    let mut retries = retries(9, BACKOFF, 9);
    for seconds in [100.0, 200.0, 400.0, 700.0, 700.0] {
        about(retries.on_failure(LISTED, None), seconds);
    }
}

#[test]
fn a_first_pause_above_the_longest_is_cut_and_pauses_may_shrink() {
    let mut longer = retries(
        9,
        r#""initialBackoff": "10s", "maxBackoff": "8s", "backoffMultiplier": 0.9"#,
        9,
    );
    for seconds in [8.0, 8.0, 8.0, 7.29] {
        about(longer.on_failure(LISTED, None), seconds);
    }
    let mut huge = retries(
        9,
        r#""initialBackoff": "100000000000s", "maxBackoff": "300000000000s",
            "backoffMultiplier": 1e300"#,
        9,
    );
    about(huge.on_failure(LISTED, None), 1e11);
    about(huge.on_failure(LISTED, None), 3e11);
}

// T151
#[test]
fn jitter_fills_a_fifth_to_both_sides() {
    let shares = (0..1_000).map(|seed| {
        let config = config(&format!(
            r#""retryPolicy": {{"maxAttempts": 2, {BACKOFF}, "retryableStatusCodes": [14]}}"#
        ));
        let method = config.method_config("/s/m").expect("for every method");
        let policy = method.retry_policy().expect("a policy");
        let pause = Retries::new(policy, 5, seed).on_failure(LISTED, None);
        pause.expect("another attempt").as_secs_f64() / 100.0
    });
    let shares: Vec<f64> = shares.collect();
    let least = shares.iter().copied().fold(f64::INFINITY, f64::min);
    let most = shares.iter().copied().fold(0.0, f64::max);
    assert!(
        (0.8..0.81).contains(&least) && (1.19..1.2).contains(&most),
        "{least} to {most}"
    );
    let mean = shares.iter().sum::<f64>() / 1_000.0;
    assert!((0.99..1.01).contains(&mean), "{mean}");
}

// T154
#[test]
fn after_a_pushback_the_backoff_starts_over() {
    let mut retries = retries(5, BACKOFF, 5);
    about(retries.on_failure(LISTED, None), 100.0);
    about(retries.on_failure(LISTED, None), 200.0);
    let pause = retries.on_failure(pushed_back(LISTED, 5), None);
    assert_eq!(pause, Ok(Duration::from_millis(5)), "without jitter");
    about(retries.on_failure(LISTED, None), 100.0);
    let last = retries.on_failure(pushed_back(LISTED, 5), None);
    assert_eq!(last, Err(Stop::Exhausted));
}

// T104, T105
#[test]
fn the_lower_of_the_policys_and_the_channels_limit_counts() {
    for (policy, cap, attempts) in [(9, 4, 4), (9, 7, 7), (3, 10, 3), (8, 5, 5), (2, 1, 1)] {
        let mut retries = retries(policy, BACKOFF, cap);
        let more = (0..20).take_while(|_| retries.on_failure(LISTED, None).is_ok());
        assert_eq!(1 + more.count(), attempts, "{policy}, {cap}");
    }
}

// T155, T173
#[test]
fn a_token_is_for_listed_codes_and_for_a_stop() {
    for (failure, expected, is_charged) in [
        (LISTED, Err(Stop::Throttled), true),
        (pushed_back(LISTED, 5), Err(Stop::Throttled), true),
        (stopped(LISTED), Err(Stop::Pushback), true),
        (UNLISTED, Err(Stop::Unlisted), false),
        (pushed_back(UNLISTED, 5), Err(Stop::Unlisted), false),
        (stopped(UNLISTED), Err(Stop::Pushback), true),
    ] {
        // 3 of 4 are left: the next one leaves half.
        let throttle = throttle(4);
        throttle.on_failure();
        assert_eq!(
            retries(5, BACKOFF, 5).on_failure(failure, Some(&throttle)),
            expected
        );
        assert_eq!(throttle.allows(), !is_charged, "{failure:?}");
    }
}

#[test]
fn an_attempt_that_was_the_last_costs_its_token() {
    let throttle = throttle(4);
    let mut retries = retries(2, BACKOFF, 5);
    assert!(retries.on_failure(LISTED, Some(&throttle)).is_ok());
    let last = retries.on_failure(LISTED, Some(&throttle));
    assert_eq!(last, Err(Stop::Throttled), "2 of 4 are left");
}

/// Hedges with a delay, and the time they count from.
fn hedges(max_attempts: u32, delay: u64) -> (Hedges, impl Fn(u64) -> Instant) {
    let config = config(&format!(
        r#""hedgingPolicy": {{"maxAttempts": {max_attempts}, "hedgingDelay": "{delay}s",
            "nonFatalStatusCodes": ["UNAVAILABLE"]}}"#
    ));
    let method = config.method_config("/s/m").expect("for every method");
    let start = Instant::now();
    let hedges = Hedges::new(method.hedging_policy().expect("a policy"), 6, start);
    (hedges, move |seconds| start + Duration::from_secs(seconds))
}

// G01
#[test]
fn hedges_start_one_delay_apart() {
    let (mut hedges, at) = hedges(10, 100);
    for seconds in [0, 100, 200, 300, 400, 500] {
        assert_eq!(hedges.due(), Some(at(seconds)));
        assert!(hedges.is_allowed(None));
        hedges.on_started(at(seconds));
    }
    assert_eq!(
        (hedges.due(), hedges.stopped()),
        (None, Some(Stop::Exhausted))
    );
}

// G03
#[test]
fn without_a_delay_all_hedges_are_due_at_once() {
    let (mut hedges, at) = hedges(3, 0);
    for _ in 0..3 {
        assert_eq!(hedges.due(), Some(at(0)));
        hedges.on_started(at(0));
    }
    assert_eq!(hedges.due(), None);
}

// G07
#[test]
fn a_failure_hurries_the_next_hedge() {
    let (mut hedges, at) = hedges(6, 100);
    hedges.on_started(at(0));
    assert_eq!(hedges.on_failure(LISTED, None, at(30)), Ok(()));
    assert_eq!(hedges.due(), Some(at(30)));
    hedges.on_started(at(30));
    assert_eq!(hedges.due(), Some(at(130)));
}

// G08
#[test]
fn pushback_sets_the_time_of_the_next_hedge() {
    let (mut hedges, at) = hedges(6, 100);
    hedges.on_started(at(0));
    assert_eq!(
        hedges.on_failure(pushed_back(LISTED, 20_000), None, at(30)),
        Ok(())
    );
    assert_eq!(hedges.due(), Some(at(50)));
    hedges.on_started(at(50));
    assert_eq!(hedges.due(), Some(at(150)));
}

// G09
#[test]
fn a_stop_leaves_those_under_way_alone() {
    let (mut hedges, at) = hedges(6, 100);
    (0..3).for_each(|_| hedges.on_started(at(0)));
    assert_eq!(hedges.on_failure(stopped(LISTED), None, at(30)), Ok(()));
    assert_eq!(
        (hedges.due(), hedges.stopped()),
        (None, Some(Stop::Pushback))
    );
    assert_eq!(hedges.on_failure(LISTED, None, at(40)), Ok(()));
    assert_eq!(hedges.due(), None, "it stays stopped");
}

// G05
#[test]
fn a_code_that_is_not_listed_ends_the_call() {
    let (mut hedges, at) = hedges(6, 100);
    (0..2).for_each(|_| hedges.on_started(at(0)));
    assert_eq!(
        hedges.on_failure(UNLISTED, None, at(30)),
        Err(Stop::Unlisted)
    );
    assert_eq!(
        hedges.on_failure(stopped(UNLISTED), None, at(30)),
        Err(Stop::Pushback)
    );
}

// G14, G15, G16, G17
#[test]
fn a_low_bucket_stops_hedges_and_not_the_first_attempt() {
    let throttle = throttle(5);
    let (mut own, at) = hedges(6, 10);
    let (mut other, _) = hedges(6, 10);
    for (is_stopped, hedged) in [(false, &mut own), (true, &mut other)] {
        assert!(hedged.is_allowed(Some(&throttle)), "the first one");
        hedged.on_started(at(0));
        for _ in 0..2 {
            assert_eq!(hedged.on_failure(LISTED, Some(&throttle), at(1)), Ok(()));
        }
        assert_eq!(hedged.stopped().is_some(), is_stopped);
    }
    assert_eq!(own.due(), Some(at(1)));
    assert!(
        !own.is_allowed(Some(&throttle)),
        "others have emptied the bucket"
    );
    assert_eq!((own.due(), own.stopped()), (None, Some(Stop::Throttled)));
}

#[test]
fn a_hedge_without_a_stream_waits_for_another_delay() {
    let (mut hedges, at) = hedges(6, 100);
    hedges.on_started(at(0));
    hedges.on_skipped(at(100));
    assert_eq!(hedges.due(), Some(at(200)));
}
