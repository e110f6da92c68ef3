//! What the health machine wants done.

/// What to do now, in this order: `stop`, then `start`, then say `notice`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[must_use]
pub(crate) struct Action {
    /// Cancel the RPC that runs.
    pub(crate) stop: bool,
    /// Start this RPC; none runs.
    pub(crate) start: Option<Rpc>,
    pub(crate) notice: Option<Notice>,
}

/// A method of `grpc.health.v1.Health`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Rpc {
    Watch,
    Check,
}

/// What an operator should be told once per connection and service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Notice {
    /// ERROR (gRFC A17): there is no health service, the backend counts as healthy.
    AssumedHealthy,
    /// WARN: there is no `Watch`, `Check` is called instead.
    PollingCheck,
    /// WARN: there is no health service, the backend counts as unhealthy.
    UnhealthyWithoutService,
}

impl Action {
    pub(super) fn start(rpc: Rpc) -> Self {
        Self {
            start: Some(rpc),
            ..Self::default()
        }
    }

    pub(super) fn notice(notice: Notice) -> Self {
        Self {
            notice: Some(notice),
            ..Self::default()
        }
    }
}
