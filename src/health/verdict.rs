//! What is known of a backend's health, and what that means for its state.

use crate::{
    connectivity::ConnectivityState,
    error::{Cause, CauseKind},
    health::{options::HealthOptions, status::HealthStatus},
};

/// What is reported.
#[derive(Debug)]
pub(super) enum Verdict {
    Pending,
    /// Pending, on a connection that had a state before this service was asked
    /// about: READY, unless it was `failing`. That stands until there is news.
    Inherited {
        failing: Option<Cause>,
    },
    Serving,
    /// No health service, so healthy.
    Unimplemented,
    Failing {
        status: HealthStatus,
        cause: Cause,
    },
}

impl Verdict {
    /// gRFC A17, "Client Behavior": only `SERVING` is healthy, also among the
    /// numbers that a later version of the protocol may add.
    pub(super) fn of_answer(asked_by: &str, number: i32) -> Self {
        let status = HealthStatus::from_number(number);
        if status == HealthStatus::Serving {
            return Self::Serving;
        }
        Self::Failing {
            status,
            cause: Cause::new(CauseKind::Health, format!("{asked_by}{status}")),
        }
    }

    /// What is left of it when another service is asked about.
    pub(super) fn inherited(self) -> Self {
        match self {
            Self::Pending => Self::Pending,
            Self::Inherited { failing } => Self::Inherited { failing },
            Self::Serving | Self::Unimplemented => Self::Inherited { failing: None },
            Self::Failing { cause, .. } => Self::Inherited {
                failing: Some(cause),
            },
        }
    }

    /// The state of a backend whose connection is READY, as `options` say. Before the first
    /// answer it is CONNECTING, unless the backend is to be assumed healthy until then.
    pub(super) fn state(&self, options: &HealthOptions) -> ConnectivityState {
        match self {
            Self::Pending if options.assume_healthy_until_first_response => {
                ConnectivityState::Ready
            }
            Self::Pending => ConnectivityState::Connecting,
            Self::Inherited { failing: None } | Self::Serving | Self::Unimplemented => {
                ConnectivityState::Ready
            }
            Self::Inherited { failing: Some(_) } | Self::Failing { .. } => {
                ConnectivityState::TransientFailure
            }
        }
    }

    pub(super) fn status(&self) -> HealthStatus {
        match self {
            Self::Pending | Self::Inherited { .. } => HealthStatus::Pending,
            Self::Serving => HealthStatus::Serving,
            Self::Unimplemented => HealthStatus::Unimplemented,
            Self::Failing { status, .. } => *status,
        }
    }

    /// Why, in TRANSIENT_FAILURE.
    pub(super) fn cause(&self) -> Option<&Cause> {
        match self {
            Self::Failing { cause, .. } => Some(cause),
            Self::Inherited { failing } => failing.as_ref(),
            Self::Pending | Self::Serving | Self::Unimplemented => None,
        }
    }
}
