//! A fleet, before it starts.

use std::time::Duration;

use crate::{service_config::ServiceConfig, util::backoff::BackoffConfig};

pub(super) const MS: Duration = Duration::from_millis(1);
pub(super) const SECOND: Duration = Duration::from_secs(1);

pub(super) const ROUND_ROBIN: &str = r#"{"loadBalancingConfig": [{"round_robin": {}}]}"#;
pub(super) const PICK_FIRST: &str =
    r#"{"loadBalancingConfig": [{"pick_first": {"shuffleAddressList": true}}]}"#;
pub(super) const WEIGHTED: &str = r#"{"loadBalancingConfig": [{"weighted_round_robin": {}}]}"#;

/// `least_request_experimental` with so many choices.
pub(super) fn least_request(choices: u32) -> String {
    policy(&format!(
        r#"{{"least_request_experimental": {{"choiceCount": {choices}}}}}"#
    ))
}

/// `ring_hash_experimental` with a ring of at least this size.
pub(super) fn ring_hash(min_size: u32) -> String {
    policy(&format!(
        r#"{{"ring_hash_experimental":
            {{"minRingSize": {min_size}, "requestHashHeader": "x-key"}}}}"#
    ))
}

/// Any policy over so many of the backends.
pub(super) fn subset(size: u32, child: &str) -> String {
    let child = child.trim_start_matches(r#"{"loadBalancingConfig": "#);
    let child = child.trim_end_matches('}');
    let child = match child.ends_with(']') {
        true => child.to_owned(),
        false => format!("{child}}}"),
    };
    policy(&format!(
        r#"{{"random_subsetting_experimental": {{"subsetSize": {size}, "childPolicy": {child}}}}}"#
    ))
}

fn policy(config: &str) -> String {
    format!(r#"{{"loadBalancingConfig": [{config}]}}"#)
}

/// A fleet, before it starts.
#[derive(Clone, Debug)]
pub(super) struct Plan {
    pub(super) clients: usize,
    pub(super) backends: usize,
    pub(super) seed: u64,
    /// JSON.
    pub(super) config: String,
    pub(super) backoff: BackoffConfig,
    pub(super) checks_health: bool,
    /// Clients start at random moments within this time.
    pub(super) start_within: Duration,
    /// Clients dial their backends in the order in which they are named.
    pub(super) starts_in_order: bool,
    /// How many calls wait in each client when it starts.
    pub(super) first_calls: usize,
    /// Of each client.
    pub(super) calls_per_second: f64,
    /// Calls wait in TRANSIENT_FAILURE.
    pub(super) wait_for_ready: bool,
    /// How many different keys calls have, for `ring_hash`.
    pub(super) keys: u64,
    /// The mean time that a backend takes for a call.
    pub(super) service_time: Duration,
    /// How many calls a backend processes at a time. The others wait in it.
    pub(super) workers: usize,
    /// So many backends take so many times as long.
    pub(super) slow: (usize, f64),
    /// The backends are looked up. Else they are named at the start.
    pub(super) looks_up: bool,
    /// So many of the backends are named at first, instead of all.
    pub(super) named: Option<usize>,
    /// Each client is given so many members alone, as its subset has drawn them.
    pub(super) drawn: Option<u32>,
    /// Counts over time have bins of this length.
    pub(super) bin: Duration,
}

impl Default for Plan {
    fn default() -> Self {
        Self {
            clients: 100,
            backends: 100,
            seed: 1,
            config: ROUND_ROBIN.to_owned(),
            backoff: BackoffConfig::default(),
            checks_health: true,
            start_within: SECOND * 10,
            starts_in_order: false,
            first_calls: 0,
            calls_per_second: 0.0,
            wait_for_ready: true,
            keys: 100_000,
            service_time: MS * 10,
            workers: 1_000,
            slow: (0, 1.0),
            looks_up: false,
            named: None,
            drawn: None,
            bin: MS * 10,
        }
    }
}

impl Plan {
    /// How many backends are named at first.
    pub(super) fn named(&self) -> usize {
        self.named.unwrap_or(self.backends)
    }

    pub(super) fn service_config(&self) -> ServiceConfig {
        let config = self.config.parse::<ServiceConfig>();
        config.expect("a valid service config")
    }
}
