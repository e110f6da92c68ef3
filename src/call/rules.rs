//! What a call is bound by: the caller's word, else the service config's for its
//! method, else the channel's.

use std::{sync::Arc, time::Duration};

use crate::{
    routing::{Board, RetryThrottle},
    service_config::{AttemptPolicy, MethodConfig},
};

/// Put into the extensions of a request, this decides whether its call waits for
/// a backend where another would fail: in TRANSIENT_FAILURE.
///
/// It stands above the `waitForReady` of the service config, and that above
/// [`ChannelBuilder::wait_for_ready`](crate::ChannelBuilder::wait_for_ready). A
/// call that waits should have a deadline: nothing else ends the wait but a
/// backend, or the end of the channel.
///
/// ```
/// use tonic_health_channel::WaitForReady;
///
/// let mut request = tonic::Request::new(());
/// request.set_timeout(std::time::Duration::from_secs(30));
/// request.extensions_mut().insert(WaitForReady(true));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WaitForReady(pub bool);

/// What the channel says, for every call.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Defaults {
    /// Bounds the time to the response headers, waiting included.
    pub(crate) header_timeout: Option<Duration>,
    pub(crate) wait_for_ready: bool,
}

/// What the service config says for one method.
#[derive(Debug, Default)]
pub(super) struct MethodRules {
    pub(super) wait_for_ready: Option<bool>,
    pub(super) timeout: Option<Duration>,
    pub(super) max_request: Option<u32>,
    pub(super) max_response: Option<u32>,
    /// If there may be more than one attempt, or attempts of others depend on the outcome.
    pub(super) attempts: Option<AttemptRules>,
}

/// The rules for a call's attempts, from its start to its end.
#[derive(Debug)]
pub(super) struct AttemptRules {
    pub(super) policy: Option<AttemptPolicy>,
    pub(super) throttle: Option<Arc<RetryThrottle>>,
}

impl MethodRules {
    /// Those in force for the calls with this path; `None` before it is known what
    /// is in force.
    pub(super) fn on(board: &Board, path: &str) -> Option<Self> {
        let routing = board.routing();
        let config = routing.config.as_ref()?;
        let method = config.method_config(path);
        let mut rules = method.map(Self::of).unwrap_or_default();
        let policy = method.and_then(MethodConfig::attempts);
        if policy.is_some() || routing.throttle.is_some() {
            rules.attempts = AttemptRules::of(policy, routing.throttle.as_ref(), board);
        }
        Some(rules)
    }

    fn of(method: &MethodConfig) -> Self {
        Self {
            wait_for_ready: method.wait_for_ready(),
            timeout: method.timeout(),
            max_request: method.max_request_message_bytes(),
            max_response: method.max_response_message_bytes(),
            attempts: None,
        }
    }
}

impl AttemptRules {
    fn of(
        policy: Option<&AttemptPolicy>,
        throttle: Option<&Arc<RetryThrottle>>,
        board: &Board,
    ) -> Option<Self> {
        let are_off = board.retries().max_attempts < 2;
        (!are_off).then(|| Self {
            policy: policy.cloned(),
            throttle: throttle.cloned(),
        })
    }
}
