//! What a service config says about single methods.
//!
//! Every getter answers for the config alone: `None` leaves the matter to the
//! call and to the channel's own settings.

use std::{borrow::Borrow, sync::Arc, time::Duration};

use tonic::Code;

/// The rules for the calls of one `methodConfig` entry.
///
/// Found with [`ServiceConfig::method_config`](crate::ServiceConfig::method_config).
#[derive(Clone, Debug, PartialEq)]
pub struct MethodConfig {
    pub(super) wait_for_ready: Option<bool>,
    pub(super) timeout: Option<Duration>,
    pub(super) max_request_message_bytes: Option<u32>,
    pub(super) max_response_message_bytes: Option<u32>,
    pub(super) attempts: Option<AttemptPolicy>,
}

/// How a call may be attempted more than once: one way or the other, never both
/// (gRFC A6, "Retry Policy Capabilities").
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum AttemptPolicy {
    Retry(Arc<RetryPolicy>),
    Hedging(Arc<HedgingPolicy>),
}

/// To send a call again after it failed (gRFC A6, "Retry Policy").
///
/// An attempt that failed without response headers is followed by another one, if the policy
/// lists its code. Each goes to a backend that the call has not tried, if there is one with a free
/// stream. [`Channel`](crate::Channel) says more, at "What is sent again".
#[derive(Clone, Debug, PartialEq)]
pub struct RetryPolicy {
    pub(super) max_attempts: u32,
    pub(super) initial_backoff: Duration,
    pub(super) max_backoff: Duration,
    pub(super) backoff_multiplier: f64,
    pub(super) retryable_status_codes: Vec<Code>,
    pub(super) per_attempt_recv_timeout: Option<Duration>,
}

/// To send a call again before it failed (gRFC A6, "Hedging Policy").
///
/// The attempt that has response headers first is the call, and the others are reset. Beside
/// others an attempt starts only where a stream is free at once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HedgingPolicy {
    pub(super) max_attempts: u32,
    pub(super) hedging_delay: Duration,
    pub(super) non_fatal_status_codes: Vec<Code>,
}

/// The calls an entry is for, written as the part of the path they share:
/// `/pkg.Service/Method`, `/pkg.Service/`, or nothing for every call.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct MethodName(String);

impl MethodConfig {
    /// Whether a call without a word of its own waits for a backend instead of
    /// failing while there is none.
    pub fn wait_for_ready(&self) -> Option<bool> {
        self.wait_for_ready
    }

    /// The longest that a call may take; the call's own deadline counts if it is
    /// earlier. Zero is legal and leaves no time at all.
    pub fn timeout(&self) -> Option<Duration> {
        self.timeout
    }

    /// The size of the largest message to send. Zero allows empty ones only.
    pub fn max_request_message_bytes(&self) -> Option<u32> {
        self.max_request_message_bytes
    }

    /// The size of the largest message to accept. Zero allows empty ones only.
    pub fn max_response_message_bytes(&self) -> Option<u32> {
        self.max_response_message_bytes
    }

    /// How a call may be attempted more than once.
    pub(crate) fn attempts(&self) -> Option<&AttemptPolicy> {
        self.attempts.as_ref()
    }

    /// How to retry. Never set together with [`hedging_policy`](Self::hedging_policy).
    pub fn retry_policy(&self) -> Option<&RetryPolicy> {
        match &self.attempts {
            Some(AttemptPolicy::Retry(policy)) => Some(policy),
            Some(AttemptPolicy::Hedging(_)) | None => None,
        }
    }

    /// How to hedge. Never set together with [`retry_policy`](Self::retry_policy).
    pub fn hedging_policy(&self) -> Option<&HedgingPolicy> {
        match &self.attempts {
            Some(AttemptPolicy::Hedging(policy)) => Some(policy),
            Some(AttemptPolicy::Retry(_)) | None => None,
        }
    }
}

impl RetryPolicy {
    /// The number of attempts, the first one included: at least 2. A channel makes no more than
    /// [`max_call_attempts`](crate::ChannelBuilder::max_call_attempts) (gRFC A6, "Maximum Number
    /// of Retries").
    pub fn max_attempts(&self) -> u32 {
        self.max_attempts
    }

    /// The wait before the first retry: above zero. Each wait is up to 20 % longer or shorter.
    pub fn initial_backoff(&self) -> Duration {
        self.initial_backoff
    }

    /// The longest wait before any retry, without those 20 %: above zero. A server that sends
    /// `grpc-retry-pushback-ms` sets the next wait instead.
    pub fn max_backoff(&self) -> Duration {
        self.max_backoff
    }

    /// What the wait is multiplied with after each retry: above zero.
    pub fn backoff_multiplier(&self) -> f64 {
        self.backoff_multiplier
    }

    /// The outcomes to retry after, each once and never OK. Empty only if there
    /// is a [`per_attempt_recv_timeout`](Self::per_attempt_recv_timeout).
    pub fn retryable_status_codes(&self) -> &[Code] {
        &self.retryable_status_codes
    }

    /// How long an attempt may stay without an answer before the next one is
    /// made: above zero. Experimental in gRPC, and without effect here.
    pub fn per_attempt_recv_timeout(&self) -> Option<Duration> {
        self.per_attempt_recv_timeout
    }
}

impl HedgingPolicy {
    /// The number of attempts, the first one included: at least 2. A channel makes no more than
    /// [`max_call_attempts`](crate::ChannelBuilder::max_call_attempts).
    pub fn max_attempts(&self) -> u32 {
        self.max_attempts
    }

    /// The wait between two attempts. Zero, the default, sends all at once.
    pub fn hedging_delay(&self) -> Duration {
        self.hedging_delay
    }

    /// The outcomes that do not end the call while attempts remain, each once
    /// and never OK. Empty by default.
    pub fn non_fatal_status_codes(&self) -> &[Code] {
        &self.non_fatal_status_codes
    }
}

impl MethodName {
    /// The name of the entry for every call that no other entry is for.
    pub(super) const ANY: &str = "";

    /// `None` for a method without its service, which names nothing.
    pub(super) fn new(service: &str, method: &str) -> Option<Self> {
        match (service, method) {
            ("", "") => Some(Self(Self::ANY.to_owned())),
            ("", _) => None,
            _ => Some(Self(format!("/{service}/{method}"))),
        }
    }
}

/// Lets a call's path be looked up without a copy of it.
impl Borrow<str> for MethodName {
    fn borrow(&self) -> &str {
        &self.0
    }
}
